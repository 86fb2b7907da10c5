"""Convolutional networks in the proportions of transformers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from . import depthwise
from .attention import StochasticDepth, drop_rates, gelu
from .layers import Conv
from .net_surgery import window_map
from .pooling import global_pool
from .stages import Stage, run_stages

_EPSILON = 1e-6
_SIZES = {'tiny': (9, 96), 'small': (27, 96), 'base': (27, 128), 'large': (27, 192)}  # blocks of stage 3, width
ARCHITECTURES = {f'convnext_{name}': {'name': 'convnext', 'blocks': (3, 3, third, 3), 'width': width}
                 for name, (third, width) in _SIZES.items()}

_init = nn.initializers.truncated_normal(0.02)


class ConvNeXt(nn.Module):
    """A residual network of depthwise convolutions, LayerNorms and GELUs.

    Liu et al. 2022, "A ConvNet for the 2020s"; the parameters of torchvision's convnext_tiny and its like fit.
    ConvNeXt-T are the defaults.

    Endpoints: 'stem', every block as 'stage1_block0' and so on (counted as torchvision does), the last of each stage
    also as 'stage1' to 'stage4', 'pool' (the mean over pixels, [batch, channels]), 'norm' and 'logits'.

    Attributes:
      num_classes: number of logits.
      blocks: of each stage; between stages a convolution halves the resolution.
      width: channels of the first stage, doubled from stage to stage.
      patch: side and stride of the stem's convolution in pixels: 4, and less for images much smaller than 224.
      layer_scale: what every channel of a branch is multiplied by in the beginning.
      drop_path: probability of leaving the last block's branch out of an example, in proportion less before it.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    blocks: tuple[int, ...] = (3, 3, 9, 3)
    width: int = 96
    patch: int = 4
    layer_scale: float = 1e-6
    drop_path: float = 0.0
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], of any size from `patch` times 2 for every stage but the
            first; or the value of endpoint `begin`.
          train: whether drop_path is active, which then needs a 'dropout' rng.
          features: endpoint whose value to return instead of logits.
          begin: endpoint that `images` already is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of endpoint `features`.

        Raises:
          UserError: fields or images that do not fit, or an unknown endpoint.
        """
        if not self.blocks or min(self.blocks) < 1:
            raise UserError(f'config.model.blocks = {self.blocks}: give the number of blocks of each stage')
        rates = iter(drop_rates(self.drop_path, sum(self.blocks)))
        stages: list[Stage] = [('stem', self._stem)]
        for number, count in enumerate(self.blocks, start=1):
            channels = self.width * 2 ** (number - 1)
            for index in range(count):
                name = f'stage{number}_block{index}'
                block = ConvNeXtBlock(channels, self.layer_scale, next(rates), self.dtype, name=name)
                halve = functools.partial(self._halve, number, channels) if number > 1 and index == 0 else _identity
                stages.append((name, functools.partial(_in_order, halve, functools.partial(block, train=train))))
            stages.append((f'stage{number}', _identity))
        window = window_map(self, stages[-1][0]) if self.window else None
        stages += [('pool', lambda x: global_pool(x.astype(jnp.float32), 'average', window)),
                   ('norm', nn.LayerNorm(_EPSILON, name='norm')),
                   ('logits', nn.Dense(self.num_classes, kernel_init=_init, name='logits'))]
        return run_stages(stages, images, begin=begin, features=features)

    def _stem(self, x: jax.Array) -> jax.Array:
        least = self.patch * 2 ** (len(self.blocks) - 1)
        if min(x.shape[1:3]) < least:
            raise UserError(f'convnext needs images of at least {least}x{least} pixels: config.image.size or '
                            'config.model.patch')
        x = Conv(self.width, self.patch, self.patch, padding='VALID', kernel_init=_init, dtype=self.dtype,
                 name='stem_conv')(x.astype(self.dtype))
        return nn.LayerNorm(_EPSILON, dtype=self.dtype, name='stem_norm')(x)

    def _halve(self, number: int, channels: int, x: jax.Array) -> jax.Array:
        x = nn.LayerNorm(_EPSILON, dtype=self.dtype, name=f'stage{number}_norm')(x)
        return Conv(channels, 2, 2, padding='VALID', kernel_init=_init, dtype=self.dtype, name=f'stage{number}_conv')(x)

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """(pattern, replacement) that turn names of torchvision's modules into ours."""
        names = [(r'features\.0\.0', 'stem_conv'), (r'features\.0\.1', 'stem_norm'), (r'classifier\.0', 'norm'),
                 (r'classifier\.2', 'logits')]
        for number in range(1, len(self.blocks) + 1):
            theirs, ours = rf'features\.{2 * number - 1}\.(\d+)', rf'stage{number}_block\1'
            names += [(theirs, ours), *((rf'{theirs}\.block\.{index}', f'{ours}/{name}')
                                        for index, name in ((0, 'conv'), (2, 'norm'), (3, 'dense1'), (5, 'dense2')))]
            if number > 1:
                names += [(rf'features\.{2 * number - 2}\.{index}', f'stage{number}_{name}')
                          for index, name in ((0, 'norm'), (1, 'conv'))]
        return tuple(names)

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        """No dense layer has a flattened feature map as its input."""
        return {}


class ConvNeXtBlock(nn.Module):
    """A 7x7 convolution of every channel, a dense layer to four times as many and one back, beside a shortcut.

    Liu et al. 2022, figure 4 right.

    Attributes:
      channels: of input and output.
      layer_scale: initial factor of the branch (Touvron et al. 2021, "Going deeper with image transformers").
      drop_path: probability of leaving the branch of an example out, see `StochasticDepth`.
      dtype: of the computation.
    """

    channels: int
    layer_scale: float
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        fields = {'kernel_init': _init, 'dtype': self.dtype}
        y = Conv(self.channels, 7, padding=3, feature_group_count=self.channels, name='conv',
                 conv_general_dilated=depthwise.convolve, **fields)(x)
        y = nn.LayerNorm(_EPSILON, dtype=self.dtype, name='norm')(y)
        y = gelu(nn.Dense(4 * self.channels, name='dense1', **fields)(y))
        y = nn.Dense(self.channels, name='dense2', **fields)(y)
        y *= self.param('layer_scale', nn.initializers.constant(self.layer_scale), (self.channels,)).astype(self.dtype)
        return x + StochasticDepth(self.drop_path, name='depth')(y, train)


def _in_order(first, second, x):
    return second(first(x))


def _identity(x):
    return x
