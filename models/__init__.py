"""Models: flax modules, arrays in and arrays out. Add one: a file here and a line in MODELS."""

import dataclasses
import typing
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ..common.errors import UserError, nearest
from .alexnet import AlexNet
from .autoencoder import Autoencoder, ConvAutoencoder, LayerAutoencoder
from .bag_of_words import BagOfWords
from .captioner import Captioner
from .convnext import ConvNeXt
from .detector import Detector
from .fcn import FCN
from .gan import DCGAN, GAN
from .googlenet import GoogLeNet
from .inception_bn import InceptionBN
from .lenet import LeNet, LeNet5
from .line import Line
from .lstm import LSTM
from .memory_network import MemoryNetwork
from .mlp import MLP
from .polynomial import Polynomial
from .q_network import QNetwork
from .rbm import RBM
from .rcnn import RCNN
from .resnet import CifarResNet, ResNet
from .resnet9 import ResNet9
from .segmentation_mlp import SegmentationMLP
from .skip_gram import SkipGram
from .small_cnn import SmallCNN
from .text_lstm import TextLSTM
from .transformer import Transformer
from .translator import Translator
from .unet import UNet
from .vae import VAE
from .vgg import VGG
from .video_captioner import VideoCaptioner
from .vit import ViT

MODELS: dict[str, type[nn.Module]] = {
    'alexnet': AlexNet,
    'autoencoder': Autoencoder,
    'bag_of_words': BagOfWords,
    'captioner': Captioner,
    'conv_autoencoder': ConvAutoencoder,
    'convnext': ConvNeXt,
    'dcgan': DCGAN,
    'detector': Detector,
    'fcn': FCN,
    'gan': GAN,
    'googlenet': GoogLeNet,
    'inception_bn': InceptionBN,
    'layer_autoencoder': LayerAutoencoder,
    'lenet': LeNet,
    'lenet5': LeNet5,
    'line': Line,
    'lstm': LSTM,
    'memory_network': MemoryNetwork,
    'mlp': MLP,
    'polynomial': Polynomial,
    'q_network': QNetwork,
    'rbm': RBM,
    'rcnn': RCNN,
    'resnet': ResNet,
    'resnet9': ResNet9,
    'resnet_cifar': CifarResNet,
    'segmentation_mlp': SegmentationMLP,
    'skip_gram': SkipGram,
    'small_cnn': SmallCNN,
    'text_lstm': TextLSTM,
    'translator': Translator,
    'transformer': Transformer,
    'unet': UNet,
    'vae': VAE,
    'vgg': VGG,
    'video_captioner': VideoCaptioner,
    'vit': ViT,
}

_PRECISIONS = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def build(config: Any, *, precision: str = 'float32', **facts: Any) -> nn.Module:
    """Builds the module that config.model names.

    Args:
      config: mapping with 'name' and fields of that module; where a field is a module itself, such as a captioner's
        body, its value is such a mapping.
      precision: compute type, 'float32' or 'bfloat16'.
      **facts: what the data set or task decides, such as num_classes; taken by modules that have such a field.

    Raises:
      UserError: unknown model, field or precision, a value that does not fit, or a field that is not the config's.
    """
    if precision not in _PRECISIONS:
        raise UserError(f'config.precision = {precision!r}; {nearest(precision, list(_PRECISIONS))}')
    return _build(config, 'config.model', dict(facts, dtype=_PRECISIONS[precision]))


def _build(config: Any, where: str, decided: dict[str, Any]) -> nn.Module:
    """Builds a module and those that its fields name; where: the mapping's path, for errors."""
    name = config['name']
    if name not in MODELS:
        raise UserError(f'{where}.name = {name!r}; {nearest(name, list(MODELS))}')
    module = MODELS[name]
    known = {field.name: field for field in dataclasses.fields(module) if field.name not in ('parent', 'name')}
    given = {key: value for key, value in dict(config).items() if key != 'name'}
    free = [key for key in known if key not in decided]
    for key, value in given.items():
        if key in decided:
            raise UserError(f'{where}.{key} follows from the task, the data, config.precision and the devices: '
                            'leave it out')
        if key not in free:
            raise UserError(f'{where}.{key}: {name} has no such field; {nearest(key, free)}')
        kind = known[key].type
        if kind is nn.Module:
            if not hasattr(value, 'keys') or 'name' not in value:
                raise UserError(f"{where}.{key}: {name} takes a model there, such as {{'name': 'vgg', 'depth': 16}}")
            # Part of a model, it is cut before its classes: their number is that of a head that is not run.
            given[key] = _build(value, f'{where}.{key}', {'num_classes': 1} | decided)
        elif not _fits(value, kind):
            wanted = str(kind) if typing.get_args(kind) else kind.__name__
            positive = ', at least 1' if 'int' in wanted else ''
            raise UserError(f'{where}.{key} = {value!r}: {name} takes {wanted}{positive}')
    lacking = [key for key, field in known.items()
               if field.default is dataclasses.MISSING and key not in given and key not in decided]
    if lacking:
        raise UserError(f'{where}.name = {name!r} needs {", ".join(lacking)}, which this task and its data do not '
                        f'decide: set it in {where}, or choose another task')
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
