"""Generative adversarial networks: a generator of images, and a discriminator that tells them from real ones."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .autoencoder import check_shape
from .layers import BatchNorm, Conv, ConvTranspose, Dropout
from .stages import run_stages

_SLOPE = 0.2  # of a leaky ReLU below 0
_INIT = nn.initializers.normal(0.02)


class _Adversaries(nn.Module):
    """Both players; a subclass has `setup` with the submodules 'generator' and 'discriminator', and these fields."""

    image_shape: tuple[int, int, int] = (28, 28, 1)
    latent: int = 64

    def __call__(self, images: jax.Array, keys: jax.Array | None = None, *, train: bool = False,
                 features: str | None = None, begin: str | None = None) -> Any:
        """Judges images, and lets the generator make as many.

        Args:
          images: float [batch, *image_shape] in [0, 1]; or the value of endpoint `begin` of the discriminator.
          keys: one PRNG key per example, [batch], to draw latent points with; None: nothing is generated.
          train: whether BatchNorm takes the statistics of the batch, and dropout is active, which needs a 'dropout'
            rng.
          features: endpoint of the discriminator whose value to return; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          {'logits': the discriminator's, of an image to be real, float32 [batch]}; with keys also 'generated', float32
          [batch, *image_shape], and 'fake_logits' and 'fooled_logits' of them. Their values are the same but for
          dropout; the gradient of the first stops at the generated images, and that of the other at the
          discriminator's parameters. Or the value of `features`.

        Raises:
          UserError: no such endpoint, or images of another shape.
        """
        if begin is None:
            images = check_shape(images, self.image_shape)
        found = self.discriminator(images, train=train, features=features, begin=begin)
        if features:
            return found
        outputs = {'logits': found}
        if keys is not None:
            latents = jax.vmap(lambda key: jax.random.normal(key, (self.latent,)))(keys)
            generated = self.generator(latents, train=train)
            fake_logits = self.discriminator(jax.lax.stop_gradient(generated), train=train)
            stopped = jax.lax.stop_gradient(self.discriminator.variables)
            rngs = {'dropout': self.make_rng('dropout')} if self.has_rng('dropout') else {}
            fooled = self.discriminator.clone(parent=None).apply(stopped, generated, train=train, rngs=rngs)
            outputs |= {'generated': generated, 'fake_logits': fake_logits, 'fooled_logits': fooled}
        return outputs

    def generate(self, latents: jax.Array) -> jax.Array:
        """Returns the images of latent points, float [batch, latent]: float32 [batch, *image_shape] in [0, 1]."""
        return self.generator(latents, train=False)


class GAN(_Adversaries):
    """Both players of dense layers.

    Goodfellow et al. 2014, "Generative adversarial nets", with leaky ReLUs, and BatchNorm in the generator alone, as in
    `DCGAN`.

    Endpoints, of the discriminator: hidden1, hidden2, ... (after the leaky ReLU), logits.

    Attributes:
      image_shape: height, width and channels of the images.
      latent: numbers that an image is generated from.
      hidden: widths of the generator's hidden layers; the discriminator has them in reverse order.
      dropout: rate after each hidden layer of the discriminator.
      dtype: of the computation; parameters, images and logits are float32.
    """

    hidden: tuple[int, ...] = (256, 512)
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.generator = _DenseGenerator(self.image_shape, self.hidden, self.dtype)
        self.discriminator = _DenseDiscriminator(self.hidden[::-1], self.dropout, self.dtype)


class DCGAN(_Adversaries):
    """Transposed convolutions with stride 2 in the generator, convolutions with stride 2 in the discriminator.

    Radford et al. 2015, "Unsupervised representation learning with deep convolutional generative adversarial networks",
    for small images: 4x4 kernels, and BatchNorm in the generator alone. Theirs is in the discriminator, too, where its
    running averages would be of real and generated images mixed: it would judge a test image with other statistics than
    any of training.

    Endpoints, of the discriminator: conv1, conv2, ... (after the leaky ReLU), flat, logits.

    Attributes:
      image_shape: height, width and channels of the images.
      latent: numbers that an image is generated from.
      filters: of the generator's feature maps, the smallest map first, each twice as high and wide as the one before;
        the discriminator's convolutions have them in reverse order.
      dropout: rate after each convolution of the discriminator.
      dtype: of the computation; parameters, images and logits are float32.
    """

    filters: tuple[int, ...] = (64, 32)
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.generator = _ConvGenerator(self.image_shape, self.filters, self.dtype)
        self.discriminator = _ConvDiscriminator(self.filters[::-1], self.dropout, self.dtype)


class _DenseGenerator(nn.Module):
    image_shape: tuple[int, int, int]
    hidden: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, latents: jax.Array, *, train: bool) -> jax.Array:
        x = latents.astype(self.dtype)
        for number, width in enumerate(self.hidden, start=1):
            x = nn.Dense(width, use_bias=False, dtype=self.dtype, name=f'hidden{number}')(x)
            x = nn.relu(_norm(number, train, self.dtype)(x))
        x = nn.Dense(math.prod(self.image_shape), dtype=self.dtype, name='image')(x)
        return nn.sigmoid(x.astype(jnp.float32)).reshape(-1, *self.image_shape)


class _DenseDiscriminator(nn.Module):
    hidden: tuple[int, ...]
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        def layer(number: int, width: int, x: jax.Array) -> jax.Array:
            x = _leaky(nn.Dense(width, dtype=self.dtype, name=f'hidden{number}')(x))
            return Dropout(self.dropout)(x, train=train)
        x = images if begin else _centred(images).reshape(images.shape[0], -1)
        return run_stages([*((f'hidden{number}', functools.partial(layer, number, width))
                             for number, width in enumerate(self.hidden, start=1)),
                           ('logits', functools.partial(_judge, self.dtype))],
                          x.astype(self.dtype), begin=begin, features=features)


class _ConvGenerator(nn.Module):
    image_shape: tuple[int, int, int]
    filters: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, latents: jax.Array, *, train: bool) -> jax.Array:
        height, width, channels = self.image_shape
        scale = 2 ** len(self.filters)
        smallest = (-(-height // scale), -(-width // scale), self.filters[0])
        x = nn.Dense(math.prod(smallest), use_bias=False, kernel_init=_INIT, dtype=self.dtype,
                     name='map')(latents.astype(self.dtype)).reshape(-1, *smallest)
        x = nn.relu(_norm(1, train, self.dtype)(x))
        for number, filters in enumerate(self.filters[1:], start=2):
            x = ConvTranspose(filters, 4, 2, use_bias=False, kernel_init=_INIT, dtype=self.dtype, name=f'up{number}')(x)
            x = nn.relu(_norm(number, train, self.dtype)(x))
        x = ConvTranspose(channels, 4, 2, kernel_init=_INIT, dtype=self.dtype, name='image')(x)
        return nn.sigmoid(x[:, :height, :width].astype(jnp.float32))


class _ConvDiscriminator(nn.Module):
    filters: tuple[int, ...]
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        def layer(number: int, filters: int, x: jax.Array) -> jax.Array:
            x = _leaky(Conv(filters, 4, strides=2, padding=1, kernel_init=_INIT, dtype=self.dtype,
                            name=f'conv{number}')(x))
            return Dropout(self.dropout)(x, train=train)
        x = images if begin else _centred(images)
        return run_stages([*((f'conv{number}', functools.partial(layer, number, filters))
                             for number, filters in enumerate(self.filters, start=1)),
                           ('flat', lambda x: x.reshape(x.shape[0], -1)),
                           ('logits', functools.partial(_judge, self.dtype))],
                          x.astype(self.dtype), begin=begin, features=features)


def _norm(number: int, train: bool, dtype: jnp.dtype) -> BatchNorm:
    return BatchNorm(use_running_average=not train, dtype=dtype, name=f'norm{number}')


def _leaky(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, _SLOPE)


def _centred(images: jax.Array) -> jax.Array:
    """Returns pixels in [-1, 1] for those in [0, 1], as the papers have them."""
    return 2 * images - 1


def _judge(dtype: jnp.dtype, x: jax.Array) -> jax.Array:
    return nn.Dense(1, dtype=dtype, name='logits')(x)[:, 0].astype(jnp.float32)
