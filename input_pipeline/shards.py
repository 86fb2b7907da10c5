"""Records of several array_record files, by their number over all of them."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np


class Shards:
    """A split in array_record files; those of one file that are asked for together are read together.

    Any number of threads may read.

    Args:
      files: in order.
      lengths: records of each.
    """

    def __init__(self, files: Sequence[str], lengths: Sequence[int]):
        self._files, self._ends = list(files), np.cumsum(lengths)
        self._readers: dict[int, Any] = {}
        self._opening = threading.Lock()

    def read(self, indices: np.ndarray) -> list[bytes]:
        """Returns records, int [n]."""
        numbers, found = np.searchsorted(self._ends, indices, side='right'), [b''] * len(indices)
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            begin = self._ends[number - 1] if number else 0
            for row, record in zip(rows, self._reader(number).read((indices[rows] - begin).tolist())):
                found[row] = record
        return found

    def _reader(self, number: int) -> Any:
        with self._opening:
            if number not in self._readers:
                from array_record.python.array_record_module import ArrayRecordReader
                self._readers[number] = ArrayRecordReader(self._files[number])
            return self._readers[number]
