"""Examples in memory."""

from typing import Any, Mapping

import numpy as np


class ArraySource:
    """Arrays of equal length, gathered by index.

    Args:
      arrays: feature name -> array [examples, ...].
      meta: facts about the data set.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], meta: dict[str, Any]):
        self.arrays = dict(arrays)
        self.meta = meta

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the examples of int [n] indices, as copies."""
        return {name: values.take(indices, axis=0) for name, values in self.arrays.items()}

    def part(self, begin: int, end: int) -> 'ArraySource':
        """Returns examples begin..end-1, as views."""
        return ArraySource({name: values[begin:end] for name, values in self.arrays.items()}, self.meta)
