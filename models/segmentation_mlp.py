"""A fully connected network that labels every pixel: the baseline that convolutions have to beat."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .activations import activation


class SegmentationMLP(nn.Module):
    """One hidden layer over all pixels, then one logit per pixel and class.

    The number of parameters grows with the square of the image's area: 100.8 million for 256x256 grey pixels and
    two classes. The size of the first image is that of all further ones.

    Attributes:
      num_classes: number of logits per pixel.
      hidden: width of the hidden layer.
      activation: of the hidden layer, a name in activations.py.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    hidden: int = 512
    activation: str = 'relu'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Labels pixels.

        Args:
          images: float [batch, height, width, channels].
          train: has no effect.

        Returns:
          Logits, float32 [batch, height, width, num_classes].

        Raises:
          UserError: unknown activation.
        """
        del train
        batch, height, width, _ = images.shape
        x = images.reshape(batch, -1).astype(self.dtype)
        x = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=nn.initializers.he_normal(), name='hidden')(x)
        x = activation(self.activation)(x)
        x = nn.Dense(height * width * self.num_classes, dtype=self.dtype, name='logits')(x)
        return x.reshape(batch, height, width, self.num_classes).astype(jnp.float32)
