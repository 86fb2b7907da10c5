"""R-CNN's network: what a region of an image shows, and where the object's box is."""

import functools
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .layers import BatchNorm, Dropout
from .stages import run_stages


class RCNN(nn.Module):
    """A body, and a head of dense layers with two outputs.

    Girshick et al. 2014, "Rich feature hierarchies for accurate object detection and semantic segmentation", where
    every region goes through the whole network. As in Girshick 2015, "Fast R-CNN", a softmax with a class for the
    background takes the place of one SVM for each class, and it and the boxes are learned together, from one layer; in
    2014 boxes are regressed from pool5, afterwards. BatchNorm brings the body's features to one scale, which neither
    has: a new head on a frozen body then learns faster.

    Endpoints: features (the body's), fc6, fc7 and so on, one for each of `hidden`, then outputs.

    Attributes:
      num_classes: the background among them, as the first.
      body: a network with endpoints; any of those of classification.
      endpoint: of the body, a feature map or a vector.
      hidden: sizes of the dense layers.
      dropout: rate, after each of them.
      dtype: of the computation; parameters and outputs are float32.
    """

    num_classes: int
    body: nn.Module
    endpoint: str
    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> dict[str, jax.Array] | jax.Array:
        """Looks at regions, each of them cut out of its image.

        Args:
          images: float [batch, height, width, channels]; or the value of endpoint `begin`.
          train: whether the body, BatchNorm and dropout train.
          features: endpoint whose value to return; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          The value of `features`, or a dict of float32 arrays: 'logits' [batch, num_classes], and 'box_offsets' [batch,
          num_classes - 1, 4], what of each class of objects the region's 'box_target' is, see region_source.py.

        Raises:
          UserError: no such endpoint.
        """
        stages = [('features', functools.partial(self._look, train=train))]
        stages += [(f'fc{6 + index}', functools.partial(self._dense, index, train))
                   for index in range(len(self.hidden))]
        return run_stages([*stages, ('outputs', functools.partial(self._outputs, train))], images, begin=begin,
                          features=features)

    def _look(self, images: jax.Array, train: bool) -> jax.Array:
        if 'features' not in inspect.signature(type(self.body).__call__).parameters:
            raise UserError(f'config.model.body: {type(self.body).__name__} has no endpoints to look at, as those of '
                            'vgg or resnet')
        return self.body(images, train=train, features=self.endpoint)

    def _flatten(self, x: jax.Array, train: bool) -> jax.Array:
        x = BatchNorm(not train, dtype=self.dtype, name='features_norm')(x)
        return x.reshape(x.shape[0], -1)

    def _dense(self, index: int, train: bool, x: jax.Array) -> jax.Array:
        x = x if index else self._flatten(x, train)
        x = nn.relu(nn.Dense(self.hidden[index], dtype=self.dtype, kernel_init=nn.initializers.he_normal(),
                             name=f'fc{6 + index}')(x))
        return Dropout(self.dropout, name=f'fc{6 + index}_dropout')(x, train)

    def _outputs(self, train: bool, x: jax.Array) -> dict[str, jax.Array]:
        x = x if self.hidden else self._flatten(x, train)
        small = [nn.initializers.normal(scale) for scale in (0.01, 0.001)]  # Fast R-CNN, section 4
        logits = nn.Dense(self.num_classes, kernel_init=small[0], dtype=self.dtype, name='logits')(x)
        offsets = nn.Dense(4 * (self.num_classes - 1), kernel_init=small[1], dtype=self.dtype, name='box_offsets')(x)
        return {'logits': logits.astype(jnp.float32),
                'box_offsets': offsets.astype(jnp.float32).reshape(x.shape[0], -1, 4)}
