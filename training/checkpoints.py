"""Checkpoints: the only file that knows Orbax.

A checkpoint of step n is a folder `<workdir>/checkpoints/<n>` with three items:
  variables  params, batch_stats and their moving averages: what prediction and transfer need
  training   optimizer state and step: what resuming needs besides
  meta       JSON: config, facts about the data set, metrics, a checksum of every array and of itself

Arrays are stored under the names of their pytree paths and compared by those names, so that a checkpoint says what it
holds without the code that wrote it. Nothing is ever unpickled. Only process 0 writes; it needs no barrier with its
peers, and a peer that dies cannot leave half a checkpoint. The writer holds a lock on the workdir.
"""

import dataclasses
import errno
import fcntl
import json
import logging
import math
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from .state import evaluated_variables

FOLDER = 'checkpoints'
_REASONS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)))
_ITEMS = ('variables', 'training')
Arrays = dict[str, np.ndarray]  # 'params/conv1/kernel' -> array


class NonFiniteError(Exception):
    """A NaN or infinity would have been saved."""


class CorruptError(Exception):
    """A checkpoint whose arrays or meta data are not those that were saved."""


@dataclasses.dataclass
class Checkpoint:
    """One restored step: `arrays` by path (empty for items not asked for) and `meta` as it was saved."""
    step: int
    arrays: Arrays
    meta: dict[str, Any]

    @property
    def variables(self) -> dict[str, Any]:
        """{'params', 'batch_stats'} to apply the model with: the moving averages where they were kept."""
        return evaluated_variables(flax.traverse_util.unflatten_dict(self.arrays, sep='/'))

    @property
    def info(self) -> DatasetInfo:
        """What is known of the data the run was trained on."""
        return DatasetInfo.from_json(self.meta.get('data', {}))


def read(workdir: str | Path, which: str | int) -> Checkpoint:
    """Returns the variables of a run's checkpoint, for everything but resuming.

    Args:
      workdir: of the run.
      which: 'last', 'best' (the last where no metric ranks them) or a step number, also as text.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    text = str(which)
    if text.isdecimal() and len(text) < 20:
        which = int(text)
    elif text not in ('best', 'last'):
        raise UserError(f"no step {text[:40]!r} of {workdir}: it is 'best', 'last' or a number")
    with Checkpoints(workdir, writable=False) as checkpoints:
        if which == 'best' and checkpoints.best_step() is None:
            which = 'last'
        checkpoint = checkpoints.restore(which, items=('variables',))
    if checkpoint is None:
        raise UserError(f'no checkpoint in {workdir} yet')
    return checkpoint


def flatten(tree: Any) -> Arrays:
    """Returns {path: host copy} of the arrays of a pytree, structs and optax states included; empty nodes vanish."""
    state_dict = flax.serialization.to_state_dict(tree)
    flat = flax.traverse_util.flatten_dict({'': state_dict}, sep='/')
    host = jax.device_get(flat)
    # A copy, not a view: on the CPU device_get shares memory with a buffer that the next step is free to reuse.
    return {path[1:]: np.array(value) for path, value in host.items()}


def unflatten(target: Any, arrays: Mapping[str, np.ndarray], *, what: str) -> Any:
    """Fills a pytree of arrays or ShapeDtypeStructs with the arrays of the same paths.

    Raises:
      UserError: a path is missing or left over, or a shape differs: the first such path is named.
    """
    state_dict = flax.serialization.to_state_dict(target)
    flat = flax.traverse_util.flatten_dict({'': state_dict}, sep='/', keep_empty_nodes=True)
    filled = {}
    for path, leaf in flat.items():
        if not hasattr(leaf, 'shape'):
            filled[path] = leaf  # an empty node
            continue
        value = arrays.get(path[1:])
        if value is None:
            raise UserError(f'{what} has no {path[1:]}: it comes from another model or optimizer; '
                            'to take over what fits use config.init_from')
        if value.shape != leaf.shape:
            raise UserError(f'{what} has {path[1:]} of shape {value.shape}, this config needs {tuple(leaf.shape)}')
        filled[path] = value.astype(leaf.dtype, copy=False)
    extra = sorted(set(arrays) - {path[1:] for path in filled})
    if extra:
        raise UserError(f'{what} has {extra[0]} (and {len(extra) - 1} more) that this config does not: '
                        'it comes from another model or optimizer; to take over what fits use config.init_from')
    nested = flax.traverse_util.unflatten_dict(filled, sep='/')['']
    return flax.serialization.from_state_dict(target, nested)


def finite_or_none(value: Any) -> float | None:
    """Returns a metric as a float, or None where it is missing, NaN or infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


class Checkpoints:
    """The checkpoints of one workdir. Use it as a context manager, so that the last save is always finished.

    Args:
      workdir: the run's folder.
      writable: take the writer's lock and clean up what a killed run left behind; otherwise only read.
      keep: how many of the latest steps stay.
      best_mode: 'max' or 'min' of the metric handed to `save`; the best finite one stays too.

    Raises:
      UserError: another process writes to this workdir, or it cannot be written.
    """

    def __init__(self, workdir: str | Path, *, writable: bool, keep: int = 2, best_mode: str = 'max'):
        self.workdir = Path(workdir).absolute()
        self.folder = self.workdir / FOLDER
        self.writable = writable
        self._sign = 1.0 if best_mode == 'max' else -1.0
        self._scores: dict[int, float] = {}
        self._lock = None
        self._pending = None
        _silence_closed_event_loops()
        if writable:
            self._lock = _take_lock(self.workdir)
        elif not self.folder.is_dir():
            raise UserError(f'no checkpoints in {workdir}: train there first, or name another')
        try:
            if writable:
                _make_folder(self.folder)
                shutil.rmtree(self.folder / '.trash', ignore_errors=True)
            self._manager = ocp.CheckpointManager(self.folder, options=self._options(keep), item_handlers=_handlers())
        except BaseException:
            self._release_lock()
            raise

    def _options(self, keep: int) -> ocp.CheckpointManagerOptions:
        common = dict(create=False, multiprocessing_options=_alone())
        if not self.writable:
            return ocp.CheckpointManagerOptions(read_only=True, **common)
        # With todelete_subdir an old step leaves the list by a rename; a kill cannot leave it listed and half deleted.
        return ocp.CheckpointManagerOptions(preservation_policy=_LatestAndBest(keep, self._best),
                                            cleanup_tmp_directories=True, todelete_subdir='.trash', **common)

    def _score(self, step: int) -> float:
        """How good a step is, the higher the better; from its sealed meta data, so that damage cannot rank it."""
        if step not in self._scores:
            try:
                score = self._read_meta(step).get('score')
            except CorruptError:
                score = None
            self._scores[step] = -math.inf if score is None else score
        return self._scores[step]

    def _best(self, steps: Iterable[int]) -> int | None:
        ranked = [step for step in sorted(steps) if self._score(step) > -math.inf]
        # Of equals the last: where accuracy stands still the loss often goes on falling.
        return max(ranked, key=lambda step: (self._score(step), step), default=None)

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, exc_type, exc, traceback) -> None:
        try:
            self.close()
        except UserError:
            if exc is None:
                raise  # otherwise the first error is the one to show

    def close(self) -> None:
        """Waits for the last save and gives the lock back. Raises UserError if that save failed."""
        try:
            self.wait()
        finally:
            try:
                self._manager.close()
            except Exception:  # what failed was reported by wait()
                pass
            self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def steps(self) -> list[int]:
        """Returns the saved steps in ascending order."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Returns the step with the best finite metric, or None if no step has one."""
        return self._best(self.steps())

    def save(self, step: int, variables: Any, training: Any, meta: Mapping[str, Any], *,
             best: float | None = None, replace: bool = False) -> None:
        """Starts saving a step in the background; returns once the arrays are copied.

        Args:
          step: the number of steps done.
          variables, training: pytrees of arrays.
          meta: what JSON can hold.
          best: the metric that ranks this step; None and NaN never rank.
          replace: overwrite this step if it is there.

        Raises:
          NonFiniteError: an array holds a NaN or an infinity; nothing is written.
          UserError: this save or the one before it could not be written; finished steps are intact.
        """
        items = {'variables': flatten(variables), 'training': flatten(training)}
        for path, value in (pair for arrays in items.values() for pair in arrays.items()):
            if np.issubdtype(value.dtype, np.inexact) and not np.all(np.isfinite(value)):
                raise NonFiniteError(path)
        best = finite_or_none(best)
        meta = dict(meta, step=step, score=None if best is None else self._sign * best,
                    checksums={name: _checksums(arrays) for name, arrays in items.items()})
        args = {name: ocp.args.PyTreeSave(flax.traverse_util.unflatten_dict(arrays, sep='/'))
                for name, arrays in items.items()}
        args['meta'] = ocp.args.JsonSave(_seal(meta))
        self.wait()
        try:
            if replace and step in self.steps():
                self._manager.delete(step)
            self._best(self.steps())  # reads the scores now: Orbax asks for them in the middle of its save
            self._scores[step] = -math.inf if best is None else self._sign * best
            saved = self._manager.save(step, args=ocp.args.Composite(**args), force=True)
        except Exception as error:
            raise self._write_error(step, error) from error
        if not saved:
            raise UserError(f'{self.folder} already has a step after {step}: another run wrote there')
        self._pending = step

    def wait(self) -> None:
        """Blocks until the last save is on disk; raises UserError if it failed."""
        step, self._pending = self._pending, None
        if step is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._write_error(step, error) from error
        shutil.rmtree(self.folder / '.trash', ignore_errors=True)  # Orbax only fills it

    def _write_error(self, step: int, error: Exception) -> UserError:
        text = str(error)
        reason = next((reason for reason in _REASONS if reason in text), ' '.join(text.split())[:200])
        return UserError(f'the checkpoint of step {step} could not be written to {self.folder}: {reason}; '
                         f'earlier steps are intact: {self.steps() or "none"}')

    def restore(self, which: str | int = 'last', *, items: tuple[str, ...] = _ITEMS) -> Checkpoint | None:
        """Reads a step and checks every byte of it against its checksums.

        Args:
          which: 'last', 'best' or a step number.
          items: which items to read, of 'variables' and 'training'.

        Returns:
          The step asked for. If it is 'last' and damaged, a loud line and the next older good one; None if there is no
          step at all. A writer moves the damaged step aside, so that its number can be saved again.

        Raises:
          UserError: there is no such step, or it (for 'last': every step) is damaged.
        """
        steps = self.steps()
        if not steps:
            return None
        if which != 'last':
            step = self.best_step() if which == 'best' else which
            if which == 'best' and step is None:
                raise UserError(f'no step in {self.folder} has a finite metric to be the best; there are: {steps}')
            if step not in steps:
                raise UserError(f'no step {which} in {self.folder}; there are: {steps}')
            try:
                return self._read(step, items)
            except CorruptError as error:
                raise UserError(f'step {step} in {self.folder} is damaged ({error}); there are: {steps}') from error
        damaged = {}
        for step in reversed(steps):
            try:
                checkpoint = self._read(step, items)
            except CorruptError as error:
                damaged[step] = error
                logging.warning('CHECKPOINT DAMAGED: step %d in %s: %s. Trying the next older step.',
                                step, self.folder, error)
                continue
            if self.writable:
                self._set_aside(damaged)
            return checkpoint
        # Where no step can be read all of them stay, else the same command would begin from scratch the next time.
        raise UserError(f'every step in {self.folder} is damaged; the newest: {damaged[steps[-1]]}')

    def _read(self, step: int, items: tuple[str, ...]) -> Checkpoint:
        try:
            meta = self._read_meta(step)
            metadata = self._manager.item_metadata(step)
            args = {}
            for name in items:
                as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata[name].tree)
                args[name] = ocp.args.PyTreeRestore(restore_args=as_numpy)
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        except CorruptError:
            raise
        except Exception as error:  # Orbax raises whatever the broken file led to
            raise CorruptError(f'{type(error).__name__}: {" ".join(str(error).split())[:160]}') from error
        arrays = {}
        for name in items:
            flat = flax.traverse_util.flatten_dict(restored[name] or {}, sep='/')
            found = _checksums(flat)
            expected = meta['checksums'][name]
            wrong = sorted(path for path in set(found) | set(expected) if found.get(path) != expected.get(path))
            if wrong:
                raise CorruptError(f'checksum of {wrong[0]} does not match')
            arrays.update(flat)
        return Checkpoint(step, arrays, meta)

    def _read_meta(self, step: int) -> dict[str, Any]:
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            return _unseal(restored['meta'])
        except CorruptError:
            raise
        except Exception as error:
            raise CorruptError(f'{type(error).__name__}: {" ".join(str(error).split())[:160]}') from error

    def _set_aside(self, steps: Iterable[int]) -> None:
        for step in steps:
            target = self.folder / f'damaged-{step}'
            shutil.rmtree(target, ignore_errors=True)
            os.replace(self.folder / str(step), target)
        self._manager.reload()


class _LatestAndBest:
    """Orbax's policy of which steps stay: the latest few and the best one."""

    def __init__(self, keep: int, best: Callable[[Iterable[int]], int | None]):
        self._keep, self._best = max(1, keep), best

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        stay = {*sorted(steps)[-self._keep:], self._best(steps)}
        return [step in stay for step in steps]


def _handlers() -> dict[str, Any]:
    handlers = {name: ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone()) for name in _ITEMS}
    return handlers | {'meta': ocp.JsonCheckpointHandler(multiprocessing_options=_alone())}


def _alone() -> ocp.options.MultiprocessingOptions:
    """Options under which Orbax takes this process for the only one."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'p{me}')


def _silence_closed_event_loops() -> None:
    """After a failed read or write TensorStore's threads still call an event loop that Orbax has closed.

    Python would print a traceback for each such call. What failed is reported by the exception that failed.
    """
    shown = sys.unraisablehook
    if getattr(shown, '__name__', '') == 'show_others':
        return

    def show_others(unraisable) -> None:
        if str(unraisable.exc_value) != 'Event loop is closed':
            shown(unraisable)
    sys.unraisablehook = show_others


def _take_lock(workdir: Path) -> int:
    """Takes the writer's lock. The kernel gives it back when the process ends, however it ends."""
    _make_folder(workdir)
    path = workdir / '.lock'
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f'cannot write to {workdir}: {error.strerror}') from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UserError(f'another process is training in {workdir}: wait for it or use another --workdir') from error
    return descriptor


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot make the folder {folder}: {error.strerror}') from error


def _checksums(arrays: Arrays) -> dict[str, str]:
    return {path: f'{zlib.crc32(np.ascontiguousarray(value)):08x}' for path, value in arrays.items()}


def _seal(meta: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps(meta)
    return {'text': text, 'checksum': f'{zlib.crc32(text.encode()):08x}'}


def _unseal(sealed: Mapping[str, str]) -> dict[str, Any]:
    if f"{zlib.crc32(sealed['text'].encode()):08x}" != sealed['checksum']:
        raise CorruptError('checksum of the meta data does not match')
    return json.loads(sealed['text'])
