"""What every action is worth in a state that is seen as an image."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .layers import Conv
from .stages import Stage, run_stages


class QNetwork(nn.Module):
    """3x3 convolutions without padding, then dense layers, all with ReLU: Mnih et al. 2015, for small images.

    The default is the network of MinAtar's DQN (Young and Tian 2019). States that are a few numbers are for `mlp`.

    Endpoints: conv1, conv2, ..., flat, hidden1, hidden2, ..., logits.

    Attributes:
      num_classes: number of actions.
      features: filters of each convolution.
      hidden: sizes of the dense layers.
      dtype: of the computation; parameters and values are float32.
    """

    num_classes: int
    features: tuple[int, ...] = (16,)
    hidden: tuple[int, ...] = (128,)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Values actions.

        Args:
          images: float [batch, height, width, channels]; or the value of endpoint `begin`.
          train: changes nothing.
          features: endpoint whose value to return instead of the actions'; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          The value of every action, float32 [batch, num_classes], or the value of `features`.

        Raises:
          UserError: no such endpoint, or no images.
        """
        del train
        if begin is None and images.ndim != 4:
            raise UserError(f"config.model.name = 'q_network' takes images, these are {list(images.shape[1:])} numbers "
                            'each: take mlp')

        def convolution(number: int, filters: int, x: jax.Array) -> jax.Array:
            return nn.relu(Conv(filters, 3, padding='VALID', dtype=self.dtype, name=f'conv{number}')(x))

        def dense(number: int, width: int, x: jax.Array) -> jax.Array:
            return nn.relu(nn.Dense(width, dtype=self.dtype, name=f'hidden{number}')(x))

        def stages(name: str, layer, sizes: tuple[int, ...]) -> list[Stage]:
            return [(f'{name}{number}', functools.partial(layer, number, size))
                    for number, size in enumerate(sizes, start=1)]
        return run_stages([
            *stages('conv', convolution, self.features),
            ('flat', lambda x: x.reshape(x.shape[0], -1)),
            *stages('hidden', dense, self.hidden),
            ('logits', lambda x: nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)),
        ], images, begin=begin, features=features)
