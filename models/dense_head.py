"""What the classifiers of before residual networks share: convolutions, then dense layers."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .activations import activation
from .layers import BatchNorm, Dropout
from .net_surgery import flat_convolution, window_map
from .pooling import adaptive_average_pool, global_pool
from .stages import Stage, run_stages


class DenseHeadNetwork(nn.Module):
    """A body of convolutions, of which a subclass has the stages, and a head of dense layers.

    Endpoints, after those of the body: pool where all pixels are pooled, and norm; fc6, fc7 with `hidden` of two
    layers; logits. Those of convolutions and dense layers are values after the activation, before any dropout.

    Attributes:
      num_classes: number of logits.
      hidden: sizes of the dense layers fc6, fc7, ...; as in torchvision, images of other sizes than 224x224 are
        averaged to MAP_SIZE pixels squared before them. () for none: global average pooling before the logits.
      global_pool: 'average', 'max' or 'average_max' (both, one after the other) over all pixels before the dense
        layers, instead of the flattened map; '': as `hidden` says.
      pool_norm: whether BatchNorm brings what is pooled over all pixels to one scale, endpoint norm: a new head on a
        pretrained body then learns faster.
      dropout: rate of dropout, before the layers of DROPPED.
      activation: of all layers but the logits, a name in activations.py.
      padding: of the convolutions, 'SAME' as in torchvision's form, or 'VALID' for none: then no window of a larger
        image sees where the image ends, and the map is flattened as it is, so that the images' size decides on fc6.
      window: height and width of windows, for logits of every window of larger images, see net_surgery.py; () for
        logits of whole images.
      dtype: of the computation; parameters and logits are float32.
      MAP_CHANNELS, MAP_SIZE: of the feature map that is flattened for fc6.
      DROPPED: the dense layers, 'logits' among them, with dropout before them.
    """

    num_classes: int
    hidden: tuple[int, ...] = (4096, 4096)
    global_pool: str = ''
    pool_norm: bool = False
    dropout: float = 0.5
    activation: str = 'relu'
    padding: str = 'SAME'
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32
    MAP_CHANNELS: ClassVar[int]
    MAP_SIZE: ClassVar[int]
    DROPPED: ClassVar[slice]

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels]; or the value of endpoint `begin`.
          train: whether dropout is active, which then needs a 'dropout' rng, and BatchNorm uses the statistics of the
            batch, and updates its averages in the collection 'batch_stats'.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of `features`: [batch, height, width, channels] up to
          pool5, then [batch, size]. With `window` [batch, rows, columns, size] instead.

        Raises:
          UserError: no such endpoint or activation, or images that are too small.
        """
        if self.padding not in ('SAME', 'VALID'):
            raise UserError(f"config.model.padding = {self.padding!r}; it must be 'SAME' or 'VALID'")
        stages = self.body()
        part = window_map(self, stages[-1][0]) if self.window else None
        if not self.flattens():
            stages.append(('pool', functools.partial(global_pool, how=self.global_pool or 'average', window=part)))
            if self.pool_norm:
                stages.append(('norm', BatchNorm(not train, dtype=self.dtype, name='norm')))
        for index, name in enumerate(self.dense_layers()):
            stages.append((name, functools.partial(self._dense, index, name, train, part)))
        return run_stages(stages, images, begin=begin, features=features)

    def body(self) -> list[Stage]:
        """Returns the stages of the convolutions."""
        raise NotImplementedError

    def dense_layers(self) -> list[str]:
        """Returns the names of the dense layers in order, 'logits' the last."""
        return [*(f'fc{6 + index}' for index in range(len(self.hidden))), 'logits']

    def flattens(self) -> bool:
        """Whether the dense layers see where something is, as in the original."""
        return bool(self.hidden) and not self.global_pool

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        """Returns module path -> (channels, height, width) of the feature map that the dense layer takes flattened."""
        return {'fc6': (self.MAP_CHANNELS, self.MAP_SIZE, self.MAP_SIZE)} if self.flattens() else {}

    def activated(self, x: jax.Array) -> jax.Array:
        """Returns x after the activation. Raises UserError: there is none of that name."""
        return activation(self.activation)(x)

    def _dense(self, index: int, name: str, train: bool, part: tuple[int, int] | None, x: jax.Array) -> jax.Array:
        first = index == 0 and self.flattens()
        if first and not part:
            x = x if self.padding == 'VALID' else adaptive_average_pool(x, self.MAP_SIZE)
            x = x.reshape(x.shape[0], -1)
        if name in self.dense_layers()[self.DROPPED]:
            x = Dropout(self.dropout, name=f'{name}_dropout')(x, train)
        if name == 'logits':
            return nn.Dense(self.num_classes, dtype=self.dtype, name=name)(x).astype(jnp.float32)
        fields = {'dtype': self.dtype, 'kernel_init': nn.initializers.he_normal(), 'name': name}
        if first and part:
            averaged_to = None if self.padding == 'VALID' else (self.MAP_SIZE, self.MAP_SIZE)
            return self.activated(flat_convolution(self.hidden[index], part, averaged_to, **fields)(x))
        return self.activated(nn.Dense(self.hidden[index], **fields)(x))
