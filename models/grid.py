"""Where the cells of a network's feature map lie in its input."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

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
    def cells(height: int, width: int) -> tuple[int, int]:
        def init(image: Any):
            key = jax.random.key(0)
            keys = {'params': key, 'dropout': key}
            return body.init_with_output(keys, image, train=False, features=endpoint)[0]
        return jax.eval_shape(init, jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)).shape[1:3]

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
