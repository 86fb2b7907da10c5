"""Training metrics between two log lines: collected without waiting for the device, summed on the host."""

import math

import jax
import numpy as np

from .checkpoint_meta import NonFiniteError
from .step import MetricLayout

# The host may run ahead of the devices by this to twice this many steps. It bounds the memory of queued batches, and
# virtual CPU devices deadlock when it is unbounded. Looking at every step would cost a thread switch for each.
_RUN_AHEAD = 16


class StepMetrics:
    """What the steps of a training returned, still on their way, until it is forgotten.

    Args:
      step: steps done so far.
    """

    def __init__(self, step: int):
        self._begin, self._kept = step, []
        self._block: tuple[tuple[int, int], np.ndarray] | None = None  # the last answer of `rows`

    @property
    def latest(self) -> int:
        """The last step that was added."""
        return self._begin + len(self._kept)

    def add(self, metrics: jax.Array) -> None:
        """Adds what the next step returned."""
        self._kept.append(metrics)
        if len(self._kept) % _RUN_AHEAD == 0 and len(self._kept) > _RUN_AHEAD:
            jax.block_until_ready(self._kept[-_RUN_AHEAD])

    def rows(self, begin: int, end: int) -> np.ndarray:
        """Returns what the steps begin + 1 to end returned, [steps, ...], waiting for them."""
        if self._block is None or self._block[0] != (begin, end):
            # Under a microsecond each; arithmetic on the device would take fifty.
            rows = np.stack([np.asarray(row) for row in self._kept[begin - self._begin:end - self._begin]])
            self._block = (begin, end), rows  # several runs ask for the same
        return self._block[1]

    def forget(self, step: int) -> None:
        """Forgets the steps up to this one."""
        del self._kept[:step - self._begin]
        self._begin = step


class MetricWindow:
    """Sums of the metrics of the steps since the last log line.

    Args:
      layout: of the vectors that steps return.
      step: steps done so far.
      sums: `sums` of an earlier process, to go on in the middle of a window.

    Attributes:
      step: the last one that was fetched.
    """

    def __init__(self, layout: MetricLayout, step: int, sums: dict[str, float] | None = None):
        self._layout = layout
        self.step = step
        self._returned = StepMetrics(step)
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
        return not self._steps and self._returned.latest == self.step

    def add(self, metrics: jax.Array) -> None:
        """Adds the metrics of the next step, still on their way."""
        self._returned.add(metrics)

    def fetch(self, step: int) -> None:
        """Waits for the steps up to `step` and adds them to the window.

        Raises:
          NonFiniteError: the loss or the gradient of a step is NaN or infinite; it names the step.
        """
        step = min(step, self._returned.latest)
        if step <= self.step:
            return
        rows = self._take(step)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            first = int(finite.argmin())
            loss = self._layout.unpack(rows[first])['task'].compute()['loss']
            raise NonFiniteError('the gradient' if math.isfinite(loss) else 'the loss', self.step + first + 1)
        # One after the other, so that a run that was interrupted in between has the same sums.
        self._sums = np.cumsum(np.concatenate([self._sums[None], rows]), axis=0)[-1]
        self._sums[self._rate] = rows[-1, self._rate]
        self._steps += len(rows)
        self.step = step

    def _take(self, step: int) -> np.ndarray:
        """Returns what the steps since the last fetch returned, [steps, numbers]."""
        rows = self._returned.rows(self.step, step)
        self._returned.forget(step)
        return rows

    def close(self, step: int) -> dict[str, float]:
        """Returns the means over the window's steps up to `step` and its last learning rate; begins the next window."""
        self.fetch(step)
        window = self._layout.unpack(self._sums)
        means = {name: float(value) for name, value in window['task'].compute().items()}
        means['gradient_norm'] = float(window['gradient_norm'] / self._steps)
        means['learning_rate'] = float(window['learning_rate'])
        self._sums, self._steps = np.zeros_like(self._sums), 0
        return means


class MemberWindow(MetricWindow):
    """The window of one of several runs whose steps are taken together.

    Args:
      layout, step, sums: as for `MetricWindow`.
      returned: what the steps of all returned, [runs, numbers] each; it is only read.
      member: which of the runs.
    """

    def __init__(self, layout: MetricLayout, step: int, sums: dict[str, float] | None, returned: StepMetrics,
                 member: int):
        super().__init__(layout, step, sums)
        self._returned, self._member = returned, member

    @property
    def empty(self) -> bool:
        """See `MetricWindow`."""
        return not self._steps and self._returned.latest <= self.step

    def _take(self, step):
        return self._returned.rows(self.step, step)[:, self._member]
