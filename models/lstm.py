"""LSTM language models over words or characters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest
from .layers import Dropout

INPUTS = ('embedding', 'one_hot')

Carry = tuple[tuple[jax.Array, jax.Array], ...]


class LSTM(nn.Module):
    """Layers of LSTM that say what comes next, at every step of a text.

    Zaremba et al. 2014, "Recurrent neural network regularization": dropout on what goes into each layer and into the
    logits, drawn anew at every step, and none on what a layer hands to its next step. The cells are flax's (Hochreiter
    and Schmidhuber 1997, with a forget gate).

    Attributes:
      vocabulary_size: number of tokens.
      hidden: units of each layer.
      layers: number of layers.
      inputs: what a token becomes: 'embedding', a learned vector, or 'one_hot', for small vocabularies such as
        characters.
      embedding: size of that vector.
      tied: whether the logits' kernel is the embedding's transpose (Press and Wolf 2017), which needs embeddings of
        the size of `hidden`.
      dropout: rate.
      init_scale: kernels and embeddings begin uniform in +- this, as in the paper (0.1 and 0.05); 0.0 for flax's
        initialisers.
      dtype: of the computation; parameters and logits are float32.
    """

    vocabulary_size: int
    hidden: int = 200
    layers: int = 2
    inputs: str = 'embedding'
    embedding: int = 200
    tied: bool = False
    dropout: float = 0.0
    init_scale: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, carry: Carry | None = None, *, train: bool = False) -> dict[str, Any]:
        """Reads on in some texts.

        Args:
          tokens: int32 [batch, steps].
          carry: what the call before returned, to go on from there; None to begin.
          train: whether dropout is active, which then needs a 'dropout' rng.

        Returns:
          'logits', float32 [batch, steps, vocabulary_size], of the token after each; 'carry', (cell state, output) of
          each layer, [batch, hidden].

        Raises:
          UserError: fields that do not fit each other.
        """
        self._check()
        kernels = {'kernel_init': _uniform(self.init_scale)} if self.init_scale else {}
        if self.inputs == 'embedding':
            scale = {'embedding_init': _uniform(self.init_scale)} if self.init_scale else {}
            embed = nn.Embed(self.vocabulary_size, self.embedding, dtype=self.dtype, name='embedding', **scale)
            x = self._drop(embed(tokens), 'input_dropout', train)
        else:
            x = jax.nn.one_hot(tokens, self.vocabulary_size, dtype=self.dtype)
        recurrent = {'recurrent_kernel_init': _uniform(self.init_scale)} if self.init_scale else {}
        carries = []
        for index in range(self.layers):
            cell = nn.OptimizedLSTMCell(self.hidden, dtype=self.dtype, name=f'lstm{index + 1}', **kernels, **recurrent)
            given = None if carry is None else jax.tree.map(lambda leaf: leaf.astype(self.dtype), carry[index])
            new, x = nn.RNN(cell, return_carry=True)(x, initial_carry=given)
            carries.append(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), new))
            x = self._drop(x, f'dropout{index + 1}', train)
        # All steps at once: inside the scan the logits would cost a sixth of the step more.
        if self.tied:
            bias = self.param('logits_bias', nn.initializers.zeros, (self.vocabulary_size,))
            logits = embed.attend(x) + bias
        else:
            logits = nn.Dense(self.vocabulary_size, dtype=self.dtype, name='logits', **kernels)(x)
        return {'logits': logits.astype(jnp.float32), 'carry': tuple(carries)}

    def _drop(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        return Dropout(self.dropout, name=name)(x, train=train)

    def _check(self) -> None:
        if self.inputs not in INPUTS:
            raise UserError(f'config.model.inputs = {self.inputs!r}; {nearest(self.inputs, INPUTS)}')
        if self.tied and (self.inputs != 'embedding' or self.embedding != self.hidden):
            raise UserError("config.model.tied needs config.model.inputs = 'embedding' and embeddings of the size of "
                            f'config.model.hidden, {self.hidden}, not {self.embedding}')
        if self.init_scale < 0:
            raise UserError(f'config.model.init_scale = {self.init_scale}: it must not be negative')


def _uniform(scale: float) -> jax.nn.initializers.Initializer:
    """Uniform in +- scale."""
    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -scale, scale)
    return init
