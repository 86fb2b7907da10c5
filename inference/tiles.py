"""Large images in parts that overlap: small objects are then as large as they were in training."""

import itertools
import math

import numpy as np

from ..common import box_overlaps
from ..common.errors import UserError
from ..tasks import boxes as boxes_lib

_OVERLAP = 0.2  # of a tile's side with its neighbour, at least: an object up to so large is whole in one of them
_EDGE = 2.0  # pixels of the network's input from the border of a tile at which a box may have been cut
_COVERED = 0.5  # share of a cut box that lies in a whole one of its class, from which on it is a part of that


def tiles_of(height: int, width: int, side: int) -> list[tuple[slice, slice]]:
    """Returns the rows and columns of tiles that cover an image, evenly, and the whole image first.

    Args:
      height, width: of the image, in pixels.
      side: of a tile, in pixels; an image that is no larger has none beside itself.

    Raises:
      UserError: a tile without pixels.
    """
    if side < 1:
        raise UserError(f'--tile {side}: it is the side of a tile in pixels of the image, at least 1')

    def parts(length: int) -> list[slice]:
        if length <= side:
            return [slice(0, length)]
        count = math.ceil((length - side) / (side * (1 - _OVERLAP))) + 1
        return [slice(begin, begin + side) for begin in np.linspace(0, length - side, count).round().astype(int)]
    whole = (slice(0, height), slice(0, width))
    found = list(itertools.product(parts(height), parts(width)))
    return [whole] if found == [whole] else [whole, *found]


def merge(outputs: list[dict[str, np.ndarray]], tiles: list[tuple[slice, slice]], size: tuple[int, int],
          overlap: float) -> dict[str, np.ndarray]:
    """Puts together what was found in the tiles of one image.

    A box at a border between tiles may be a part of an object: it goes where a box of its class that no border cuts
    covers half of it. Then of boxes that overlap those with the lower scores go, as in one image. What the whole image
    says counts like a tile: it sees what no tile holds.

    Args:
      outputs: of each tile 'boxes', float32 [k, 4] in pixels of the network's input, 'scores' [k] and 'classes' [k].
      tiles: of `tiles_of`.
      size: (height, width) of the network's input.
      overlap: intersection over union above which a box goes.

    Returns:
      The same of the whole image, in pixels of the image, in descending order of their scores: only what was found.
    """
    height, width = (part.stop for part in tiles[0])
    found, scores, classes, cut = [], [], [], []
    for output, (rows, columns) in zip(outputs, tiles):
        there = output['scores'] > 0
        scale = np.array([(columns.stop - columns.start) / size[1], (rows.stop - rows.start) / size[0]])
        boxes = output['boxes'][there].astype(np.float64)
        inner = np.array([columns.start > 0, rows.start > 0, columns.stop < width, rows.stop < height])
        near = np.concatenate([boxes[:, :2] < _EDGE, boxes[:, 2:] > np.array(size[::-1]) - _EDGE], axis=1)
        cut.append((near & inner).any(axis=1))
        found.append(boxes * np.tile(scale, 2) + np.tile([columns.start, rows.start], 2))
        scores.append(output['scores'][there])
        classes.append(output['classes'][there])
    found, scores, classes, cut = map(np.concatenate, (found, scores, classes, cut))
    if cut.any() and not cut.all():
        whole = ~cut
        covered = box_overlaps.intersection(found[cut], found[whole])
        covered *= classes[cut][:, None] == classes[whole][None]
        kept = np.ones(len(found), bool)
        kept[cut] = (covered < _COVERED * box_overlaps.area(found[cut])[:, None]).all(axis=1)
        found, scores, classes = found[kept], scores[kept], classes[kept]
    order = np.argsort(-scores, kind='stable')
    found, scores, classes = found[order], scores[order], classes[order]
    if len(found):
        left = np.asarray(boxes_lib.non_maximum_suppression(found.astype(np.float32), scores, classes, overlap))
        found, scores, classes = found[left], scores[left], classes[left]
    return {'boxes': found, 'scores': scores, 'classes': classes}
