"""Layers whose linen counterparts are slow on CPUs or depend on the number of devices. Channels come last."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from training.errors import UserError


def max_pool(x: jax.Array, window: int = 2, stride: int = 2) -> jax.Array:
    """Maximum over square windows, without padding, faster than linen's on CPUs.

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
