"""Saving arrays of which no process holds the whole: each writes its own blocks, process 0 makes one step of them.

A save goes in three moves, all of them in background threads:
  1. every process examines its blocks and writes them beside the steps: `.shards-<token>/<save>/<item>-<process>.npz`
     (Orbax writes NumPy arrays in process 0 only, and the arrays on the devices are those of a later step by then);
  2. every process tells process 0 their checksums, or what went wrong;
  3. process 0 takes the blocks into the new step, which only then gets its name, and tells all how it went.
So a step is listed when every byte of it is there, and an error is the same one in all processes.
"""

import itertools
import json
import math
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed  # the coordination service has no public name

from ..common.errors import UserError
from . import array_paths, host_arrays, step_folders
from .background import Background
from .checkpoint_meta import CorruptError, NonFiniteError
from .host_arrays import Arrays
from .workdir import make_folder

_DAY = 24 * 3600 * 1000  # ms; a process that dies ends its peers long before
VISIBLE_SECONDS = 60  # that a network file system may take to show a new folder to other machines
_PREFIX = '.shards-'
_instances = itertools.count()  # all processes make them in the same order


class PartError(Exception):
    """What another process, or this one, says of its part of a save."""


def remove_abandoned(folder: Path) -> None:
    """Removes what a killed run was still writing to the folder of its steps."""
    for old in folder.glob(f'{_PREFIX}*'):
        shutil.rmtree(old, ignore_errors=True)


def spans_processes(leaf: Any) -> bool:
    """Whether an array has values that no single process holds."""
    return isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)


def own_blocks(leaves: Mapping[str, Any]) -> Arrays:
    """Returns host copies of the blocks that this process is to write, 'path@start' -> block; start is '0,512'.

    Args:
      leaves: arrays that span processes, by path. Of blocks that several devices hold one writes.
    """
    blocks = {}
    for path, leaf in leaves.items():
        for shard in leaf.addressable_shards:
            if shard.replica_id == 0:
                blocks[f'{path}@{",".join(str(part.start or 0) for part in shard.index)}'] = shard.data
    return dict(zip(blocks, host_arrays.copy(list(blocks.values()))))


def join(arrays: Arrays, layout: Mapping[str, Mapping[str, Any]]) -> Arrays:
    """Puts blocks together.

    Args:
      arrays: whole arrays by path, and blocks as `own_blocks` names them.
      layout: path -> {'shape', 'dtype'} of the arrays that are in blocks.

    Raises:
      CorruptError: the blocks are not the whole array.
    """
    blocks = {path: {} for path in layout}
    whole = {}
    for name, value in arrays.items():
        path, at, start = name.rpartition('@')
        if at and path in blocks:
            blocks[path][tuple(map(int, start.split(',')))] = value
        else:
            whole[name] = value
    for path, parts in blocks.items():
        shape, dtype = tuple(layout[path]['shape']), jnp.dtype(layout[path]['dtype'])
        if sum(part.size for part in parts.values()) != math.prod(shape):
            raise CorruptError(f'blocks of {path} are missing')
        whole[path] = array = np.zeros(shape, dtype)
        for start, part in parts.items():
            index = tuple(slice(first, first + rows) for first, rows in zip(start, part.shape))
            array[index] = part.view(dtype) if part.dtype.kind == 'V' else part  # NumPy's files do not name bfloat16
    return whole


def read(step_folder: Path, item: str) -> Arrays:
    """Returns the blocks of all processes of an item of a step. Raises whatever a broken file leads to."""
    arrays = {}
    for path in (step_folder / step_folders.SHARDS).glob(f'{item}-*.npz'):
        with np.load(path, allow_pickle=False) as file:
            arrays |= {name: file[name] for name in file.files}
    return arrays


class Together:
    """The conversation of all processes of a run about their saves. All of them make one at the same time.

    Texts travel through JAX's coordination service: a collective in a background thread would mix with those of steps.

    Args:
      folder: of the steps, which all processes must see.

    Raises:
      UserError: a process does not see the folder that process 0 sees.
    """

    def __init__(self, folder: Path):
        self._client = distributed.global_state.client
        self._keys = f'practicum/checkpoints/{next(_instances)}'
        self._me, self._others = jax.process_index(), range(1, jax.process_count())
        self._save = 0
        if self._me == 0:
            self._tell('folder', f'{_PREFIX}{secrets.token_hex(8)}')
        self._folder = folder / self._hear('folder')
        if self._me == 0:
            make_folder(self._folder)
            self._tell('made', True)
        self._check_shared()

    def _check_shared(self) -> None:
        self._hear('made')
        if self._me:
            self._tell(f'sees/{self._me}', None if _comes_true(self._folder.is_dir) else
                       f'process {self._me} on {socket.gethostname()} does not see {self._folder.parent} of process 0: '
                       'every process saves its part of a sharded state: put --workdir on a disk that all share')
        else:
            problems = [self._hear(f'sees/{other}') for other in self._others]
            self._tell('problem', next(filter(None, problems), None))
        if problem := self._hear('problem'):
            self.close()
            raise UserError(problem)

    def contribute(self, step: int, blocks: Mapping[str, Arrays]) -> None:
        """Writes this process's blocks of every item and tells process 0; what goes wrong is told, not raised."""
        told = {}
        try:
            told['checksums'] = {item: host_arrays.examine(arrays, step) for item, arrays in blocks.items()}
            folder = self._folder / str(self._save)
            folder.mkdir(exist_ok=True)
            told['files'] = {}
            for item, arrays in blocks.items():
                with open(folder / f'{item}-{self._me}.npz', 'xb') as file:
                    np.savez(file, **arrays)
                    told['files'][file.name] = file.seek(0, os.SEEK_END)
        except NonFiniteError as error:
            told['not finite'] = error.what.rpartition('@')[0]
        except Exception as error:
            told['error'] = f'{step_folders.reason(error)} (process {self._me} on {socket.gethostname()})'
        self._tell(f'{self._save}/part/{self._me}', told)

    def collect(self, step: int) -> tuple[list[Path], dict[str, dict[str, str]]]:
        """Returns the files of all processes' blocks, and the blocks' checksums by item. For process 0.

        Raises:
          NonFiniteError, PartError: what a process told, or process 0 does not see what another one wrote.
        """
        files: list[Path] = []
        checksums: dict[str, dict[str, str]] = {}
        parts = [self._hear(f'{self._save}/part/{process}') for process in (0, *self._others)]
        for part in parts:
            _raise(part, step)
            for item, found in part['checksums'].items():
                checksums.setdefault(item, {}).update(found)
            for name, size in part['files'].items():
                files.append(self._folder / str(self._save) / Path(name).name)
                if not _comes_true(lambda path=files[-1], size=size: path.is_file() and path.stat().st_size == size):
                    raise PartError(f'process 0 does not see {name} of another process')
        return files, checksums

    def conclude(self, error: Exception | None) -> None:
        """Tells all others how a save went. For process 0."""
        told = {}
        if isinstance(error, NonFiniteError):
            told['not finite'] = error.what
        elif error is not None:
            told['error'] = str(error)
        self._tell(f'{self._save}/outcome', told)
        shutil.rmtree(self._folder / str(self._save), ignore_errors=True)
        if self._save:  # everybody has heard how the save before went, or would not have taken part in this one
            self._client.key_value_delete(f'{self._keys}/{self._save - 1}')
        self._save += 1

    def hear_outcome(self, step: int) -> None:
        """Waits until process 0 says how a save went. Raises NonFiniteError or PartError if it failed."""
        told = self._hear(f'{self._save}/outcome')
        self._save += 1
        _raise(told, step)

    def close(self) -> None:
        """Removes the folder of the blocks."""
        if self._me == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _tell(self, key: str, value: Any) -> None:
        self._client.key_value_set(f'{self._keys}/{key}', json.dumps(value))

    def _hear(self, key: str) -> Any:
        return json.loads(self._client.blocking_key_value_get(f'{self._keys}/{key}', _DAY))


def _comes_true(condition: Callable[[], bool]) -> bool:
    """Waits for what a network file system shows late; returns whether it came true."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return true


def _raise(told: Mapping[str, Any], step: int) -> None:
    if 'not finite' in told:
        raise NonFiniteError(told['not finite'], step)
    if 'error' in told:
        raise PartError(told['error'])


class BlockWriter:
    """The part of processes other than 0 in saving a state that spans processes. A context manager.

    Args:
      folder: of the steps.

    Raises:
      UserError: it is not the folder of process 0.
    """

    def __init__(self, folder: Path):
        self._together = Together(folder)
        self._background = Background()

    def __enter__(self) -> 'BlockWriter':
        return self

    def __exit__(self, exc_type, exc, traceback) -> None:
        try:
            self.wait()
        except Exception:
            if exc is None:
                raise  # otherwise the first error is the one to show
        finally:
            self._background.close()

    def save(self, step: int, items: Mapping[str, Any]) -> None:
        """Does in this process what `Checkpoints.save` does in process 0, and raises what it raises there."""
        self.wait()
        spanning = {item: {path: leaf for path, leaf in array_paths.flatten(tree).items() if spans_processes(leaf)}
                    for item, tree in items.items()}
        if any(spanning.values()):
            blocks = {item: own_blocks(leaves) for item, leaves in spanning.items()}
            self._background.start(self._write, step, blocks)

    def _write(self, step: int, blocks: Mapping[str, Arrays]) -> None:
        self._together.contribute(step, blocks)
        try:
            self._together.hear_outcome(step)
        except PartError as error:
            raise UserError(str(error)) from error

    def wait(self) -> None:
        """Blocks until the last save is on disk, or has failed: then raises the same error as in process 0."""
        self._background.wait()
