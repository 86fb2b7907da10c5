"""Lines that a person reads: numbers, durations, warnings that are given once, progress of long work."""

import functools
import logging
import time


def format_metric(name: str, value: float) -> str:
    """Formats a metric: shares as percent, the rest with five significant digits."""
    return f'{100 * value:.2f} %' if name.endswith('accuracy') else f'{value:.4g}'


def format_seconds(seconds: float) -> str:
    """Formats a duration: '42 s', '3:05 min', '1:02:03 h'."""
    seconds = round(seconds)
    if seconds < 100:
        return f'{seconds} s'
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f'{minutes}:{seconds:02d} min'
    return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d} h'


def printable(text: str) -> str:
    r"""Escapes what a terminal would obey or could not write: control characters, and bytes that are not UTF-8.

    File names may hold both, '\x1b[2J' to clear the screen and '\xe9' alone, which Python reads as '\udce9'.
    """
    return ''.join(c if c.isprintable() else f'\\x{ord(c) - 0xdc00:02x}' if '\udc80' <= c <= '\udcff'
                   else c.encode('unicode_escape', 'backslashreplace').decode() for c in text)


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
