"""The blocks of transformers: self-attention and a small network for every place, each beside a shortcut."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ..common.errors import UserError
from .layers import Dropout

KeysAndValues = tuple[jax.Array, jax.Array]


class SelfAttention(nn.Module):
    """Every place of a sequence asks all others (Vaswani et al. 2017, "Attention is all you need", section 3.2.2).

    Attributes:
      heads: that ask independently, each with its share of the width.
      kernel_init, out_init: of the kernels that ask, and of the one that brings the answers together.
      dtype: of the computation; weights of the answers are float32.
    """

    heads: int
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
    out_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, past: KeysAndValues | None = None, visible: jax.Array | None = None,
                 rotary: bool = False) -> tuple[jax.Array, KeysAndValues]:
        """Asks.

        Args:
          x: float [batch, places, width].
          past: keys and values of places before these, [batch, before, heads, width / heads].
          visible: bool, [places, before + places] or with the batch before: which places see which; None for all.
          rotary: whether queries and keys are turned by their places, see `rotated`.

        Returns:
          float [batch, places, width], and the keys and values of these places, before they are turned.
        """
        *outer, width = x.shape
        if width % self.heads:
            raise UserError(f'config.model.width = {width} cannot be divided among config.model.heads = {self.heads}')
        size = width // self.heads
        asked = nn.Dense(3 * width, kernel_init=self.kernel_init, dtype=self.dtype, name='qkv')(x)
        queries, keys, values = (asked[..., part * width:(part + 1) * width].reshape(*outer, self.heads, size)
                                 for part in range(3))
        own = keys, values
        if past is not None:
            keys, values = (jnp.concatenate([old.astype(new.dtype), new], axis=1) for old, new in zip(past, own))
        if rotary:
            before = keys.shape[1] - queries.shape[1]
            queries, keys = rotated(queries, before), rotated(keys, 0)
        scores = jnp.einsum('bqhs,bkhs->bhqk', queries * size ** -0.5, keys).astype(jnp.float32)
        if visible is not None:
            scores = jnp.where(visible if visible.ndim == 2 else visible[:, None], scores, -jnp.inf)
        weights = nn.softmax(scores, axis=-1).astype(values.dtype)
        answers = jnp.einsum('bhqk,bkhs->bqhs', weights, values).reshape(*outer, width)
        return nn.Dense(width, kernel_init=self.out_init, dtype=self.dtype, name='out')(answers), own


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): a transformer's layer with its norms inside the branches.

    Attributes:
      heads: of the attention.
      hidden: units of the MLP, with exact GELUs.
      dropout: rate at the end of both branches and after the GELU.
      drop_path: probability of leaving out a branch of an example, see `StochasticDepth`.
      epsilon: of the norms.
      kernel_init, out_init: of kernels, and of those that a branch ends with.
      dtype: of the computation.
    """

    heads: int
    hidden: int
    dropout: float = 0.0
    drop_path: float = 0.0
    epsilon: float = 1e-6
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
    out_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, **how) -> tuple[jax.Array, KeysAndValues]:
        """Maps x, float [batch, places, width], as `SelfAttention` does, whose other arguments are in `how`."""
        def end(branch: jax.Array, name: str) -> jax.Array:
            branch = Dropout(self.dropout, name=f'{name}_dropout')(branch, train)
            return StochasticDepth(self.drop_path, name=f'{name}_depth')(branch, train)

        def norm(name: str) -> Callable:
            return nn.LayerNorm(self.epsilon, dtype=self.dtype, name=name)

        y, own = SelfAttention(self.heads, self.kernel_init, self.out_init, self.dtype, name='attention')(
            norm('norm1')(x), **how)
        x = x + end(y, 'attention')
        y = nn.Dense(self.hidden, kernel_init=self.kernel_init, dtype=self.dtype, name='dense1')(norm('norm2')(x))
        y = Dropout(self.dropout, name='gelu_dropout')(gelu(y), train)
        y = nn.Dense(x.shape[-1], kernel_init=self.out_init, dtype=self.dtype, name='dense2')(y)
        return x + end(y, 'mlp'), own


class StochasticDepth(nn.Module):
    """Leaves a whole branch out for some examples of a training batch; what is kept is divided by 1 - rate.

    Huang et al. 2016, "Deep networks with stochastic depth". Which examples does not depend on the devices, see
    `Dropout`.

    Attributes:
      rate: probability of leaving a branch out, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, branch: jax.Array, train: bool) -> jax.Array:
        """Returns the branch, float [batch, ...], or zeros in its place."""
        if not train or self.rate == 0.0:
            return branch
        kept = jnp.ones((branch.shape[0], *(1,) * (branch.ndim - 1)), branch.dtype)
        return branch * Dropout(self.rate)(kept, train)


def rotated(x: jax.Array, first: int) -> jax.Array:
    """Turns queries or keys by angles in proportion to their places: what one says of another is of their distance.

    Su et al. 2021, "RoFormer: enhanced transformer with rotary position embedding", section 3.2.2; the two halves of a
    head are the pairs, as in GPT-NeoX.

    Args:
      x: float [batch, places, heads, size], of an even size.
      first: the first one's place.
    """
    half = x.shape[-1] // 2
    places = (first + jnp.arange(x.shape[1])).astype(jnp.float32)
    angles = places[:, None, None] * 10_000.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def gelu(x: jax.Array) -> jax.Array:
    """Returns x times the probability that a standard normal number is less than x (Hendrycks and Gimpel 2016).

    Equals nn.gelu with approximate=False but for its erfc, which takes CPUs ten times as long, and which ONNX lacks.
    """
    return 0.5 * x * (1 + lax.erf(x * 0.5 ** 0.5))


def drop_rates(last: float, blocks: int) -> list[float]:
    """Returns the rate of `StochasticDepth` of every block, from 0 in equal steps to the last one's."""
    if not 0 <= last < 1:
        raise UserError(f'config.model.drop_path = {last}: it must be in [0, 1)')
    return [last * index / max(1, blocks - 1) for index in range(blocks)]
