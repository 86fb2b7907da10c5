"""Work shared by threads: as many as this process may use, and none begins after a request to stop."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from . import interrupt

Item, Result = TypeVar('Item'), TypeVar('Result')

# Held while TensorFlow is imported, in a thread of its own as a rule, and while figures are drawn: TensorFlow imports
# IPython, and matplotlib asks what is in IPython as soon as it begins to be imported.
import_lock = threading.RLock()


def cores() -> int:
    """Returns how many cores this process may run on; os.cpu_count() counts those of other jobs on the machine too."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0) -> Iterator[Result]:
    """Yields function(item) in the order of the items.

    Args:
      workers: threads; 0 for one per core.

    Raises:
      Interrupted: the process was asked to stop.
    """
    def one(item: Item) -> Result:
        interrupt.check()
        return function(item)

    pool = ThreadPoolExecutor(workers or cores())
    try:
        yield from pool.map(one, items)
    finally:
        pool.shutdown(cancel_futures=True)
