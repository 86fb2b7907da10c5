"""A small convolutional network for small images."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .activations import activation
from .layers import BatchNorm, Conv, Dropout, max_pool
from .net_surgery import flat_convolution, window_map
from .stages import run_stages


class SmallCNN(nn.Module):
    """Blocks of convolution, ReLU, dropout, BatchNorm and max pooling, in this order, then one hidden layer.

    What introductory courses teach on 28x28 images of the American sign-language alphabet: filters that become
    fewer, BatchNorm after the ReLU, and pooling that rounds odd sides up (28, 14, 7, 4 pixels).

    Endpoints: block1, block2, ... (after pooling), flat, hidden (after the ReLU, before dropout), logits.

    Attributes:
      num_classes: number of logits.
      features: filters of each block, 3x3 pixels wide.
      hidden: size of the hidden layer.
      block_dropout: rate of dropout in each block.
      dropout: rate of dropout after the hidden layer.
      batch_norm: whether blocks have BatchNorm.
      activation: in the place of the ReLUs, a name in activations.py.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    features: tuple[int, ...] = (75, 50, 25)
    hidden: int = 512
    block_dropout: tuple[float, ...] = (0.0, 0.2, 0.0)
    dropout: float = 0.3
    batch_norm: bool = True
    activation: str = 'relu'
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], always of the size that it was initialised with; or the value
            of endpoint `begin`.
          train: whether BatchNorm uses the statistics of the batch, and updates its averages in the collection
            'batch_stats', and dropout is active, which then needs a 'dropout' rng.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of `features`.

        Raises:
          UserError: no such endpoint or activation, or not one rate of dropout per block.
        """
        if len(self.block_dropout) != len(self.features):
            raise UserError(f'config.model.block_dropout has {len(self.block_dropout)} rates and config.model.features '
                            f'{len(self.features)} blocks: give one rate per block')
        blocks = enumerate(zip(self.features, self.block_dropout, strict=True), start=1)
        window = window_map(self, f'block{len(self.features)}') if self.window else None
        return run_stages([
            *((f'block{number}', functools.partial(self._block, number, *block, train)) for number, block in blocks),
            ('flat', lambda x: x if window else x.reshape(x.shape[0], -1)),
            ('hidden', functools.partial(self._hidden_layer, window)),
            ('logits', functools.partial(self._logits, train)),
        ], images, begin=begin, features=features)

    def _block(self, number: int, features: int, dropout: float, train: bool, x: jax.Array) -> jax.Array:
        x = activation(self.activation)(Conv(features, 3, padding=1, dtype=self.dtype, name=f'conv{number}')(x))
        x = Dropout(dropout, name=f'dropout{number}')(x, train=train)
        if self.batch_norm:
            x = BatchNorm(not train, dtype=self.dtype, name=f'bn{number}')(x)
        return max_pool(x, 2, 2, ceil_mode=True)

    def _hidden_layer(self, window: tuple[int, int] | None, x: jax.Array) -> jax.Array:
        layer = functools.partial(flat_convolution, size=window) if window else nn.Dense
        layer = layer(self.hidden, dtype=self.dtype, kernel_init=nn.initializers.he_normal(), name='hidden')
        return activation(self.activation)(layer(x))

    def _logits(self, train: bool, x: jax.Array) -> jax.Array:
        x = Dropout(self.dropout, name='hidden_dropout')(x, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
