"""The folder of a run: its lock, and what is wrong with it in one line."""

import fcntl
import logging
import os
from pathlib import Path

from ..common.errors import UserError


def take_lock(workdir: Path) -> int:
    """Takes the writer's lock; a file system without locks is warned of.

    The kernel gives the lock back when the process ends, however it ends.

    Raises:
      UserError: another process has it, or nothing can be written there.
    """
    try:
        str(workdir).encode()
    except UnicodeEncodeError:  # TensorStore takes no other names
        raise UserError(f'--workdir {str(workdir)!a} is not UTF-8: take another name') from None
    make_folder(workdir)
    path = workdir / '.lock'
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(f'cannot write to {workdir}: {error.strerror}') from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f'another process is training in {workdir}: wait for it or use another --workdir') from error
    except OSError as error:  # Lustre mounted without -o flock, NFS without its lock service
        logging.warning('the file system of %s has no locks (%s): see to it yourself that only one run writes there',
                        workdir, error.strerror)
    return descriptor


def is_locked(workdir: Path) -> bool:
    """Whether a process trains in a folder, see `take_lock`."""
    try:
        descriptor = os.open(workdir / '.lock', os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:  # another one: a file system without locks
        return isinstance(error, BlockingIOError)
    finally:
        os.close(descriptor)


def check_readable(folder: Path, workdir: str | Path) -> None:
    """Raises UserError unless there is a folder of checkpoints that one may look into."""
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f'no checkpoints in {workdir}: train there first, or name another') from None
    except OSError as error:
        raise UserError(f'cannot read {str(folder)[:200]}: {error.strerror}') from error


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot make the folder {str(folder)[:200]}: {error.strerror}') from error
