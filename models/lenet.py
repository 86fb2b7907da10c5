"""LeNet for small images: as Caffe and DIGITS train it, and LeNet-5 as it was published."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest
from .activations import activation
from .layers import Conv, ConvMaxPool, Dropout, max_pool
from .net_surgery import check_window, flat_convolution, window_map
from .stages import mark, run_stages

SUBSAMPLINGS = ('average', 'trained', 'max')


class LeNet(nn.Module):
    """Two 5x5 convolutions with max pooling, then two dense layers.

    LeCun et al. 1998, "Gradient-based learning applied to document recognition", in the form of
    Caffe's examples/mnist/lenet_train_test.prototxt: 20 and 50 features, 500 hidden units and a
    single activation, after the hidden layer.

    Endpoints to look at: conv1, conv2 (after pooling), dense1 (after the activation).

    Attributes:
      num_classes: number of logits.
      features: output channels of the two convolutions.
      hidden: width of the hidden dense layer.
      padding: of the convolutions; 'VALID' needs images of at least 16x16, 'SAME' of 4x4.
      activation: after the hidden layer, a name in activations.py.
      relu_after_pool1: whether to put a second activation after the first pooling.
      dropout: rate of dropout after the hidden layer.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    features: tuple[int, int] = (20, 50)
    hidden: int = 500
    padding: str = 'VALID'
    activation: str = 'relu'
    relu_after_pool1: bool = False
    dropout: float = 0.0
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels].
          train: whether dropout is active; it then needs a 'dropout' rng.

        Returns:
          Logits, float32 [batch, num_classes].

        Raises:
          UserError: unknown activation.
        """
        act = activation(self.activation)
        x = images.astype(self.dtype)
        x = ConvMaxPool(self.features[0], 5, padding=self.padding, dtype=self.dtype, name='conv1')(x)
        x = mark('conv1', act(x) if self.relu_after_pool1 else x)
        x = mark('conv2', ConvMaxPool(self.features[1], 5, padding=self.padding, dtype=self.dtype, name='conv2')(x))
        if self.window:
            dense1 = flat_convolution(self.hidden, self._window_map(), kernel_init=nn.initializers.lecun_normal(),
                                      dtype=self.dtype, name='dense1')
        else:
            x = x.reshape(x.shape[0], -1)
            dense1 = nn.Dense(self.hidden, dtype=self.dtype, name='dense1')
        x = mark('dense1', act(dense1(x)))
        x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)

    def _window_map(self) -> tuple[int, int]:
        check_window(self.window)
        border = 4 if self.padding == 'VALID' else 0
        return tuple(((side - border) // 2 - border) // 2 for side in self.window)


class LeNet5(nn.Module):
    """Two 5x5 convolutions, each with subsampling, then three dense layers.

    LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B, with two changes that
    are usual: the second convolution sees all six maps where the paper's table I connects some, and the outputs are
    logits where the paper has radial basis functions. 61,706 parameters for 10 classes, 44 more with trained
    subsampling. The third convolution of the paper, C5, whose kernel is as large as its input, is dense1 here.

    Endpoints: conv1, pool1, conv2, pool2, dense1, dense2, logits; all but the pools and the logits are values after the
    activation, and the pools as well where subsampling is trained.

    Attributes:
      num_classes: number of logits.
      features: output channels of the two convolutions.
      hidden: widths of the hidden dense layers.
      activation: of all layers but the logits, a name in activations.py; the paper's is 'scaled_tanh'.
      subsampling: how 2x2 pixels become one: 'average'; 'trained', the average times a number plus a number, both
        learned for each map, and the activation, as in the paper; or 'max'.
      padding: of the first convolution: 'SAME' for digits of 28x28, as the paper puts them into 32x32, or 'VALID'.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    features: tuple[int, int] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    activation: str = 'tanh'
    subsampling: str = 'average'
    padding: str = 'SAME'
    window: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], at least 12x12 pixels, 16x16 with padding 'VALID'; or the
            value of endpoint `begin`.
          train: changes nothing.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of `features`.

        Raises:
          UserError: no such endpoint, activation, subsampling or padding, or images that are too small.
        """
        del train
        if self.subsampling not in SUBSAMPLINGS:
            raise UserError(f'config.model.subsampling = {self.subsampling!r}; '
                            f'{nearest(self.subsampling, list(SUBSAMPLINGS))}')
        if self.padding not in ('SAME', 'VALID'):
            raise UserError(f"config.model.padding = {self.padding!r}; it must be 'SAME' or 'VALID'")
        window = window_map(self, 'pool2') if self.window else None
        stages = [
            ('conv1', functools.partial(self._convolve, 'conv1', 2 if self.padding == 'SAME' else 0)),
            ('pool1', functools.partial(self._subsample, 'pool1')),
            ('conv2', functools.partial(self._convolve, 'conv2', 0)),
            ('pool2', functools.partial(self._subsample, 'pool2')),
        ]
        for number, width in enumerate((*self.hidden, self.num_classes), start=1):
            name = f'dense{number}' if number <= len(self.hidden) else 'logits'
            stages.append((name, functools.partial(self._dense, name, width, window, number == 1)))
        return run_stages(stages, images, begin=begin, features=features)

    def _convolve(self, name, padding, x):
        if min(x.shape[1:3]) + 2 * padding < 6:  # less than a kernel and one more, to be subsampled
            least = 12 if self.padding == 'SAME' else 16
            raise UserError(f'lenet5 needs images of at least {least}x{least} pixels: config.image.size')
        features = self.features[int(name[-1]) - 1]
        return activation(self.activation)(Conv(features, 5, padding=padding, dtype=self.dtype, name=name,
                                                kernel_init=nn.initializers.lecun_normal())(x))

    def _subsample(self, name, x):
        if self.subsampling == 'max':
            return max_pool(x, 2, 2)
        x = nn.avg_pool(x, (2, 2), (2, 2))
        if self.subsampling == 'average':
            return x
        return activation(self.activation)(_Affine(self.dtype, name=name)(x))

    def _dense(self, name, width, window, first, x):
        layer = functools.partial(flat_convolution, size=window) if first and window else nn.Dense
        if first and not window:
            x = x.reshape(x.shape[0], -1)
        x = layer(width, dtype=self.dtype, kernel_init=nn.initializers.lecun_normal(), name=name)(x)
        return x.astype(jnp.float32) if name == 'logits' else activation(self.activation)(x)


class _Affine(nn.Module):
    """A factor and a summand for each channel."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        scale = self.param('scale', nn.initializers.ones_init(), x.shape[-1:])
        bias = self.param('bias', nn.initializers.zeros_init(), x.shape[-1:])
        return x * scale.astype(self.dtype) + bias.astype(self.dtype)
