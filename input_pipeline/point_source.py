"""Points drawn from nothing: of two classes in a plane, or around a line. No file, no download.

config.data.name says which; a split has 2,000 of them, of which parts are taken: 'train[:200]'. Points are always the
same ones, and no two splits share any.

  separable   two clouds with a gap between them, which a straight line parts
  xor         four clouds; those opposite each other are of one class
  moons       two half-circles that reach into each other
  spirals     two arms of a spiral, one and a half turns each
  noisy_line  y = 2 x + 1 and noise of standard deviation 0.5, x in [-1, 1]: 'x' and 'y' instead of 'x' and 'label'
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from .arrays import ArraySource

_SPLITS = ('train', 'validation', 'test')
_COUNT = 2000
CLASS_NAMES = ('blue', 'orange')


def separable(label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns points float64 [n, 2] of classes 0 and 1, at least 0.1 from the line between them."""
    along, across = generator.uniform(-1, 1, len(label)), 0.1 + np.abs(generator.normal(0, 0.4, len(label)))
    direction = np.array([1.0, 2.0]) / np.sqrt(5)
    return np.outer(along, direction[::-1] * (1, -1)) + np.outer(np.where(label, across, -across), direction)


def xor(label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns points float64 [n, 2] of classes 0 and 1."""
    right = generator.integers(0, 2, len(label))
    centres = np.stack([right, np.where(label, 1 - right, right)], axis=1) - 0.5
    return 1.4 * centres + generator.normal(0, 0.22, (len(label), 2))


def moons(label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns points float64 [n, 2] of classes 0 and 1; those of scikit-learn's make_moons, moved to the middle."""
    angle = generator.uniform(0, np.pi, len(label))
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.where(label[:, None], (1.0, 0.5) - points, points)
    return points - (0.5, 0.25) + generator.normal(0, 0.2, points.shape)


def spirals(label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns points float64 [n, 2] of classes 0 and 1."""
    turn = np.sqrt(generator.uniform(0.02, 1, len(label)))  # as many points everywhere along the arm
    angle = 3 * np.pi * turn + np.pi * label
    points = 1.4 * turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + generator.normal(0, 0.06, points.shape)


KINDS = {'separable': separable, 'xor': xor, 'moons': moons, 'spirals': spirals}
NOISY_LINE = 'noisy_line'


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> ArraySource:
    """Opens a split, see the top of this file. Raises UserError if there is no such split or kind of points."""
    del image, crop_area
    known = [*KINDS, NOISY_LINE]
    if data['name'] not in known:
        raise UserError(f"config.data.name = {data['name']!r}: of config.data.source = 'points' it is one of "
                        f"{', '.join(known)}; {nearest(data['name'], known)}")
    if split not in _SPLITS:
        raise UserError(f"config.data.source = 'points' has no split {split!r}; {nearest(split, _SPLITS)}")
    generator = np.random.Generator(np.random.Philox(key=[known.index(data['name']), _SPLITS.index(split)]))
    if data['name'] == NOISY_LINE:
        x = generator.uniform(-1, 1, _COUNT)
        y = 2 * x + 1 + generator.normal(0, 0.5, _COUNT)
        return ArraySource({'x': x.astype(np.float32), 'y': y.astype(np.float32)}, DatasetInfo(targets=1),
                           name='points')
    label = generator.integers(0, 2, _COUNT).astype(np.int32)
    points = KINDS[data['name']](label, generator).astype(np.float32)
    return ArraySource({'x': points, 'label': label}, DatasetInfo(class_names=CLASS_NAMES), name='points')
