"""LeNet for small images, as Caffe and DIGITS train it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import ConvMaxPool, Dropout
from .net_surgery import check_window, flat_convolution
from .stages import mark


class LeNet(nn.Module):
    """Two 5x5 convolutions with max pooling, then two dense layers.

    LeCun et al. 1998, "Gradient-based learning applied to document recognition", in the form of
    Caffe's examples/mnist/lenet_train_test.prototxt: 20 and 50 features, 500 hidden units and a
    single ReLU, after the hidden layer.

    Endpoints to look at: conv1, conv2 (after pooling), dense1 (after the ReLU).

    Attributes:
      num_classes: number of logits.
      features: output channels of the two convolutions.
      hidden: width of the hidden dense layer.
      padding: of the convolutions; 'VALID' needs images of at least 16x16, 'SAME' of 4x4.
      relu_after_pool1: whether to put a second ReLU after the first pooling.
      dropout: rate of dropout after the hidden layer.
      window: height and width of windows, for logits [batch, rows, columns, num_classes] of every window of larger
        images, see net_surgery.py; () for logits of whole images.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    features: tuple[int, int] = (20, 50)
    hidden: int = 500
    padding: str = 'VALID'
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
        """
        x = images.astype(self.dtype)
        x = ConvMaxPool(self.features[0], 5, padding=self.padding, dtype=self.dtype, name='conv1')(x)
        x = mark('conv1', nn.relu(x) if self.relu_after_pool1 else x)
        x = mark('conv2', ConvMaxPool(self.features[1], 5, padding=self.padding, dtype=self.dtype, name='conv2')(x))
        if self.window:
            dense1 = flat_convolution(self.hidden, self._window_map(), kernel_init=nn.initializers.lecun_normal(),
                                      dtype=self.dtype, name='dense1')
        else:
            x = x.reshape(x.shape[0], -1)
            dense1 = nn.Dense(self.hidden, dtype=self.dtype, name='dense1')
        x = mark('dense1', nn.relu(dense1(x)))
        x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)

    def _window_map(self) -> tuple[int, int]:
        check_window(self.window)
        border = 4 if self.padding == 'VALID' else 0
        return tuple(((side - border) // 2 - border) // 2 for side in self.window)
