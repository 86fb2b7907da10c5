"""Layers whose linen counterparts are slow on CPUs or depend on the number of devices. Channels come last."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from ..common.errors import UserError


def max_pool(x: jax.Array, window: int = 2, stride: int = 2, padding: int = 0, *, ceil_mode: bool = False) -> jax.Array:
    """Maximum over square windows, faster than linen's on CPUs.

    Equal to `flax.linen.max_pool` bit by bit, gradients included: among equal values the first one
    in row-major order receives the gradient.

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
    pads = max_pool_pads(x.shape, window, stride, padding, ceil_mode)
    if window == stride:
        return _tiled_max_pool(jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf), window)
    if window > stride and jax.default_backend() == 'cpu':
        return _overlapping_max_pool(x, window, stride, pads)
    return nn.max_pool(x, (window, window), (stride, stride), pads)


def max_pool_pads(shape: tuple[int, int, int, int], window: int, stride: int, padding: int, ceil_mode: bool
                  ) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels before and after rows and columns that max_pool of these arguments adds to an array of this shape."""
    if padding > window // 2:
        raise UserError(f'max_pool: padding is {padding}; it must be at most half of the window, {window // 2}')
    return tuple((padding, padding + (_beyond(side, window, stride, padding) if ceil_mode else 0))
                 for side in shape[1:3])


def _beyond(side, window, stride, padding):
    """Pixels that a last window lacks at the far edge, where PyTorch's ceil_mode has one."""
    rest = (side + 2 * padding - window) % stride
    windows = (side + 2 * padding - window) // stride + 1
    if rest == 0 or windows * stride >= side + padding:  # The window would begin in the padding.
        return 0
    return stride - rest


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
    pixels = [tiles[:, :, i, :, j] for i in range(window) for j in range(window)]
    parts = gradient_to_first_maximum(pixels, pooled, gradient)
    tiles = jnp.stack([jnp.stack(parts[i * window : (i + 1) * window], axis=3) for i in range(window)], axis=2)
    x_gradient = tiles.reshape(batch, rows * window, columns * window, channels)
    rest = ((0, 0), (0, height - rows * window), (0, width - columns * window), (0, 0))
    return (jnp.pad(x_gradient, rest),)


_tiled_max_pool.defvjp(_tiled_max_pool_forward, _tiled_max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _overlapping_max_pool(x, window, stride, pads):
    return nn.max_pool(x, (window, window), (stride, stride), pads)


def _overlapping_max_pool_forward(x, window, stride, pads):
    pooled = _overlapping_max_pool(x, window, stride, pads)
    return pooled, (x, pooled)


def _overlapping_max_pool_backward(window, stride, pads, residuals, gradient):
    x, pooled = residuals
    rows, columns = pooled.shape[1:3]
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    first = jnp.zeros(pooled.shape, jnp.uint8)
    for index in reversed(range(window * window)):
        i, j = divmod(index, window)
        pixels = padded[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
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
    batch, blocks, more_blocks, channels = remainders[0].shape
    x_gradient = jnp.stack(remainders, axis=3).reshape(batch, blocks, more_blocks, stride, stride, channels)
    x_gradient = x_gradient.transpose(0, 1, 3, 2, 4, 5).reshape(batch, blocks * stride, more_blocks * stride, channels)
    (top, _), (left, _) = pads
    sizes = [(0, 0, 0)]
    for begin, side, length in zip((top, left), x.shape[1:3], x_gradient.shape[1:3]):
        sizes.append((-begin, begin + side - length, 0))
    return (lax.pad(x_gradient, jnp.zeros((), x_gradient.dtype), [*sizes, (0, 0, 0)]),)


_overlapping_max_pool.defvjp(_overlapping_max_pool_forward, _overlapping_max_pool_backward)


def gradient_to_first_maximum(candidates: Sequence[jax.Array], maximum: jax.Array, gradient: jax.Array
                              ) -> list[jax.Array]:
    """Splits the gradient of an elementwise maximum: the first candidate that equals it gets it."""
    taken = jnp.zeros(maximum.shape, bool)
    gradients = []
    for candidate in candidates:
        equal = candidate == maximum
        gradients.append(jnp.where(equal & ~taken, gradient, 0))
        taken |= equal
    return gradients


def materialized(x: jax.Array) -> jax.Array:
    """Returns x, computed once for all its uses on a CPU.

    There XLA repeats elementwise computations in each loop that reads their results, and removes
    `lax.optimization_barrier` before it decides so. What it does not do is to look into a call.
    """
    if jax.default_backend() != 'cpu':
        return x
    with set_xla_metadata(inlineable='false'):
        return _identity(x)


@jax.jit
def _identity(x):
    return x
