"""SIGTERM and Ctrl-C become a flag that training and evaluation poll, so that a run saves before it goes."""

import signal

import jax
from jax.experimental import multihost_utils

from ..common import interrupt
from ..common.interrupt import Interrupted as Interrupted


class StopRequest:
    """Whether this process, or any of its peers, was asked to stop. A context manager that holds the handlers.

    Attributes:
      exit_code: 128 + the signal's number, as a shell reports it: 143 for SIGTERM, 130 for Ctrl-C.
    """

    def __init__(self):
        self.exit_code = 128 + signal.SIGTERM
        self._flag = False
        self._polls = 0
        self._several = jax.process_count() > 1
        self._previous = {}

    def __enter__(self) -> 'StopRequest':
        # With several processes JAX catches SIGTERM itself and lets all of them agree on one step.
        signals = (signal.SIGINT,) if self._several else (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc) -> None:
        interrupt.clear()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame) -> None:
        del frame
        if self._flag and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self._flag = True
        self.exit_code = 128 + number
        if self._several:
            signal.raise_signal(signal.SIGTERM)  # so that JAX tells the others
        else:
            interrupt.request()  # heard where data are prepared; several processes must stop together

    def __call__(self) -> bool:
        """Returns the flag. With several processes all must call this equally often, and all get the same answer."""
        if not self._several:
            return self._flag
        self._polls += 1
        return multihost_utils.reached_preemption_sync_point(self._polls)
