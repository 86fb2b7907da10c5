"""Images that cannot be read: found out, counted, left out; too many of them are an error.

Positions in a split, and so its parts, are those of all files, readable or not. Otherwise training and evaluation,
which learn of damage in different ways, could disagree on where 'train[:90%]' ends.
"""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..common.console import ProgressLog, warn_once
from ..common.errors import UserError
from ..common.json_cache import cached_json
from .arrays import ArraySource
from .selection import read

_CHUNK = 256  # images checked per task
_NAMED = 3  # in messages
_KEY = 'unreadable'


class BlankUnreadable:
    """A source to be loaded into memory: unreadable images are black, and `describe` says of each why.

    Args:
      source: with `blank(indices)`, what `read` would return of black images.
    """

    def __init__(self, source):
        self.info, self.name, self.identity = source.info, source.name, source.identity
        self._source, self._reasons = source, {}

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """See `sources.Source`."""
        try:
            return self._source.read(indices)
        except UserError:
            parts = [self._read_one(indices[i:i + 1]) for i in range(len(indices))]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _read_one(self, index: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return self._source.read(index)
        except UserError as error:
            self._reasons[int(index[0])] = str(error)
            return self._source.blank(index)

    def describe(self, indices: np.ndarray) -> list[dict]:
        """See `sources.Source`; complete when all has been read."""
        return [facts | ({_KEY: self._reasons[int(i)]} if int(i) in self._reasons else {})
                for i, facts in zip(indices, self._source.describe(indices))]


def leave_out(loaded: ArraySource, source, begin: int, limit: float) -> ArraySource:
    """Returns a part of a loaded `Blanking` source without the images that cannot be read.

    Those are tried again first: permissions may have changed since they were decoded.

    Args:
      loaded: examples begin, begin + 1, ... of the source.
      source: what was loaded.
      limit: config.data.max_unreadable.

    Raises:
      UserError: more than that cannot be read.
    """
    reasons = {}
    for i, facts in enumerate(loaded.metadata or ()):
        if _KEY not in facts:
            continue
        try:
            example = source.read(np.array([begin + i]))
        except UserError as error:
            reasons[i] = str(error)
            continue
        for name, values in loaded.arrays.items():
            values[i] = example[name][0]
        del facts[_KEY]
    if not reasons:
        return loaded
    report(list(reasons.values()), len(loaded), source.name, limit)
    kept = np.setdiff1d(np.arange(len(loaded)), list(reasons))
    return ArraySource({name: values[kept] for name, values in loaded.arrays.items()}, loaded.info,
                       [loaded.metadata[i] for i in kept])


def readable(source, begin: int, end: int, limit: float, *, pixels: bool, workers: int = 0) -> np.ndarray:
    """Checks examples begin..end-1 of a source that streams, in threads, and keeps the result in the cache folder.

    Args:
      source: with `check(index, pixels=...)`, which raises UserError, and `files_identity`, which changes whenever one
        of its files does.
      limit: config.data.max_unreadable.
      pixels: decode every image, rather than its header alone.
      workers: threads; 0 for one per core.

    Returns:
      int [n], which of 0..end-begin-1 can be read.

    Raises:
      UserError: more than `limit` cannot be read.
    """
    def reasons_of(chunk) -> dict[int, str]:
        found = {}
        for i in chunk:
            try:
                source.check(begin + i, pixels=pixels)
            except UserError as error:
                found[int(i)] = str(error)
        return found

    def check(positions) -> dict[int, str]:
        chunks = [positions[i:i + _CHUNK] for i in range(0, len(positions), _CHUNK)]
        tick, reasons = ProgressLog('checking', len(chunks)), {}
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            for done, found in enumerate(pool.map(reasons_of, chunks), start=1):
                reasons |= found
                tick(done)
        return reasons

    def check_all() -> list[int]:
        logging.info('checking %s: %s images, once', source.name, f'{end - begin:,}')
        return list(check(range(end - begin)))

    suspects = cached_json('unreadable', [pixels, begin, end, source.files_identity], check_all)
    reasons = check(suspects)  # again: permissions may have changed
    if reasons:
        report(list(reasons.values()), end - begin, source.name, limit)
    return np.setdiff1d(np.arange(end - begin), list(reasons))


class Replacing:
    """A source for training: an image whose pixels turn out to be damaged is replaced by the next that is sound.

    Which image that is depends on the files alone, not on when or in which thread the damage is found.

    Args:
      source: see `sources.Source`.
      name: for messages.
      limit: config.data.max_unreadable.
      known: how many images have been left out already.
    """

    def __init__(self, source, name: str, limit: float, known: int):
        self.info, self.needs_rng = source.info, getattr(source, 'needs_rng', False)
        self._source, self._name, self._limit, self._known = source, name, limit, known
        self._damaged: dict[int, str] = {}
        self._lock = threading.Lock()  # several threads read

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `sources.Source`.

        Raises:
          UserError: more than the limit cannot be read.
        """
        while True:
            chosen = self._sound(indices)
            try:
                return read(self._source, chosen, draws)
            except UserError:
                self._find_damaged(chosen, draws)

    def describe(self, indices: np.ndarray) -> list[dict]:
        """See `sources.Source`."""
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

    def _find_damaged(self, indices: np.ndarray, draws: np.ndarray | None) -> None:
        for row in range(len(indices)):
            try:
                read(self._source, indices[row:row + 1], None if draws is None else draws[row:row + 1])
            except UserError as error:
                self._add(int(indices[row]), str(error))

    def _add(self, index: int, reason: str) -> None:
        with self._lock:
            if index in self._damaged:
                return
            count, total = len(self._damaged) + 1, self._known + len(self)
            if self._known + count > self._limit * total or count == len(self):
                raise _too_many([reason, *self._damaged.values()], self._known + count, total, self._name, self._limit)
            self._damaged[index] = reason
        if count & (count - 1) == 0:  # at 1, 2, 4, 8, ...: a damaged disk would otherwise fill the terminal
            logging.warning('%s of %s images in %s turn out to be damaged, the next is taken in place of each; last: '
                            '%s', f'{count:,}', f'{total:,}', self._name, reason)


def report(reasons: list[str], total: int, name: str, limit: float) -> None:
    """Warns, once, of images that are left out; raises UserError if they are more than `limit` of `total`."""
    if len(reasons) > limit * total or len(reasons) == total:
        raise _too_many(reasons, len(reasons), total, name, limit)
    warn_once(f'{len(reasons):,} of {total:,} images in {name} cannot be read and are left out: {_some(reasons)}')


def _too_many(reasons: list[str], count: int, total: int, name: str, limit: float) -> UserError:
    return UserError(f'{count:,} of {total:,} images in {name} cannot be read, more than config.data.max_unreadable '
                     f'= {limit} allows: {_some(reasons)}')


def _some(reasons: list[str]) -> str:
    return '; '.join(reasons[:_NAMED]) + ('; ...' if len(reasons) > _NAMED else '')
