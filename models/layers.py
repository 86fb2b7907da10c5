"""Layers whose linen counterparts are slow on CPUs or depend on the number of devices.

All take channels-last arrays. Pooling and convolution differ from `flax.linen` in speed alone.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from training.errors import UserError


def max_pool(x: jax.Array, window: int = 2, stride: int = 2) -> jax.Array:
    """Maximum over square windows, without padding.

    Equal to `flax.linen.max_pool` bit by bit, gradients included: among equal values the first one
    in row-major order receives the gradient.

    Args:
      x: float [batch, height, width, channels].
      window: side of a window, in pixels.
      stride: step between windows, in pixels.

    Returns:
      float [batch, (height - window) // stride + 1, (width - window) // stride + 1, channels].
    """
    if window != stride:  # The fast gradient needs every pixel to be in at most one window.
        return nn.max_pool(x, (window, window), (stride, stride))
    return _tiled_max_pool(x, window)


class ConvMaxPool(nn.Module):
    """A stride-1 convolution with bias, followed by 2x2 max pooling.

    Computes `max_pool(nn.Conv(features, (kernel_size, kernel_size), padding=padding)(x))` and has
    the parameters of that nn.Conv, so checkpoints of the two are interchangeable.

    Attributes:
      features: number of output channels.
      kernel_size: side of the square kernel, odd.
      padding: 'SAME' or 'VALID'.
      dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: int
    padding: str = 'VALID'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, channels], to half the height and width."""
        size = self.kernel_size
        if size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, not {size}.')
        if self.padding not in ('SAME', 'VALID'):
            raise UserError(f"padding is {self.padding!r}; it must be 'SAME' or 'VALID'")
        height, width = (side if self.padding == 'SAME' else side - size + 1 for side in x.shape[1:3])
        if min(height, width) < 2:
            raise UserError(
                f'{self.name or "ConvMaxPool"}: nothing is left of {x.shape[1]}x{x.shape[2]} pixels after a '
                f'{size}x{size} convolution with padding {self.padding} and 2x2 pooling; use larger images')
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (size, size, x.shape[-1], self.features))
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = (array.astype(self.dtype) for array in (x, kernel, bias))
        if self.padding == 'SAME':
            x = jnp.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
        # Measured on CPUs only; libraries for GPUs have convolutions of their own for few channels.
        if jax.default_backend() != 'cpu':
            return _conv_max_pool(x, kernel, bias)
        # Rows and columns that only reach outputs which pooling drops.
        x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
        return _blocked_conv_max_pool(x, kernel, bias)


class Dropout(nn.Module):
    """Dropout whose mask does not depend on how a batch is spread over devices.

    The mask of an example is drawn from the 'dropout' key folded with the example's index in the
    global batch, so all devices must be given the same key. Kept values are divided by 1 - rate
    (Srivastava et al. 2014, section 10, the form that leaves inference unchanged).

    Attributes:
      rate: probability of setting a value to zero, in [0, 1).
      axis_name: mapped axis over which the global batch is split, or None if it is not.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Drops values of x, float [batch, ...], in training; returns x unchanged otherwise."""
        if not 0 <= self.rate < 1:
            raise UserError(f'dropout is {self.rate}; it must be in [0, 1)')
        if not train or self.rate == 0.0:
            return x
        index = jnp.arange(x.shape[0])
        if self.axis_name is not None and not self.is_initializing():
            index += lax.axis_index(self.axis_name) * x.shape[0]
        key = self.make_rng('dropout')

        def keep_mask(index):
            return jax.random.bernoulli(jax.random.fold_in(key, index), 1.0 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(keep_mask)(index), x / (1.0 - self.rate), 0)


# Pooling. XLA differentiates reduce_window to select_and_scatter, which is slow on CPUs. For
# windows that do not overlap, comparing every value with its maximum does the same.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _tiled_max_pool(x, window):
    return nn.max_pool(x, (window, window), (window, window))


def _tiled_max_pool_forward(x, window):
    pooled = _tiled_max_pool(x, window)
    return pooled, (x, pooled)


def _tiled_max_pool_backward(window, residuals, gradient):
    x, pooled = residuals
    batch, height, width, channels = x.shape
    rows, columns = pooled.shape[1:3]
    tiles = x[:, : rows * window, : columns * window].reshape(batch, rows, window, columns, window, channels)
    parts = _to_first_maximum([tiles[:, :, i, :, j] for i in range(window) for j in range(window)], pooled, gradient)
    tiles = jnp.stack([jnp.stack(parts[i * window : (i + 1) * window], axis=3) for i in range(window)], axis=2)
    x_gradient = tiles.reshape(batch, rows * window, columns * window, channels)
    rest = ((0, 0), (0, height - rows * window), (0, width - columns * window), (0, 0))
    return (jnp.pad(x_gradient, rest),)


_tiled_max_pool.defvjp(_tiled_max_pool_forward, _tiled_max_pool_backward)


def _to_first_maximum(candidates: Sequence[jax.Array], maximum: jax.Array, gradient: jax.Array) -> list[jax.Array]:
    """Splits the gradient of an elementwise maximum: the first candidate that equals it gets it."""
    taken = jnp.zeros(maximum.shape, bool)
    gradients = []
    for candidate in candidates:
        equal = candidate == maximum
        gradients.append(jnp.where(equal & ~taken, gradient, 0))
        taken |= equal
    return gradients


# Convolution with pooling. Few channels keep a CPU's vector units idle. Here the four outputs of
# a pooling window become channels of one output pixel, and the four inputs of every 2x2 block
# channels of one input pixel: a kernel of 5x5xCxF becomes 3x3x4Cx4F. That is 1.44 times the
# multiplications, much faster ones, and pooling is a maximum over channels. The gradients are
# sums of matrix products, which are faster on CPUs than XLA's convolutions for them.


@jax.custom_vjp
def _blocked_conv_max_pool(x, kernel, bias):
    return _conv_max_pool(x, kernel, bias)  # Without gradients the plain form is the fastest.


def _blocked_conv_max_pool_forward(x, kernel, bias):
    outputs = _conv(_block_pixels(x), _block_kernel(kernel))
    outputs = outputs.reshape(*outputs.shape[:3], 4, -1)
    pooled = outputs.max(axis=3)
    return pooled + bias, (x, kernel, outputs, pooled)


def _blocked_conv_max_pool_backward(residuals, gradient):
    x, kernel, outputs, pooled = residuals
    bias_gradient = gradient.sum(axis=(0, 1, 2))
    x, unblock_pixels = jax.vjp(_block_pixels, x)
    kernel, unblock_kernel = jax.vjp(_block_kernel, kernel)
    gradient = jnp.stack(_to_first_maximum([outputs[:, :, :, i] for i in range(4)], pooled, gradient), axis=3)
    batch, rows, columns = gradient.shape[:3]
    gradient = gradient.reshape(batch * rows * columns, kernel.shape[3])
    x_gradient = 0
    kernel_gradients = []
    size = kernel.shape[0]
    for i in range(size):
        for j in range(size):
            pixels = x[:, i : i + rows, j : j + columns].reshape(batch * rows * columns, -1)
            kernel_gradients.append(pixels.T @ gradient)
            pixels = (gradient @ kernel[i, j].T).reshape(batch, rows, columns, -1)
            x_gradient += jnp.pad(pixels, ((0, 0), (i, size - 1 - i), (j, size - 1 - j), (0, 0)))
    kernel_gradient = jnp.stack(kernel_gradients).reshape(kernel.shape)
    return *unblock_pixels(x_gradient), *unblock_kernel(kernel_gradient), bias_gradient


_blocked_conv_max_pool.defvjp(_blocked_conv_max_pool_forward, _blocked_conv_max_pool_backward)


def _conv_max_pool(x, kernel, bias):
    return max_pool(_conv(x, kernel) + bias)


def _conv(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _block_pixels(x):
    """[batch, height, width, channels] -> [batch, height / 2, width / 2, 4 * channels]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _block_kernel(kernel):
    """[size, size, C, F] -> [(size + 1) / 2, (size + 1) / 2, 4 * C, 4 * F], for odd sizes."""
    size, _, inputs, outputs = kernel.shape
    half = (size + 1) // 2
    shifted = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]
    kernel = jnp.stack(shifted, axis=3).reshape(half, 2, half, 2, inputs, 4 * outputs)
    return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(half, half, 4 * inputs, 4 * outputs)
