"""Lines that a person reads: numbers, durations, single warnings, progress of long work; and where they are printed."""

import contextlib
import functools
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO


class LostOutput(Exception):
    """Nothing more can be printed: the disk is full, or whoever read along has gone."""


def log_to(stream: TextIO) -> None:
    """Has log lines written to a stream as they are, and LostOutput raised where that fails."""
    handler = _Handler(stream)
    handler.setFormatter(logging.Formatter('%(message)s'))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Handler(logging.StreamHandler):
    def handleError(self, record) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif threading.current_thread() is threading.main_thread():
            self.setStream(open(os.devnull, 'w'))  # the lines of the way out
            raise _lost(error)


@contextlib.contextmanager
def checked_output() -> Iterator[None]:
    """Raises LostOutput where something printed in the block has not arrived, but nothing for `... | head`."""
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        if sys.stdout is None:
            raise
        try:
            print(flush=True)  # fails, too, if that is what failed
        except OSError:
            lost = _lost(error)
            if not isinstance(error, BrokenPipeError):
                raise lost from error
        else:
            raise  # it was about something else


def _lost(error: OSError) -> LostOutput:
    with contextlib.suppress(OSError, ValueError):  # else Python complains when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return LostOutput(f'standard output cannot be written to: {error.strerror}')


def format_metric(name: str, value: float | None) -> str:
    """Formats a metric: shares as percent with two decimals, the rest with four significant digits.

    More digits are shown where fewer would round a value below 1 up to 1, or a share above 0 down to 0: 0.99997 is not
    perfect. None is what JSON has for a value that is not finite.
    """
    if value is None or not math.isfinite(value):
        return 'nan' if value is None else str(value)
    if name.endswith(('accuracy', 'calibration_error')):
        digits = next((d for d in range(2, 17) if (float(f'{100 * value:.{d}f}') in (0, 100)) == (value in (0, 1))), 17)
        return f'{100 * value:.{digits}f} %'
    digits = next((d for d in range(4, 17) if float(f'{value:.{d}g}') != 1 or value == 1), 17)
    return f'{value:.{digits}g}'


def format_seconds(seconds: float) -> str:
    """Formats a duration: '42 s', '3:05 min', '1:02:03 h'."""
    seconds = round(seconds)
    if seconds < 100:
        return f'{seconds} s'
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f'{minutes}:{seconds:02d} min'
    return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d} h'


def quiet_libraries() -> None:
    """Silences the loggers of libraries, whose failures reach us as exceptions; those set up already stay."""
    for name in ('absl', 'jax', 'orbax', 'tensorflow', 'matplotlib', 'etils'):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.CRITICAL)


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning the first time: parts of one data set are opened for training, validation and test."""
    logging.warning('%s', text)


class ProgressLog:
    """Says how far a long piece of work is, at most every `every` seconds, and nothing of a short one.

    Args:
      what: the work's name.
      total: its number of parts.
    """

    def __init__(self, what: str, total: int, every: float = 5.0):
        self._what, self._total, self._every = what, total, every
        self._begin = self._last = time.perf_counter()

    def __call__(self, done: int) -> None:
        """Reports that `done` parts are done."""
        now = time.perf_counter()
        if now - self._last >= self._every and 0 < done < self._total:
            self._last = now
            left = (self._total - done) * (now - self._begin) / done
            logging.info('%s %s/%s  ETA %s', self._what, f'{done:,}', f'{self._total:,}', format_seconds(left))
