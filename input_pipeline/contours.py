"""Closed contours around regions of an image: files of points, and masks from contours.

A contour is float64 [points, 2] of (x, y) in pixels, x along the columns and y along the rows, with the centre of the
top left pixel at (0, 0). The last point is joined to the first.
"""

from pathlib import Path

import numpy as np

from ..common.errors import file_error

_MAX_BYTES = 10_000_000  # A contour drawn by hand has some hundred points of ten bytes.

# Contours drawn on a half-pixel grid go right through pixel centres. Counting all those as inside makes left ventricles
# 3 % too large, so the contour is moved by less than anybody can draw, which makes each region half-open. The two
# differ, so that centres on a diagonal are decided too.
_NUDGE = np.array([1.0e-6, 1.37e-6])


def read_contour(path) -> np.ndarray:
    """Reads a text file with 'x y' on every line.

    Returns:
        float64 [points, 2].

    Raises:
        UserError: one line naming the file: missing, not two numbers on every line, not finite, or fewer than 3 points.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise file_error(path, 'no such file')
        if path.stat().st_size > _MAX_BYTES:
            raise file_error(path, 'is too large for a contour')
        lines = path.read_text(encoding='utf-8-sig').split('\n')
    except (OSError, UnicodeDecodeError) as error:
        raise file_error(path, f'cannot be read as text ({getattr(error, "strerror", None) or "not UTF-8"})') from None
    points = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            x, y = (float(value) for value in line.split())
        except ValueError:
            raise file_error(path, f"line {number} is not two numbers 'x y': {line.strip()[:40]!r}") from None
        points.append((x, y))
    contour = np.array(points, np.float64).reshape(-1, 2)
    if not np.all(np.isfinite(contour)):
        raise file_error(path, 'has coordinates that are no finite numbers')
    if len(np.unique(contour, axis=0)) < 3:
        raise file_error(path, f'has {len(np.unique(contour, axis=0))} different points; a contour needs 3')
    return contour


def to_text(contour: np.ndarray) -> str:
    """Returns 'x y' with two decimals on every line, the format of the Sunnybrook contours (which count from 1)."""
    return ''.join(f'{x:.2f} {y:.2f}\n' for x, y in contour)


def write_contour(path, contour: np.ndarray) -> None:
    """Writes `to_text` to a file, for `read_contour`."""
    Path(path).write_text(to_text(contour))


def check_inside(contour: np.ndarray, shape: tuple[int, int], path) -> None:
    """Refuses a contour that leaves the image, whose outermost edges lie half a pixel beyond the centres.

    Args:
        contour: float [points, 2].
        shape: (height, width) of the image.
        path: the contour's file, for the message.

    Raises:
        UserError: the contour belongs to another image, or to another size of this one.
    """
    height, width = shape
    if contour.min() < -0.5 or contour[:, 0].max() > width - 0.5 or contour[:, 1].max() > height - 0.5:
        (left, top), (right, bottom) = contour.min(0), contour.max(0)
        raise file_error(path, f'leaves the image of {width}x{height} pixels: x from {left:g} to {right:g}, y from '
                              f'{top:g} to {bottom:g}, counted from 0')


def rasterize(contour: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Fills a contour: the pixels whose centre is inside, by the even-odd rule; what is outside the image is cut.

    A centre exactly on the contour counts on the left and the top side of the region and does not on the right and
    the bottom (the rule of computer graphics), so that the area is unbiased and neighbours that share an edge do not
    share pixels.

    Args:
        contour: float [points, 2].
        shape: (height, width) of the image.

    Returns:
        bool [height, width].
    """
    from skimage.draw import polygon
    x, y = (np.asarray(contour, np.float64) - _NUDGE).T
    mask = np.zeros(shape, bool)
    mask[polygon(y, x, shape)] = True
    return mask
