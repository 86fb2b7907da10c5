"""What a task says of one image."""

from typing import Any, NamedTuple

import numpy as np


class Prediction(NamedTuple):
    """A prediction for people and programs.

    Attributes:
      row: what JSON can hold.
      files: end of a file's name -> its content: an image, uint8 [height, width] or [height, width, 3], or a contour,
        float [points, 2] of (x, y), or None for one that this image does not have.
      found: of tasks that detect objects all that was found: 'boxes' float64 [n, 4], left, top, right and bottom in
        pixels of the image's own size, 'scores' [n] in descending order and 'classes' [n]; None for others.
    """
    row: dict[str, Any]
    files: dict[str, np.ndarray | None] = {}
    found: dict[str, np.ndarray] | None = None


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis on the host, where JAX takes longer to begin than this takes."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns the logistic function of numbers, on the host."""
    with np.errstate(over='ignore'):  # of exp to infinity, which makes 0
        return 1 / (1 + np.exp(-logits))
