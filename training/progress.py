"""What a person sees while a run goes on: one line with speed, share of waiting for data, and time to go."""

import contextlib
import functools
import logging
import time
from collections.abc import Iterator


class Progress:
    """Times a training run and formats its console lines.

    Args:
      total: steps of the whole run.
      start: step it begins or resumes at.
      batch_size: examples per step.
      wall_before: seconds that earlier processes worked on the run.

    Attributes:
      waited: seconds waited for data so far; the loop adds to it.
    """

    def __init__(self, total: int, start: int, batch_size: int, wall_before: float = 0.0):
        self._total, self._batch_size = total, batch_size
        self._begin = self._window_begin = time.perf_counter()
        self._start = self._window_start = start
        self._window_wait = self._window_paused = 0.0
        self._steady_steps = 0
        self._steady_seconds = 0.0
        self._first_speed = 0.0
        self._wall_before = wall_before
        self._paused = 0.0
        self.waited = 0.0

    @property
    def wall_seconds(self) -> float:
        """Seconds spent on the run, earlier processes included."""
        return self._wall_before + time.perf_counter() - self._begin

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Keeps the time of evaluation and saving out of the training speed."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

    @property
    def examples_per_second(self) -> float:
        """Training speed without evaluation, saving and the first logging window, which compiles."""
        steady = self._steady_steps / self._steady_seconds if self._steady_seconds else self._first_speed
        return steady * self._batch_size

    def window(self, step: int) -> dict[str, float]:
        """Closes a logging window and returns its timings."""
        now = time.perf_counter()
        paused, waited = self._paused - self._window_paused, self.waited - self._window_wait
        seconds = max(1e-9, now - self._window_begin - paused)
        steps = step - self._window_start
        if self._window_start == self._start:
            self._first_speed = steps / seconds
        else:
            self._steady_steps += steps
            self._steady_seconds += seconds
        self._window_begin, self._window_start = now, step
        self._window_paused, self._window_wait = self._paused, self.waited
        done = max(1, step - self._start)
        return {'steps_per_second': steps / seconds, 'examples_per_second': steps * self._batch_size / seconds,
                'data_wait_share': waited / seconds, 'wall_seconds': self.wall_seconds,
                'eta_seconds': (self._total - step) * (now - self._begin) / done}

    def line(self, step: int, values: dict[str, float], timings: dict[str, float]) -> str:
        """Returns the console line of a logging window."""
        width = len(f'{self._total:,}')
        parts = [f'step {step:>{width},}/{self._total:,}', f'{100 * step / max(1, self._total):3.0f} %']
        parts += [f'{name} {format_metric(name, value)}' for name, value in values.items()]
        parts += [f"{timings['steps_per_second']:.1f} steps/s", f"{timings['examples_per_second']:,.0f} examples/s",
                  f"data wait {100 * timings['data_wait_share']:.1f} %",
                  f"ETA {format_seconds(timings['eta_seconds'])}"]
        return '  '.join(parts)


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


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning the first time: parts of one data set are opened for training, validation and test."""
    logging.warning('%s', text)


class Ticker:
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
