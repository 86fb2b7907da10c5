"""Config -> how the learning rate changes over the training, as a factor of its peak.

The peak itself, config.optimizer.learning_rate, is an input of the compiled step and multiplied there.
"""

import functools
import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ..common.errors import UserError, nearest

# Names of our own, and the config.schedule.arguments that each takes beside the fields of config.schedule.
_ARGUMENTS = {
    'constant': {},
    'exponential': {},
    'cosine': {},
    'piecewise': {},
    'linear': {},
    'polynomial': {'power': 2.0},
    'one_cycle': {'div_factor': 25.0, 'final_div_factor': 1e4},
    'warmup_stable_decay': {},
}
NAMES = tuple(_ARGUMENTS)
# Fields of config.schedule that only some of them have.
FIELDS = {
    'decay_rate': ('exponential',), 'staircase': ('exponential',),
    'decay_steps': ('exponential', 'warmup_stable_decay'),
    'final_factor': ('cosine', 'linear', 'polynomial', 'warmup_stable_decay'),
    'boundaries': ('piecewise',), 'factors': ('piecewise',),
}
_WHOLE = ('decay_steps', 'transition_steps')  # of optax's schedules: all that is left of the training, if not given
_ASCENT = 0.3  # share of a one_cycle whose learning rate rises, where config.schedule.warmup gives no length

ToSteps = Callable[[str, str], int]


def build_schedule(config: ConfigDict, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    """Returns step -> factor of the peak learning rate, float32; jax can trace it.

    Args:
      config: config.schedule. `name` is one of ours, with the fields of that section, or that of any schedule in optax,
        such as 'cosine_decay_schedule', with `arguments`: its arguments, where texts such as '5 epochs' become steps.
        Its peak or initial value is 1 and its length the rest of the training, unless they are given.
      total_steps: length of the training.
      to_steps: (duration, field name) -> steps.

    Raises:
      UserError: an unknown schedule or argument, or values that do not fit each other or the length of the training.
    """
    warmup = to_steps(config.warmup, 'schedule.warmup')
    if warmup and warmup >= total_steps:
        logging.warning('config.schedule.warmup = %r is %s steps of the %s of the training: the learning rate stays '
                        'below its peak', config.warmup, f'{warmup:,}', f'{total_steps:,}')
    left = max(1, total_steps - warmup)
    arguments = ConfigDict(config.arguments).to_dict()
    if config.name not in _ARGUMENTS:
        after = _from_optax(config.name, arguments, left, to_steps)
    else:
        unknown = [name for name in arguments if name not in _ARGUMENTS[config.name]]
        if unknown:
            raise UserError(f'config.schedule.arguments.{unknown[0]} is not an argument of {config.name}; '
                            f'{nearest(unknown[0], list(_ARGUMENTS[config.name]))}')
        arguments = {name: _positive(name, arguments.get(name, value))
                     for name, value in _ARGUMENTS[config.name].items()}
        if config.name == 'one_cycle':
            return _one_cycle(warmup, total_steps, **arguments)
        after = _ours(config, warmup, left, arguments, to_steps)
    if warmup:
        after = optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])
    return lambda step: jnp.asarray(after(step), jnp.float32)


def _ours(config: ConfigDict, warmup: int, left: int, arguments: Mapping[str, float],
          to_steps: ToSteps) -> optax.Schedule:
    """The schedules of our own, but one_cycle, counted from the end of the warm-up; left: steps from there on."""
    if config.name == 'exponential':
        decay_steps = to_steps(config.decay_steps, 'schedule.decay_steps')
        if decay_steps < 1 or not 0 < config.decay_rate:
            raise UserError('config.schedule: exponential needs decay_steps >= 1 step and decay_rate > 0')
        return optax.exponential_decay(1.0, decay_steps, config.decay_rate, staircase=config.staircase)
    if config.name == 'piecewise':
        if len(config.boundaries) != len(config.factors):
            raise UserError('config.schedule: boundaries and factors must be of the same length')
        begins = [to_steps(b, 'schedule.boundaries') for b in config.boundaries]
        if begins != sorted(set(begins)):
            raise UserError(f'config.schedule.boundaries must ascend: {tuple(config.boundaries)}')
        pieces = [optax.constant_schedule(f) for f in (1.0, *config.factors)]
        return optax.join_schedules(pieces, [max(0, b - warmup) for b in begins])
    if config.name == 'cosine':
        return optax.cosine_decay_schedule(1.0, left, config.final_factor)
    if config.name == 'linear':
        return optax.linear_schedule(1.0, config.final_factor, left)
    if config.name == 'polynomial':
        return optax.polynomial_schedule(1.0, config.final_factor, arguments['power'], left)
    if config.name == 'warmup_stable_decay':
        decay = to_steps(config.decay_steps, 'schedule.decay_steps')
        if decay < 1:
            raise UserError('config.schedule: warmup_stable_decay needs decay_steps >= 1 step')
        if decay > left:
            logging.warning('config.schedule.decay_steps = %r is longer than the %s steps after the warm-up: it takes '
                            'all of them', config.decay_steps, f'{left:,}')
        decay = min(decay, left)
        return optax.linear_schedule(1.0, config.final_factor, decay, transition_begin=left - decay)
    return optax.constant_schedule(1.0)


def _one_cycle(warmup: int, total_steps: int, div_factor: float, final_div_factor: float) -> optax.Schedule:
    """Smith & Topin 2018, as fast.ai and PyTorch do it: cosines from 1 / div_factor up to 1 and down to 0 nearly."""
    ascent = min(warmup or round(_ASCENT * total_steps), total_steps - 1)
    down = optax.cosine_decay_schedule(1.0, total_steps - ascent, 1 / (div_factor * final_div_factor))
    if ascent < 1:
        return down
    # A cosine that decays from 1 to 1 / div_factor, backwards.
    up = optax.cosine_decay_schedule(1.0, ascent, 1 / div_factor)
    return optax.join_schedules([lambda step: up(ascent - step), down], [ascent])


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f'config.schedule.arguments.{name} = {value!r}: it must be a number above 0')
    return float(value)


def _from_optax(name: str, given: Mapping[str, Any], left: int, to_steps: ToSteps) -> optax.Schedule:
    known = _optax_schedules()
    if name not in known:
        raise UserError(f'config.schedule.name = {name!r}; {nearest(name, [*_ARGUMENTS, *known])}')
    parameters = inspect.signature(known[name]).parameters
    for argument in given:
        if argument not in parameters:
            raise UserError(f'config.schedule.arguments.{argument} is not an argument of {name}; '
                            f'{nearest(argument, list(parameters))}')
    values = {'init_value': 0.0 if 'peak_value' in parameters else 1.0, 'peak_value': 1.0}
    values |= dict.fromkeys(_WHOLE, left)
    arguments = {key: value for key, value in values.items() if key in parameters}
    arguments |= {key: _steps(value, f'schedule.arguments.{key}', to_steps) for key, value in given.items()}
    missing = [key for key, parameter in parameters.items()
               if parameter.default is parameter.empty and key not in arguments]
    if missing:
        raise UserError(f'config.schedule.name = {name!r} needs config.schedule.arguments.{missing[0]}')
    try:
        schedule = known[name](**arguments)
        jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))
        values = [float(schedule(step)) for step in (0, left // 2, left)]
    except Exception as error:  # whatever optax makes of a value it cannot use
        raise UserError(f'config.schedule: {name} does not take the arguments {dict(given)}: '
                        f'{" ".join(str(error).split())[:200]}') from error
    if not all(map(math.isfinite, values)):
        raise UserError(f'config.schedule: {name} with the arguments {dict(given)} is not finite everywhere')
    return schedule


@functools.cache
def _optax_schedules() -> dict[str, Callable]:
    """Returns optax's functions that make a schedule from numbers, by name."""
    functions = {name: value for name, value in vars(optax.schedules).items() if inspect.isfunction(value)}
    return {name: function for name, function in functions.items()
            if re.search('_(schedule|decay)$', name)}


def _steps(value: Any, field: str, to_steps: ToSteps) -> Any:
    """Durations become steps wherever they are: '5 epochs', ('5 epochs', '10 epochs'), {'5 epochs': 0.1}."""
    if isinstance(value, str) and value[:1].isdigit():
        return to_steps(value, field)
    if isinstance(value, Mapping):
        return {_steps(key, field, to_steps): _steps(item, field, to_steps) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_steps(item, field, to_steps) for item in value)
    return value
