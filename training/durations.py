"""Durations: '300 steps', '10 epochs', '2000000 examples' -> a number of steps."""

import math
import re

from ..common.errors import UserError, shortened

_MOST_STEPS = 2 ** 31 - 1  # steps are counted in int32
_UNITS = ('steps', 'epochs', 'examples')
_DURATION = re.compile(r'\s*([0-9]+(?:_[0-9]+)*\.?[0-9]*(?:e[0-9]{1,2})?)\s*([a-z]*)\s*')


def parse(duration: str) -> tuple[float, str] | None:
    """'1e3 step' -> (1000.0, 'steps'), '' -> (0.0, 'steps'); None for what is no duration."""
    if not duration.strip():
        return 0.0, 'steps'
    match = _DURATION.fullmatch(duration)
    unit = match.group(2) if match else ''
    if unit and not unit.endswith('s'):
        unit += 's'
    return (float(match.group(1)), unit) if unit in _UNITS else None


def to_steps(duration: str, *, batch_size: int, num_examples: int, field: str) -> int:
    """Converts a duration to whole steps, rounded up, so that '1 epochs' shows every example at least once.

    Args:
      duration: number and unit; the number may be a fraction. '' is 0 steps.
      batch_size: examples per step, over all devices and hosts.
      num_examples: examples per epoch.
      field: name of the config field, for the error message.

    Raises:
      UserError: no number, no unit, an unknown unit, a negative number, or more steps than can be counted.
    """
    if not isinstance(duration, str):
        raise UserError(f"config.{field} = {duration!r} does not say which unit: write '{duration} steps', "
                        f"'{duration} epochs' or '{duration} examples'")
    parsed = parse(duration)
    if parsed is None:
        raise UserError(f"config.{field} = {shortened(repr(duration))} is not a duration: "
                        "write a number and a unit, such as '300 steps', '10 epochs' or '1e6 examples'")
    number, unit = parsed
    if unit == 'steps':
        steps = number
    elif unit == 'epochs':
        steps = number * num_examples / batch_size
    else:
        steps = number / batch_size
    if steps > _MOST_STEPS:
        raise UserError(f'config.{field} = {shortened(repr(duration))} is more than {_MOST_STEPS:,} steps')
    return math.ceil(steps - 1e-9)
