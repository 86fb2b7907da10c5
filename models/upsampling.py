"""Learned upsampling by whole factors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class TransposedConv(nn.Module):
    """A transposed convolution with SAME padding: outputs are `stride` times as high and wide.

    Computes `nn.ConvTranspose(features, (kernel_size,) * 2, (stride,) * 2)(x)`, which is also TensorFlow's
    conv2d_transpose with the kernel turned by 180 degrees, and has the parameters of that nn.ConvTranspose. It is
    written as one dense convolution whose outputs are the stride * stride pixels that belong to an input pixel
    (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"), since a convolution of an
    input spread out with zeros multiplies mostly zeros.

    Attributes:
      features: number of output channels.
      kernel_size: side of the square kernel, in output pixels.
      stride: factor of upsampling.
      use_bias: whether to add a bias per output channel.
      kernel_init: initialiser of the kernel [kernel_size, kernel_size, inputs, features]; see `bilinear`.
      dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: int
    stride: int
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, inputs], to [batch, height * stride, width * stride, features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape)
        x = transposed_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        if self.use_bias:
            x += self.param('bias', nn.initializers.zeros_init(), (self.features,)).astype(self.dtype)
        return x


def transposed_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Equals `lax.conv_transpose(x, kernel, (stride, stride), 'SAME')`, to rounding.

    Args:
      x: float [batch, height, width, inputs].
      kernel: float [size, size, inputs, outputs].
      stride: factor of upsampling.

    Returns:
      float [batch, height * stride, width * stride, outputs].
    """
    size, _, inputs, outputs = kernel.shape
    # lax.conv_transpose puts stride - 1 zeros between inputs and `before` and `after` around them. An output pixel is
    # stride * q + r; kernel position p reaches it from input pixel q + d where stride * d = r + p - before.
    before = size - 1 if stride >= size else -(-(size + stride - 2) // 2)
    after = size + stride - 2 - before
    padding = (before // stride, after // stride)
    taps = sum(padding) + 1
    left = stride - 1 - before % stride
    right = stride * taps - size - left
    kernel = jnp.pad(kernel, ((left, right), (left, right), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps, stride, taps, stride, inputs, outputs)[:, ::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(taps, taps, inputs, stride * stride * outputs)
    x = lax.conv_general_dilated(x, kernel, (1, 1), (padding, padding), dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return depth_to_space(x, stride)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """[batch, height, width, block * block * channels] -> [batch, height * block, width * block, channels]."""
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, block, block, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * block, width * block, -1)


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """The inverse of `depth_to_space`; height and width must be multiples of block."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // block, block, width // block, block, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // block, width // block, block * block * channels)


def bilinear(stride: int) -> nn.initializers.Initializer:
    """An initialiser that makes a TransposedConv interpolate each channel bilinearly.

    Long et al. 2015, "Fully convolutional networks for semantic segmentation", section 3.3. Output channel i takes
    from input channel i alone. Interpolation is complete for kernels of 2 * stride - 1 or 2 * stride.
    """
    def init(key, shape, dtype=jnp.float32):
        del key
        size, _, inputs, outputs = shape
        distance = np.abs(np.arange(size) - (size - 1) / 2)
        weights = np.maximum(1 - distance / stride, 0)
        kernel = weights[:, None, None, None] * weights[:, None, None] * np.eye(inputs, outputs)
        return jnp.asarray(kernel, dtype)
    return init
