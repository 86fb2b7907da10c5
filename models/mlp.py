"""Multilayer perceptron."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .activations import activation
from .layers import Dropout
from .stages import mark


class MLP(nn.Module):
    """Dense layers on flattened inputs.

    Endpoints to look at: dense1, dense2, ... (after the activation).

    Attributes:
      num_classes: number of logits.
      hidden: widths of the hidden layers.
      dropout: rate of dropout after each hidden layer.
      activation: of the hidden layers, a name in activations.py.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    hidden: tuple[int, ...] = (512, 512)
    dropout: float = 0.0
    activation: str = 'relu'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
        """Classifies inputs.

        Args:
          inputs: float [batch, ...]; all axes but the first are flattened.
          train: whether dropout is active; it then needs a 'dropout' rng.

        Returns:
          Logits, float32 [batch, num_classes].

        Raises:
          UserError: unknown activation.
        """
        act = activation(self.activation)
        x = inputs.astype(self.dtype).reshape(inputs.shape[0], -1)
        for i, width in enumerate(self.hidden):
            x = nn.Dense(width, dtype=self.dtype, name=f'dense{i + 1}')(x)
            x = mark(f'dense{i + 1}', act(x))
            x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
