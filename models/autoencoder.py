"""Autoencoders: networks that give back what they were given, through fewer numbers than it has.

All return logits of pixels in [0, 1], whose logistic function is the reconstruction.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .layers import Conv, ConvTranspose, Dropout
from .stages import Stage, run_stages


class Autoencoder(nn.Module):
    """Dense layers with ReLU down to a linear code, and up again through the same widths.

    Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", has the default's widths,
    with logistic units that were pretrained layer by layer.

    Endpoints: hidden1, hidden2, ... (after the ReLU), code, decoder1, ..., logits.

    Attributes:
      image_shape: height, width and channels of the images.
      hidden: widths of the layers before the code.
      code: numbers of the code.
      dtype: of the computation; parameters and logits are float32.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    hidden: tuple[int, ...] = (1000, 500, 250)
    code: int = 30
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Encodes and decodes images.

        Args:
          images: float [batch, *image_shape]; or the value of endpoint `begin`.
          train: makes no difference.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, *image_shape], or the value of `features`, float [batch, width].

        Raises:
          UserError: no such endpoint, or images of another shape.
        """
        del train
        if begin is None:
            images = check_shape(images, self.image_shape).reshape(images.shape[0], -1)
        stages = [*dense_stages('hidden', self.hidden, self.dtype),
                  ('code', nn.Dense(self.code, dtype=self.dtype, name='code')),
                  *dense_stages('decoder', self.hidden[::-1], self.dtype),
                  ('logits', functools.partial(image_logits, self.image_shape, self.dtype))]
        return run_stages(stages, images.astype(self.dtype), begin=begin, features=features)


class ConvAutoencoder(nn.Module):
    """Convolutions with stride 2 down to a code, and transposed convolutions up again.

    Endpoints: conv1, conv2, ... (after the ReLU), code, map (the code as a feature map), up1, ..., logits.

    Attributes:
      image_shape: height, width and channels of the images.
      filters: of each convolution, 3x3 pixels wide.
      code: numbers of the code.
      dtype: of the computation; parameters and logits are float32.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    filters: tuple[int, ...] = (16, 32)
    code: int = 30
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Encodes and decodes images; see `Autoencoder.__call__`."""
        del train
        if begin is None:
            images = check_shape(images, self.image_shape)
        height, width, channels = self.image_shape
        smallest = (-(-height // 2 ** len(self.filters)), -(-width // 2 ** len(self.filters)), self.filters[-1])

        def down(index: int, x: jax.Array) -> jax.Array:
            return nn.relu(Conv(self.filters[index], 3, strides=2, padding=1, dtype=self.dtype,
                                name=f'conv{index + 1}')(x))

        def code(x: jax.Array) -> jax.Array:
            return nn.Dense(self.code, dtype=self.dtype, name='code')(x.reshape(x.shape[0], -1))

        def to_map(x: jax.Array) -> jax.Array:
            x = nn.relu(nn.Dense(math.prod(smallest), dtype=self.dtype, name='map')(x))
            return x.reshape(x.shape[0], *smallest)

        def up(index: int, x: jax.Array) -> jax.Array:
            filters = self.filters[-index - 2]
            return nn.relu(ConvTranspose(filters, 4, 2, dtype=self.dtype, name=f'up{index + 1}')(x))

        def logits(x: jax.Array) -> jax.Array:
            x = ConvTranspose(channels, 4, 2, dtype=self.dtype, name='logits')(x)
            return x[:, :height, :width].astype(jnp.float32)

        depth = len(self.filters)
        stages = [*((f'conv{index + 1}', functools.partial(down, index)) for index in range(depth)), ('code', code),
                  ('map', to_map), *((f'up{index + 1}', functools.partial(up, index)) for index in range(depth - 1)),
                  ('logits', logits)]
        return run_stages(stages, images.astype(self.dtype), begin=begin, features=features)


class LayerAutoencoder(nn.Module):
    """One layer of a stack of logistic layers, and the decoder that gives back what goes into it.

    Bengio et al. 2007, "Greedy layer-wise training of deep networks": the layers before it are to be frozen, and are
    those that were trained so before. Vincent et al. 2008, "Extracting and composing robust features with denoising
    autoencoders": it learns more if a share of what goes in is set to zero. The layers have the names that `MLP` gives
    its own.

    Endpoints: hidden1, hidden2, ... up to the layer before, logits.

    Attributes:
      hidden: widths of the layers of the stack.
      layer: which of them is trained, from 1; those after it are not there.
      dropout: share of its inputs that is set to zero in training.
      dtype: of the computation; parameters and logits are float32.
    """

    hidden: tuple[int, ...] = (500, 500, 500)
    layer: int = 1
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> Any:
        """Gives back what goes into the layer.

        Args:
          images: float [batch, ...] in [0, 1], all axes but the first are flattened; or the value of endpoint `begin`.
          train: whether dropout is active; it then needs a 'dropout' rng.
          features, begin: as for `Autoencoder`.

        Returns:
          {'logits', 'target'}, each float32 [batch, width before the layer]; or the value of `features`.

        Raises:
          UserError: no such endpoint, or no such layer.
        """
        if self.layer > len(self.hidden):
            raise UserError(f'config.model.layer = {self.layer}: config.model.hidden has {len(self.hidden)} layers')

        def dense(number: int, x: jax.Array) -> jax.Array:
            return nn.sigmoid(nn.Dense(self.hidden[number - 1], dtype=self.dtype, name=f'dense{number}')(x))

        def there_and_back(x: jax.Array) -> dict[str, jax.Array]:
            hidden = dense(self.layer, Dropout(self.dropout)(x, train=train))
            logits = nn.Dense(x.shape[-1], dtype=self.dtype, name=f'decoder{self.layer}')(hidden)
            return {'logits': logits.astype(jnp.float32), 'target': x.astype(jnp.float32)}

        stages = [*((f'hidden{number}', functools.partial(dense, number)) for number in range(1, self.layer)),
                  ('logits', there_and_back)]
        x = images.astype(self.dtype).reshape(images.shape[0], -1)
        return run_stages(stages, x, begin=begin, features=features)


def dense_stages(prefix: str, widths: tuple[int, ...], dtype: jnp.dtype) -> list[Stage]:
    """Returns stages of dense layers with ReLU: '<prefix>1', '<prefix>2', ...; called from a compact `__call__`."""
    def layer(name: str, width: int, x: jax.Array) -> jax.Array:
        return nn.relu(nn.Dense(width, dtype=dtype, name=name)(x))
    return [(f'{prefix}{number}', functools.partial(layer, f'{prefix}{number}', width))
            for number, width in enumerate(widths, start=1)]


def image_logits(image_shape: tuple[int, int, int], dtype: jnp.dtype, x: jax.Array) -> jax.Array:
    """Returns the logits of all pixels from a dense layer, float32 [batch, *image_shape]."""
    logits = nn.Dense(math.prod(image_shape), dtype=dtype, name='logits')(x)
    return logits.reshape(x.shape[0], *image_shape).astype(jnp.float32)


def check_shape(images: jax.Array, image_shape: tuple[int, int, int]) -> jax.Array:
    """Returns the images. Raises UserError if they are of another shape."""
    if images.shape[1:] != tuple(image_shape):
        raise UserError(f'config.model.image_shape = {tuple(image_shape)}: the images have (height, width, channels) '
                        f'{images.shape[1:]}')
    return images
