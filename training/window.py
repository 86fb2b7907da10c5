"""Training metrics between two log lines: collected without waiting for the device, summed on the host."""

import math
from typing import Any

import jax
import numpy as np

from training.checkpoints import NonFiniteError
from training.parallel import Parallel

# The host may run ahead of the devices by this to twice this many steps. It bounds the memory of queued batches, and
# virtual CPU devices deadlock when it is unbounded. Looking at every step would cost a thread switch for each.
_RUN_AHEAD = 16


class MetricWindow:
    """Sums of the metrics of the steps since the last log line.

    Args:
      parallel: to fetch from.
      collection: the task's `train_metrics`: a clu Collection of sums and counts.
      step: steps done so far.
      sums: `sums` of an earlier process, to go on in the middle of a window.

    Attributes:
      sums: path -> float, exact in JSON; what a checkpoint keeps.
    """

    def __init__(self, parallel: Parallel, collection, step: int, sums: dict[str, float] | None = None):
        self._parallel = parallel
        self._template = {'task': collection.empty(), 'gradient_norm': 0.0}
        paths, self._structure = jax.tree_util.tree_flatten_with_path(self._template)
        self._paths = [jax.tree_util.keystr(path) for path, _ in paths]
        self._step = step  # steps fetched
        self._pending: list[Any] = []
        self.sums = dict(sums or {})

    @property
    def empty(self) -> bool:
        """Whether no step was added since the last log line."""
        return not self.sums and not self._pending

    def add(self, metrics: Any) -> None:
        """Adds the metrics of the next step, still on their way."""
        self._pending.append(metrics)
        if len(self._pending) % _RUN_AHEAD == 0 and len(self._pending) > _RUN_AHEAD:
            jax.block_until_ready(self._pending[-_RUN_AHEAD]['gradient_norm'])

    def fetch(self, step: int) -> None:
        """Waits for the steps up to `step` and adds them to `sums`.

        Raises:
          NonFiniteError: the loss or the gradient of a step is NaN or infinite; it names the step.
        """
        ready, self._pending = self._pending[:step - self._step], self._pending[step - self._step:]
        for metrics in ready:
            self._step += 1
            # np.asarray of a replicated scalar takes a microsecond; any arithmetic on the device would take fifty.
            for path, leaf in zip(self._paths, self._structure.flatten_up_to(metrics)):
                value = float(np.asarray(leaf))
                if not math.isfinite(value):
                    what = 'gradient' if 'gradient_norm' in path else 'loss'
                    raise NonFiniteError(f'the {what} of step {self._step:,}')
                self.sums[path] = self.sums.get(path, 0.0) + value
            self.sums['steps'] = self.sums.get('steps', 0) + 1

    def close(self, step: int) -> dict[str, float]:
        """Returns the means over the window's steps up to `step`, and begins the next window."""
        self.fetch(step)
        sums, self.sums = self.sums, {}
        leaves = [np.float64(sums[path]) for path in self._paths]
        window = jax.tree.unflatten(self._structure, leaves)
        means = {name: float(value) for name, value in window['task'].compute().items()}
        return means | {'gradient_norm': float(window['gradient_norm'] / sums['steps'])}
