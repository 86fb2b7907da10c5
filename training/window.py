"""Training metrics between two log lines: collected without waiting for the device, summed on the host."""

import math

import jax
import numpy as np

from .checkpoint_meta import NonFiniteError
from .step import MetricLayout

# The host may run ahead of the devices by this to twice this many steps. It bounds the memory of queued batches, and
# virtual CPU devices deadlock when it is unbounded. Looking at every step would cost a thread switch for each.
_RUN_AHEAD = 16


class MetricWindow:
    """Sums of the metrics of the steps since the last log line.

    Args:
      layout: of the vectors that steps return.
      step: steps done so far.
      sums: `sums` of an earlier process, to go on in the middle of a window.
    """

    def __init__(self, layout: MetricLayout, step: int, sums: dict[str, float] | None = None):
        self._layout = layout
        self._step = step  # steps fetched
        self._pending: list[jax.Array] = []
        sums = sums or {}
        self._steps = int(sums.get('steps', 0))
        self._sums = np.asarray([sums.get(name, 0.0) for name in layout.names])
        self._rate = layout.names.index("['learning_rate']")  # of which not the sum is kept, but the last

    @property
    def sums(self) -> dict[str, float]:
        """The window so far, exact in JSON; what a checkpoint keeps."""
        return dict(zip(self._layout.names, self._sums.tolist()), steps=self._steps)

    @property
    def empty(self) -> bool:
        """Whether no step was added since the last log line."""
        return not self._steps and not self._pending

    def add(self, metrics: jax.Array) -> None:
        """Adds the metrics of the next step, still on their way."""
        self._pending.append(metrics)
        if len(self._pending) % _RUN_AHEAD == 0 and len(self._pending) > _RUN_AHEAD:
            jax.block_until_ready(self._pending[-_RUN_AHEAD])

    def fetch(self, step: int) -> None:
        """Waits for the steps up to `step` and adds them to the window.

        Raises:
          NonFiniteError: the loss or the gradient of a step is NaN or infinite; it names the step.
        """
        ready, self._pending = self._pending[:step - self._step], self._pending[step - self._step:]
        for metrics in ready:
            self._step += 1
            numbers = np.asarray(metrics)  # under a microsecond; arithmetic on the device would take fifty
            if not np.isfinite(numbers).all():
                loss = self._layout.unpack(numbers)['task'].compute()['loss']
                raise NonFiniteError('the gradient' if math.isfinite(loss) else 'the loss', self._step)
            self._sums += numbers
            self._sums[self._rate] = numbers[self._rate]
            self._steps += 1

    def close(self, step: int) -> dict[str, float]:
        """Returns the means over the window's steps up to `step` and its last learning rate; begins the next window."""
        self.fetch(step)
        window = self._layout.unpack(self._sums)
        means = {name: float(value) for name, value in window['task'].compute().items()}
        means['gradient_norm'] = float(window['gradient_norm'] / self._steps)
        means['learning_rate'] = float(window['learning_rate'])
        self._sums, self._steps = np.zeros_like(self._sums), 0
        return means
