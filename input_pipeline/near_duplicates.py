"""Images that are almost the same one: scaled, compressed again, cut a little, brightened, or mirrored."""

import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError
from .source import Source

DIFFERENT = 6  # bits of 64 by which the hashes of near duplicates differ at most
_MOST = 50_000  # images: all pairs are compared
_CHUNK = 64


def groups(source: Source, indices: np.ndarray) -> np.ndarray:
    """Returns the group of each image, int [n]: near duplicates, directly or by way of others, have the same.

    Two images are near duplicates if their difference hashes (whether each of 8x8 parts is brighter than the one to its
    left) differ in at most 6 of 64 bits, or those of one and of the other mirrored. Images of the same scene a moment
    later often are, other images of the same kind are not. A group is called by its first image.

    Args:
      source: of images, which are looked at in the size that they are read in.
      indices: int [n], which of its examples.

    Raises:
      UserError: no images, or too many to compare all with all.
    """
    from scipy.sparse import coo_array  # a tenth of a second, and more in every process that reads
    from scipy.sparse.csgraph import connected_components
    if len(indices) > _MOST:
        raise UserError(f"config.data.group_by = 'near_duplicates' compares all images with all others: {source.name} "
                        f'has {len(indices):,}, more than {_MOST:,}')
    hashes, mirrored = _hashes(source, indices)
    pairs = []
    for begin in range(0, len(hashes), _CHUNK):
        part = hashes[begin:begin + _CHUNK, None]
        bits = np.minimum(np.bitwise_count(part ^ hashes), np.bitwise_count(part ^ mirrored))
        first, second = np.nonzero(bits <= DIFFERENT)
        pairs.append((first + begin, second))
    rows, columns = (np.concatenate(part) for part in zip(*pairs))
    alike = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(hashes),) * 2)
    _, names = connected_components(alike)
    return np.unique(names, return_index=True)[1][names]


def _hashes(source: Source, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hash of each image, uint64 [n], and that of it mirrored."""
    found, progress = [], ProgressLog(f'looking for near duplicates in {source.name}', len(indices))
    for begin in range(0, len(indices), _CHUNK):
        examples = source.read(indices[begin:begin + _CHUNK])
        if 'image' not in examples or examples['image'].ndim != 4:
            raise UserError(f"config.data.group_by = 'near_duplicates': the examples of {source.name} are no images")
        found += [hashes_of(image) for image in examples['image']]
        progress(begin)
    return tuple(np.ascontiguousarray(np.asarray(found, np.uint64).reshape(-1, 2).T))


def hashes_of(image: np.ndarray) -> np.ndarray:
    """Returns the difference hash of an image [height, width, channels], and that of it mirrored, uint64 [2]."""
    import cv2
    grey = cv2.resize(image.mean(axis=-1, dtype=np.float32), (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.stack([side[:, 1:] > side[:, :-1] for side in (grey, grey[:, ::-1])])
    return np.packbits(bits.reshape(2, 64), axis=-1).view(np.uint64)[:, 0]
