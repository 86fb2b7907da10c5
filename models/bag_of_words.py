"""A text as the words that are in it, whatever their order: what a network that reads must do better than."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import Dropout
from .stages import run_stages
from .text_lstm import PAD


class BagOfWords(nn.Module):
    """The mean of the vectors of a text's words, and a class for it (Joulin et al. 2016, "Bag of tricks", without
    n-grams).

    Endpoints: summary, [batch, embedding]; hidden, [batch, hidden], if there is such a layer; logits.

    Attributes:
      input_vocabulary_size: number of tokens that are read.
      num_classes: number of classes.
      embedding: size of the vectors of words.
      hidden: units of layers of ReLU between the mean and the logits; () for none.
      dropout: rate of dropout before the logits.
      dtype: of the computation; parameters and logits are float32.
    """

    input_vocabulary_size: int
    num_classes: int
    embedding: int = 128
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool = False, features: str | None = None, begin: str | None = None
                 ) -> jax.Array:
        """Reads texts; see `TextLSTM`."""
        stages = [('summary', self._summary)]
        if self.hidden:
            stages.append(('hidden', self._hidden))
        stages.append(('logits', functools.partial(self._classify, train=train)))
        return run_stages(stages, tokens, begin=begin, features=features)

    def _summary(self, tokens: jax.Array) -> jax.Array:
        there = (tokens != PAD)[..., None]
        words = nn.Embed(self.input_vocabulary_size, self.embedding, dtype=self.dtype, name='embedding',
                         embedding_init=nn.initializers.normal(1.0))(tokens)
        return jnp.sum(words, axis=1, where=there) / jnp.maximum(there.sum(axis=1), 1)

    def _hidden(self, x: jax.Array) -> jax.Array:
        for number, size in enumerate(self.hidden, start=1):
            x = nn.relu(nn.Dense(size, dtype=self.dtype, name=f'hidden{number}')(x))
        return x

    def _classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Dropout(self.dropout, name='dropout')(x, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
