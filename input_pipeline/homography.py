"""Random perspective: an image as if its plane were looked at from elsewhere, with the four corners moved.

The corners of what is seen come from the corners of the image, each moved by up to 0.15 of its sides. As long as it is
no more, the horizon, where a plane ends, stays outside of the image (from 0.18 on it does not): so every point of the
image has a place. The map of a square to four points is that of Heckbert 1989, "Fundamentals of texture mapping and
image warping", section 2.2.3.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from . import box_moves

_HORIZON = 0.02  # least denominator: what is beyond the horizon comes from far outside of the image


def before(affine: Callable, corners: jax.Array, height: int, width: int) -> tuple[Callable, Callable]:
    """Returns where pixels come from if an image is seen in perspective and then moved by an affine map.

    In this order outlines in the image never come near the horizon, wherever they are moved to afterwards.

    Args:
      affine: map (row, column) -> (row, column) that a pixel comes from.
      corners: float32 [4, 2], by how much the corners top left, top right, bottom right and bottom left of what is seen
        are moved down and right in the image, as shares of its height and width, at most 0.15.
      height, width: of the image.

    Returns:
      source and its inverse, both (row, column) -> (row, column) of arrays that broadcast; whole numbers are pixel
      centres.
    """
    y = jnp.array([0.0, 0.0, 1.0, 1.0]) + corners[:, 0]
    x = jnp.array([0.0, 1.0, 1.0, 0.0]) + corners[:, 1]
    coefficients = _of_the_unit_square(x, y)
    back = _adjugate(coefficients)
    undo_affine = box_moves.inverse(affine)

    def source(row, column):
        return _project(coefficients, *affine(row, column), height, width)

    def goes(row, column):
        return undo_affine(*_project(back, row, column, height, width))

    return source, goes


def _of_the_unit_square(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
    """Returns a to i of the map (u, v) -> (a u + b v + c, d u + e v + f) / (g u + h v + i) of the square's corners."""
    (x0, x1, x2, x3), (y0, y1, y2, y3) = x, y
    dx1, dx2, dx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    determinant = dx1 * dy2 - dx2 * dy1
    g = (dx * dy2 - dx2 * dy) / determinant
    h = (dx1 * dy - dx * dy1) / determinant
    return (x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, jnp.ones(()))


def _adjugate(coefficients: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Returns the inverse map, with a denominator that is 1 at the place of the square's first corner."""
    a, b, c, d, e, f, g, h, i = coefficients
    found = (e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f,
             d * h - e * g, b * g - a * h, a * e - b * d)
    at_first_corner = found[6] * c + found[7] * f + found[8]
    return tuple(number / at_first_corner for number in found)


def _project(coefficients: tuple[jax.Array, ...], row: jax.Array, column: jax.Array, height: int, width: int):
    """Returns where pixels go; not as a matrix product, which a GPU may round, see `augmentation.affine_source`."""
    a, b, c, d, e, f, g, h, i = coefficients
    u, v = (column + 0.5) / width, (row + 0.5) / height
    denominator = jnp.maximum(g * u + h * v + i, _HORIZON)
    return ((d * u + e * v + f) / denominator * height - 0.5, (a * u + b * v + c) / denominator * width - 0.5)
