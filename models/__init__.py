"""Models: flax modules, arrays in and arrays out. Add one: a file here and a line in MODELS."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from models.lenet import LeNet
from models.line import Line
from models.mlp import MLP
from training.config import nearest
from training.errors import UserError

MODELS: dict[str, type[nn.Module]] = {
    'lenet': LeNet,
    'line': Line,
    'mlp': MLP,
}

_PRECISIONS = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def build(config: Any, *, precision: str = 'float32', axis_name: str | None = None, **facts: Any) -> nn.Module:
    """Builds the module that config.model names.

    Args:
      config: mapping with 'name' and fields of that module.
      precision: compute type, 'float32' or 'bfloat16'.
      axis_name: the device axis over which BatchNorm and Dropout act as one batch; None outside a compiled step.
      **facts: what the data set or task decides, such as num_classes; taken by modules that have such a field.

    Raises:
      UserError: unknown model, field or precision.
    """
    name = config['name']
    if name not in MODELS:
        raise UserError(f'config.model.name = {name!r}; {nearest(name, list(MODELS))}')
    if precision not in _PRECISIONS:
        raise UserError(f'config.precision = {precision!r}; {nearest(precision, list(_PRECISIONS))}')
    module = MODELS[name]
    known = {field.name: field.default for field in dataclasses.fields(module)
             if field.name not in ('parent', 'name')}
    given = {key: value for key, value in dict(config).items() if key != 'name'}
    for key, value in given.items():
        if key not in known:
            raise UserError(f'config.model.{key}: {name} has no such field; {nearest(key, list(known))}')
        kinds = {int: int, float: (float, int), str: str, tuple: tuple}.get(type(known[key]), object)
        if not isinstance(value, kinds):
            raise UserError(f'config.model.{key} = {value!r}: for {name} it is like its default, {known[key]!r}')
    decided = dict(facts, dtype=_PRECISIONS[precision], axis_name=axis_name)
    lacking = [key for key, default in known.items()
               if default is dataclasses.MISSING and key not in given and key not in decided]
    if lacking:
        raise UserError(f'config.model.name = {name!r} needs {", ".join(lacking)}, which this task and its data do not '
                        'decide: set it in config.model, or choose another task')
    return module(**{key: value for key, value in decided.items() if key in known}, **given)
