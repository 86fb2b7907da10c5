"""A convolution and its max pooling as one layer, which differs from two of `flax.linen` in speed alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ..common.errors import UserError
from .layers import gradient_to_first_maximum, max_pool
from .upsampling import space_to_depth


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
            raise UserError(f'kernel_size is {size}; it must be odd')
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


# Few channels keep a CPU's vector units idle. Here the four outputs of a pooling window become channels of one output
# pixel, and the four inputs of every 2x2 block channels of one input pixel: a kernel of 5x5xCxF becomes 3x3x4Cx4F. That
# is 1.44 times the multiplications, much faster ones, and pooling is a maximum over channels. The gradients are sums of
# matrix products, which are faster on CPUs than XLA's convolutions for them.


@jax.custom_vjp
def _blocked_conv_max_pool(x, kernel, bias):
    return _conv_max_pool(x, kernel, bias)  # Without gradients the plain form is the fastest.


def _blocked_conv_max_pool_forward(x, kernel, bias):
    outputs = _conv(space_to_depth(x, 2), _block_kernel(kernel))
    outputs = outputs.reshape(*outputs.shape[:3], 4, -1)
    pooled = outputs.max(axis=3)
    return pooled + bias, (x, kernel, outputs, pooled)


def _blocked_conv_max_pool_backward(residuals, gradient):
    x, kernel, outputs, pooled = residuals
    bias_gradient = gradient.sum(axis=(0, 1, 2))
    x, unblock_pixels = jax.vjp(lambda x: space_to_depth(x, 2), x)
    kernel, unblock_kernel = jax.vjp(_block_kernel, kernel)
    gradient = jnp.stack(gradient_to_first_maximum([outputs[:, :, :, i] for i in range(4)], pooled, gradient), axis=3)
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


def _block_kernel(kernel):
    """[size, size, C, F] -> [(size + 1) / 2, (size + 1) / 2, 4 * C, 4 * F], for odd sizes."""
    size, _, inputs, outputs = kernel.shape
    half = (size + 1) // 2
    shifted = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]
    kernel = jnp.stack(shifted, axis=3).reshape(half, 2, half, 2, inputs, 4 * outputs)
    return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(half, half, 4 * inputs, 4 * outputs)
