"""GoogLeNet for classification, and as a feature extractor."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .activations import activation
from .layers import BatchNorm, Conv, Dropout, local_response_norm, max_pool
from .net_surgery import window_map
from .pooling import adaptive_average_pool, global_pool
from .stages import run_stages

# Channels of every module: branch 1; branch 2 reduced and full; branch 3 reduced and full; branch 4 (paper, table 1).
INCEPTIONS = {
    'inception3a': (64, 96, 128, 16, 32, 32),
    'inception3b': (128, 128, 192, 32, 96, 64),
    'inception4a': (192, 96, 208, 16, 48, 64),
    'inception4b': (160, 112, 224, 24, 64, 64),
    'inception4c': (128, 128, 256, 24, 64, 64),
    'inception4d': (112, 144, 288, 32, 64, 64),
    'inception4e': (256, 160, 320, 32, 128, 128),
    'inception5a': (256, 160, 320, 32, 128, 128),
    'inception5b': (384, 192, 384, 48, 128, 128),
}
AUXILIARY_HEADS = {'inception4b': 'aux1', 'inception4e': 'aux2'}  # Module -> the head on what goes into it.
AUXILIARY_DROPOUT = 0.7

ARCHITECTURES = {'googlenet': {'name': 'googlenet'}}


class GoogLeNet(nn.Module):
    """Nine inception modules, each of which joins convolutions of several sizes.

    Szegedy et al. 2015, "Going deeper with convolutions", with BatchNorm instead of local response normalisation
    (Ioffe and Szegedy 2015), and the parameters of torchvision's googlenet. As there, what the paper draws as 5x5
    convolutions are 3x3, and pooling of odd sides keeps the last row and column.

    torchvision's own weights were trained on pixels of [-1, 1] (its transform_input=True makes these of images
    normalised with ImageNet's mean and deviation): use them with config.image.mean and .std = (0.5, 0.5, 0.5).

    With `published` it is the network of the paper, in the form of Caffe's bvlc_googlenet: convolutions of 5x5,
    biases, and local response normalisation after pool1 and conv3 instead of BatchNorm.

    Endpoints: conv1, pool1, conv2, conv3, pool2, inception3a, inception3b, pool3, inception4a, ..., inception4e,
    pool4, inception5a, inception5b, pool (global average), logits; with `published` also norm1 and norm2, after pool1
    and conv3.

    Attributes:
      num_classes: number of logits.
      published: whether it is the paper's network instead of torchvision's; its dropout before the logits is 0.4.
      auxiliary: whether there are two more classifiers, on inception4a and inception4d, whose losses the paper adds
        with a weight of 0.3 in training.
      dropout: rate of dropout before the logits; that of the auxiliary heads is 0.7.
      activation: in the place of the ReLUs, a name in activations.py.
      frozen_norm: whether BatchNorm uses its running averages in training too, for fine-tuning.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    published: bool = False
    auxiliary: bool = False
    dropout: float = 0.2
    activation: str = 'relu'
    frozen_norm: bool = False
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> Any:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], at least 15x15 pixels, 31x31 with `published`; or the
            value of endpoint `begin`.
          train: whether BatchNorm uses the statistics of the batch, and updates its averages in the collection
            'batch_stats', dropout is active, which then needs a 'dropout' rng, and auxiliary heads are computed.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, num_classes]; or, with auxiliary heads in training, {'logits': those, 'auxiliary':
          tuple of the heads' logits, float32 [batch, num_classes], without heads that lie before `begin`}; or the
          value of `features`: [batch, height, width, channels] up to inception5b, then [batch, 1024].

        Raises:
          UserError: no such endpoint or activation, or images that are too small.
        """
        act = activation(self.activation)
        unit = functools.partial(ConvNormReLU, use_running_average=not train or self.frozen_norm, dtype=self.dtype,
                                 norm=not self.published, act=act)
        auxiliary = []

        def inception(name, x):
            if name in AUXILIARY_HEADS and self.auxiliary and (train or self.is_initializing()):
                head = AuxiliaryHead(self.num_classes, unit, act, self.dtype, name=AUXILIARY_HEADS[name])
                auxiliary.append(head(x, train=train))
            return Inception(INCEPTIONS[name], unit, 5 if self.published else 3, name=name)(x)

        def logits(x):
            x = Dropout(self.dropout, name='logits_dropout')(x, train=train)
            return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)

        halve = functools.partial(_halve, least=31 if self.published else 15)
        norms = [[(name, local_response_norm)] if self.published else [] for name in ('norm1', 'norm2')]
        stages = [('conv1', unit(64, 7, 2, 3, name='conv1')), ('pool1', halve), *norms[0],
                  ('conv2', unit(64, 1, name='conv2')), ('conv3', unit(192, 3, 1, 1, name='conv3')), *norms[1],
                  ('pool2', halve)]
        for name in INCEPTIONS:
            stages.append((name, functools.partial(inception, name)))
            if name == 'inception3b':
                stages.append(('pool3', halve))
            elif name == 'inception4e':
                stages.append(('pool4', functools.partial(halve, window=3 if self.published else 2)))
        window = window_map(self, 'inception5b') if self.window else None
        stages += [('pool', functools.partial(global_pool, how='average', window=window)), ('logits', logits)]
        outputs = run_stages(stages, images, begin=begin, features=features)
        if train and self.auxiliary and features in (None, 'logits'):
            return {'logits': outputs, 'auxiliary': tuple(auxiliary)}
        return outputs

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module of torchvision's googlenet, module path here) pairs."""
        auxiliary = ((r'(aux\d)\.conv\.(conv|bn)', r'\1/conv/\2'), (r'(aux\d)\.(fc\d)', r'\1/\2'))
        return ((r'(conv\d)\.(conv|bn)', r'\1/\2'),
                (r'(inception\d\w)\.(branch1)\.(conv|bn)', r'\1/\2/\3'),
                (r'(inception\d\w)\.(branch\d)\.(\d)\.(conv|bn)', r'\1/\2_\3/\4'),
                (r'fc', r'logits'),
                *(auxiliary if self.auxiliary else ()))

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        """Returns module path -> (channels, height, width) of the feature map that the dense layer takes flattened."""
        return {f'{head}/fc1': (128, 4, 4) for head in AUXILIARY_HEADS.values()} if self.auxiliary else {}


class ConvNormReLU(nn.Module):
    """A convolution without bias, BatchNorm and ReLU; or a convolution with bias and ReLU.

    Attributes:
      features, kernel_size, stride, padding: of the convolution.
      use_running_average: whether BatchNorm uses, and leaves, its running averages.
      dtype: of the computation; parameters are float32.
      norm: whether there is BatchNorm instead of a bias.
      act: the activation.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    use_running_average: bool = True
    dtype: jnp.dtype = jnp.float32
    norm: bool = True
    act: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, channels], to [batch, out height, out width, features]."""
        x = Conv(self.features, self.kernel_size, self.stride, self.padding, use_bias=not self.norm,
                 dtype=self.dtype, name='conv')(x)
        if self.norm:
            x = BatchNorm(self.use_running_average, epsilon=1e-3, dtype=self.dtype, name='bn')(x)
        return self.act(x)


class Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 and 3x3; 1x1 and 5x5, or 3x3 again; max pooling and 1x1 (paper, figure 2b).

    Attributes:
      channels: as in INCEPTIONS.
      unit: unit(features, kernel_size, stride, padding, name=...) makes a ConvNormReLU.
      largest: kernel size of the third branch.
    """

    channels: tuple[int, ...]
    unit: Callable[..., nn.Module]
    largest: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, channels], to as many pixels."""
        first, second_reduced, second, third_reduced, third, fourth = self.channels
        return jnp.concatenate([
            self.unit(first, 1, name='branch1')(x),
            self.unit(second, 3, 1, 1, name='branch2_1')(self.unit(second_reduced, 1, name='branch2_0')(x)),
            self.unit(third, self.largest, 1, self.largest // 2, name='branch3_1')(
                self.unit(third_reduced, 1, name='branch3_0')(x)),
            self.unit(fourth, 1, name='branch4_1')(max_pool(x, 3, 1, 1)),
        ], axis=-1)


class AuxiliaryHead(nn.Module):
    """A classifier on a feature map halfway through the network (paper, section 5).

    Attributes:
      num_classes: number of logits.
      unit: as in Inception.
      act: the activation.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    unit: Callable[..., nn.Module]
    act: Callable[[jax.Array], jax.Array]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x, float [batch, height, width, channels], to logits, float32 [batch, num_classes]."""
        x = self.unit(128, 1, name='conv')(adaptive_average_pool(x, 4)).reshape(x.shape[0], -1)
        x = self.act(nn.Dense(1024, dtype=self.dtype, kernel_init=nn.initializers.he_normal(), name='fc1')(x))
        x = Dropout(AUXILIARY_DROPOUT)(x, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='fc2')(x).astype(jnp.float32)


def _halve(x: jax.Array, least: int, window: int = 3) -> jax.Array:
    """Max pooling with stride 2 that keeps the last rows and columns, in windows that end beyond the edge."""
    if min(x.shape[1:3]) < window - 1:
        raise UserError(f'googlenet needs images of at least {least}x{least} pixels: config.image.size')
    return max_pool(x, window, 2, ceil_mode=True)
