"""Inception with BatchNorm for classification, and as a feature extractor."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .activations import activation
from .googlenet import ConvNormReLU
from .layers import Dropout, max_pool
from .net_surgery import window_map
from .pooling import global_pool
from .stages import run_stages

# Channels of every module: 1x1; 3x3 reduced and full; double 3x3 reduced and full; pooling, and what it is projected to
# (paper, figure 5). Modules without a 1x1 branch halve the resolution and pass on what they pool.
MODULES = {
    'inception3a': (64, 64, 64, 64, 96, 'average', 32),
    'inception3b': (64, 64, 96, 64, 96, 'average', 64),
    'inception3c': (0, 128, 160, 64, 96, 'max', 0),
    'inception4a': (224, 64, 96, 96, 128, 'average', 128),
    'inception4b': (192, 96, 128, 96, 128, 'average', 128),
    'inception4c': (160, 128, 160, 128, 160, 'average', 96),
    'inception4d': (96, 128, 192, 160, 192, 'average', 96),
    'inception4e': (0, 128, 192, 192, 256, 'max', 0),
    'inception5a': (352, 192, 320, 160, 224, 'average', 128),
    'inception5b': (352, 192, 320, 192, 224, 'max', 128),
}


class InceptionBN(nn.Module):
    """Ten inception modules with BatchNorm, two 3x3 convolutions in the place of GoogLeNet's 5x5.

    Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", section 4.2 and figure 5; made for 224x224 pixels. The first convolution is a whole one, as in Caffe's and
    MXNet's forms, where the paper's is separable. Convolutions have no bias: BatchNorm has one.

    Endpoints: conv1, pool1, conv2, conv3, pool2, inception3a, 3b, 3c, 4a, ..., 4e, 5a, 5b, pool (global average),
    logits.

    Attributes:
      num_classes: number of logits.
      dropout: rate of dropout before the logits; the paper's network has none.
      activation: in the place of the ReLUs, a name in activations.py.
      frozen_norm: whether BatchNorm uses its running averages in training too, for fine-tuning.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    dropout: float = 0.0
    activation: str = 'relu'
    frozen_norm: bool = False
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], at least 7x7 pixels; or the value of endpoint `begin`.
          train: whether BatchNorm uses the statistics of the batch, and updates its averages in the collection
            'batch_stats', and dropout is active, which then needs a 'dropout' rng.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of `features`: [batch, height, width, channels] up to
          inception5b, then [batch, 1024].

        Raises:
          UserError: no such endpoint or activation, or images that are too small.
        """
        unit = functools.partial(ConvNormReLU, use_running_average=not train or self.frozen_norm, dtype=self.dtype,
                                 act=activation(self.activation))

        def logits(x):
            x = Dropout(self.dropout, name='logits_dropout')(x, train=train)
            return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)

        window = window_map(self, list(MODULES)[-1]) if self.window else None
        return run_stages([
            ('conv1', unit(64, 7, 2, 3, name='conv1')), ('pool1', _halve), ('conv2', unit(64, 1, name='conv2')),
            ('conv3', unit(192, 3, 1, 1, name='conv3')), ('pool2', _halve),
            *((name, InceptionModule(channels, unit, name=name)) for name, channels in MODULES.items()),
            ('pool', functools.partial(global_pool, how='average', window=window)), ('logits', logits),
        ], images, begin=begin, features=features)


class InceptionModule(nn.Module):
    """Branches side by side: 1x1; 1x1 and 3x3; 1x1 and two 3x3; 3x3 pooling and 1x1.

    Attributes:
      channels: as in MODULES; where the first is 0, the last convolutions and the pooling have stride 2.
      unit: unit(features, kernel_size, stride, padding, name=...) makes a ConvNormReLU.
    """

    channels: tuple[int | str, ...]
    unit: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, channels], to as many pixels, or to half the height and width."""
        first, second_reduced, second, third_reduced, third, pooling, fourth = self.channels
        stride = 1 if first else 2
        branches = [self.unit(first, 1, name='branch1')(x)] if first else []
        y = self.unit(second_reduced, 1, name='branch2_0')(x)
        branches.append(self.unit(second, 3, stride, 1, name='branch2_1')(y))
        y = self.unit(third_reduced, 1, name='branch3_0')(x)
        y = self.unit(third, 3, 1, 1, name='branch3_1')(y)
        branches.append(self.unit(third, 3, stride, 1, name='branch3_2')(y))
        if pooling == 'max':
            pooled = max_pool(x, 3, stride, 1)
        else:
            pooled = nn.avg_pool(x, (3, 3), (1, 1), 'SAME', count_include_pad=False)
        branches.append(self.unit(fourth, 1, name='branch4_1')(pooled) if fourth else pooled)
        return jnp.concatenate(branches, axis=-1)


def _halve(x: jax.Array) -> jax.Array:
    """Max pooling with stride 2 that keeps the last rows and columns, in windows that end beyond the edge."""
    if min(x.shape[1:3]) < 2:
        raise UserError('inception_bn needs images of at least 7x7 pixels: config.image.size')
    return max_pool(x, 3, 2, ceil_mode=True)
