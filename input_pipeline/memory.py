"""Keeps a small data set in memory, decoded once and for all.

The decoded arrays are cached on disk as .npy files under a name that depends on the source's `identity`: where its
files are, their sizes and times, and the image size asked for. So a second run starts without decoding.
"""

import json
import logging
import os
import shutil
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.files import cache_folder, digest
from .arrays import ArraySource

_CHUNK = 1024  # examples decoded per task
_VERSION = 3  # of the cache's files; entries of another one are decoded again

# What is in use already: training, validation and test parts of one split share its arrays.
_loaded: weakref.WeakValueDictionary[str, ArraySource] = weakref.WeakValueDictionary()


def load(source) -> ArraySource:
    """Reads a whole source into memory, from the cache if it is there.

    Args:
      source: a source with `identity`, what JSON can hold and what changes whenever its examples do, and `name`.
    """
    name = digest([_VERSION, source.identity])
    loaded = _loaded.get(name)
    if loaded is None:
        folder = cache_folder() / 'decoded' / name
        loaded = _read(folder)
        if loaded is None:
            loaded = _decode(source)
            _write(folder, loaded)
        _loaded[name] = loaded
    return loaded


def _decode(source) -> ArraySource:
    logging.info('decoding %s: %s examples, once', source.name, f'{len(source):,}')
    chunks = [np.arange(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(source.read, chunks))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    metadata = source.describe(np.arange(len(source)))
    return ArraySource(arrays, source.info, metadata if any(metadata) else None)


def _read(folder: Path) -> ArraySource | None:
    try:
        facts = json.loads((folder / 'facts.json').read_text())
        arrays = {name: np.load(folder / f'{name}.npy', allow_pickle=False) for name in facts['features']}
        if {name: list(values.shape) for name, values in arrays.items()} != facts['features']:
            return None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None  # not there or broken: decode again
    return ArraySource(arrays, DatasetInfo.from_json(facts['info']), facts['examples'])


def _write(folder: Path, loaded: ArraySource) -> None:
    """Writes beside and renames, so that a cache entry is whole or absent; a full or read-only disk is no error."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix='.writing-'))
        for name, values in loaded.arrays.items():
            np.save(temporary / f'{name}.npy', values, allow_pickle=False)
        facts = {'features': {name: list(values.shape) for name, values in loaded.arrays.items()},
                 'info': loaded.info.to_json(), 'examples': loaded.metadata}
        (temporary / 'facts.json').write_text(json.dumps(facts))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    except OSError as error:
        logging.info('the decoded data set is not cached: %s', error)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def fingerprint(files: list[Path]) -> list[list]:
    """Returns name, size and modification time of files, for a source's `identity`."""
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
