"""Classifiers made fully convolutional: what a network says of one image, said of every window of a larger one.

"Net surgery". A dense layer on a flattened feature map is a convolution whose kernel is as large as that map; a dense
layer after it is a convolution of 1x1, which is the same layer at every pixel; and pooling over all pixels is pooling
over windows of the map. Then neighbouring windows share what they have in common (Sermanet et al. 2014, "OverFeat",
section 3.5; Long et al. 2015, "Fully convolutional networks for semantic segmentation", section 3.1).

Models have a field `window` for it: (height, width) of the images that the network classifies, () for a classifier of
whole images. With it, logits are [batch, rows, columns, num_classes], those of the windows whose corners lie on a grid
of `window_stride` pixels. Parameters keep their names; kernels after a flattened map have another shape, see
`as_convolution`.

Logits are those of each window by itself, up to rounding, if the network has no padding. With padding, a convolution
sees zeros at the edges of a window that is alone, and the neighbourhood where it is part of a larger image.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError
from .grid import value_shape
from .layers import Conv
from .pooling import window_weights

_FAR = 20_160  # pixels: a multiple of all strides that networks have


def window_map(model: nn.Module, endpoint: str) -> tuple[int, int]:
    """Returns the height and width of an endpoint's feature map for one window of a model with `window`.

    Raises:
      UserError: a window that is no (height, width), or too small for the network.
    """
    check_window(model.window)
    return value_shape(model.clone(window=()), model.window, endpoint)[1:3]


def check_window(window: tuple[int, ...]) -> None:
    """Raises UserError unless a window has a height and a width."""
    if len(window) != 2:
        raise UserError(f'config.model.window = {window}: give a height and a width, or () for whole images')


def flat_convolution(features: int, size: tuple[int, int], averaged_to: tuple[int, int] | None = None, **fields: Any
                     ) -> Conv:
    """Returns a convolution that is `nn.Dense` of every flattened part of a map.

    Args:
      features: output channels.
      size: height and width of the parts.
      averaged_to: what the dense layer's input is averaged to before, see `adaptive_average_pool`; as averaging is
        linear, it is done to the kernel. `size` itself by default.
      **fields: of the layer; its kernel is [*averaged_to, channels, features].
    """
    if averaged_to in (None, size):
        return Conv(features, size, padding='VALID', **fields)

    def averaging_first(x, kernel, *arguments, **settings):
        rows, columns = (jnp.asarray(window_weights(*pair), kernel.dtype) for pair in zip(size, averaged_to))
        kernel = jnp.einsum('io,jp,opcn->ijcn', rows, columns, kernel, precision='highest')
        return Conv.conv_general_dilated(x, kernel, *arguments, **settings)

    return Conv(features, averaged_to, padding='VALID', conv_general_dilated=averaging_first, **fields)


def window_stride(model: nn.Module, channels: int) -> int:
    """Returns how many pixels lie between the windows of a model with `window`, its total stride; computes nothing.

    Args:
      model: whose windows count.
      channels: of its images.

    Raises:
      UserError: the windows lie on no regular grid.
    """
    def grid(pixels: int) -> tuple[int, ...]:
        return value_shape(model, tuple(side + pixels for side in model.window), None, channels)[1:3]

    further = grid(_FAR)[0] - 1
    stride = max(1, round(_FAR / max(1, further)))
    if any(grid(stride * count) != (1 + count, 1 + count) for count in (0, 1, 2, 5)):
        raise UserError(f'{type(model).__name__} does not look at windows of {model.window[0]}x{model.window[1]} '
                        'pixels on a regular grid')
    return stride


def as_convolution(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the kernel of a dense layer on a flattened map, [height * width * channels, n], as [height, width,
    channels, n]; None where this is not what a parameter of this shape needs."""
    if kernel.ndim == 2 and len(shape) == 4 and kernel.shape == (math.prod(shape[:3]), shape[3]):
        return kernel.reshape(shape)
    return None
