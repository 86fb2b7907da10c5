"""Models: flax modules, arrays in and arrays out. Add one: a file here and a line in MODELS."""

import dataclasses
import typing
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from models.alexnet import AlexNet
from models.fcn import FCN
from models.googlenet import GoogLeNet
from models.lenet import LeNet
from models.line import Line
from models.mlp import MLP
from models.resnet import CifarResNet, ResNet
from models.segmentation_mlp import SegmentationMLP
from models.small_cnn import SmallCNN
from models.unet import UNet
from models.vgg import VGG
from training.config import nearest
from training.errors import UserError

MODELS: dict[str, type[nn.Module]] = {
    'alexnet': AlexNet,
    'fcn': FCN,
    'googlenet': GoogLeNet,
    'lenet': LeNet,
    'line': Line,
    'mlp': MLP,
    'resnet': ResNet,
    'resnet_cifar': CifarResNet,
    'segmentation_mlp': SegmentationMLP,
    'small_cnn': SmallCNN,
    'unet': UNet,
    'vgg': VGG,
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
      UserError: unknown model, field or precision, a value that does not fit, or a field that is not the config's.
    """
    name = config['name']
    if name not in MODELS:
        raise UserError(f'config.model.name = {name!r}; {nearest(name, list(MODELS))}')
    if precision not in _PRECISIONS:
        raise UserError(f'config.precision = {precision!r}; {nearest(precision, list(_PRECISIONS))}')
    module = MODELS[name]
    known = {field.name: field for field in dataclasses.fields(module) if field.name not in ('parent', 'name')}
    given = {key: value for key, value in dict(config).items() if key != 'name'}
    decided = dict(facts, dtype=_PRECISIONS[precision], axis_name=axis_name)
    free = [key for key in known if key not in decided]
    for key, value in given.items():
        if key in decided:
            raise UserError(f'config.model.{key} follows from the task, the data, config.precision and the devices: '
                            'leave it out')
        if key not in free:
            raise UserError(f'config.model.{key}: {name} has no such field; {nearest(key, free)}')
        kind = known[key].type
        if not _fits(value, kind):
            wanted = str(kind) if typing.get_args(kind) else kind.__name__
            positive = ', at least 1' if 'int' in wanted else ''
            raise UserError(f'config.model.{key} = {value!r}: {name} takes {wanted}{positive}')
    lacking = [key for key, field in known.items()
               if field.default is dataclasses.MISSING and key not in given and key not in decided]
    if lacking:
        raise UserError(f'config.model.name = {name!r} needs {", ".join(lacking)}, which this task and its data do not '
                        'decide: set it in config.model, or choose another task')
    return module(**{key: value for key, value in decided.items() if key in known}, **given)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from a config is of a field's type; unions and the like are left to the module.

    Whole numbers are sizes and counts: 0 is no layer but a mistake.
    """
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, tuple):
            return False
        if kinds[-1] is Ellipsis:
            return all(_fits(item, kinds[0]) for item in value)
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if kind is int:
        return type(value) is int and value >= 1
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind if kind in (bool, str) else True
