"""Config -> optax: schedules, optimizers, weight decay, freezing and learning rates by parameter path."""

import logging
import re
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ..common.errors import UserError, nearest

SCHEDULES = ('constant', 'exponential', 'cosine', 'piecewise')


def build_schedule(config: ConfigDict, learning_rate: float, total_steps: int,
                   to_steps: Callable[[str, str], int]) -> optax.Schedule:
    """Returns step -> learning rate.

    Args:
      config: config.schedule.
      learning_rate: the peak, config.optimizer.learning_rate.
      total_steps: length of the training, where cosine ends.
      to_steps: (duration, field name) -> steps.

    Raises:
      UserError: an unknown schedule, or fields that do not fit each other or the length of the training.
    """
    warmup = to_steps(config.warmup, 'schedule.warmup')
    if warmup and warmup >= total_steps:
        logging.warning('config.schedule.warmup = %r is %s steps of the %s of the training: the learning rate stays '
                        'below its peak', config.warmup, f'{warmup:,}', f'{total_steps:,}')
    if config.name == 'constant':
        after = optax.constant_schedule(learning_rate)
    elif config.name == 'exponential':
        decay_steps = to_steps(config.decay_steps, 'schedule.decay_steps')
        if decay_steps < 1 or not 0 < config.decay_rate:
            raise UserError('config.schedule: exponential needs decay_steps >= 1 step and decay_rate > 0')
        after = optax.exponential_decay(learning_rate, decay_steps, config.decay_rate, staircase=config.staircase)
    elif config.name == 'cosine':
        after = optax.cosine_decay_schedule(learning_rate, max(1, total_steps - warmup), config.final_factor)
    elif config.name == 'piecewise':
        if len(config.boundaries) != len(config.factors):
            raise UserError('config.schedule: boundaries and factors must be of the same length')
        begins = [to_steps(b, 'schedule.boundaries') for b in config.boundaries]
        if begins != sorted(set(begins)):
            raise UserError(f'config.schedule.boundaries must ascend: {tuple(config.boundaries)}')
        pieces = [optax.constant_schedule(learning_rate * f) for f in (1.0, *config.factors)]
        after = optax.join_schedules(pieces, [max(0, b - warmup) for b in begins])
    else:
        raise UserError(f'config.schedule.name = {config.name!r}; {nearest(config.name, SCHEDULES)}')
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), after], [warmup])


class Optimizer:
    """An optax transformation built from config.optimizer, and which parameters it leaves alone.

    Frozen parameters get no gradient, no update and no optimizer state. Order of the chain: clipping, coupled weight
    decay (not adamw), the optimizer's own scaling, decoupled weight decay (adamw), learning rate.

    Raises:
      UserError: unknown name, a value out of range; from `init`: a regex that matches no parameter, or all frozen.
    """

    def __init__(self, config: ConfigDict, schedule: optax.Schedule):
        self.config = config
        self.schedule = schedule
        _check(config)

    def init(self, params: Any) -> optax.OptState:
        """Returns the optimizer state of the parameters."""
        return self._transformation(params).init(params)

    def update(self, gradients: Any, opt_state: optax.OptState, params: Any) -> tuple[Any, optax.OptState]:
        """Returns (updates to add, new state)."""
        return self._transformation(params).update(gradients, opt_state, params)

    def stop_frozen(self, params: Any) -> Any:
        """Returns the parameters with gradients stopped at the frozen ones, so that none are computed for them."""
        if not self.config.freeze:
            return params
        frozen = matches(self.config.freeze, params, 'optimizer.freeze')
        return jax.tree.map(lambda p, f: jax.lax.stop_gradient(p) if f else p, params, frozen)

    def _transformation(self, params: Any) -> optax.GradientTransformation:
        config = self.config
        decayed = matches(config.weight_decay_on, params, 'optimizer.weight_decay_on') if config.weight_decay else None
        parts = []
        if config.clip_norm:
            parts.append(optax.clip_by_global_norm(config.clip_norm))
        if decayed is not None and config.name != 'adamw':
            parts.append(optax.add_decayed_weights(config.weight_decay, decayed))
        parts += _scaling(config)
        if decayed is not None and config.name == 'adamw':
            parts.append(optax.add_decayed_weights(config.weight_decay, decayed))
        if config.learning_rate_scales:
            parts.append(_scale_by_path(config.learning_rate_scales, params))
        parts.append(optax.scale_by_learning_rate(self.schedule))
        chain = optax.chain(*parts)
        if not config.freeze:
            return chain
        frozen = matches(config.freeze, params, 'optimizer.freeze')
        if all(jax.tree.leaves(frozen)):
            raise UserError(f'config.optimizer.freeze = {tuple(config.freeze)} freezes every parameter')
        labels = jax.tree.map(lambda f: 'frozen' if f else 'learning', frozen)
        return optax.partition({'frozen': optax.set_to_zero(), 'learning': chain}, labels)


def _scaling(config: ConfigDict) -> list[optax.GradientTransformation]:
    momentum = [optax.trace(config.momentum, config.nesterov)] if config.momentum else []
    if config.name == 'sgd':
        return momentum
    if config.name in ('adam', 'adamw'):
        return [optax.scale_by_adam(config.b1, config.b2, config.eps)]
    if config.name == 'rmsprop':
        return [optax.scale_by_rms(decay=0.9, eps=config.eps)] + momentum
    return [optax.scale_by_rss()]  # adagrad


OPTIMIZERS = ('sgd', 'adam', 'adamw', 'rmsprop', 'adagrad')


def _check(config: ConfigDict) -> None:
    if config.name not in OPTIMIZERS:
        raise UserError(f'config.optimizer.name = {config.name!r}; {nearest(config.name, OPTIMIZERS)}')
    if not config.learning_rate > 0:
        raise UserError(f'config.optimizer.learning_rate = {config.learning_rate}: it must be above 0')
    for field, low, high in (('momentum', 0, 1), ('b1', 0, 1), ('b2', 0, 1)):
        if not low <= config[field] < high:
            raise UserError(f'config.optimizer.{field} = {config[field]}: it must be in [{low}, {high})')
    for field in ('weight_decay', 'clip_norm', 'eps'):
        if not config[field] >= 0:
            raise UserError(f'config.optimizer.{field} = {config[field]}: it must not be negative')
    if config.accumulate < 1:
        raise UserError(f'config.optimizer.accumulate = {config.accumulate}: it must be at least 1')
    for pair in config.learning_rate_scales:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], (int, float))):
            raise UserError(f'config.optimizer.learning_rate_scales: {pair!r} is not a (regex, factor) pair'
                            f'{pair_hint(config.learning_rate_scales)}')
    scaled = tuple(pattern for pattern, _ in config.learning_rate_scales)
    for field, patterns in (('freeze', config.freeze), ('weight_decay_on', config.weight_decay_on),
                            ('learning_rate_scales', scaled)):
        for pattern in patterns:
            compile_pattern(pattern, f'optimizer.{field}')


def pair_hint(value: Any) -> str:
    """Returns how to write a single pair that lost the comma of the tuple around it; '' if that is not the mistake."""
    lone = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return f'; write ({value!r},)' if lone else ''


def compile_pattern(pattern: str, field: str) -> re.Pattern:
    """Compiles a regex of the config; raises UserError naming it if it is none."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f'config.{field}: {pattern!r} is not a regular expression: {error}') from error


def matches(patterns: tuple[str, ...], params: Any, field: str) -> Any:
    """Returns a pytree of bools: whether a parameter's path, 'conv1/kernel', fully matches one of the regexes.

    Raises:
      UserError: a regex that matches nothing.
    """
    paths = flax.traverse_util.flatten_dict(params, sep='/')
    hits = {path: False for path in paths}
    for pattern in patterns:
        found = [path for path in paths if compile_pattern(pattern, field).fullmatch(path)]
        if not found:
            raise UserError(f'config.{field}: {pattern!r} matches no parameter; {nearest(pattern, list(paths))}')
        hits.update(dict.fromkeys(found, True))
    return flax.traverse_util.unflatten_dict(hits, sep='/')


def _scale_by_path(scales: tuple[tuple[str, float], ...], params: Any) -> optax.GradientTransformation:
    factors = jax.tree.map(lambda _: 1.0, params)
    for pattern, factor in reversed(scales):
        hit = matches((pattern,), params, 'optimizer.learning_rate_scales')
        factors = jax.tree.map(lambda old, h, f=factor: f if h else old, factors, hit)
    return optax.stateless(lambda updates, _: jax.tree.map(
        lambda u, f: u if isinstance(u, optax.MaskedNode) else u * jnp.asarray(f, u.dtype), updates, factors,
        is_leaf=lambda u: isinstance(u, optax.MaskedNode)))
