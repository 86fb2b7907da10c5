"""Regions of an image that may hold an object, and the cutting out of them.

`config.data.regions.kind` says where regions come from. Add one: a function like
`selective_search`, and a line in KINDS.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..common import box_overlaps
from ..common.errors import UserError, nearest
from ..common.json_cache import cached_json

_VERSION = 1  # of regions in the cache
_LEAST_SIDE = 20  # pixels of the image that regions are cut from; there are hundreds of smaller ones, and no objects
_ALIKE = 0.8  # intersection over union above which two proposals are one


def find(image: np.ndarray, regions: Mapping[str, Any]) -> np.ndarray:
    """Returns the regions of an image, float32 [n, 4], left, top, right, bottom in its pixels; the image is the first.

    Args:
      image: uint8 [height, width, 1 or 3].
      regions: config.data.regions, checked.

    Raises:
      UserError: an image of another type, or a library that is missing.
    """
    if image.dtype != np.uint8 or image.shape[-1] not in (1, 3):
        raise UserError('config.data.regions takes images of 8 bits with 1 or 3 channels, not '
                        f'{image.dtype} with {image.shape[-1]}')
    found = KINDS[regions['kind']](image, regions)
    height, width = image.shape[:2]
    whole = np.array([[0, 0, width, height]], np.float32)
    found = np.concatenate([whole, found[(found != whole).any(axis=1)]])
    limit = regions['limit']
    # Ordered by area: what is left out is of all sizes.
    return found if len(found) <= limit else found[np.linspace(0, len(found) - 1, limit).round().astype(int)]


def check(regions: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Raises UserError if a field of config.data.regions is out of its range.

    Args:
      regions: the fields.
      size: config.image.size, of what is cut out.
    """
    def wrong(field: str, wanted: str) -> UserError:
        return UserError(f'config.data.regions.{field} = {regions[field]!r}: {wanted}')

    if regions['kind'] not in KINDS:
        raise UserError(f"config.data.regions.kind = {regions['kind']!r}; {nearest(str(regions['kind']), list(KINDS))}")
    if min(regions['image_size']) < _LEAST_SIDE:
        raise wrong('image_size', f'height and width are at least {_LEAST_SIDE} pixels')
    if not 0 <= regions['context'] <= 0.4:
        raise wrong('context', "it is a share of the crop's side, from 0 to 0.4")
    for field in ('limit', 'per_image'):
        if regions[field] < 1:
            raise wrong(field, 'it must be at least 1')
    for field in ('positive_share', 'positive_overlap'):
        if not 0 < regions[field] <= 1:
            raise wrong(field, 'it must be above 0, and at most 1')
    if round(min(size) * (1 - 2 * regions['context'])) < 1:
        raise wrong('context', f'it leaves nothing of {min(size)} pixels')


def selective_search(image: np.ndarray, regions: Mapping[str, Any]) -> np.ndarray:
    """Returns selective search's regions, float32 [n, 4], those of sides from 20 pixels on, the largest first.

    OpenCV's implementation of Uijlings et al. 2013, "Selective search for object recognition", in its fast form. Its
    set of regions is always the same one, its order is drawn anew: so it is not used. Of regions that overlap by more
    than 0.8 the largest is kept, which leaves two of five and finds as many objects (at an overlap of 0.5). Kept in the
    cache by the image's pixels.
    """
    del regions
    pixels = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).hexdigest()
    found = cached_json('proposals', [_VERSION, image.shape, pixels], functools.partial(_search, image))
    return np.asarray(found, np.float32).reshape(-1, 4)


def _search(image: np.ndarray) -> list[list[int]]:
    import cv2
    if not hasattr(cv2, 'ximgproc'):
        raise UserError("config.data.regions.kind = 'selective_search' needs the package "
                        'opencv-contrib-python-headless in the place of opencv-python-headless')
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))[..., ::-1]))  # BGR
    search.switchToSelectiveSearchFast()
    found = search.process().astype(np.int64)  # left, top, width, height
    found = found[(found[:, 2:] >= _LEAST_SIDE).all(axis=1)]
    found = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
    found = found[np.lexsort((*found.T, -box_overlaps.area(found)))]
    overlaps = box_overlaps.iou(found, found) > _ALIKE
    kept = np.ones(len(found), bool)
    for i in range(len(found)):
        if kept[i]:
            kept[i + 1:] &= ~overlaps[i, i + 1:]
    return found[kept].tolist()


KINDS: dict[str, Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]] = {
    'selective_search': selective_search,
}


def cut_out(image: np.ndarray, regions: np.ndarray, size: tuple[int, int], context: float, mean: Any) -> np.ndarray:
    """Returns regions of an image brought to one size, whatever their proportions, with what is around them.

    Girshick et al. 2014, "Rich feature hierarchies", appendix A, the way called warp: context is 16 pixels of 227
    there. What lies outside of the image has the mean colour.

    Args:
      image: uint8 [height, width, channels].
      regions: float [n, 4], left, top, right, bottom in pixels.
      size: (height, width) of what is returned.
      context: share of its sides that is around the region, on each side.
      mean: config.image.mean, in [0, 1].

    Returns:
      uint8 [n, *size, channels].
    """
    import cv2
    height, width = size
    channels = image.shape[-1]
    fill = np.broadcast_to(np.round(255 * np.clip(mean, 0, 1)), (channels,)).tolist()
    cut = np.empty((len(regions), height, width, channels), np.uint8)
    for number, (left, top, right, bottom) in enumerate(np.asarray(regions, np.float64)):
        # How many pixels of the image one of the result is wide and high, and where the result begins in the image.
        x, y = (right - left) / (width * (1 - 2 * context)), (bottom - top) / (height * (1 - 2 * context))
        begin_x, begin_y = left - context * width * x, top - context * height * y
        # From centres of pixels to centres of pixels.
        matrix = np.array([[x, 0, begin_x + 0.5 * x - 0.5], [0, y, begin_y + 0.5 * y - 0.5]])
        cut[number] = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                     borderMode=cv2.BORDER_CONSTANT, borderValue=fill).reshape(height, width, channels)
    return cut
