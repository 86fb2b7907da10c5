"""Layers in the forms that XLA's CPU backend runs fast, equal to flax's up to rounding; models/layers.py chooses them.

What they buy, in shares of plain flax's time for a whole training step on two cores (docs/results/speed.md):

- `conv_max_pool`: LeNet 0.43 at batch 64, 0.29 at batch 128.
- One after the other, ResNet-50 and ResNet-20: 1x1 convolutions as matrix products 0.74 and 1.0; operands of the
  gradients' convolutions `materialized` 0.60 and 0.74; gradients of `batch_norm`, of overlapping `max_pool` and, as
  matrix products, of wide 3x3 kernels 0.56 and 0.72; kernel gradients in parts of the batch nothing and 0.69; at
  most 16 channels by neighbours and sums of BatchNorm without stored operands together 0.84 of that for ResNet-20.
- Convolutions without padding, as part of one with padding: forward, the layer alone 0.2 to 0.7 (`_wide_conv`).
- `conv_transpose`: the layer alone 0.26 at batch 1 and 0.19 at batch 8; an FCN spends 1 to 2 % of its step there.

In all GoogLeNet 0.44, ResNet-50 0.46, VGG-16 0.74, AlexNet 0.84. What XLA catches up with can be deleted one by one.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from . import batch_axis
from .pixel_blocks import depth_to_space, space_to_depth

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar('platform', default=None)


def on_cpu() -> bool:
    """Whether JAX computes on CPUs: the one place that decides on the form of a layer, asked whenever one is traced."""
    return (_platform.get() or jax.default_backend()) == 'cpu'


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Gives layers that are traced inside the form for another platform than this one, such as 'cuda'."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def materialized(x: jax.Array) -> jax.Array:
    """Returns x, computed once for all its uses.

    XLA's CPU backend repeats elementwise computations in each loop that reads their results, and removes
    `lax.optimization_barrier` before it decides so. What it does not do is to look into a call.
    """
    with set_xla_metadata(inlineable='false'):
        return _identity(x)


@jax.jit
def _identity(x):
    return x


# Convolution. Matrix products are faster than XLA's convolutions for 1x1 kernels and for some gradients of 3x3 ones.
# The convolutions for gradients begin with transposes, into which XLA draws whatever computes their operands: slow
# loops over strided memory, hence `materialized`.


def conv_general_dilated(x: jax.Array, kernel: jax.Array, window_strides: Sequence[int], padding: Any,
                         lhs_dilation: Sequence[int] = (1, 1), rhs_dilation: Sequence[int] = (1, 1),
                         dimension_numbers: Any = None, feature_group_count: int = 1, precision: Any = None
                         ) -> jax.Array:
    """Equals `lax.conv_general_dilated` with the arguments of nn.Conv, which takes it as a field.

    Images, [batch, height, width, channels], and square kernels with equal strides and paddings on all sides, without
    dilation or groups, have faster gradients; everything else is lax's own.
    """
    if x.ndim == 4 and {*lhs_dilation, *rhs_dilation, feature_group_count} == {1} and precision is None:
        pads = padding if not isinstance(padding, str) else (
            lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], window_strides, padding))
        if len({*kernel.shape[:2]}) == len({*window_strides}) == len({side for pair in pads for side in pair}) == 1:
            return _square_conv(x, kernel, window_strides[0], pads[0][0])
    return lax.conv_general_dilated(x, kernel, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
                                    feature_group_count, precision=precision)


def zeros_around(x: jax.Array, border: int, size: int) -> jax.Array:
    """Returns images, [batch, height, width, channels], with a border of zeros for a convolution of a kernel size.

    XLA makes padding a part of the convolution. That is faster, unless the kernel is larger than the image: 5x5 on 4x4
    pixels then takes 20 times as long. Concatenated zeros it leaves alone.
    """
    if size <= min(x.shape[1:3]):
        return jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    for axis in (1, 2):
        zeros = jnp.zeros((*x.shape[:axis], border, *x.shape[axis + 1:]), x.dtype)
        x = jnp.concatenate([zeros, x, zeros], axis)
    return x


def _lax_conv(x, kernel, stride=1, padding=0):
    pads = padding if isinstance(padding, tuple) else (padding, padding)
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, (pads, pads),
                                    dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _square_conv(x, kernel, stride, padding):
    if kernel.shape[0] == 1 and padding == 0:
        return jnp.tensordot(x[:, ::stride, ::stride], kernel[0, 0], 1)
    return _narrow_conv(x, kernel, stride, padding)


def _wide_conv(x, kernel, stride, padding):
    """A convolution; one without padding as part of one that has a column of it, which takes XLA 0.2 to 0.7 as long.

    The outputs are the same bits. XLA's CPU backend leaves convolutions without any padding to slower kernels.
    """
    size, _, channels, _ = kernel.shape
    if padding and size > min(x.shape[1:3]):
        return _lax_conv(zeros_around(x, padding, size), kernel, stride)
    columns = (x.shape[2] - size) // stride + 1
    # Measured on kernels of 2x2 to 11x11 and 1 to 512 channels, float32: 3x3 on 64 channels of 58 pixels takes 0.37,
    # on 192 of 11 pixels 0.66, 11x11 on 3 of 1024 pixels 0.35; below these limits it takes up to 1.3.
    if padding or size == 1 or x.dtype != jnp.float32 or size * size * channels < 256 or columns < 8:
        return _lax_conv(x, kernel, stride, padding)
    padded = lax.conv_general_dilated(x, kernel, (stride,) * 2, ((0, 0), (0, 1)),
                                      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return padded[:, :, :columns]


def _narrow_conv(x, kernel, stride, padding):
    """A convolution, computed for a few neighbours in a row at once where there are too few channels for XLA.

    XLA has fast kernels for 17 input or output channels and more, and leaves narrower convolutions to Eigen. As further
    outputs of a wider kernel, which then takes as many pixels a step, neighbours need 1.3 to 2 times the
    multiplications and 0.3 to 0.8 of the time.
    """
    size, _, channels, features = kernel.shape
    # Measured on 3x3 kernels, batches of 128 images of 28 and 32 pixels and 8 of 128 and 224; below 8 channels also
    # on 5x5 and 7x7, strides of 1 and 2, batches of 1 to 64 images of 64 to 240 pixels; float32.
    neighbours = 2 if channels >= 8 else 4
    columns = (x.shape[2] + 2 * padding - size) // stride + 1
    gains = (size, stride, padding) in ((3, 1, 1), (7, 2, 3)) or (channels < 8 and size in (3, 5, 7) and stride < 3
                                                                  and 0 < padding < size)
    if not gains or x.dtype != jnp.float32 or max(channels, features) > 16 or columns % neighbours:
        return _wide_conv(x, kernel, stride, padding)
    moved = [jnp.pad(kernel, ((0, 0), (stride * i, stride * (neighbours - 1 - i)), (0, 0), (0, 0)))
             for i in range(neighbours)]
    outputs = lax.conv_general_dilated(x, jnp.concatenate(moved, axis=3), (stride, stride * neighbours),
                                       ((padding,) * 2,) * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return outputs.reshape(*outputs.shape[:2], columns, features)


def _square_conv_forward(x, kernel, stride, padding):
    return _square_conv(x, kernel, stride, padding), (x, kernel)


def _square_conv_backward(stride, padding, residuals, gradient):
    x, kernel = residuals
    x, gradient = materialized(x), materialized(gradient)
    size, _, channels, features = kernel.shape
    # Measured on 3x3 kernels, batches of 8 and 128 images of 224 and 32 pixels, float32.
    by_products = size == 1 and padding == 0
    if by_products or (size == 3 and (channels >= 512 or (channels >= 128 and stride > 1))):
        x_gradient = _x_gradient_by_products(x.shape, kernel, gradient, stride, padding)
    elif stride == 1 and padding < size:
        x_gradient = _narrow_conv(gradient, kernel[::-1, ::-1].swapaxes(2, 3), 1, size - 1 - padding)
    else:
        x_gradient, = jax.vjp(lambda x: _lax_conv(x, kernel, stride, padding), x)[1](gradient)
    if by_products or (size == 3 and channels >= 128 and stride > 1):
        kernel_gradient = _kernel_gradient_by_products(x, gradient, size, stride, padding)
    else:
        kernel_gradient = _kernel_gradient_by_convolutions(x, kernel, gradient, stride, padding)
    return x_gradient, kernel_gradient


_square_conv.defvjp(_square_conv_forward, _square_conv_backward)


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
    """XLA's own, of parts of the batch: a part's gradient of the outputs stays in the cache for all kernel offsets.

    To the convolution that computes it the examples are input channels. Of up to 16 outputs it is Eigen's (see
    `_narrow_conv`), which needs some: parts of one example took 5 to 7 times as long as all 8 in one.
    """
    batch, features = gradient.shape[0], kernel.shape[-1]
    # Parts of a batch that lies on several devices would have to be moved between them.
    most = 1 if batch_axis.divided_by_xla() else min(8, batch // 16 if features <= 16 else batch)
    parts = max(1, min(most, gradient.size * gradient.dtype.itemsize // 2 ** 19))
    while batch % parts:
        parts -= 1
    total = 0
    for x_part, gradient_part in zip(jnp.split(x, parts), jnp.split(gradient, parts)):
        total += jax.vjp(lambda kernel: _wide_conv(x_part, kernel, stride, padding), kernel)[1](gradient_part)[0]
    return total


def _kernel_gradient_by_products(x, gradient, size, stride, padding):
    """One matrix product for each offset in a kernel, of the input there and the gradient of the outputs."""
    channels, features = x.shape[-1], gradient.shape[-1]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    shape, gradient = gradient.shape, gradient.reshape(-1, features)
    products = []
    for index in range(size * size):
        pixels = _pixels_at(x, divmod(index, size), shape, stride).reshape(-1, channels)
        # The smaller matrix is the one to transpose.
        products.append(materialized(pixels.T) @ gradient if size > 1 or channels <= features
                        else (materialized(gradient.T) @ pixels).T)
    return jnp.stack(products).reshape(size, size, channels, features)


def _pixels_at(x, offset, shape, stride=1):
    """What the windows that make an output of this shape hold at an offset (row, column)."""
    (i, j), (rows, columns) = offset, shape[1:3]
    return x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]


# Convolution and max pooling as one. Few channels keep a CPU's vector units idle. Here the four outputs of a pooling
# window become channels of one output pixel, and the four inputs of every 2x2 block channels of one input pixel: a
# kernel of 5x5xCxF becomes 3x3x4Cx4F. That is 1.44 times the multiplications, much faster ones, and pooling is a
# maximum over channels. The gradients are sums of matrix products.


def conv_max_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Equals `nn.max_pool` of 2x2 windows on a convolution without padding or strides, of an odd kernel size."""
    # Without rows and columns that only reach outputs which pooling drops.
    return _blocked_conv_max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2], kernel)


@jax.custom_vjp
def _blocked_conv_max_pool(x, kernel):
    return nn.max_pool(_lax_conv(x, kernel), (2, 2), (2, 2))  # Without gradients the plain form is the fastest.


def _blocked_conv_max_pool_forward(x, kernel):
    outputs = _lax_conv(space_to_depth(x, 2), _block_kernel(kernel))
    outputs = outputs.reshape(*outputs.shape[:3], 4, -1)
    pooled = outputs.max(axis=3)
    return pooled, (x, kernel, outputs, pooled)


def _blocked_conv_max_pool_backward(residuals, gradient):
    x, kernel, outputs, pooled = residuals
    x, unblock_pixels = jax.vjp(lambda x: space_to_depth(x, 2), x)
    kernel, unblock_kernel = jax.vjp(_block_kernel, kernel)
    parts = _gradient_to_first_maximum([outputs[:, :, :, i] for i in range(4)], pooled, gradient)
    batch, rows, columns, _ = gradient.shape
    shape, gradient = gradient.shape, jnp.stack(parts, axis=3).reshape(batch * rows * columns, kernel.shape[3])
    x_gradient = 0
    kernel_gradients = []
    size = kernel.shape[0]
    for i in range(size):
        for j in range(size):
            pixels = _pixels_at(x, (i, j), shape).reshape(batch * rows * columns, -1)
            kernel_gradients.append(pixels.T @ gradient)
            pixels = (gradient @ kernel[i, j].T).reshape(batch, rows, columns, -1)
            x_gradient += jnp.pad(pixels, ((0, 0), (i, size - 1 - i), (j, size - 1 - j), (0, 0)))
    kernel_gradient = jnp.stack(kernel_gradients).reshape(kernel.shape)
    return *unblock_pixels(x_gradient), *unblock_kernel(kernel_gradient)


_blocked_conv_max_pool.defvjp(_blocked_conv_max_pool_forward, _blocked_conv_max_pool_backward)


def _block_kernel(kernel):
    """[size, size, C, F] -> [(size + 1) / 2, (size + 1) / 2, 4 * C, 4 * F], for odd sizes."""
    size, _, inputs, outputs = kernel.shape
    half = (size + 1) // 2
    shifted = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]
    kernel = jnp.stack(shifted, axis=3).reshape(half, 2, half, 2, inputs, 4 * outputs)
    return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(half, half, 4 * inputs, 4 * outputs)


# Max pooling. XLA differentiates reduce_window to select_and_scatter, which is slow. Comparing values with their
# maximum does the same, bit by bit: among equal values the first one in row-major order receives the gradient. Both
# must be the same bits, hence `materialized`: XLA would compute what x comes from, such as a BatchNorm, once for the
# forward pass and once more, with other rounding, for the comparison, and windows would lose their gradient.


def max_pool(x: jax.Array, window: int, stride: int, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """Equals `nn.max_pool` of square windows.

    Args:
      x: float [batch, height, width, channels].
      window: side of a window, in pixels.
      stride: step between windows, in pixels.
      pads: pixels of -inf before and after rows, and before and after columns.
    """
    if window == stride:
        return _tiled_max_pool(jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf), window)
    if window > stride:
        return _overlapping_max_pool(x, window, stride, pads)
    return nn.max_pool(x, (window, window), (stride, stride), pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _tiled_max_pool(x, window):
    return nn.max_pool(x, (window, window), (window, window))


def _tiled_max_pool_forward(x, window):
    x = materialized(x)
    pooled = _tiled_max_pool(x, window)
    return pooled, (x, pooled)


def _tiled_max_pool_backward(window, residuals, gradient):
    x, pooled = residuals
    batch, height, width, channels = x.shape
    rows, columns = pooled.shape[1:3]
    tiles = x[:, : rows * window, : columns * window].reshape(batch, rows, window, columns, window, channels)
    pixels = [tiles[:, :, i, :, j] for i in range(window) for j in range(window)]
    parts = _gradient_to_first_maximum(pixels, pooled, gradient)
    tiles = jnp.stack([jnp.stack(parts[i * window : (i + 1) * window], axis=3) for i in range(window)], axis=2)
    x_gradient = tiles.reshape(batch, rows * window, columns * window, channels)
    rest = ((0, 0), (0, height - rows * window), (0, width - columns * window), (0, 0))
    return (jnp.pad(x_gradient, rest),)


_tiled_max_pool.defvjp(_tiled_max_pool_forward, _tiled_max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _overlapping_max_pool(x, window, stride, pads):
    return nn.max_pool(x, (window, window), (stride, stride), pads)


def _overlapping_max_pool_forward(x, window, stride, pads):
    x = materialized(x)
    pooled = _overlapping_max_pool(x, window, stride, pads)
    return pooled, (x, pooled)


def _overlapping_max_pool_backward(window, stride, pads, residuals, gradient):
    x, pooled = residuals
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    first = jnp.zeros(pooled.shape, jnp.uint8)
    for index in reversed(range(window * window)):
        pixels = _pixels_at(padded, divmod(index, window), pooled.shape, stride)
        first = jnp.where(pixels == pooled, index, first).astype(jnp.uint8)
    first, gradient = materialized(first), materialized(gradient)
    # Pixels whose coordinates have equal remainders modulo the stride lie at the same offsets in their windows.
    reach = (window - 1) // stride
    remainders = []
    for a in range(stride):
        for b in range(stride):
            total = jnp.zeros((), gradient.dtype)
            # Backwards, so that gradients are added in the order of their windows, as XLA does.
            for i in reversed(range(a, window, stride)):
                for j in reversed(range(b, window, stride)):
                    part = jnp.where(first == i * window + j, gradient, 0)
                    down, right = i // stride, j // stride
                    total += jnp.pad(part, ((0, 0), (down, reach - down), (right, reach - right), (0, 0)))
            remainders.append(total)
    x_gradient = depth_to_space(jnp.concatenate(remainders, axis=-1), stride)
    (top, _), (left, _) = pads
    sizes = [(0, 0, 0)]
    for begin, side, length in zip((top, left), x.shape[1:3], x_gradient.shape[1:3]):
        sizes.append((-begin, begin + side - length, 0))
    return (lax.pad(x_gradient, jnp.zeros((), x_gradient.dtype), [*sizes, (0, 0, 0)]),)


_overlapping_max_pool.defvjp(_overlapping_max_pool_forward, _overlapping_max_pool_backward)


def _gradient_to_first_maximum(candidates, maximum, gradient):
    """Splits the gradient of an elementwise maximum: the first candidate that equals it gets it."""
    taken = jnp.zeros(maximum.shape, bool)
    gradients = []
    for candidate in candidates:
        equal = candidate == maximum
        gradients.append(jnp.where(equal & ~taken, gradient, 0))
        taken |= equal
    return gradients


# Batch normalization. XLA's gradient keeps intermediate results as large as x. This one reads x and the gradient of the
# outputs twice, once for their sums and once for the result: Ioffe and Szegedy 2015, section 3, with the chain rule
# collected. Statistics pass no gradient on by themselves: they go into running averages only. XLA would take x - mean
# for one value with many uses, and a sum whose operand has other uses has it written to memory first: hence
# `materialized` means, each another value to XLA.


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
               ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes x, float [..., channels], by its statistics over all axes but the last and over all devices.

    Args:
      x, scale, bias: float [..., channels], and float32 [channels] twice.
      epsilon: added to the variance.
      axis_name: mapped axis over which the batch is split; None for one device.

    Returns:
      (outputs, mean, biased variance), float32. The variance is of differences from the mean, without the cancellation
      that flax's E[x^2] - E[x]^2 has far from zero.
    """
    axes = tuple(range(x.ndim - 1))
    values = x.astype(jnp.float32)
    mean = _mean_over_devices(values.mean(axes), axis_name)
    var = _mean_over_devices(jnp.square(values - mean).mean(axes), axis_name)
    return (values - materialized(mean)) * (lax.rsqrt(var + epsilon) * scale) + bias, mean, var


def _batch_norm_forward(x, scale, bias, epsilon, axis_name):
    outputs, mean, var = batch_norm(x, scale, bias, epsilon, axis_name)
    return (outputs, mean, var), (x, mean, lax.rsqrt(var + epsilon), scale)


def _batch_norm_backward(epsilon, axis_name, residuals, gradients):
    del epsilon
    x, mean, inverse_std, scale = residuals
    gradient = gradients[0]
    axes = tuple(range(x.ndim - 1))
    values = x.astype(jnp.float32)
    bias_gradient = gradient.sum(axes)
    scale_gradient = (gradient * (values - materialized(materialized(mean)))).sum(axes) * inverse_std
    normalized = (values - materialized(mean)) * inverse_std
    count = math.prod(x.shape[:-1])
    offset = _mean_over_devices(bias_gradient / count, axis_name)
    slope = _mean_over_devices(scale_gradient / count, axis_name)
    x_gradient = (gradient - offset - normalized * slope) * (scale * inverse_std)
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _mean_over_devices(x, axis_name):
    return x if axis_name is None else lax.pmean(x, axis_name)


# Transposed convolution, written as one dense convolution whose outputs are the stride * stride pixels that belong to
# an input pixel (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"): a convolution of
# an input that is spread out with zeros multiplies mostly zeros.


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Equals `lax.conv_transpose(x, kernel, (stride, stride), 'SAME')`.

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
    return depth_to_space(_lax_conv(x, kernel, 1, padding), stride)
