"""Long lists of files in few bytes: a million names take 40 MB here, and 600 MB as paths."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

_CHUNK = 2**16


class FileList(Sequence):
    """Files below a folder, by their names in one array of bytes.

    Args:
      root: the folder.
      names: uint8 [bytes], the paths below it one after the other, as the file system has them.
      ends: int64 [files], where each of them ends.
    """

    def __init__(self, root: Path, names: np.ndarray, ends: np.ndarray):
        self.root, self._names, self._ends = root, names, ends
        self._prefix = os.path.join(os.fspath(root), '')

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        """Returns a Path, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Path(self.path(index))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))

    __hash__ = None

    def name(self, index: int) -> str:
        """Returns the path of a file below the folder."""
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        begin = self._ends[index - 1] if index else 0
        return os.fsdecode(self._names[begin:self._ends[index]].tobytes())

    def path(self, index: int) -> str:
        """Returns the path of a file, without the cost of a `Path`."""
        return self._prefix + self.name(index)

    def paths(self) -> Iterator[str]:
        """Yields the path of every file."""
        return map(self.path, range(len(self)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns what `FileList` is made of."""
        return {'names': self._names, 'ends': self._ends}

    def digest(self) -> str:
        """Returns a hash of all names."""
        return hashlib.sha256(hashlib.sha256(self._names).digest() + hashlib.sha256(self._ends).digest()).hexdigest()


class NameCollector:
    """Names that are found one by one, and become a `FileList` in the order of their hashes.

    The order is the same wherever the folder lies, and the place of no file depends on the others.
    """

    def __init__(self):
        self._names, self._hashes, self._lengths = bytearray(), bytearray(), []

    def __len__(self) -> int:
        return len(self._hashes) // 16

    def add(self, names: Sequence[str]) -> None:
        """Adds the paths of files below the folder."""
        encoded = [os.fsencode(name) for name in names]
        self._names += b''.join(encoded)
        self._hashes += b''.join([order(name) for name in encoded])
        self._lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))

    def sorted(self, root: Path) -> tuple[FileList, np.ndarray]:
        """Returns the files, and which of those that were added each of them is, int64 [files]."""
        hashes = np.frombuffer(self._hashes, '>u8').reshape(-1, 2)
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        lengths = np.concatenate(self._lengths or [np.zeros(0, np.int64)])
        ends = np.cumsum(lengths)
        sorted_ends = np.cumsum(lengths[order])
        names = np.empty(len(self._names), np.uint8)
        view, filled = memoryview(self._names), 0
        for begin in range(0, len(order), _CHUNK):
            chunk = order[begin:begin + _CHUNK]
            part = b''.join([view[end - length:end] for end, length in zip(ends[chunk].tolist(),
                                                                           lengths[chunk].tolist())])
            names[filled:filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
        return FileList(root, names, sorted_ends), order


def order(name: bytes) -> bytes:
    """Returns the hash of a path below a folder, as the file system has it: what files are sorted by."""
    return hashlib.md5(name, usedforsecurity=False).digest()


def sizes_and_times(files: FileList) -> np.ndarray:
    """Returns size and time of modification in ns of every file, int64 [files, 2]; -1 of those that are not there."""
    found = np.empty((len(files), 2), np.int64)
    for row, path in enumerate(files.paths()):
        try:
            status = os.stat(path)
        except OSError:  # a link to nothing, or to itself: one of the unreadable ones
            found[row] = -1
        else:
            found[row] = status.st_size, status.st_mtime_ns
    return found
