"""Residual networks."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .activations import activation
from .layers import BatchNorm, Conv, max_pool
from .net_surgery import window_map
from .pooling import global_pool
from .stages import Stage, run_stages

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CIFAR_DEPTHS = (20, 32, 44, 56, 110)
STEMS = ('imagenet', 'cifar')

ARCHITECTURES = {f'resnet{depth}': {'name': 'resnet', 'depth': depth} for depth in BLOCKS}


class ResNet(nn.Module):
    """A residual network for images of about 224 pixels, or with another stem of about 32.

    He et al. 2016, "Deep residual learning for image recognition", table 1, in the form called v1.5: bottlenecks have
    their stride in the 3x3 convolution. torchvision's weights fit.

    Endpoints: 'stem', every block as 'layer1_block0' and so on (counted as torchvision does), the last block of each
    layer also as 'layer1' to 'layer4', 'pool' (the mean over pixels, [batch, channels]) and 'logits'.

    Attributes:
      num_classes: number of logits.
      depth: 18 or 34 (blocks of two 3x3 convolutions), 50, 101 or 152 (bottlenecks).
      stem: 'imagenet' (7x7 convolution and max pooling, down to a quarter of the resolution) or 'cifar' (3x3
        convolution at full resolution, for images of about 32 pixels).
      width: channels of the stem and, before the factor 4 of bottlenecks, of layer1; doubled from layer to layer.
      zero_init: whether every block begins as its shortcut, the scale of its last BatchNorm being zero (Goyal et al.
        2017, section 5.1).
      residual: whether blocks have shortcuts; without them it is the plain network of figure 3 in the paper.
      activation: in the place of the ReLUs, a name in activations.py.
      frozen_norm: whether BatchNorm uses its running averages in training too, for fine-tuning.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    depth: int = 50
    stem: str = 'imagenet'
    width: int = 64
    zero_init: bool = False
    residual: bool = True
    activation: str = 'relu'
    frozen_norm: bool = False
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], of any size; or the value of endpoint `begin`.
          train: whether BatchNorm uses the statistics of the batch, and updates its averages in the collection
            'batch_stats'.
          features: endpoint whose value to return instead of logits.
          begin: endpoint that `images` already is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of endpoint `features`.

        Raises:
          UserError: unknown depth, stem, activation or endpoint, or zero_init where there are no shortcuts.
        """
        _check('depth', self.depth, BLOCKS)
        _check('stem', self.stem, STEMS)
        conv, norm, act = _layers(self, train)
        cifar = self.stem == 'cifar'

        def stem(x):
            x = conv(self.width, *((3, 1, 1) if cifar else (7, 2, 3)), name='conv1')(x.astype(self.dtype))
            x = act(norm(name='bn1')(x))
            return x if cifar else max_pool(x, 3, 2, 1)

        stages = [('stem', stem)]
        block = functools.partial(BasicBlock if self.depth < 50 else Bottleneck, act=act, residual=self.residual)
        for layer, blocks in enumerate(BLOCKS[self.depth]):
            for number in range(blocks):
                name = f'layer{layer + 1}_block{number}'
                stride = 2 if layer > 0 and number == 0 else 1
                stages.append((name, block(self.width * 2 ** layer, stride, conv, norm, self.zero_init, name=name)))
            stages.append((f'layer{layer + 1}', _identity))
        return run_stages(stages + _head(self, stages[-1][0]), images, begin=begin, features=features)

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """(pattern, replacement) that turn names of torchvision's modules into ours."""
        return ((r'(conv1|bn1)', r'\1'), ('fc', 'logits'),
                (r'layer(\d)\.(\d+)\.(conv\d|bn\d)', r'layer\1_block\2/\3'),
                (r'layer(\d)\.(\d+)\.downsample\.0', r'layer\1_block\2/shortcut_conv'),
                (r'layer(\d)\.(\d+)\.downsample\.1', r'layer\1_block\2/shortcut_bn'))

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        """No dense layer has a flattened feature map as its input."""
        return {}


class CifarResNet(nn.Module):
    """The thin residual network for images of 32 pixels.

    He et al. 2016, section 4.2: three layers of 16, 32 and 64 channels; shortcuts without parameters (option A: pixels
    are skipped and channels filled up with zeros).

    Endpoints: 'stem', every block as 'layer1_block0' and so on, the last block of each layer also as 'layer1' to
    'layer3', 'pool' (the mean over pixels, [batch, 64]) and 'logits'.

    Attributes:
      num_classes: number of logits.
      depth: 20, 32, 44, 56 or 110.
      zero_init, residual, activation, frozen_norm, window, dtype: as of ResNet.
    """

    num_classes: int
    depth: int = 20
    zero_init: bool = False
    residual: bool = True
    activation: str = 'relu'
    frozen_norm: bool = False
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images; arguments and results as of ResNet."""
        _check('depth', self.depth, CIFAR_DEPTHS)
        conv, norm, act = _layers(self, train)
        stages = [('stem', lambda x: act(norm(name='bn1')(
            conv(16, 3, 1, 1, name='conv1')(x.astype(self.dtype)))))]
        for layer in range(3):
            for number in range((self.depth - 2) // 6):
                name = f'layer{layer + 1}_block{number}'
                stride = 2 if layer > 0 and number == 0 else 1
                stages.append((name, BasicBlock(16 * 2 ** layer, stride, conv, norm, self.zero_init,
                                                act, self.residual, projection=False, name=name)))
            stages.append((f'layer{layer + 1}', _identity))
        return run_stages(stages + _head(self, stages[-1][0]), images, begin=begin, features=features)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left).

    Attributes:
      width: output channels.
      stride: of the first convolution and of the shortcut.
      conv, norm: make the layers.
      zero_init: whether the block begins as its shortcut.
      act: the activation.
      residual: whether there is a shortcut.
      projection: whether a shortcut between different shapes is a convolution (option B) or has no parameters (A).
    """

    width: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    zero_init: bool
    act: Callable[[jax.Array], jax.Array]
    residual: bool
    projection: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.act(self.norm(name='bn1')(self.conv(self.width, 3, self.stride, 1, name='conv1')(x)))
        y = self.conv(self.width, 3, 1, 1, name='conv2')(y)
        y = self.norm(scale_init=_last_scale(self.zero_init), name='bn2')(y)
        if not self.residual:
            return self.act(y)
        if self.projection:
            return self.act(y + _projection(self, x, self.width))
        channels = (0, self.width - x.shape[-1])
        return self.act(y + jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), channels)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (He et al. 2016, figure 5 right), with 4 * width output channels.

    Attributes: as of BasicBlock; the stride is that of the 3x3 convolution.
    """

    width: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    zero_init: bool
    act: Callable[[jax.Array], jax.Array]
    residual: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.act(self.norm(name='bn1')(self.conv(self.width, 1, name='conv1')(x)))
        y = self.act(self.norm(name='bn2')(self.conv(self.width, 3, self.stride, 1, name='conv2')(y)))
        y = self.conv(4 * self.width, 1, name='conv3')(y)
        y = self.norm(scale_init=_last_scale(self.zero_init), name='bn3')(y)
        return self.act(y + _projection(self, x, 4 * self.width) if self.residual else y)


def _projection(block, x, width):
    """The shortcut: x itself where shapes allow, else a 1x1 convolution (option B)."""
    if block.stride == 1 and x.shape[-1] == width:
        return x
    return block.norm(name='shortcut_bn')(block.conv(width, 1, block.stride, name='shortcut_conv')(x))


def _layers(model, train):
    """Makers of convolutions and normalisations, and the activation."""
    if model.zero_init and not model.residual:
        raise UserError('config.model.zero_init = True makes blocks begin as their shortcuts, and config.model.residual'
                        ' = False leaves them none: a network of zeros learns nothing')
    return (functools.partial(Conv, use_bias=False, dtype=model.dtype),
            functools.partial(BatchNorm, not train or model.frozen_norm, dtype=model.dtype),
            activation(model.activation))


def _head(model, endpoint) -> list[Stage]:
    window = window_map(model, endpoint) if model.window else None
    return [('pool', lambda x: global_pool(x.astype(jnp.float32), 'average', window)),
            ('logits', lambda x: nn.Dense(model.num_classes, name='logits')(x))]


def _last_scale(zero_init):
    return nn.initializers.zeros_init() if zero_init else nn.initializers.ones_init()


def _identity(x):
    return x


def _check(field, value, choices):
    if value not in choices:
        raise UserError(f'config.model.{field} = {value!r}; it must be one of {", ".join(map(str, choices))}')
