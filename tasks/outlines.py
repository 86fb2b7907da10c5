"""Outlines of the regions of a mask."""

import numpy as np


def trace(mask: np.ndarray) -> list[np.ndarray]:
    """Outer contours of the regions of a mask, halfway between the centres inside and outside.

    Pixels that touch by a corner are one region. Holes are not traced. Of a mask of one region without holes,
    `input_pipeline.contours.rasterize` gives the mask back.

    Args:
        mask: bool [height, width].

    Returns:
        float64 [points, 2] each, without repeating the first point, the one that encloses the largest area first.
    """
    from skimage.measure import find_contours
    padded = np.pad(np.asarray(mask, bool), 1).astype(np.float64)  # Closes contours at the border of the image.
    loops = [loop[:-1, ::-1] - 1 for loop in find_contours(padded, 0.5, fully_connected='high')]
    areas = [_signed_area(loop) for loop in loops]
    order = sorted((i for i, area in enumerate(areas) if area > 0), key=lambda i: -areas[i])
    return [loops[i] for i in order]


def _signed_area(contour):
    """The shoelace formula; positive where find_contours goes around a region, negative around a hole."""
    x, y = contour.T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
