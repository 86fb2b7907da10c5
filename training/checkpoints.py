"""Checkpoints: what a run saves, checks and finds again.

A checkpoint of step n is a folder `<workdir>/checkpoints/<n>` with three items:
  variables  params, batch_stats and their moving averages: what prediction and transfer need
  training   optimizer state and step: what resuming needs besides
  meta       JSON: config, facts about the data set, metrics, a checksum of every array and of itself
and, where no process held the whole state, a fourth: shards, the blocks that each process wrote, see shards.py.

Arrays are stored under the names of their pytree paths and compared by those names, so that a checkpoint says what it
holds without the code that wrote it. Nothing is ever unpickled. Only process 0 writes, unless the state spans
processes; it needs no barrier with its peers, and a peer that dies cannot leave half a checkpoint. The writer holds a
lock on the workdir.
"""

import dataclasses
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.files import remove_abandoned
from . import array_paths, host_arrays, shards, step_folders
from .background import Background
from .checkpoint_meta import CorruptError, seal, unseal
from .host_arrays import Arrays
from .state import evaluated_variables
from .workdir import check_readable, make_folder, take_lock

FOLDER = 'checkpoints'
_ITEMS = ('variables', 'training')


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
      UserError: there is no such checkpoint, it is damaged, or damage hides which one is the best.
    """
    text = str(which)
    if text.isdecimal() and len(text) < 20:
        which = int(text)
    elif text not in ('best', 'last'):
        raise UserError(f"no step {text[:40]!r} of {workdir}: it is 'best', 'last' or a number")
    with Checkpoints(workdir, writable=False) as checkpoints:
        if which == 'best' and checkpoints.best_step() is None and not checkpoints.unreadable():
            which = 'last'
        checkpoint = checkpoints.restore(which, items=('variables',))
    if checkpoint is None:
        raise UserError(f'no checkpoint in {workdir} yet')
    return checkpoint


def flatten(tree: Any) -> Arrays:
    """Returns {path: host copy} of the arrays of a pytree, structs and optax states included; empty nodes vanish."""
    leaves = array_paths.flatten(tree)
    return dict(zip(leaves, host_arrays.copy(list(leaves.values()))))


def unflatten(target: Any, arrays: Mapping[str, np.ndarray], *, what: str) -> Any:
    """Fills a pytree of arrays or ShapeDtypeStructs with the arrays of the same paths.

    Raises:
      UserError: a path is missing or left over, or a shape differs: the first such path is named.
    """
    needed = array_paths.flatten(target)
    difference = array_paths.compare(arrays, needed)
    if difference.missing:
        raise UserError(f'{what} has no {difference.missing[0]}: it comes from another model or optimizer; '
                        'to take over what fits use config.init_from')
    for path, (found, wanted) in difference.shapes.items():
        raise UserError(f'{what} has {path} of shape {found}, this config needs {wanted}')
    if extra := sorted(difference.left_over):
        raise UserError(f'{what} has {extra[0]} (and {len(extra) - 1} more) that this config does not: '
                        'it comes from another model or optimizer; to take over what fits use config.init_from')
    return array_paths.fill(target, {path: arrays[path].astype(leaf.dtype, copy=False)
                                     for path, leaf in needed.items()})


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
      everyone: the other processes of this run have a `shards.BlockWriter` of this workdir, made and called with this
        one, so that arrays that span processes can be saved.

    Raises:
      UserError: another process writes to this workdir, or it cannot be written.
    """

    def __init__(self, workdir: str | Path, *, writable: bool, keep: int = 2, best_mode: str = 'max',
                 everyone: bool = False):
        self.workdir = Path(workdir).absolute()
        self.folder = self.workdir / FOLDER
        self.writable = writable
        self._keep = max(1, keep)
        self._sign = 1.0 if best_mode == 'max' else -1.0
        self._scores: dict[int, float] = {}
        self._damaged: dict[int, CorruptError] = {}  # steps whose meta data cannot be read
        self._lock = None
        self._background = Background()
        self._together = None
        if writable:
            self._lock = take_lock(self.workdir)
        else:
            check_readable(self.folder, workdir)
        try:
            if writable:
                make_folder(self.folder)
                shards.remove_abandoned(self.folder)
                remove_abandoned(self.workdir)
            self._folders = step_folders.StepFolders(self.folder, _ITEMS, self._staying if writable else None)
            if everyone:
                self._together = shards.Together(self.folder)
        except BaseException:
            self._release_lock()
            raise

    def _score(self, step: int) -> float:
        """How good a step is, the higher the better; from its sealed meta data, so that damage cannot rank it."""
        if step not in self._scores:
            score = None
            try:
                score = self._read_meta(step).get('score')
            except CorruptError as error:
                self._damaged[step] = error
                logging.warning('CHECKPOINT DAMAGED: step %d in %s: %s. It may have been the best one: it is kept, but '
                                'cannot rank.', step, self.folder, error)
            self._scores[step] = -math.inf if score is None else score
        return self._scores[step]

    def unreadable(self, steps: Iterable[int] | None = None) -> list[int]:
        """Returns those of some steps (default: all) whose meta data are damaged: nobody knows how good they are."""
        steps = sorted(self.steps() if steps is None else steps)
        for step in steps:
            self._score(step)
        return [step for step in steps if step in self._damaged]

    def best_of(self, steps: Iterable[int]) -> int | None:
        """Returns the best of some steps, or None if none of them has a score."""
        ranked = [step for step in sorted(steps) if self._score(step) > -math.inf]
        # Of equals the last: where accuracy stands still the loss often goes on falling.
        return max(ranked, key=lambda step: (self._score(step), step), default=None)

    def _staying(self, steps: list[int]) -> set[int]:
        """Returns which steps stay: the latest few, the best one, and all that may be it but are damaged."""
        damaged = self.unreadable(steps)
        sound = sorted(set(steps) - set(damaged))
        return {*damaged, *sound[-self._keep:], self.best_of(sound)}

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, exc_type, exc, traceback) -> None:
        try:
            self.close()
        except Exception:
            if exc is None:
                raise  # otherwise the first error is the one to show

    def close(self) -> None:
        """Waits for the last save and gives the lock back. Raises what `wait` raises."""
        try:
            self.wait()
        finally:
            self._background.close()
            if self._together:
                self._together.close()
            try:
                self._folders.close()
            finally:
                self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def steps(self) -> list[int]:
        """Returns the saved steps in ascending order, once a save under way is finished."""
        self._background.settle()
        return self._folders.steps()

    def best_step(self) -> int | None:
        """Returns the step with the best finite metric of those that can be read, or None if no step has one."""
        return self.best_of(self.steps())

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
          NonFiniteError: an array of the save before this one held a NaN or an infinity; nothing of it was written.
          UserError: the save before this one could not be written; finished steps are intact.
        """
        self.wait()
        best = finite_or_none(best)
        # A copy: the metrics go on changing while it is written.
        meta = json.loads(json.dumps(dict(meta, step=step, score=None if best is None else self._sign * best)))
        whole, blocks, layout = {}, {}, {}
        for item, tree in (('variables', variables), ('training', training)):
            leaves = array_paths.flatten(tree)
            spanning = {path: leaf for path, leaf in leaves.items() if shards.spans_processes(leaf)}
            whole[item] = flatten({path: leaf for path, leaf in leaves.items() if path not in spanning})
            blocks[item] = shards.own_blocks(spanning)
            layout[item] = {path: {'shape': leaf.shape, 'dtype': leaf.dtype.name} for path, leaf in spanning.items()}
        if not any(layout.values()):
            self._background.start(self._write, step, whole, meta, replace)
            return
        if self._together is None:
            raise ValueError('the state spans processes: Checkpoints(everyone=True), and a BlockWriter in the others')
        self._background.start(self._write_together, step, whole, blocks, dict(meta, shards=layout), replace)

    def _write_together(self, step: int, whole: dict[str, Arrays], blocks: dict[str, Arrays], meta: dict[str, Any],
                        replace: bool) -> None:
        error = None
        try:
            self._together.contribute(step, blocks)
            try:
                files, checksums = self._together.collect(step)
            except shards.PartError as part:
                raise self._write_error(step, str(part)) from part
            self._write(step, whole, meta, replace, files, checksums)
        except Exception as failed:
            error = failed
            raise
        finally:
            self._together.conclude(error)

    def _write(self, step: int, whole: dict[str, Arrays], meta: dict[str, Any], replace: bool,
               files: Sequence[Path] = (), checksums: Mapping[str, dict[str, str]] | None = None) -> None:
        found = {item: host_arrays.examine(arrays, step) for item, arrays in whole.items()}
        for item, of_blocks in (checksums or {}).items():
            found[item] |= of_blocks
        try:
            self.best_of(self._folders.steps())  # reads the scores now: Orbax asks for them in the middle of its save
            self._damaged.pop(step, None)
            self._scores[step] = -math.inf if meta['score'] is None else meta['score']
            saved = self._folders.save(step, {item: arrays for item, arrays in whole.items() if arrays},
                                       seal(dict(meta, checksums=found)), shards=files, replace=replace)
        except Exception as error:
            raise self._write_error(step, step_folders.reason(error)) from error
        if not saved:
            raise UserError(f'{self.folder} already has a step after {step}: another run wrote there')

    def check(self) -> None:
        """Raises what `wait` raises if a save has failed already. Processes that save together only learn it from
        `save` and `wait`, all of them at the same step."""
        if self._together is None:
            self._background.check()

    def wait(self) -> None:
        """Blocks until the last save is on disk.

        Raises:
          NonFiniteError: an array held a NaN or an infinity; nothing was written.
          UserError: it could not be written; earlier steps are intact.
        """
        self._background.wait()

    def _write_error(self, step: int, reason: str) -> UserError:
        return UserError(f'the checkpoint of step {step} could not be written to {self.folder}: {reason}; '
                         f'earlier steps are intact: {self._folders.steps() or "none"}')

    def restore(self, which: str | int = 'last', *, items: tuple[str, ...] = _ITEMS) -> Checkpoint | None:
        """Reads a step and checks every byte of it against its checksums.

        Args:
          which: 'last', 'best' or a step number.
          items: which items to read, of 'variables' and 'training'.

        Returns:
          The step asked for. If it is 'last' and damaged, a loud line and the next older good one; None if there is no
          step at all. A writer moves the damaged step aside, so that its number can be saved again.

        Raises:
          UserError: there is no such step, it (for 'last': every step) is damaged, or a damaged step may be the best.
        """
        steps = self.steps()
        if not steps:
            return None
        if which != 'last':
            if which == 'best' and (damaged := self.unreadable()):
                others = [step for step in steps if step not in damaged]
                raise UserError(f'which step in {self.folder} is the best cannot be said: step {damaged[0]} is damaged '
                                f'({self._damaged[damaged[0]]}); name another step, there are: {others or "none"}')
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
        meta = self._read_meta(step)
        arrays = {}
        for item in items:
            expected, layout = meta['checksums'][item], meta.get('shards', {}).get(item, {})
            try:
                found = {}
                if not layout or any(path.rpartition('@')[0] not in layout for path in expected):
                    found |= self._folders.read(step, item)
                if layout:
                    found |= shards.read(self.folder / str(step), item)
                checksums = host_arrays.checksums(found)
                wrong = sorted(path for path in {*checksums, *expected} if checksums.get(path) != expected.get(path))
                if wrong:
                    raise CorruptError(f'checksum of {wrong[0]} does not match')
                arrays |= shards.join(found, layout)
            except CorruptError:
                raise
            except Exception as error:  # Orbax raises whatever the broken file led to
                raise _corrupt(error) from error
        return Checkpoint(step, arrays, meta)

    def _read_meta(self, step: int) -> dict[str, Any]:
        try:
            return unseal(self._folders.read_meta(step), step, _ITEMS)
        except CorruptError:
            raise
        except Exception as error:
            raise _corrupt(error) from error

    def _set_aside(self, steps: Iterable[int]) -> None:
        for step in steps:
            target = self.folder / f'damaged-{step}'
            shutil.rmtree(target, ignore_errors=True)
            os.replace(self.folder / str(step), target)
            self._scores.pop(step, None)
            self._damaged.pop(step, None)
        self._folders.reload()


def _corrupt(error: Exception) -> CorruptError:
    return CorruptError(f'{type(error).__name__}: {" ".join(str(error).split())[:160]}')
