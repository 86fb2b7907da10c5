"""Animated pictures."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Animation:
    """What a task draws that moves; it becomes a GIF of the run's folder.

    Attributes:
      frames: uint8 [frames, height, width, 3].
      seconds: how long one is shown; GIFs count hundredths.
    """
    frames: np.ndarray
    seconds: float


@dataclasses.dataclass(frozen=True)
class Frame:
    """What a task draws again in every evaluation, to be seen changing: all of them are a GIF of the run's folder.

    Attributes:
      pixels: uint8 [height, width, 3].
    """
    pixels: np.ndarray
