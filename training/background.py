"""Work in a thread beside the training, one piece at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """A thread that does one piece of work at a time; its exception is raised once, by `wait` or `check`."""

    def __init__(self):
        self._pool: ThreadPoolExecutor | None = None
        self._work: Future | None = None

    def start(self, function: Callable, *args: Any) -> None:
        """Starts `function(*args)`. The work before must have been waited for."""
        if self._work is not None:
            raise RuntimeError('wait for the work before')
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix='checkpoint')
        self._work = self._pool.submit(function, *args)

    def settle(self) -> None:
        """Blocks until the work is done; its exception is left for `wait`."""
        if self._work is not None:
            self._work.exception()

    def check(self) -> None:
        """Raises the exception of work that has failed; does not block."""
        if self._work is not None and self._work.done():
            self.wait()

    def wait(self) -> None:
        """Blocks until the work is done; raises its exception."""
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def close(self) -> None:
        """Blocks until the work is done and ends the thread."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
