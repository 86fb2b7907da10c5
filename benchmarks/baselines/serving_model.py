"""What the servers of other projects are given: an exported model through the loader that is in every export."""

import os
import sys
import zipfile
from pathlib import Path

import numpy as np

LARGEST = 32


def load(path: str):
    """Returns classify(uint8 [n, height, width, channels]) -> probabilities, compiled for powers of two to LARGEST."""
    folder = Path(os.environ['LOADER_FOLDER'])
    with zipfile.ZipFile(path) as archive:
        archive.extract('loader.py', folder)
    sys.path.insert(0, str(folder))
    import loader
    model, _ = loader.load(path)

    def classify(images: np.ndarray) -> np.ndarray:
        size = 1 << (len(images) - 1).bit_length()
        padded = np.zeros((size, *images.shape[1:]), np.uint8)
        padded[:len(images)] = images
        logits = model(image=padded)['logits'][:len(images)]
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)
    for power in range(LARGEST.bit_length()):
        classify(np.zeros((2 ** power, 8, 8, 1), np.uint8))
    return classify


def say(probabilities: np.ndarray) -> dict:
    """Returns the three likeliest classes."""
    order = np.argsort(-probabilities)[:3]
    return {'classes': order.tolist(), 'percent': [100 * float(probabilities[c]) for c in order]}
