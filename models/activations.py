"""The activation functions that `config.model.activation` can name."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest


def scaled_tanh(x: jax.Array) -> jax.Array:
    """1.7159 tanh(2/3 x), which is 1 at 1 and -1 at -1 (LeCun et al. 1998, appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'elu': nn.elu,
    'gelu': nn.gelu,  # the approximation by tanh
    'leaky_relu': nn.leaky_relu,  # 0.01 x below 0
    'relu': nn.relu,
    'scaled_tanh': scaled_tanh,
    'selu': nn.selu,
    'sigmoid': nn.sigmoid,
    'silu': nn.silu,
    'softplus': nn.softplus,
    'tanh': nn.tanh,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """Returns the function that config.model.activation names. Raises UserError: there is none of that name."""
    if name not in ACTIVATIONS:
        raise UserError(f'config.model.activation = {name!r}; {nearest(name, list(ACTIVATIONS))}')
    return ACTIVATIONS[name]
