"""Axes of charts: where a value lies, which values are marked, and what is written beside them."""

import dataclasses
import math
from collections.abc import Sequence

from ..common.console import format_metric

_LOG_FACTOR = 20  # from this ratio of the highest to the lowest value on, an axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Scale:
    """A numeric axis.

    Attributes:
      low, high: its ends.
      log: whether it is logarithmic.
    """
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Returns where a value lies, 0 at the low end and 1 at the high one."""
        if self.high <= self.low:
            return 0.5
        low, high, value = (math.log(number) if self.log else number for number in (self.low, self.high, value))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self, count: int = 5) -> list[float]:
        """Returns round values on the axis, about so many."""
        if self.high <= self.low:
            return [self.low]
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = -(-len(decades) // (count + 2))
            steps = (1, 2, 5) if len(decades) <= 3 else (1,)
            found = [step * 10.0 ** decade for decade in decades[::every] for step in steps]
        else:
            rough = (self.high - self.low) / count
            unit = 10.0 ** math.floor(math.log10(rough))
            step = next((factor * unit for factor in (1, 2, 5) if factor * unit >= rough * 0.999), 10 * unit)
            found = [round(i * step, 15 - math.ceil(math.log10(max(abs(self.low), abs(self.high)))))
                     for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]
        return [value for value in found if self.low * (1 - 1e-12) <= value <= self.high * (1 + 1e-12)] or \
            [self.low, self.high]


def scale_of(values: Sequence[float]) -> Scale:
    """Returns the axis of some values, one at least; logarithmic where they are positive and span a factor of 20."""
    low, high = min(values), max(values)
    return Scale(low, high, low > 0 and high / _LOG_FACTOR > low)


def tick_text(value: float, metric: str = '') -> str:
    """Returns the label of a value, of a metric as percent where the console shows it so."""
    if metric and format_metric(metric, 0.5).endswith('%'):
        return f'{100 * value:.6g} %'
    if value == int(value) and 1e4 <= abs(value) < 1e15:
        unit, letter = next(pair for pair in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')) if abs(value) >= pair[0])
        return f'{value / unit:.6g}{letter}'
    return f'{value:.6g}'.replace('e-0', 'e-').replace('e+0', 'e')
