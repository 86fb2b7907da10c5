"""The residual network that is trained on CIFAR-10 in the least time."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import BatchNorm, Conv, max_pool
from .net_surgery import window_map
from .pooling import global_pool
from .stages import run_stages


class ResNet9(nn.Module):
    """Eight convolutions of 3x3, two of the pairs with a shortcut, and a dense layer, for images of about 32 pixels.

    Page 2018, "How to train your ResNet", part 4: 94 % on CIFAR-10 after 24 epochs, which led DAWNBench's list of
    training times. Pooling follows the ReLU, as there.

    Endpoints: 'prep', 'layer1', 'layer2' and 'layer3' (each at half the resolution of the one before), 'pool' (the
    largest value of every channel, [batch, channels]) and 'logits'.

    Attributes:
      num_classes: number of logits.
      width: channels of 'prep'; doubled from layer to layer.
      logits_scale: factor of the logits, against too large gradients at a large learning rate.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    width: int = 64
    logits_scale: float = 0.125
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], of any size from 8 pixels on; or the value of endpoint
            `begin`.
          train: whether BatchNorm uses the statistics of the batch, and updates its averages in the collection
            'batch_stats'.
          features: endpoint whose value to return instead of logits.
          begin: endpoint that `images` already is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of endpoint `features`.

        Raises:
          UserError: unknown endpoint.
        """
        def block(x: jax.Array, channels: int, name: str) -> jax.Array:
            x = Conv(channels, 3, padding=1, use_bias=False, dtype=self.dtype, name=f'{name}_conv')(x)
            return nn.relu(BatchNorm(not train, dtype=self.dtype, name=f'{name}_bn')(x))

        def layer(x: jax.Array, number: int, residual: bool) -> jax.Array:
            channels = self.width * 2 ** number
            x = max_pool(block(x, channels, f'layer{number}'), 2, 2)
            if not residual:
                return x
            return x + block(block(x, channels, f'layer{number}_block1'), channels, f'layer{number}_block2')

        def logits(x: jax.Array) -> jax.Array:
            return self.logits_scale * nn.Dense(self.num_classes, use_bias=False, name='logits')(x)

        window = window_map(self, 'layer3') if self.window else None
        return run_stages([
            ('prep', lambda x: block(x.astype(self.dtype), self.width, 'prep')),
            ('layer1', lambda x: layer(x, 1, residual=True)),
            ('layer2', lambda x: layer(x, 2, residual=False)),
            ('layer3', lambda x: layer(x, 3, residual=True)),
            ('pool', lambda x: global_pool(x.astype(jnp.float32), 'max', window)),
            ('logits', logits),
        ], images, begin=begin, features=features)
