"""flax's layers, with their parameters and results, in the forms of models/cpu_kernels.py where JAX computes on CPUs.

On GPUs they are flax's own, to the operation. Dropout alone is ours everywhere; it says why. Channels come last.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..common.errors import UserError
from . import batch_axis, cpu_kernels


def _convolve(*arrays: jax.Array, **fields: Any) -> jax.Array:
    convolve = cpu_kernels.conv_general_dilated if cpu_kernels.on_cpu() else lax.conv_general_dilated
    return convolve(*arrays, **fields)


def _convolve_and_pool(x, kernel, window_strides, padding, **fields):
    if not cpu_kernels.on_cpu():
        return nn.max_pool(lax.conv_general_dilated(x, kernel, window_strides, padding, **fields), (2, 2), (2, 2))
    border = kernel.shape[0] // 2 if padding == 'SAME' else 0
    return cpu_kernels.conv_max_pool(cpu_kernels.zeros_around(x, border, kernel.shape[0]), kernel)


class _SquareKernel:
    """Takes a `kernel_size` of one number for both sides; flax would take it for a convolution along one axis."""

    def __post_init__(self):
        if isinstance(self.kernel_size, int):
            self.kernel_size = (self.kernel_size,) * 2
        super().__post_init__()


class Conv(_SquareKernel, nn.Conv):
    """nn.Conv of images; `kernel_size` and `strides` may be one number. Begins with He's initialiser, made for ReLUs.

    He et al. 2015, "Delving deep into rectifiers: surpassing human-level performance on ImageNet classification".
    """

    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    conv_general_dilated: Any = _convolve


class ConvMaxPool(_SquareKernel, nn.Conv):
    """nn.Conv of an odd kernel size without strides, followed by 2x2 max pooling, with the parameters of nn.Conv.

    The bias is added after pooling, to a quarter of the values, since it moves all values of a window alike.
    """

    padding: str = 'VALID'  # or 'SAME'
    conv_general_dilated: Any = _convolve_and_pool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, channels], to half the height and width."""
        size = self.kernel_size[0]
        if size % 2 == 0:
            raise UserError(f'kernel_size is {size}; it must be odd')
        if self.padding not in ('SAME', 'VALID'):
            raise UserError(f"padding is {self.padding!r}; it must be 'SAME' or 'VALID'")
        if min(x.shape[1:3]) - (0 if self.padding == 'SAME' else size - 1) < 2:
            raise UserError(
                f'{self.name or "ConvMaxPool"}: nothing is left of {x.shape[1]}x{x.shape[2]} pixels after a '
                f'{size}x{size} convolution with padding {self.padding} and 2x2 pooling; use larger images')
        return super().__call__(x)


class ConvTranspose(_SquareKernel, nn.ConvTranspose):
    """nn.ConvTranspose of images with SAME padding: outputs are `strides` times as high and wide.

    `kernel_size` and `strides` are one number. Equals TensorFlow's conv2d_transpose with the kernel turned by 180
    degrees.
    """

    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float [batch, height, width, inputs], to [batch, height * strides, width * strides, features]."""
        if not cpu_kernels.on_cpu():
            return super().__call__(x)
        kernel = self.param('kernel', self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = self.param('bias', self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = self.promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = cpu_kernels.conv_transpose(x, kernel, self.strides)
        return x if bias is None else x + bias


class BatchNorm(nn.BatchNorm):
    """nn.BatchNorm over all axes but the last; a step keeps 0.9 of running averages, which PyTorch calls 0.1.

    Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift". In training the statistics are those of the global batch, or of the rows of a device, as
    `config.parallel.batch_norm` says (see batch_axis.py). Running averages are of the biased variance.
    """

    momentum: float = 0.9

    def __post_init__(self):
        if self.axis_name is None:
            self.axis_name = batch_axis.norm_axis()
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x, float [..., channels], per channel."""
        if self.use_running_average or self.is_initializing() or not cpu_kernels.on_cpu():
            return super().__call__(x)
        channels = x.shape[-1:]
        averages = [self.variable('batch_stats', name, init, channels)
                    for name, init in (('mean', jnp.zeros), ('var', jnp.ones))]
        scale = self.param('scale', self.scale_init, channels)
        bias = self.param('bias', self.bias_init, channels)
        outputs, *statistics = cpu_kernels.batch_norm(x, scale, bias, self.epsilon, self.axis_name)
        for average, value in zip(averages, statistics):
            average.value = self.momentum * average.value + (1 - self.momentum) * value
        return outputs.astype(self.dtype or outputs.dtype)


def refuse_split_norms(call, arguments, keywords, context):
    """Raises UserError where a BatchNorm that knows of no devices would have statistics of its own on each of them.

    For `nn.intercept_methods`. The running averages of one device, and no others, would then be kept.
    """
    module = context.module
    if isinstance(module, nn.BatchNorm) and context.method_name == '__call__':
        running = keywords.get('use_running_average', arguments[1] if len(arguments) > 1 else None)
        if not (running or module.use_running_average) and module.axis_name != batch_axis.norm_axis():
            raise UserError(f"{'/'.join(module.path)} is a flax BatchNorm that is not averaged over the devices: use "
                            "practicum.models.layers.BatchNorm, or config.parallel.batch_norm = 'device'")
    return call(*arguments, **keywords)


class Dropout(nn.Module):
    """Dropout whose mask does not depend on how a batch is spread over devices.

    nn.Dropout draws one mask of the shape of a device's part of the batch: other numbers of devices give other masks,
    and with one key for all, every device the same one. Here the mask of an example is drawn from the 'dropout' key,
    the same on all devices, folded with the example's index in the global batch. Kept values are divided by 1 - rate
    (Srivastava et al. 2014, section 10, the form that leaves inference unchanged).

    Attributes:
      rate: probability of setting a value to zero, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Drops values of x, float [batch, ...], in training; returns x unchanged otherwise."""
        if not 0 <= self.rate < 1:
            raise UserError(f'dropout is {self.rate}; it must be in [0, 1)')
        if not train or self.rate == 0.0:
            return x
        index = batch_axis.positions(x.shape[0])
        key = self.make_rng('dropout')

        def keep_mask(index):
            return jax.random.bernoulli(jax.random.fold_in(key, index), 1.0 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(keep_mask)(index), x / (1.0 - self.rate), 0)


def max_pool(x: jax.Array, window: int = 2, stride: int = 2, padding: int = 0, *, ceil_mode: bool = False) -> jax.Array:
    """nn.max_pool of square windows, padded as in PyTorch.

    Args:
      x: float [batch, height, width, channels].
      window: side of a window, in pixels.
      stride: step between windows, in pixels.
      padding: pixels of -inf on every side, as in PyTorch's MaxPool2d; at most half a window.
      ceil_mode: whether a last window that reaches over the edge counts, if it begins before it; as in PyTorch.

    Returns:
      float [batch, (height + 2 * padding - window) // stride + 1, and so for width, channels], rounded up with
      ceil_mode.
    """
    if padding > window // 2:
        raise UserError(f'max_pool: padding is {padding}; it must be at most half of the window, {window // 2}')
    pads = tuple((padding, padding + (_beyond(side, window, stride, padding) if ceil_mode else 0))
                 for side in x.shape[1:3])
    if cpu_kernels.on_cpu():
        return cpu_kernels.max_pool(x, window, stride, pads)
    return nn.max_pool(x, (window, window), (stride, stride), pads)


def local_response_norm(x: jax.Array, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
                        ) -> jax.Array:
    """Divides every value by what its channel and the neighbouring ones have at the same pixel.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 3.3, with its
    constants: x_i / (k + alpha * sum_j x_j ** 2) ** beta over the `size` channels j around channel i, fewer at the
    ends. PyTorch's and Caffe's layers divide their alpha by `size` first. There are no parameters.

    Args:
      x: float [..., channels].
      size: channels that count, an odd number.
      k, alpha, beta: constants of the formula.

    Returns:
      float [..., channels], of x's type; computed in float32.
    """
    wide = x.astype(jnp.float32)
    beside = size // 2
    squares = jnp.pad(wide ** 2, [(0, 0)] * (x.ndim - 1) + [(beside, beside)])
    total = sum(squares[..., shift:shift + x.shape[-1]] for shift in range(size))
    return (wide * (k + alpha * total) ** -beta).astype(x.dtype)


def bilinear(stride: int) -> nn.initializers.Initializer:
    """An initialiser that makes a ConvTranspose interpolate each channel bilinearly.

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


def _beyond(side, window, stride, padding):
    """Pixels that a last window lacks at the far edge, where PyTorch's ceil_mode has one."""
    rest = (side + 2 * padding - window) % stride
    windows = (side + 2 * padding - window) // stride + 1
    if rest == 0 or windows * stride >= side + padding:  # The window would begin in the padding.
        return 0
    return stride - rest
