"""Multilayer perceptron."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import Dropout
from .stages import mark


class MLP(nn.Module):
    """Dense layers with ReLU on flattened inputs.

    Endpoints to look at: dense1, dense2, ... (after the ReLU).

    Attributes:
      num_classes: number of logits.
      hidden: widths of the hidden layers.
      dropout: rate of dropout after each hidden layer.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    hidden: tuple[int, ...] = (512, 512)
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
        """Classifies inputs.

        Args:
          inputs: float [batch, ...]; all axes but the first are flattened.
          train: whether dropout is active; it then needs a 'dropout' rng.

        Returns:
          Logits, float32 [batch, num_classes].
        """
        x = inputs.astype(self.dtype).reshape(inputs.shape[0], -1)
        for i, width in enumerate(self.hidden):
            x = mark(f'dense{i + 1}', nn.relu(nn.Dense(width, dtype=self.dtype, name=f'dense{i + 1}')(x)))
            x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
