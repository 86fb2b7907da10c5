"""What a person sees while a run goes on: one line with speed, share of waiting for data, and time to go."""

import contextlib
import time
from collections.abc import Iterator

from ..common.console import format_metric, format_seconds


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
