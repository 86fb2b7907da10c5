"""Folders of arrays by step, each of them whole or absent: the only file that knows Orbax.

Every call does its work in the thread that makes it and returns when the work is done; this process is the only one as
far as Orbax knows, so that nothing here waits for a peer.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp

SHARDS = 'shards'  # the item of a step that is a folder of files from all processes
_META, _TRASH = 'meta', '.trash'
_REASONS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)))


class StepFolders:
    """The numbered folders in a folder.

    Args:
      folder: with one folder for each step.
      items: the names of what a step holds, each a group of arrays.
      staying: which of some steps stay when another one was saved; None for a reader, who cannot save.
    """

    def __init__(self, folder: Path, items: Iterable[str], staying: Callable[[list[int]], set[int]] | None):
        _silence_closed_event_loops()
        self._folder = folder
        if staying is not None:
            self._empty_trash()
        options = dict(create=False, multiprocessing_options=_alone(), enable_async_checkpointing=False)
        if staying is None:
            options['read_only'] = True
        else:
            # With todelete_subdir an old step leaves the list by a rename; a kill cannot leave it listed and half
            # deleted.
            options |= dict(preservation_policy=_Staying(staying), cleanup_tmp_directories=True, todelete_subdir=_TRASH)
        handlers = {name: ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone()) for name in items}
        handlers |= {_META: ocp.JsonCheckpointHandler(multiprocessing_options=_alone()), SHARDS: _Moving()}
        self._manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(**options),
                                              item_handlers=handlers)

    def steps(self) -> list[int]:
        """Returns the steps in ascending order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, items: Mapping[str, Mapping[str, np.ndarray]], meta: Any, *, shards: Sequence[Path],
             replace: bool) -> bool:
        """Writes a step; then removes those that do not stay.

        Args:
          step: its number.
          items: arrays by name, of every item.
          meta: what JSON can hold.
          shards: files on the same file system that are moved into the step's folder SHARDS.
          replace: remove a step of that number first.

        Returns:
          False if nothing was written, because there is a later step.
        """
        if replace and step in self._manager.all_steps():
            self._manager.delete(step)
        args = {name: ocp.args.PyTreeSave(_nested(arrays)) for name, arrays in items.items()}
        args[_META] = ocp.args.JsonSave(meta)
        if shards:
            args[SHARDS] = _Move(shards)
        saved = self._manager.save(step, args=ocp.args.Composite(**args), force=True)
        self._empty_trash()
        return saved

    def read(self, step: int, item: str) -> dict[str, np.ndarray]:
        """Returns the arrays of an item by name. Raises whatever a broken file leads to."""
        restored = self._manager.restore(step, args=ocp.args.Composite(
            **{item: _as_numpy(self._manager.item_metadata(step)[item])}))
        return _flat(restored[item])

    def read_meta(self, step: int) -> Any:
        """Returns what was saved as `meta`. Raises whatever a broken file leads to."""
        return self._manager.restore(step, args=ocp.args.Composite(**{_META: ocp.args.JsonRestore()}))[_META]

    def reload(self) -> None:
        """Looks at the disk again, after folders were renamed."""
        self._manager.reload()

    def _empty_trash(self) -> None:
        """Removes old steps for good: Orbax only fills the trash."""
        shutil.rmtree(self._folder / _TRASH, ignore_errors=True)

    def close(self) -> None:
        """Ends Orbax's threads."""
        self._manager.close()


def reason(error: Exception) -> str:
    """Returns why something could not be written, in a line."""
    text = str(error)
    return next((reason for reason in _REASONS if reason in text), ' '.join(text.split())[:200])


class _Staying:
    """Orbax's policy of which steps stay."""

    def __init__(self, staying: Callable[[list[int]], set[int]]):
        self._staying = staying

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        stay = self._staying(steps)
        return [step in stay for step in steps]


class _Moving(ocp.CheckpointHandler):
    """Takes files that are there already into a step before the step gets its name."""

    def save(self, directory, args: '_Move') -> None:
        for path in args.files:
            os.rename(path, os.path.join(directory, path.name))

    def restore(self, directory, args=None):
        raise NotImplementedError('they are read without Orbax')


@ocp.args.register_with_handler(_Moving, for_save=True, for_restore=True)
class _Move(ocp.args.CheckpointArgs):
    def __init__(self, files: Sequence[Path]):
        self.files = files


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return flax.traverse_util.unflatten_dict(arrays, sep='/')


def _flat(tree: Any) -> dict[str, np.ndarray]:
    return flax.traverse_util.flatten_dict(tree or {}, sep='/')


def _as_numpy(metadata: Any) -> ocp.args.PyTreeRestore:
    return ocp.args.PyTreeRestore(
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree))


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
