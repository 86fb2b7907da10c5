"""Boxes that move with their image: the outlines of what is in them go through every operation that moves pixels.

    outlines = box_moves.outlines(features['boxes'])
    outlines = box_moves.placed(outlines, outlines.y, width - outlines.x, (height, width))  # a flip; any more like it
    features = box_moves.boxed(outlines, features)

A box does not say which shape is in it, so what turns or slants it has to assume one: the ellipse that touches its four
sides, for which boxes of turned objects come out best (Kalra et al. 2021, "Towards rotation invariance in object
detection"; boxes around turned corners are too large for nearly everything). Flips, shifts, zooms and crops are exact
whatever the shape.

As the pixels do, outlines lose with every operation what leaves the image.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FEATURES = ('boxes', 'box_labels', 'box_crowd')  # of an example, see source.py
LARGEST_ELASTIC = 0.04  # config.augment.elastic of images with boxes: more folds them
LEAST_LEFT = 0.3  # boxes of which a smaller share is left in the image are dropped

_ANGLES = np.arange(32) * (2 * np.pi / 32)  # of the points of an outline; turned boxes are up to 0.5 % too small
_STEPS = 8  # of the inversion of an elastic deformation


class Outlines(NamedTuple):
    """What is in the boxes of one image.

    Attributes:
      y, x: float32 [max_boxes, points], points of their outlines, in the coordinates of boxes: those of pixel centres
        are whole numbers and a half.
      left: float32 [max_boxes], which share of what could be seen is still in the image.
    """
    y: jax.Array
    x: jax.Array
    left: jax.Array


def outlines(boxes: jax.Array) -> Outlines:
    """Returns the outlines of float32 [max_boxes, 4] left, top, right, bottom."""
    left, top, right, bottom = (side[:, None] for side in boxes.T)
    across, down = ((1 + fractions) / 2 for fractions in (np.cos(_ANGLES), np.sin(_ANGLES)))
    return Outlines(y=top + (bottom - top) * np.float32(down), x=left + (right - left) * np.float32(across),
                    left=jnp.ones(len(boxes), jnp.float32))


def placed(before: Outlines, y: jax.Array, x: jax.Array, size: tuple[int, int]) -> Outlines:
    """Returns outlines whose points went to y and x, cut off at the edges of an image of (height, width)."""
    height, width = size
    inside = jnp.clip(y, 0, height), jnp.clip(x, 0, width)
    # What is larger than the image and fills it has lost nothing that could be seen.
    could_be_seen = jnp.minimum(_areas(y, x), height * width)
    share = jnp.where(could_be_seen > 0, _areas(*inside) / jnp.where(could_be_seen > 0, could_be_seen, 1), 0)
    return Outlines(*inside, before.left * share)


def resampled(before: Outlines, source: Callable, size: tuple[int, int], displacements: jax.Array | None = None,
              goes: Callable | None = None) -> Outlines:
    """Returns outlines after a resampling of the image.

    Args:
      before: the outlines.
      source: map (row, column) -> (row, column) of where a pixel comes from; whole numbers are pixel centres.
      size: (height, width).
      displacements: float32 [2, height, width], what is added to where each pixel comes from; None for nothing. They
        must not fold the image: a point in a fold has several places.
      goes: the inverse of `source`; None if that is affine.
    """
    goes = goes or inverse(source)
    row, column = before.y - 0.5, before.x - 0.5

    def closer(_, place):
        near = (jnp.clip(jnp.round(at).astype(jnp.int32), 0, side - 1) for at, side in zip(place, size))
        y, x = displacements[:, *near]
        return goes(row - y, column - x)
    place = goes(row, column)
    if displacements is not None:
        place = jax.lax.fori_loop(0, _STEPS, closer, place)
    return placed(before, place[0] + 0.5, place[1] + 0.5, size)


def inverse(source: Callable) -> Callable:
    """Returns the inverse of an affine map (row, column) -> (row, column) of arrays, which has the same form."""
    zero, one = jnp.zeros(()), jnp.ones(())
    origin, (y_by_y, x_by_y) = jax.jvp(source, (zero, zero), (one, zero))
    _, (y_by_x, x_by_x) = jax.jvp(source, (zero, zero), (zero, one))
    determinant = y_by_y * x_by_x - y_by_x * x_by_y

    def goes(row, column):
        row, column = row - origin[0], column - origin[1]
        return (x_by_x * row - y_by_x * column) / determinant, (y_by_y * column - x_by_y * row) / determinant

    return goes


def boxed(after: Outlines, features: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns the features of boxes that are around outlines; those of which too little is left are no boxes any more.

    Args:
      after: outlines of one image, where they have come to.
      features: `FEATURES` of the image before it was moved.
    """
    labels = features['box_labels']
    kept = (labels >= 0) & (after.left >= LEAST_LEFT)
    sides = jnp.stack([after.x.min(1), after.y.min(1), after.x.max(1), after.y.max(1)], axis=1)
    return {'boxes': jnp.where(kept[:, None], sides, 0), 'box_labels': jnp.where(kept, labels, -1),
            'box_crowd': jnp.where(kept, features['box_crowd'], 0)}


def mirrored(boxes: jax.Array, labels: jax.Array, width: int) -> jax.Array:
    """Returns float32 [..., max_boxes, 4] boxes of images of this width with left and right swapped.

    Args:
      boxes, labels: of the images; where a label is negative there is no box, and zeros stay.
      width: of an image in pixels.
    """
    left, top, right, bottom = jnp.moveaxis(boxes, -1, 0)
    swapped = jnp.stack([width - right, top, width - left, bottom], axis=-1)
    return jnp.where((labels >= 0)[..., None], swapped, boxes)


def _areas(y: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the areas of the boxes around points [max_boxes, points]."""
    return (y.max(1) - y.min(1)) * (x.max(1) - x.min(1))
