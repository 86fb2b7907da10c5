"""Examples in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo

# XLA's CPU backend uses host memory that begins at such an address as it is, and copies any other.
_ALIGNMENT = 64


class ArraySource:
    """Arrays of equal length, gathered by index.

    Args:
      arrays: feature name -> array [examples, ...].
      info: of the data set.
      metadata: what is known of each example, see `describe`; None if there are none.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], info: DatasetInfo,
                 metadata: Sequence[dict[str, Any]] | None = None):
        self.arrays = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        self.info, self.metadata = info, metadata

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the examples of int [n] indices, as copies.

        Raises:
          IndexError: an index is not in 0..len-1.
        """
        if len(indices) and not (0 <= indices.min() and indices.max() < len(self)):
            raise IndexError(f'index outside 0..{len(self) - 1}')
        return {name: _gather(values, indices) for name, values in self.arrays.items()}

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns what is known of the examples of int [n] indices."""
        return [dict(self.metadata[i]) if self.metadata else {} for i in indices]

    def part(self, begin: int, end: int) -> 'ArraySource':
        """Returns examples begin..end-1, as views."""
        part = ArraySource({name: values[begin:end] for name, values in self.arrays.items()}, self.info,
                           self.metadata and self.metadata[begin:end])
        part._whole = self  # as long as a part is in use, others of the same arrays can be had
        return part


def _gather(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """values[indices] in fresh aligned memory; three times as fast as numpy's fancy indexing."""
    size = len(indices) * (values.nbytes // len(values))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    gathered = memory[begin:begin + size].view(values.dtype).reshape(len(indices), *values.shape[1:])
    # The indices are known to be valid; mode='raise' would gather into a buffer first.
    return values.take(indices, axis=0, out=gathered, mode='clip')
