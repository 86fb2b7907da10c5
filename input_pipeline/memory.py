"""Keeps a small data set in memory, decoded once and for all.

The decoded arrays are cached on disk as .npy files under a name that depends on the source's `identity`: where its
files are, their sizes and times, and the image size asked for. So a second run starts without decoding. Every array and
what is noted of them has a checksum: whatever is damaged is decoded again.
"""

import json
import logging
import os
import weakref
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import ProgressLog
from ..common.dataset_info import DatasetInfo
from ..common.files import cache_folder, cache_limit, digest, replacing_folder, trim
from ..common.threads import parallel_map
from ..common.turns import found_or_made
from . import unreadable
from .arrays import ArraySource
from .source import Source

_CHUNK = 64  # examples decoded per task, after which a request to stop is heard
_VERSION = 4  # of the cache's files; entries of another one are decoded again

# What is in use already: training, validation and test parts of one split share its arrays.
_loaded: weakref.WeakValueDictionary[str, ArraySource] = weakref.WeakValueDictionary()


def load(source: Source) -> ArraySource:
    """Reads a whole source into memory, from the cache if it is there.

    Args:
      source: read anew each time if it has no `identity`. Examples that cannot be read are black, and their metadata
        say why, see `unreadable.REASON`.

    Raises:
      Interrupted: the process was asked to stop.
    """
    identity = source.identity  # which looks at every file
    if identity is None:
        return _decode(source)
    name = digest([_VERSION, identity])
    folder = cache_folder() / 'decoded' / name

    def decode_and_write() -> ArraySource:
        decoded = _decode(source)
        _write(folder, decoded)
        return decoded

    def read_or_decode() -> ArraySource:
        loaded = found_or_made(lambda: _read(folder), decode_and_write, f'decoding {source.name}', ['decoded', name])
        loaded.name = source.name
        return loaded
    return shared(name, read_or_decode)


def shared(name: str, read: Callable[[], ArraySource]) -> ArraySource:
    """Returns what `read` returned for this name, if that is in use still, or returns now."""
    loaded = _loaded.get(name)
    if loaded is None:
        loaded = _loaded[name] = read()
    return loaded


def _decode(source: Source) -> ArraySource:
    total = len(source)
    logging.info('decoding %s: %s examples, once', source.name, f'{total:,}')
    chunks = [np.arange(i, min(i + _CHUNK, total)) for i in range(0, total, _CHUNK)]
    tick, arrays, reasons = ProgressLog('decoding', total), {}, {}
    for chunk, (examples, damaged) in zip(chunks, parallel_map(
            lambda chunk: unreadable.read_or_blank(source, chunk) if source.can_be_unreadable
            else (source.read(chunk), {}), chunks)):
        for name, values in examples.items():
            if name not in arrays:
                arrays[name] = np.empty((total, *values.shape[1:]), values.dtype)
            arrays[name][chunk[0]:chunk[-1] + 1] = values
        reasons |= damaged
        tick(int(chunk[-1]))
    metadata = source.describe(np.arange(total))
    for index, reason in reasons.items():
        metadata[index][unreadable.REASON] = reason
    return ArraySource(arrays, source.info, metadata if any(metadata) else None, source.name)


def _read(folder: Path) -> ArraySource | None:
    if not folder.is_dir():
        return None
    try:
        facts = json.loads((folder / 'facts.json').read_text())
        if facts.pop('checksum') != _checksum(facts):
            raise ValueError('facts.json was changed')
        arrays = {}
        for name, shape in facts['features'].items():
            # Mapped first: a damaged header may promise more than there is memory.
            mapped = np.load(folder / f'{name}.npy', mmap_mode='r', allow_pickle=False)
            if list(mapped.shape) != shape or str(mapped.dtype) != facts['dtypes'][name]:
                raise ValueError(f'{name}.npy has another shape')
            arrays[name] = np.array(mapped)
            if zlib.crc32(arrays[name]) != facts['checksums'][name]:
                raise ValueError(f'{name}.npy was changed')
        return ArraySource(arrays, DatasetInfo.from_json(facts['info']), facts['examples'])
    # What a damaged file trips numpy and json into (TokenError, MemoryError, RecursionError, ...) is a long list.
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        logging.warning('the decoded data in %s are damaged (%s): decoding again', folder, reason[:100])
        return None


def _write(folder: Path, loaded: ArraySource) -> None:
    """Writes an entry of the cache, whole or not at all; a full or read-only disk is no error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(folder) as writing:
            for name, values in loaded.arrays.items():
                np.save(writing / f'{name}.npy', values, allow_pickle=False)
            facts = {'features': {name: list(values.shape) for name, values in loaded.arrays.items()},
                     'dtypes': {name: str(values.dtype) for name, values in loaded.arrays.items()},
                     'checksums': {name: zlib.crc32(values) for name, values in loaded.arrays.items()},
                     'info': loaded.info.to_json(), 'examples': loaded.metadata}
            (writing / 'facts.json').write_text(json.dumps(facts | {'checksum': _checksum(facts)}))
        trim(folder.parent, cache_limit(), keep=folder)
    except OSError as error:
        logging.info('the decoded data set is not cached: %s', error)


def _checksum(facts: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def fingerprint(files: Iterable[str | os.PathLike]) -> list[list]:
    """Returns name, size and modification time of files, for a source's `identity`; the name alone of missing ones."""
    found = []
    for file in files:
        name = os.path.basename(file)
        try:
            status = os.stat(file)
        except OSError:  # a link to nothing, or to itself: one of the unreadable ones
            found.append([name])
        else:
            found.append([name, status.st_size, status.st_mtime_ns])
    return found
