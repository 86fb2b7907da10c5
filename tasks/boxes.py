"""Boxes on the device: overlaps, which cells of a grid answer for which object, and what is left of many guesses.

Boxes are float32 [..., 4]: left, top, right, bottom, in pixels, see input_pipeline/source.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


def area(boxes: jax.Array) -> jax.Array:
    """Returns the areas of boxes, [...] in square pixels; 0 for those turned inside out."""
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def pairwise_iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """Returns intersection over union, [..., n, m], of boxes [..., n, 4] and [..., m, 4]; 0 of two without area."""
    first, second = first[..., :, None, :], second[..., None, :, :]
    common = _intersection(first, second)
    union = area(first) + area(second) - common
    return common / jnp.where(union > 0, union, 1)


def giou(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compares boxes one to one, both [..., 4].

    Returns:
      Intersection over union, and its generalisation, which falls to -1 as boxes that do not touch move apart
      (Rezatofighi et al. 2019, "Generalized intersection over union"), each [...].
    """
    common = _intersection(first, second)
    union = area(first) + area(second) - common
    iou = common / jnp.where(union > 0, union, 1)
    around = area(jnp.concatenate([jnp.minimum(first[..., :2], second[..., :2]),
                                   jnp.maximum(first[..., 2:], second[..., 2:])], axis=-1))
    return iou, iou - (around - union) / jnp.where(around > 0, around, 1)


def clip(boxes: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns boxes cut off at the edges of an image of (height, width) pixels."""
    height, width = size
    return jnp.clip(boxes, 0, jnp.asarray([width, height, width, height], boxes.dtype))


class Assignment(NamedTuple):
    """Which object each cell answers for.

    Attributes:
      owner: int32 [cells], an index of a box; 0 where there is none.
      positive: bool [cells], whether the cell answers for an object.
      share: float32 [cells], 1 / the number of cells of its object; 0 for cells without.
      ignored: bool [cells], whether the cell lies in a crowd and answers for nothing: finding something is no error.
    """
    owner: jax.Array
    positive: jax.Array
    share: jax.Array
    ignored: jax.Array


def assign(boxes: jax.Array, labels: jax.Array, crowd: jax.Array, centres: jax.Array, stride: jax.Array, *,
           fraction: float, least: float) -> Assignment:
    """Gives the cells around the centre of every object to it; where two claim a cell, the smaller one has it.

    The region is DetectNet's (its `coverage` layer): a part of the box about its centre, but no smaller than some
    pixels, though no larger than the box. An object whose region no cell lies in takes the nearest one.

    Args:
      boxes: float32 [boxes, 4].
      labels: int32 [boxes], -1 where there is none.
      crowd: [boxes], not 0 for crowds.
      centres: float32 [cells, 2], (x, y) in pixels.
      stride: scalar, pixels between neighbouring cells.
      fraction: of a box's sides, that its region has.
      least: sides of a region are at least so many strides.
    """
    valid = (labels >= 0) & (crowd == 0)
    sides = boxes[:, 2:] - boxes[:, :2]
    half = jnp.minimum(sides, jnp.maximum(fraction * sides, least * stride)) / 2
    distance = jnp.abs(centres[None] - (boxes[:, None, :2] + boxes[:, None, 2:]) / 2)  # [boxes, cells, 2]
    inside = jnp.all(distance <= half[:, None], axis=-1)
    nearest = jax.nn.one_hot(jnp.argmin(jnp.sum(distance ** 2, axis=-1), axis=-1), len(centres), dtype=bool)
    inside = jnp.where(jnp.any(inside, axis=-1, keepdims=True), inside, nearest) & valid[:, None]
    claims = jnp.where(inside, area(boxes)[:, None], jnp.inf)
    owner = jnp.argmin(claims, axis=0).astype(jnp.int32)
    positive = jnp.any(inside, axis=0)
    owned = (owner[None] == jnp.arange(len(boxes))[:, None]) & positive[None]
    cells = jnp.sum(owned, axis=1)
    share = jnp.where(positive, 1 / jnp.maximum(cells, 1)[owner], 0.0)
    crowds = (labels >= 0) & (crowd != 0)
    covered = jnp.all((centres[None] >= boxes[:, None, :2]) & (centres[None] <= boxes[:, None, 2:]), axis=-1)
    ignored = jnp.any(covered & crowds[:, None], axis=0) & ~positive
    return Assignment(owner, positive, share, ignored)


def non_maximum_suppression(boxes: jax.Array, scores: jax.Array, classes: jax.Array, threshold: float) -> jax.Array:
    """Returns which boxes remain, bool [boxes], when of two that overlap the one with the lower score goes.

    The greedy algorithm's result, to the box, by a fixed point: all boxes are compared at once, and again until nothing
    changes, which takes as many rounds as the longest chain of boxes that remove one another, some 5.

    Args:
      boxes: float32 [boxes, 4].
      scores: float32 [boxes], in descending order; 0 for what is no box.
      classes: int32 [boxes]; boxes of different classes leave each other alone.
      threshold: intersection over union above which a box goes.
    """
    above = jnp.arange(len(boxes))[:, None] < jnp.arange(len(boxes))[None]
    removes = (pairwise_iou(boxes, boxes) > threshold) & (classes[:, None] == classes[None]) & above
    removes = removes.astype(jnp.float32)

    def again(state):
        kept, _ = state
        after = (scores > 0) & (kept.astype(jnp.float32) @ removes < 0.5)
        return after, jnp.any(after != kept)
    kept, _ = lax.while_loop(lambda state: state[1], again, (scores > 0, jnp.array(True)))
    return kept


def cluster(boxes: jax.Array, scores: jax.Array, classes: jax.Array, *, least: int, tolerance: float
            ) -> tuple[jax.Array, jax.Array]:
    """Groups boxes of one class that are alike, and takes their means: OpenCV's groupRectangles, DetectNet's decoding.

    Two boxes are alike if their corners differ by at most tolerance * (smaller width + smaller height) / 2. A group is
    all that are alike directly or by way of others.

    Args:
      boxes, scores, classes: as for `non_maximum_suppression`, in any order.
      least: groups of fewer boxes are left out.
      tolerance: `eps` of groupRectangles.

    Returns:
      The mean box of every group in the place of its first member, [boxes, 4], and its score, [boxes]: 1 - the product
      of 1 - those of its members, so that many moderate ones count; 0 in all other places. (DetectNet gives the
      logarithm of their number instead, which is no probability.)
    """
    count = len(boxes)
    valid = scores > 0
    sides = boxes[:, 2:] - boxes[:, :2]
    delta = tolerance * (jnp.minimum(sides[:, None, 0], sides[None, :, 0])
                         + jnp.minimum(sides[:, None, 1], sides[None, :, 1])) / 2
    alike = jnp.all(jnp.abs(boxes[:, None] - boxes[None]) <= delta[..., None], axis=-1)
    alike &= (classes[:, None] == classes[None]) & valid[:, None] & valid[None]
    names = jnp.arange(count)

    def again(state):
        group, _ = state
        after = jnp.minimum(group, jnp.min(jnp.where(alike, group[None], count), axis=1))
        return after, jnp.any(after != group)
    group, _ = lax.while_loop(lambda state: state[1], again, (names, jnp.array(True)))
    member = ((group[None] == names[:, None]) & valid[None]).astype(jnp.float32)  # [groups, boxes]
    size = jnp.sum(member, axis=1)
    means = member @ boxes / jnp.maximum(size, 1)[:, None]
    together = 1 - jnp.exp(member @ jnp.log1p(-jnp.minimum(scores, 1 - 1e-6)))
    return means, jnp.where(size >= jnp.maximum(least, 1), together, 0.0)


def _intersection(first: jax.Array, second: jax.Array) -> jax.Array:
    return area(jnp.concatenate([jnp.maximum(first[..., :2], second[..., :2]),
                                 jnp.minimum(first[..., 2:], second[..., 2:])], axis=-1))
