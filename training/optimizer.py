"""Config -> optax: optimizers, weight decay, freezing and learning rates by parameter path."""

import functools
import inspect
import math
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
import optax.contrib
from ml_collections import ConfigDict

from ..common.errors import UserError, nearest
from .array_paths import compile_pattern, select

# Optimizers of our own: what scales the gradient and which fields of config.optimizer are its arguments. Earlier
# checkpoints hold their states, so what they are built of does not change. All others are optax's, as they are.
_OWN = {
    'sgd': (None, ()),
    'adam': (optax.scale_by_adam, ('b1', 'b2', 'eps')),
    'adamw': (optax.scale_by_adam, ('b1', 'b2', 'eps')),
    'rmsprop': (optax.scale_by_rms, ('eps',)),
    'adagrad': (optax.scale_by_rss, ()),
}
NAMES = tuple(_OWN)
_OWN_DEFAULTS = {'rmsprop': {'decay': 0.9}}
_WITH_MOMENTUM = ('sgd', 'rmsprop')
# Fields that only some optimizers of our own have; what optax's take is in `arguments`.
FIELDS = {'momentum': _WITH_MOMENTUM, 'nesterov': _WITH_MOMENTUM,
          **{field: tuple(name for name, (_, fields) in _OWN.items() if field in fields)
             for field in ('b1', 'b2', 'eps')}}
# Arguments of optax's optimizers that fields of config.optimizer are for.
_FIELD_FOR = {'learning_rate': 'learning_rate', 'adam_learning_rate': 'learning_rate_scales',
              'weight_decay': 'weight_decay', 'weight_decay_rate': 'weight_decay', 'adam_weight_decay': 'weight_decay',
              'mask': 'weight_decay_on', 'weight_decay_mask': 'weight_decay_on'}
_DECOUPLED = ('adamw', 'muon')  # optax's muon would decay matrices only, not the kernels of convolutions
_UNFIT = {
    'schedule_free': 'it evaluates other parameters than it trains',
    'schedule_free_adamw': 'it evaluates other parameters than it trains',
    'schedule_free_sgd': 'it evaluates other parameters than it trains',
    'dpsgd': 'it needs the gradient of every example on its own',
    'rprop': 'it does not follow a learning rate',
    'cocob': 'it does not follow a learning rate',
}


class Optimizer:
    """An optax transformation built from config.optimizer, and which parameters it leaves alone.

    `name` is one of sgd, adam, adamw, rmsprop and adagrad, or that of any optimizer in optax or optax.contrib that
    needs gradients and parameters only, such as lion, lamb, lars, adafactor and muon; `arguments` are its own.

    Frozen parameters get no gradient, no update and no optimizer state. Order: clipping, coupled weight decay, the
    optimizer's own scaling, decoupled weight decay, learning rate by path, learning rate.

    Raises:
      UserError: unknown name or argument, a value out of range; from `init`: a regex that matches no parameter, or all
        frozen.
    """

    def __init__(self, config: ConfigDict):
        self.config = config
        self._function = None if config.name in _OWN else _find(config.name)
        self._arguments = ConfigDict(config.arguments).to_dict()
        _check(config)
        self._check_arguments()

    def init(self, params: Any) -> optax.OptState:
        """Returns the optimizer state of the parameters."""
        return self._transformation(params, self.config.learning_rate, self.config.weight_decay).init(params)

    def update(self, gradients: Any, opt_state: optax.OptState, params: Any, *, learning_rate: jax.Array,
               weight_decay: jax.Array) -> tuple[Any, optax.OptState]:
        """Returns (updates to add, new state).

        Args:
          gradients, opt_state, params: as for optax.
          learning_rate: of this step, float32 scalar.
          weight_decay: float32 scalar; not used where config.optimizer.weight_decay is 0.
        """
        return self._transformation(params, learning_rate, weight_decay).update(gradients, opt_state, params)

    def stop_frozen(self, params: Any) -> Any:
        """Returns the parameters with gradients stopped at the frozen ones, so that none are computed for them."""
        if not self.config.freeze:
            return params
        frozen = matches(self.config.freeze, params, 'optimizer.freeze')
        return jax.tree.map(lambda p, f: jax.lax.stop_gradient(p) if f else p, params, frozen)

    def _transformation(self, params: Any, learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        config = self.config
        decayed = matches(config.weight_decay_on, params, 'optimizer.weight_decay_on') if config.weight_decay else None
        decay = self._decay() if config.weight_decay else ''
        parts = []
        if config.clip_norm:
            parts.append(optax.clip_by_global_norm(config.clip_norm))
        if decay == 'coupled':
            parts.append(optax.add_decayed_weights(weight_decay, decayed))
        if self._function is None:
            parts += self._scaling()
        else:
            own = {'weight_decay': weight_decay, self._mask_argument(): decayed} if decay == 'its own' else {}
            parts.append(self._from_optax(learning_rate, **own))
        if decay == 'decoupled':  # the learning rate is still to come, or in the updates already
            share = weight_decay if self._function is None else -learning_rate * weight_decay
            parts.append(optax.add_decayed_weights(share, decayed))
        if config.learning_rate_scales:
            parts.append(_scale_by_path(config.learning_rate_scales, params))
        if self._function is None:
            parts.append(_scale_by_learning_rate(learning_rate))
        chain = optax.chain(*parts)
        if not config.freeze:
            return chain
        frozen = matches(config.freeze, params, 'optimizer.freeze')
        if all(jax.tree.leaves(frozen)):
            raise UserError(f'config.optimizer.freeze = {tuple(config.freeze)} freezes every parameter')
        labels = jax.tree.map(lambda f: 'frozen' if f else 'learning', frozen)
        return optax.partition({'frozen': optax.set_to_zero(), 'learning': chain}, labels)

    def _decay(self) -> str:
        """Returns how weights decay: 'coupled' (added to the gradient), 'decoupled' or as optax's function does it."""
        decoupled = self.config.decoupled_weight_decay
        if decoupled is not None:
            return 'decoupled' if decoupled else 'coupled'
        if self.config.name in _DECOUPLED:
            return 'decoupled'
        return 'its own' if 'weight_decay' in self._parameters() and self._mask_argument() else 'coupled'

    def _scaling(self) -> list[optax.GradientTransformation]:
        config = self.config
        function, fields = _OWN[config.name]
        arguments = _OWN_DEFAULTS.get(config.name, {}) | {field: config[field] for field in fields}
        parts = [function(**arguments | self._arguments)] if function is not None else []
        if config.name in _WITH_MOMENTUM and config.momentum:
            parts.append(optax.trace(config.momentum, config.nesterov))
        return parts

    def _from_optax(self, learning_rate: Any, **decay: Any) -> optax.GradientTransformation:
        off = {'weight_decay': 0.0} if 'weight_decay' in self._parameters() else {}
        return self._function(learning_rate=learning_rate, **self._arguments | off | decay)

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        """Returns the parameters of the optax function that `arguments` are for."""
        function = self._function or _OWN[self.config.name][0]
        return inspect.signature(function).parameters if function is not None else {}

    def _mask_argument(self) -> str:
        return next((name for name in ('mask', 'weight_decay_mask') if name in self._parameters()), '')

    def _check_arguments(self) -> None:
        """Raises UserError unless the optimizer can be built and used, tried on two small parameters."""
        name, known = self.config.name, self._parameters()
        fields = _FIELD_FOR if self._function is not None else {field: field for field in _OWN[name][1]}
        for argument in self._arguments:
            if argument in fields:
                raise UserError(f'config.optimizer.arguments.{argument}: {name} takes it from '
                                f'config.optimizer.{fields[argument]}')
            if argument not in known:
                raise UserError(f'config.optimizer.arguments.{argument} is not an argument of {name}; '
                                f'{nearest(argument, [key for key in known if key not in fields])}')
        if self._function is None and not self._arguments:
            return
        missing = [key for key, parameter in known.items() if parameter.default is parameter.empty
                   and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
                   and key not in {*self._arguments, 'learning_rate'}]
        if missing:
            raise UserError(f'config.optimizer.name = {name!r} needs config.optimizer.arguments.{missing[0]}')

        def one_step(params, learning_rate):
            tried = self._from_optax(learning_rate) if self._function is not None else optax.chain(*self._scaling())
            return tried.update(params, tried.init(params), params)[0]

        params = {'kernel': jnp.zeros((2, 3)), 'bias': jnp.zeros(3)}
        try:
            jax.eval_shape(one_step, params, jnp.zeros(()))
        except Exception as error:  # whatever optax makes of a value it cannot use, or of what is not there
            reason = ' '.join(re.sub(r'\S*<locals>\.', '', str(error)).split())[:200]
            raise UserError(f'config.optimizer.name = {name!r} cannot be used with the arguments {self._arguments}: '
                            f'{reason}') from error


@functools.cache
def _optax_optimizers() -> dict[str, Callable]:
    """Returns optax's optimizers by name: its functions of a learning rate that are not parts of others."""
    functions = {}
    for name, value in [*vars(optax.contrib).items(), *vars(optax).items()]:
        if isinstance(value, (types.FunctionType, functools.partial)) and not name.startswith(('_', 'scale_by')):
            if 'learning_rate' in inspect.signature(value).parameters:
                functions[name] = value
    return functions


def _find(name: str) -> Callable:
    if name in _UNFIT:
        raise UserError(f'config.optimizer.name = {name!r} cannot be used here: {_UNFIT[name]}')
    known = {key: function for key, function in _optax_optimizers().items() if key not in _UNFIT}
    if name not in known:
        raise UserError(f'config.optimizer.name = {name!r}; {nearest(name, [*_OWN, *known], 0.7)}')
    return known[name]


def _scale_by_learning_rate(learning_rate: Any) -> optax.GradientTransformation:
    """Multiplies by -learning_rate; its state counts steps, as it did when the schedule was part of the optimizer."""
    def update(updates, state, params=None):
        del params
        updates = jax.tree.map(lambda u: jnp.asarray(-learning_rate, u.dtype) * u, updates)
        return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))
    return optax.GradientTransformation(lambda _: optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)), update)


def _check(config: ConfigDict) -> None:
    if not 0 < config.learning_rate < math.inf:
        raise UserError(f'config.optimizer.learning_rate = {config.learning_rate}: it must be finite and above 0')
    for field, low, high in (('momentum', 0, 1), ('b1', 0, 1), ('b2', 0, 1)):
        if not low <= config[field] < high:
            raise UserError(f'config.optimizer.{field} = {config[field]}: it must be in [{low}, {high})')
    for field in ('weight_decay', 'clip_norm', 'eps'):
        if not 0 <= config[field] < math.inf:
            raise UserError(f'config.optimizer.{field} = {config[field]}: it must be finite and not negative')
    if config.decoupled_weight_decay not in (None, True, False):
        raise UserError(f'config.optimizer.decoupled_weight_decay = {config.decoupled_weight_decay!r}: it is True, '
                        'False or None (as is usual for the optimizer)')
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


def matches(patterns: tuple[str, ...], params: Any, field: str) -> Any:
    """Returns a pytree of bools: whether a parameter's path, 'conv1/kernel', fully matches one of the regexes.

    Raises:
      UserError: a regex that matches nothing.
    """
    paths = flax.traverse_util.flatten_dict(params, sep='/')
    chosen = select(patterns, paths, field)
    return flax.traverse_util.unflatten_dict({path: path in chosen for path in paths}, sep='/')


def _scale_by_path(scales: tuple[tuple[str, float], ...], params: Any) -> optax.GradientTransformation:
    factors = jax.tree.map(lambda _: 1.0, params)
    for pattern, factor in reversed(scales):
        hit = matches((pattern,), params, 'optimizer.learning_rate_scales')
        factors = jax.tree.map(lambda old, h, f=factor: f if h else old, factors, hit)
    return optax.stateless(lambda updates, _: jax.tree.map(
        lambda u, f: u if isinstance(u, optax.MaskedNode) else u * jnp.asarray(f, u.dtype), updates, factors,
        is_leaf=lambda u: isinstance(u, optax.MaskedNode)))
