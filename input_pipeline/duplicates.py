"""Images that are there twice, in one set or in two: with the same pixels, or almost the same ones.

`near_duplicates` has to keep together whatever may be alike. Here it is said of two images that they are alike, so each
pair it suspects is looked at again, in more detail.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from ..common.console import ProgressLog
from . import near_duplicates

LEAST_SIDE = 32  # pixels: smaller images, of digits as a rule, look alike without being the same one
_SIDE = 16  # pixels of a thumbnail
_ALIKE = 0.93  # correlation of two thumbnails from which on they show the same
_ROWS, _PAIRS = 64, 2**16  # images and pairs that are compared at once


class Fingerprints(NamedTuple):
    """What is kept of images to compare them.

    Attributes:
      digests: uint64 [n, 2], equal for equal pixels.
      hashes: uint64 [n, 2], see `near_duplicates.hashes_of`; [0, 2] of images that are too small for likeness.
      thumbnails: float16 [n, 16, 16], grey, with mean 0 and norm 1; [0, 16, 16] likewise.
    """
    digests: np.ndarray
    hashes: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray) -> 'Fingerprints':
        """Returns those of images [n, height, width, channels], or of videos [n, frames, ...].

        Images that are to be compared have the same type and size.
        """
        digests = [hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() for image in images]
        digests = np.frombuffer(b''.join(digests), np.uint64).reshape(-1, 2)
        if images.ndim != 4 or min(images.shape[1:3]) < LEAST_SIDE:
            return cls(digests, np.zeros((0, 2), np.uint64), np.zeros((0, _SIDE, _SIDE), np.float16))
        hashes = np.stack([near_duplicates.hashes_of(image) for image in images])
        return cls(digests, hashes, np.stack([_thumbnail(image) for image in images]))

    @classmethod
    def joined(cls, parts: list['Fingerprints']) -> 'Fingerprints':
        """Returns those of several lots of images as one."""
        return cls(*map(np.concatenate, zip(*parts)))

    @property
    def comparable(self) -> bool:
        """Whether likeness can be told, beyond equality."""
        return len(self.hashes) == len(self.digests)


def same(some: Fingerprints, others: Fingerprints | None = None) -> np.ndarray:
    """Returns for each image one with the same pixels, int [n]: the first of the others, or another of its own set.

    -1 where there is none.
    """
    if others is not None:
        first = {digest: row for row, digest in reversed(list(enumerate(map(bytes, others.digests))))}
        return np.array([first.get(digest, -1) for digest in map(bytes, some.digests)], np.int64)
    _, members, counts = np.unique(some.digests, axis=0, return_inverse=True, return_counts=True)
    members = members.ravel()
    order, begins = np.argsort(members, kind='stable'), np.cumsum(counts) - counts
    firsts, several = order[begins], counts > 1
    partner = np.where(several[members], firsts[members], -1)
    partner[firsts[several]] = order[begins[several] + 1]  # that of the first one is the next one
    return partner


def alike(some: Fingerprints, others: Fingerprints | None = None, what: str = 'comparing images'
          ) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each image the one that it is most like, of the others or of its own set.

    Two images are alike if their difference hashes differ in at most 6 of 64 bits, as for config.data.group_by =
    'near_duplicates', and thumbnails of 16x16 correlate with 0.93 or more; one of them may be mirrored. Those with the
    same pixels are left out.

    Args:
      some, others: both `comparable`.
      what: is being done, for the line about progress.

    Returns:
      The other image, int [n], -1 where there is none, and the correlation, float32 [n].
    """
    others = some if others is None else others
    partner, likeness = np.full(len(some.digests), -1), np.full(len(some.digests), _ALIKE, np.float32)
    progress = ProgressLog(what, len(partner))
    hashes, mirrored = np.ascontiguousarray(others.hashes.T)
    for begin in range(0, len(partner), _ROWS):
        part = some.hashes[begin:begin + _ROWS, :1]
        bits = np.minimum(np.bitwise_count(part ^ hashes), np.bitwise_count(part ^ mirrored))
        rows, columns = np.nonzero(bits <= near_duplicates.DIFFERENT)
        rows += begin
        other_pixels = (some.digests[rows] != others.digests[columns]).any(axis=1)
        rows, columns = rows[other_pixels], columns[other_pixels]
        for piece in range(0, len(rows), _PAIRS):
            one, other = rows[piece:piece + _PAIRS], columns[piece:piece + _PAIRS]
            first, second = some.thumbnails[one].astype(np.float32), others.thumbnails[other].astype(np.float32)
            found = np.maximum((first * second).sum((1, 2)), (first[:, :, ::-1] * second).sum((1, 2)))
            order = np.argsort(found, kind='stable')  # of several for one image the last, which is the most alike
            order = order[found[order] >= likeness[one[order]]]
            partner[one[order]], likeness[one[order]] = other[order], found[order]
        progress(begin)
    return partner, np.where(partner >= 0, likeness, 0)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    import cv2
    grey = cv2.resize(image.mean(axis=-1, dtype=np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey -= grey.mean()
    norm = np.linalg.norm(grey)
    return (grey / norm if norm > 1e-3 * grey.size ** 0.5 else np.zeros_like(grey)).astype(np.float16)
