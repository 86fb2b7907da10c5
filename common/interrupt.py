"""A request to stop, for long work on the way to the first step: whoever catches signals sets it, loops poll it."""

import threading

_requested = threading.Event()


class Interrupted(Exception):
    """Raised where work was left because the process was asked to stop."""


def request() -> None:
    """Makes every later `check` raise, in any thread."""
    _requested.set()


def clear() -> None:
    """Takes a request back, once it has been acted on."""
    _requested.clear()


def check() -> None:
    """Raises Interrupted if the process was asked to stop.

    It belongs into work that can be thrown away: decoding, checking, preparing. Training polls `StopRequest` itself,
    because several processes must agree on the step.
    """
    if _requested.is_set():
        raise Interrupted
