"""Work that one process does for all: the others wait for its result in the cache folder instead of doing it too."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from . import interrupt
from .files import cache_folder, digest

_POLL_SECONDS = 0.1

Result = TypeVar('Result')


def found_or_made(find: Callable[[], Result | None], make: Callable[[], Result], what: str, identity: object) -> Result:
    """Returns what is in the cache; what is not there one process makes, and the others find it then.

    Args:
      find: returns it, or None if it is not there.
      make: returns it and puts it there.
      what, identity: as for `one_at_a_time`.
    """
    found = find()
    if found is None:
        with one_at_a_time(what, identity):
            found = find()
            if found is None:
                found = make()
    return found


@contextlib.contextmanager
def one_at_a_time(what: str, identity: object) -> Iterator[None]:
    """Lets one process at a time into the block; the others wait, with a line, and then find its result.

    The kernel ends the turn of a process that is killed. Without a cache folder that can be written to there is nobody
    to wait for: there is no result to be found either.

    Args:
      what: is done, for the line, such as 'decoding pets/train'.
      identity: what JSON can hold; processes wait for those of the same one alone.

    Raises:
      Interrupted: the process was asked to stop while it waited.
    """
    file = cache_folder() / 'turns' / f'{digest(identity)}.lock'
    descriptor = _take(file, what)
    try:
        yield
    finally:
        if descriptor is not None:
            file.unlink(missing_ok=True)  # before the turn ends: whoever opened it meanwhile notices, see `_take`
            os.close(descriptor)


def _take(file: Path, what: str) -> int | None:
    """Returns the descriptor of the locked file; None where files cannot be locked."""
    said = False
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(file).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # the one before has removed it: another file is locked now
        except BlockingIOError:
            if not said:
                logging.info('another process is %s: waiting for its result', what)
                said = True
            time.sleep(_POLL_SECONDS)
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        os.close(descriptor)
        interrupt.check()
