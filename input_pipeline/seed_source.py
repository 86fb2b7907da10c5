"""A source of nothing but numbers, for tasks that make their own data of them.

Examples are 'seed', uint32 [n]: of whatever is drawn in their place, such as an episode of a game. A split has 10,000
of them, of which an evaluation takes a part, 'test[:100]'; no seed is in two splits. So batches stay a function of
config, seed and step alone, and evaluation sets are always the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from .arrays import ArraySource

_SPLITS = ('train', 'validation', 'test')
_LENGTH = 10_000


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> ArraySource:
    """Opens a split, see the top of this file. Raises UserError if there is none of that name."""
    del data, image, crop_area
    if split not in _SPLITS:
        raise UserError(f"config.data.source = 'seeds' has no split {split!r}; {nearest(split, _SPLITS)}")
    first = _SPLITS.index(split) * _LENGTH
    return ArraySource({'seed': np.arange(first, first + _LENGTH, dtype=np.uint32)}, DatasetInfo(), name='seeds')
