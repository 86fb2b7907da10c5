"""A profiler trace of a few steps, for TensorBoard's profile plugin or Perfetto."""

import logging
from pathlib import Path
from typing import Any

import jax


class Profiler:
    """Traces steps start..start+steps-1 into a folder.

    Args:
      start: first step to trace, counted from 0; the first ones of a process compile and are rarely of interest.
      steps: how many; 0 switches it off.
      folder: where the trace goes; of several processes each has a folder in it, since JAX names files by machine.
    """

    def __init__(self, start: int, steps: int, folder: Path):
        several = jax.process_count() > 1
        self._start, self._stop = start, start + steps
        self._folder = folder / f'process_{jax.process_index()}' if several else folder
        self._running = False

    def before(self, step: int) -> None:
        """Call before a step."""
        if step == self._start < self._stop:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """Call after so many steps, with what the last one returned."""
        if self._running and step == self._stop:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """Ends a trace that is still running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            logging.info('profiler trace written to %s', self._folder)
