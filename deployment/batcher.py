"""Requests become batches: what waits when the worker is free is the next batch, and nothing ever waits for company."""

import asyncio
import collections
import logging
import queue as queue_lib
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any


class Full(Exception):
    """No more may wait."""


class _Request:
    """What waits: an item, how many rows of a batch it takes, with whom it may share one, and who is told."""
    __slots__ = ('item', 'rows', 'kind', 'answer')

    def __init__(self, item: Any, rows: int, kind: Hashable, answer: asyncio.Future):
        self.item, self.rows, self.kind, self.answer = item, rows, kind, answer


class Batcher:
    """Hands items, as they come, to a function of many items that runs in a thread of its own.

    A free worker takes what waits, up to `largest` rows, in the order it came; so a single item never waits for a
    second one, and the more wait, the larger are the batches. All methods are called in the event loop's thread.

    Args:
      compute: of items -> results in the same order; a result that is an exception is raised for that item alone.
      largest: rows of a batch; an item of more rows is a batch of its own.
      queue: how many items may wait.
      name: of the thread.

    Attributes:
      waiting: how many items wait.
    """

    def __init__(self, compute: Callable[[Sequence[Any]], Sequence[Any]], *, largest: int, queue: int, name: str):
        self._compute, self._largest, self._queue = compute, largest, queue
        self._loop = asyncio.get_running_loop()
        self._requests: collections.deque[_Request] = collections.deque()
        self._lock, self._closed = threading.Lock(), False  # the lock is of the two, and of no more than a few lines
        self._wake: queue_lib.SimpleQueue = queue_lib.SimpleQueue()  # something for each request, and for the end
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._requests)

    async def submit(self, item: Any, *, rows: int = 1, kind: Hashable = None) -> Any:
        """Returns the result of an item; if this is cancelled while the item waits, the item is dropped.

        Args:
          item: for `compute`.
          rows: that it takes of a batch.
          kind: only items of equal kinds are computed together.

        Raises:
          Full: `queue` items wait.
          Exception: that `compute` returned for this item, or raised.
        """
        request = _Request(item, rows, kind, self._loop.create_future())
        with self._lock:
            if len(self._requests) >= self._queue:
                raise Full
            self._requests.append(request)
        self._wake.put(None)
        try:
            return await request.answer
        except asyncio.CancelledError:
            with self._lock:
                if request in self._requests:  # else the worker has it, whose result then goes nowhere
                    self._requests.remove(request)
            raise

    async def close(self) -> None:
        """Ends the worker after what waits."""
        self._closed = True
        self._wake.put(None)
        while self._thread.is_alive():
            await asyncio.sleep(0.02)

    def _take(self) -> list[_Request]:
        """Waits for the next batch; an empty one is the end."""
        taken: list[_Request] = []
        while not taken:
            if self._closed and not self._requests:
                break
            self._wake.get()
            with self._lock:
                rows = 0
                while self._requests:
                    first = self._requests[0]
                    if taken and (rows + first.rows > self._largest or first.kind != taken[0].kind):
                        break
                    taken.append(self._requests.popleft())
                    rows += first.rows
        for _ in taken[1:]:
            self._wake.get()
        return taken

    def _work(self) -> None:
        while taken := self._take():
            try:
                results = self._compute([request.item for request in taken])
            except Exception as error:  # a bug, which must not end the worker: whoever asked is told
                logging.exception('a batch of %d failed', len(taken))
                results = [error] * len(taken)
            try:
                self._loop.call_soon_threadsafe(_answer, taken, results)
            except RuntimeError:  # the loop has ended
                return


def _answer(taken: Sequence[_Request], results: Sequence[Any]) -> None:
    for request, result in zip(taken, results, strict=True):
        if request.answer.done():  # nobody waits for it any more
            continue
        if isinstance(result, BaseException):
            request.answer.set_exception(result)
        else:
            request.answer.set_result(result)
