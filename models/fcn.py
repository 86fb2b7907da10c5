"""A small fully convolutional network for semantic segmentation."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .activations import activation
from .layers import ConvTranspose, Dropout, bilinear, max_pool
from .stages import mark


class FCN(nn.Module):
    """Four convolutions down to a sixteenth of the resolution, then one learned upsampling.

    Long et al. 2015, "Fully convolutional networks for semantic segmentation" (FCN-32s in miniature, without skips),
    in the form of NVIDIA's course on segmenting the left ventricle: 5x5 and 3x3 kernels, 31x31 for the upsampling.

    Endpoints to look at: conv1, conv2 (after pooling), conv3, conv4, all after the activation.

    Attributes:
      num_classes: number of logits per pixel.
      features: output channels of the four convolutions.
      dropout: rate of dropout before the scores.
      activation: of the convolutions, a name in activations.py; of the first two after pooling.
      bilinear_init: whether the upsampling starts as bilinear interpolation, as in the paper, or at random.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    features: tuple[int, int, int, int] = (100, 200, 300, 300)
    dropout: float = 0.0
    activation: str = 'relu'
    bilinear_init: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Labels pixels.

        Args:
          images: float [batch, height, width, channels], of any size.
          train: whether dropout is active; it then needs a 'dropout' rng.

        Returns:
          Logits, float32 [batch, height, width, num_classes].

        Raises:
          UserError: unknown activation.
        """
        act = activation(self.activation)

        def conv(index, size, stride, x):
            return nn.Conv(self.features[index - 1], (size, size), stride, dtype=self.dtype,
                           kernel_init=nn.initializers.he_normal(), name=f'conv{index}')(x)

        # ReLU and maximum commute; after pooling it has a quarter of the values to look at.
        x = images.astype(self.dtype)
        x = mark('conv1', act(_max_pool_same(conv(1, 5, 2, x))))
        x = mark('conv2', act(_max_pool_same(conv(2, 5, 2, x))))
        x = mark('conv3', act(conv(3, 3, 1, x)))
        x = mark('conv4', act(conv(4, 3, 1, x)))
        x = Dropout(self.dropout)(x, train=train)
        x = nn.Conv(self.num_classes, (1, 1), dtype=self.dtype, name='score')(x)
        kernel_init = bilinear(16) if self.bilinear_init else nn.initializers.lecun_normal()
        x = ConvTranspose(self.num_classes, 31, 16, kernel_init=kernel_init, dtype=self.dtype, name='upsample')(x)
        return x[:, : images.shape[1], : images.shape[2]].astype(jnp.float32)


def _max_pool_same(x):
    """2x2 max pooling with SAME padding: an odd side is rounded up."""
    rest = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
    return max_pool(jnp.pad(x, rest, constant_values=-jnp.inf))
