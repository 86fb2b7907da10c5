"""Where the cells of a network's feature map lie in its input."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from .stages import watching

_FAR = 4096  # pixels; a multiple of every usual stride


class Grid(NamedTuple):
    """The cells of a feature map, in pixels of the input: 0 is the left edge of the first pixel, not its centre.

    Attributes:
      stride: between neighbouring cells.
      first: the centre of the first cell, (y, x).
    """
    stride: float
    first: tuple[float, float]

    def centres(self, height: int, width: int) -> jax.Array:
        """Returns the centres of height x width cells, float32 [height, width, 2] of (x, y)."""
        y = self.first[0] + self.stride * jnp.arange(height, dtype=jnp.float32)
        x = self.first[1] + self.stride * jnp.arange(width, dtype=jnp.float32)
        return jnp.stack(jnp.broadcast_arrays(x[None, :], y[:, None]), axis=-1)


@functools.lru_cache(maxsize=256)
def value_shape(model: nn.Module, size: tuple[int, ...], endpoint: str | None = None, channels: int = 3
                ) -> tuple[int, ...]:
    """Returns the shape of an endpoint's value, or of what the model returns, for one image; computes nothing.

    Args:
      model: that is not bound.
      size: (height, width) of the image.
      endpoint: see stages.py; None for models that have none.
      channels: of the image.
    """
    key = jax.random.key(0)
    arguments = {} if endpoint is None else {'features': endpoint}
    images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    with watching(None):  # a detector asks for its body's grid while it is looked at itself
        return jax.eval_shape(lambda images: model.init_with_output({'params': key, 'dropout': key}, images,
                                                                    train=False, **arguments)[0], images).shape


@functools.lru_cache(maxsize=64)
def grid_of(body: nn.Module, endpoint: str, size: tuple[int, int]) -> Grid:
    """Returns the grid of an endpoint, from the shapes it has for images of various sizes; nothing is computed.

    A window of w pixels with a padding of p on both sides and a stride of s gives (side + 2 p - w) // s + 1 cells, of
    which the first is centred at (w - 2 p) / 2, and so do layers of such windows one after the other. So the side at
    which a cell more appears tells w - 2 p. Exact for layers that are padded alike on both sides; where 'SAME' pads
    one side more, off by half a pixel of that layer.

    Args:
      body: a network with endpoints, see stages.py, that is not bound.
      endpoint: whose value is a feature map, [batch, height, width, channels].
      size: (height, width) of images that it takes.
    """
    def cells(*size: int) -> tuple[int, int]:
        return value_shape(body, size, endpoint)[1:3]

    count, far = cells(*size), cells(size[0] + _FAR, size[1])
    stride = _FAR / (far[0] - count[0])
    begins = []  # the smallest side that gives as many cells
    for axis in (0, 1):
        low, high = 0, round(stride)  # beyond `size` by `high` pixels there is one more
        while high - low > 1:
            middle = (low + high) // 2
            larger = [side + middle * (axis == index) for index, side in enumerate(size)]
            low, high = (low, middle) if cells(*larger)[axis] > count[axis] else (middle, high)
        begins.append(size[axis] + high - stride)
    return Grid(stride, tuple((side - stride * (number - 1)) / 2 for side, number in zip(begins, count)))
