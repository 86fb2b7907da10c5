"""A transformer language model over words or characters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ..common.errors import UserError
from .attention import Block
from .layers import Dropout

Carry = dict[str, Any]


class Transformer(nn.Module):
    """Layers of causal self-attention that say what comes next, at every step of a text.

    Radford et al. 2019, "Language models are unsupervised multitask learners" (GPT-2): norms inside the branches and
    one before the logits, whose kernel is the embedding's transpose, weights that begin small and those at the ends of
    branches smaller. Instead of learned places, queries and keys are turned by theirs (rotary, see attention.py), so
    that a text may be of any length: every layer looks back at `context` tokens, wherever they are.

    What a layer has computed for a token, its key and value, does not depend on what comes later. The `carry` is that
    of the last tokens, so that going on costs the new tokens alone. A task that takes it along from window to window
    trains as Dai et al. 2019, "Transformer-XL", do: windows see what was before them, gradients do not.

    Attributes:
      vocabulary_size: number of tokens.
      width: of every token's vector.
      layers: number of layers.
      heads: of each layer's attention.
      context: tokens that a layer sees, the one that it is about included.
      dropout: rate, after the embedding, in and after every branch.
      dtype: of the computation; parameters and logits are float32.
    """

    vocabulary_size: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    context: int = 64
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, carry: Carry | None = None, *, train: bool = False) -> dict[str, Any]:
        """Reads on in some texts.

        Args:
          tokens: int32 [batch, steps].
          carry: what the call before returned, to go on from there; zeros or None to begin.
          train: whether dropout is active, which then needs a 'dropout' rng.

        Returns:
          'logits', float32 [batch, steps, vocabulary_size], of the token after each; 'carry', of the last context - 1
          tokens: 'past', keys and values of every layer, float32 [batch, context - 1, heads, width / heads], and
          'seen', [batch, context - 1], 1 where there is a token.

        Raises:
          UserError: fields that do not fit each other.
        """
        self._check()
        rows, steps = tokens.shape
        before = 0 if carry is None else self.context - 1
        distance = before + jnp.arange(steps)[:, None] - jnp.arange(before + steps)
        visible = (distance >= 0) & (distance < self.context)
        seen = jnp.ones((rows, steps))
        if carry is not None:
            seen = jnp.concatenate([carry['seen'], seen], axis=1)
            visible = visible & (seen[:, None] > 0)
        small, smaller = (nn.initializers.normal(0.02 * scale) for scale in (1.0, (2 * self.layers) ** -0.5))
        embed = nn.Embed(self.vocabulary_size, self.width, dtype=self.dtype, embedding_init=small, name='embedding')
        x = Dropout(self.dropout, name='input_dropout')(embed(tokens), train)
        past = []
        for index in range(self.layers):
            block = Block(self.heads, 4 * self.width, self.dropout, epsilon=1e-5, kernel_init=small, out_init=smaller,
                          dtype=self.dtype, name=f'block{index + 1}')
            given = None if carry is None else carry['past'][index]
            x, own = block(x, train=train, past=given, visible=visible, rotary=True)
            past.append(tuple(map(self._last, own if given is None else (
                jnp.concatenate([old, new.astype(old.dtype)], axis=1) for old, new in zip(given, own)))))
        logits = embed.attend(nn.LayerNorm(1e-5, dtype=self.dtype, name='norm')(x))
        return {'logits': logits.astype(jnp.float32), 'carry': {'past': tuple(past), 'seen': self._last(seen)}}

    def _last(self, values: jax.Array) -> jax.Array:
        """Returns what is kept of the values of all tokens, float32 [batch, context - 1, ...]; zeros before them."""
        kept = self.context - 1
        nothing = jnp.zeros((values.shape[0], kept, *values.shape[2:]))
        values = jnp.concatenate([nothing, values.astype(jnp.float32)], axis=1)
        return lax.slice_in_dim(values, values.shape[1] - kept, values.shape[1], axis=1)

    def _check(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise UserError(f'config.model.width = {self.width} must be an even number for each of '
                            f'config.model.heads = {self.heads}')
        if self.context < 2:
            raise UserError(f'config.model.context = {self.context}: a token sees at least itself and the one before')
