"""Detection of objects: for every cell of a feature map the classes of what is there, and its box."""

import functools
import inspect
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .grid import Grid, grid_of
from .layers import BatchNorm, Conv
from .stages import run_stages

_PRIOR = 0.02  # probability of every class in every cell before training, of which the first steps would else consist


class Detector(nn.Module):
    """A body, and a head of convolutions that says of each of its cells what is there and how far the box's sides are.

    One level of FCOS (Tian et al. 2019, "FCOS: fully convolutional one-stage object detection", section 3.1), with one
    tower for both outputs, no centre-ness, and BatchNorm; as in DetectNet (2016), no anchors. What a cell is to say is
    the task's affair, see tasks/detection.py.

    With `lateral` the body's endpoint is enlarged to the size of an earlier one and added to it, both projected to
    `width` channels (Lin et al. 2017, "Feature pyramid networks", section 3, one step): cells are half as far apart,
    for small objects.

    Endpoints: features (the body's; not with `lateral`), outputs.

    Attributes:
      num_classes: of objects, without a background.
      image_size: (height, width) of the images.
      body: a network with endpoints; any of those of classification.
      endpoint: of the body, a feature map.
      lateral: an earlier endpoint of the body with twice as many cells a side; '' for none.
      width: channels of the head's convolutions.
      depth: how many of them there are.
      dtype: of the computation; parameters and outputs are float32.
    """

    num_classes: int
    image_size: tuple[int, int]
    body: nn.Module
    endpoint: str
    lateral: str = ''
    width: int = 96
    depth: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> dict[str, jax.Array] | jax.Array:
        """Looks for objects.

        Args:
          images: float [batch, *image_size, channels]; or the value of endpoint `begin`.
          train: whether the body and BatchNorm train.
          features: endpoint whose value to return; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          The value of `features`, or a dict of float32 arrays:
            'logits' [batch, height, width, num_classes], of a class in a cell.
            'distances' [batch, height, width, 4], from the cell's centre to the left, top, right and bottom side of
              its box, in pixels, above 0.
            'centres' [batch, height, width, 2], x and y of the cells' centres in pixels.
            'stride' [batch], pixels between neighbouring cells.

        Raises:
          UserError: no such endpoint, or one without cells.
        """
        head = functools.partial(self._head, train=train)
        if self.lateral:
            stages = [('outputs', lambda images: head(self._top_down(images, train)))]
        else:
            stages = [('features', functools.partial(self._look, train=train)), ('outputs', head)]
        return run_stages(stages, images, begin=begin, features=features)

    def _look(self, images: jax.Array, train: bool, **way) -> jax.Array:
        if 'features' not in inspect.signature(type(self.body).__call__).parameters:
            raise UserError(f'config.model.body: {type(self.body).__name__} has no endpoints to look at, as those of '
                            'vgg or resnet')
        found = self.body(images, train=train, **({'features': self.endpoint} | way))
        if found.ndim != 4:
            raise UserError(f'config.model.endpoint = {self.endpoint!r} has no cells: name one of an earlier layer')
        return found

    def _top_down(self, images: jax.Array, train: bool) -> jax.Array:
        fine = self._look(images, train, features=self.lateral)
        coarse = self._look(fine, train, begin=self.lateral)
        height, width = fine.shape[1:3]
        if not all(side in (2 * below - 1, 2 * below, 2 * below + 1) for side, below in zip(
                (height, width), coarse.shape[1:3])):
            raise UserError(f'config.model.lateral = {self.lateral!r} has {height}x{width} cells and {self.endpoint!r} '
                            f'{coarse.shape[1]}x{coarse.shape[2]}: name the last endpoint with twice as many a side')
        fine, coarse = (Conv(self.width, 1, dtype=self.dtype, name=name)(self._normalize(x, train, f'{name}_norm'))
                        for name, x in (('fine', fine), ('coarse', coarse)))
        return fine + jax.image.resize(coarse, fine.shape, 'nearest')

    def _normalize(self, x: jax.Array, train: bool, name: str) -> jax.Array:
        """Brings a body's features to one scale: those after a ReLU are of any, up to hundreds."""
        return BatchNorm(not train, dtype=self.dtype, name=name)(x)

    def _head(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        grid = self._grid()
        if not self.lateral:
            x = self._normalize(x, train, 'features_norm')
        for number in range(1, self.depth + 1):
            x = Conv(self.width, 3, padding=1, use_bias=False, dtype=self.dtype, name=f'conv{number}')(x)
            x = nn.relu(BatchNorm(not train, dtype=self.dtype, name=f'bn{number}')(x))
        bias = nn.initializers.constant(-math.log((1 - _PRIOR) / _PRIOR))
        small = nn.initializers.normal(0.01)  # RetinaNet (Lin et al. 2017), section 4.1
        logits = Conv(self.num_classes, 1, kernel_init=small, bias_init=bias, dtype=self.dtype, name='logits')(x)
        raw = Conv(4, 1, kernel_init=small, bias_init=nn.initializers.ones, dtype=self.dtype, name='distances')(x)
        shape = logits.shape[:3]
        return {'logits': logits.astype(jnp.float32),
                # Linear for large objects, and above 0 for all: an exponential would overflow.
                'distances': 2 * grid.stride * nn.softplus(raw.astype(jnp.float32)),
                'centres': jnp.broadcast_to(grid.centres(*shape[1:]), (*shape, 2)),
                'stride': jnp.full(shape[:1], grid.stride, jnp.float32)}

    def _grid(self) -> Grid:
        return grid_of(self.body.clone(parent=None), self.lateral or self.endpoint, tuple(self.image_size))
