"""Images that cannot be read: found out, counted, left out; too many of them are an error.

Positions in a split, and so its parts, are those of all files, readable or not. Otherwise training and evaluation,
which learn of damage in different ways, could disagree on where 'train[:90%]' ends.
"""

import hashlib
import logging
import threading
from typing import Any

import numpy as np

from ..common.console import ProgressLog, warn_once
from ..common.errors import UserError
from ..common.json_cache import cached_json, put_json
from ..common.threads import parallel_map
from .arrays import ArraySource
from .source import Examples, IndexedSource, Source

REASON = 'unreadable'  # in the metadata of a loaded example: why it is black
_CHUNK = 256  # images checked per task, after which a request to stop is heard
_NAMED = 3  # in messages


def read_or_blank(source: Source, indices: np.ndarray) -> tuple[Examples, dict[int, str]]:
    """Reads examples; those that cannot be read are black. Returns them, and why by index.

    Args:
      source: see `Source.can_be_unreadable`.
      indices: int [n].
    """
    try:
        return source.read(indices), {}
    except UserError:
        pass  # one or several of them
    parts, reasons = [], {}
    for index in indices:
        one = np.array([index])
        try:
            parts.append(source.read(one))
        except UserError as error:
            reasons[int(index)] = str(error)
            parts.append(source.blank(one))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, reasons


def leave_out(loaded: ArraySource, source: Source, indices: np.ndarray, limit: float) -> np.ndarray:
    """Returns which of some examples of a loaded source can be read, as int [n] of its indices.

    Those that could not be are tried again first: permissions may have changed since they were decoded.

    Args:
      loaded: all of the source, with the reasons in its metadata, see `memory.load`.
      source: what was loaded.
      indices: int [n], the examples that are wanted.
      limit: config.data.max_unreadable.

    Raises:
      UserError: more than that cannot be read.
    """
    reasons = {}
    if loaded.metadata is None:
        return indices
    for i in indices.tolist():
        metadata = loaded.metadata[i]
        if REASON not in metadata:
            continue
        try:
            example = source.read(np.array([i]))
        except UserError as error:
            reasons[i] = str(error)
            continue
        for name, values in loaded.arrays.items():
            values[i] = example[name][0]
        loaded.metadata[i] = source.describe(np.array([i]))[0]
    if reasons:
        report(list(reasons.values()), len(indices), source, limit)
    return indices[~np.isin(indices, list(reasons))] if reasons else indices


def readable(source: Source, indices: np.ndarray, limit: float, *, pixels: bool, workers: int = 0) -> np.ndarray:
    """Checks examples of a source that streams, in threads, and keeps the result in the cache folder.

    Args:
      source: see `Source.can_be_unreadable`.
      indices: int [n], the examples that are wanted.
      limit: config.data.max_unreadable.
      pixels: make sure that each has all of its pixels, rather than a header alone. That of a plain JPEG without
        decoding it: how some of them are damaged shows when they are read, see `NotingSource`.
      workers: threads; 0 for one per core.

    Returns:
      int [n], those of the indices that can be read.

    Raises:
      UserError: more than `limit` cannot be read.
      Interrupted: the process was asked to stop.
    """
    def reasons_of(chunk: np.ndarray) -> dict[int, str]:
        found = {}
        for i in chunk.tolist():
            try:
                source.check(i, pixels=pixels)
            except UserError as error:
                found[i] = str(error)
        return found

    def check(chosen: np.ndarray) -> dict[int, str]:
        chunks = [chosen[i:i + _CHUNK] for i in range(0, len(chosen), _CHUNK)]
        tick, reasons = ProgressLog('checking', len(chunks)), {}
        for done, found in enumerate(parallel_map(reasons_of, chunks, workers), start=1):
            reasons |= found
            tick(done)
        return reasons

    def check_all() -> list[int]:
        logging.info('checking %s: %s %s, once', source.name, f'{len(indices):,}', source.unit)
        return list(check(indices))

    damaged = cached_json('unreadable', _identity(source, indices, pixels), check_all, f'checking {source.name}')
    reasons = {}
    for i in damaged:  # again: permissions may have changed
        try:
            source.read(np.array([i])) if pixels else source.check(i, pixels=False)
        except UserError as error:
            reasons[i] = str(error)
    if reasons:
        report(list(reasons.values()), len(indices), source, limit)
    return indices[~np.isin(indices, list(reasons))]


def reasons(source: Source, indices: np.ndarray) -> list[tuple[str, str]]:
    """Returns (file, why) of examples that cannot be read, such as those of `Source.left_out`."""
    found = []
    for i, facts in zip(indices.tolist(), source.describe(indices)):
        try:
            source.read(np.array([i]))
        except UserError as error:
            found.append((str(facts.get('file', f'example {i}')), str(error)))
    return found


def _identity(source: Source, indices: np.ndarray, pixels: bool) -> list:
    return [pixels, hashlib.sha256(np.ascontiguousarray(indices, np.int64)).hexdigest(), source.files_identity]


class NotingSource(IndexedSource):
    """A source for evaluation, which wants each example once: damage that nobody saw before is an error, and noted.

    So the next start leaves the image out, as it does others that `readable` finds.

    Args:
      source: what is read.
      indices: int [n], the examples that `readable` was asked for.
    """

    def __init__(self, source: Source, indices: np.ndarray):
        super().__init__(source)
        self._checked = indices

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """See `Source`.

        Raises:
          UserError: an image is damaged.
        """
        try:
            return super().read(indices, uniforms)
        except UserError as error:
            found = read_or_blank(self._source, indices)[1]
            if not found:
                raise
            identity = _identity(self._source, self._checked, pixels=True)
            put_json('unreadable', identity, sorted({*cached_json('unreadable', identity, list), *found}))
            raise UserError(f'{next(iter(found.values()))}; start again, and it is left out') from error


class ReplacingSource(Source):
    """A source for training: an image whose pixels turn out to be damaged is replaced by the next that is sound.

    Which image that is depends on the files alone, not on when or in which thread the damage is found.

    Args:
      source: what is read. Nothing that belongs to one of its examples may be added after this.
      limit: config.data.max_unreadable.
      known: how many images have been left out already.
    """

    def __init__(self, source: Source, limit: float, known: int):
        self.info, self.name, self.frames, self.needs_rng = source.info, source.name, source.frames, source.needs_rng
        self.has_masks, self.has_captions, self.has_boxes = source.has_masks, source.has_captions, source.has_boxes
        self.labels, self.unit = source.labels, source.unit
        self._source, self._limit, self._known = source, limit, known
        self._damaged: dict[int, str] = {}
        self._lock = threading.Lock()  # several threads read

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """See `Source`.

        Raises:
          UserError: more than the limit cannot be read.
        """
        while True:
            chosen = self._sound(indices)
            try:
                return self._source.read(chosen, uniforms)
            except UserError:
                self._find_damaged(chosen, uniforms)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `Source`."""
        return self._source.describe(self._sound(indices))

    def _sound(self, indices: np.ndarray) -> np.ndarray:
        if not self._damaged:
            return indices
        chosen = indices.copy()
        for row, i in enumerate(chosen):
            while int(i) in self._damaged:
                i = (i + 1) % len(self)
            chosen[row] = i
        return chosen

    def _find_damaged(self, indices: np.ndarray, uniforms: np.ndarray | None) -> None:
        for row in range(len(indices)):
            try:
                self._source.read(indices[row:row + 1], None if uniforms is None else uniforms[row:row + 1])
            except UserError as error:
                self._add(int(indices[row]), str(error))

    def _add(self, index: int, reason: str) -> None:
        with self._lock:
            if index in self._damaged:
                return
            count, total = len(self._damaged) + 1, self._known + len(self)
            if self._known + count > self._limit * total or count == len(self):
                raise _too_many([reason, *self._damaged.values()], self._known + count, total, self, self._limit)
            self._damaged[index] = reason
        if count & (count - 1) == 0:  # at 1, 2, 4, 8, ...: a damaged disk would otherwise fill the terminal
            logging.warning('%s of %s %s in %s turn out to be damaged, the next is taken in place of each; last: %s',
                            f'{count:,}', f'{total:,}', self.unit, self.name, reason)


def report(reasons: list[str], total: int, source: Source, limit: float) -> None:
    """Warns, once, of examples that are left out; raises UserError if they are more than `limit` of `total`."""
    if len(reasons) > limit * total or len(reasons) == total:
        raise _too_many(reasons, len(reasons), total, source, limit)
    warn_once(f'{len(reasons):,} of {total:,} {source.unit} in {source.name} cannot be read and are left out: '
              f'{_some(reasons)}')


def _too_many(reasons: list[str], count: int, total: int, source: Source, limit: float) -> UserError:
    return UserError(f'{count:,} of {total:,} {source.unit} in {source.name} cannot be read, more than '
                     f'config.data.max_unreadable = {limit} allows: {_some(reasons)}')


def _some(reasons: list[str]) -> str:
    return '; '.join(reasons[:_NAMED]) + ('; ...' if len(reasons) > _NAMED else '')
