"""Convolution as in `flax.linen.Conv`, by the means that are fast on the device at hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from .layers import materialized


class Conv(nn.Module):
    """A convolution with square kernels, interchangeable with nn.Conv in its parameters.

    Attributes:
      features: output channels.
      kernel_size: side of the kernel, in pixels.
      stride: step between outputs, in pixels.
      padding: zeros on every side, in pixels.
      use_bias: whether a bias is added.
      kernel_init: initializer of the kernel, float32 [kernel_size, kernel_size, channels, features].
      dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, channels], to [batch, out height, out width, features]."""
        size = self.kernel_size
        kernel = self.param('kernel', self.kernel_init, (size, size, x.shape[-1], self.features))
        bias = self.param('bias', nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        # Measured on CPUs only; libraries for GPUs have gradients of their own.
        if jax.default_backend() == 'cpu':
            outputs = _cpu_conv(x, kernel, self.stride, self.padding)
        else:
            outputs = _lax_conv(x, kernel, self.stride, self.padding)
        return outputs if bias is None else outputs + bias.astype(self.dtype)


def _lax_conv(x, kernel, stride, padding):
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, [(padding,) * 2] * 2,
                                    dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


# On CPUs, matrix products are faster than XLA's convolutions for 1x1 kernels and for some gradients of 3x3 ones. The
# convolutions for gradients begin with transposes, into which XLA draws whatever computes their operands: slow loops
# over strided memory, hence `materialized`.


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _cpu_conv(x, kernel, stride, padding):
    if kernel.shape[0] == 1 and padding == 0:
        return jnp.tensordot(x[:, ::stride, ::stride], kernel[0, 0], 1)
    return _lax_conv(x, kernel, stride, padding)


def _cpu_conv_forward(x, kernel, stride, padding):
    return _cpu_conv(x, kernel, stride, padding), (x, kernel)


def _cpu_conv_backward(stride, padding, residuals, gradient):
    x, kernel = residuals
    x, gradient = materialized(x), materialized(gradient)
    size, _, channels, features = kernel.shape
    # Measured on 3x3 kernels, batches of 8 and 128 images of 224 and 32 pixels, float32.
    by_products = size == 1 and padding == 0
    if by_products or (size == 3 and (channels >= 512 or (channels >= 128 and stride > 1))):
        x_gradient = _x_gradient_by_products(x.shape, kernel, gradient, stride, padding)
    else:
        x_gradient, = jax.vjp(lambda x: _lax_conv(x, kernel, stride, padding), x)[1](gradient)
    if by_products or (size == 3 and channels >= 128 and stride > 1):
        kernel_gradient = _kernel_gradient_by_products(x, gradient, size, stride, padding)
    else:
        kernel_gradient = _kernel_gradient_by_convolutions(x, kernel, gradient, stride, padding)
    return x_gradient, kernel_gradient


_cpu_conv.defvjp(_cpu_conv_forward, _cpu_conv_backward)


def _x_gradient_by_products(shape, kernel, gradient, stride, padding):
    """Sum over the offsets in a kernel of one matrix product each, spread over the pixels it came from."""
    size, _, channels, features = kernel.shape
    batch, rows, columns = gradient.shape[:3]
    parts = gradient.reshape(-1, features) @ kernel.reshape(-1, features).T
    parts = parts.reshape(batch, rows, columns, size * size, channels)
    x_gradient = 0
    for index in range(size * size):
        # A negative padding crops.
        spread = [(offset - padding, side + padding - offset - (outputs - 1) * stride - 1, stride - 1)
                  for offset, side, outputs in zip(divmod(index, size), shape[1:3], (rows, columns))]
        x_gradient += lax.pad(parts[:, :, :, index], jnp.zeros((), parts.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    return x_gradient


def _kernel_gradient_by_convolutions(x, kernel, gradient, stride, padding):
    """XLA's own, of parts of the batch: a part's gradient of the outputs stays in the cache for all kernel offsets."""
    parts = min(8, max(1, gradient.size * gradient.dtype.itemsize // 2 ** 19))
    while gradient.shape[0] % parts:
        parts -= 1
    total = 0
    for x, gradient in zip(jnp.split(x, parts), jnp.split(gradient, parts)):
        total += jax.vjp(lambda kernel: _lax_conv(x, kernel, stride, padding), kernel)[1](gradient)[0]
    return total


def _kernel_gradient_by_products(x, gradient, size, stride, padding):
    """One matrix product for each offset in a kernel, of the input there and the gradient of the outputs."""
    batch, rows, columns, features = gradient.shape
    channels = x.shape[-1]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    gradient = gradient.reshape(-1, features)
    products = []
    for i in range(size):
        for j in range(size):
            pixels = x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
            pixels = pixels.reshape(-1, channels)
            # The smaller matrix is the one to transpose.
            products.append(materialized(pixels.T) @ gradient if size > 1 or channels <= features
                            else (materialized(gradient.T) @ pixels).T)
    return jnp.stack(products).reshape(size, size, channels, features)
