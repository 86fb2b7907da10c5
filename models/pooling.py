"""Pooling to a fixed size."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError, nearest

GLOBAL_POOLS = ('average', 'max', 'average_max')


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages a feature map over size x size windows of as equal a size as whole pixels allow.

    The windows of torch.nn.AdaptiveAvgPool2d: window i of n over m pixels holds those from floor(i * m / n) to
    ceil((i + 1) * m / n), so that windows overlap, and repeat pixels of maps that are smaller than size.

    Args:
      x: float [batch, height, width, channels].
      size: height and width of the result, in pixels.

    Returns:
      float [batch, size, size, channels]; x itself where it has that size already.
    """
    for axis, letter in ((1, 'h'), (2, 'w')):
        side = x.shape[axis]
        if side == size:
            continue
        windows = jnp.asarray(window_weights(side, size), x.dtype)
        x = jnp.einsum(f'bhwc,{letter}o->{"bhwc".replace(letter, "o")}', x, windows, precision='highest')
    return x


def global_pool(x: jax.Array, how: str, window: tuple[int, int] | None = None) -> jax.Array:
    """Reduces x, float [batch, height, width, channels], over all pixels, or over those of every window.

    Args:
      x: the feature map.
      how: 'average', 'max', or 'average_max' for both.
      window: height and width of windows; None for all pixels.

    Returns:
      float [batch, channels], twice as many for both; with windows [batch, rows, columns, channels].

    Raises:
      UserError: none of these.
    """
    if how not in GLOBAL_POOLS:
        raise UserError(f'config.model.global_pool = {how!r}; {nearest(how, list(GLOBAL_POOLS))}')
    if window is None:
        reduced = {'average': lambda: x.mean(axis=(1, 2)), 'max': lambda: x.max(axis=(1, 2))}
    else:
        reduced = {'average': lambda: nn.avg_pool(x, window), 'max': lambda: nn.max_pool(x, window)}
    return jnp.concatenate([reduced[part]() for part in how.split('_')], axis=-1)


def window_weights(side: int, size: int) -> np.ndarray:
    """Returns float64 [side, size]: the weight of every pixel in every window's average."""
    index = np.arange(size)
    starts, stops = index * side // size, -(-(index + 1) * side // size)
    pixels = np.arange(side)[:, None]
    return ((starts <= pixels) & (pixels < stops)) / (stops - starts)
