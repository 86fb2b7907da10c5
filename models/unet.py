"""U-Net for semantic segmentation."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .layers import BatchNorm, Conv, ConvTranspose, Dropout, max_pool
from .pixel_blocks import space_to_depth
from .stages import mark

NORMS = ('batch', 'group', 'none')


class UNet(nn.Module):
    """An encoder and a decoder with skip connections between equal resolutions.

    Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image segmentation", with padded
    convolutions, so that outputs are as large as inputs, and a normalisation before every ReLU.

    Images of any size are accepted: they are continued at the lower and right edge, by repeating the last pixel, to
    a multiple of stem_stride * 2 ** (levels - 1), and the logits are cropped.

    Endpoints to look at: down0, down1, ... (the last is the coarsest), ..., up1, up0, each after its block.

    Attributes:
      num_classes: number of logits per pixel.
      features: channels of each level, from full resolution downwards.
      stem_stride: blocks of so many pixels squared become channels of the first level, whose logits are again one set
        per pixel of the block. 2 costs about a quarter of 1 in time.
      norm: 'batch', 'group' (Wu and He 2018; at most 8 groups; for very small batches) or 'none'.
      dropout: rate of dropout at the coarsest level.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    stem_stride: int = 1
    norm: str = 'batch'
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Labels pixels.

        Args:
          images: float [batch, height, width, channels], of any size.
          train: whether BatchNorm uses the statistics of the batch, and updates its averages in the collection
            'batch_stats', and dropout is active, which then needs a 'dropout' rng.

        Returns:
          Logits, float32 [batch, height, width, num_classes].

        Raises:
          UserError: unknown norm or no features.
        """
        if self.norm not in NORMS:
            raise UserError(f'config.model.norm = {self.norm!r}; it must be one of {", ".join(NORMS)}')
        if not self.features:
            raise UserError('config.model.features is empty; it needs the channels of at least one level')
        block = self._block_factory(train)
        height, width = images.shape[1:3]
        multiple = self.stem_stride * 2 ** (len(self.features) - 1)
        x = jnp.pad(images, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode='edge')
        x = space_to_depth(x.astype(self.dtype), self.stem_stride)
        skips = []
        for level, features in enumerate(self.features):
            if level:
                x = max_pool(x)
            x = block(f'down{level}', features, x)
            skips.append(x)
        x = Dropout(self.dropout)(skips.pop(), train=train)
        for level, skip in reversed(list(enumerate(skips))):
            x = ConvTranspose(skip.shape[-1], 2, 2, dtype=self.dtype, name=f'up{level}_upsample')(x)
            x = block(f'up{level}', skip.shape[-1], jnp.concatenate([skip, x], axis=-1))
        x = ConvTranspose(self.num_classes, self.stem_stride, self.stem_stride, dtype=self.dtype, name='logits')(x)
        return x[:, :height, :width].astype(jnp.float32)

    def _block_factory(self, train: bool) -> Callable[[str, int, jax.Array], jax.Array]:
        """Returns block(name, features, x): two 3x3 convolutions, each normalised and rectified."""
        def normalise(name, x):
            if self.norm == 'batch':
                return BatchNorm(not train, dtype=self.dtype, name=name)(x)
            if self.norm == 'group':
                return nn.GroupNorm(math.gcd(8, x.shape[-1]), dtype=self.dtype, name=name)(x)
            return x

        def block(name, features, x):
            for number in (1, 2):
                x = Conv(features, 3, padding=1, use_bias=self.norm == 'none', dtype=self.dtype,
                         name=f'{name}_conv{number}')(x)
                x = nn.relu(normalise(f'{name}_norm{number}', x))
            return mark(name, x)
        return block
