"""Overlaps of boxes on the host, in float64; tasks/boxes.py has them for devices.

Boxes are arrays [n, 4] of left, top, right, bottom.
"""

import numpy as np


def area(boxes: np.ndarray) -> np.ndarray:
    """Returns the areas of boxes, float64 [n]."""
    return np.prod(boxes[:, 2:].astype(np.float64) - boxes[:, :2], axis=-1)


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns areas in common, float64 [n, m], of boxes [n, 4] and [m, 4]; 0 where they do not touch."""
    first, second = first[:, None].astype(np.float64), second[None].astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    return np.prod(np.maximum(sides, 0), axis=-1)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns intersection over union, float64 [n, m], of boxes [n, 4] and [m, 4], of which one has an area."""
    common = intersection(first, second)
    return common / (area(first)[:, None] + area(second)[None] - common)
