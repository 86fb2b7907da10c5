"""LSTMs that read a text in both directions: what its words mean where they stand, and what it is about."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import Dropout
from .stages import run_stages

PAD = 0  # what follows a text; models/ knows no vocabulary, but all of ours begin with <pad>

States = dict[str, jax.Array]


class TextLSTM(nn.Module):
    """Bidirectional LSTM layers over the tokens of a text, and a class for it.

    Schuster and Paliwal 1997, "Bidirectional recurrent neural networks"; as the encoder of a translator in Bahdanau et
    al. 2015, section 3.2. Padding is not read: neither direction changes its state there, so that what is said of a
    text does not depend on the length of those beside it.

    Endpoints: states, a dict of 'states', float [batch, length, 2 * hidden], zero beyond the end of a text, and 'mask',
    bool [batch, length]; summary, the state at the end of each direction, [batch, 2 * hidden]; logits.

    Attributes:
      input_vocabulary_size: number of tokens that are read.
      num_classes: number of classes.
      hidden: units of each direction.
      embedding: size of the vectors of words.
      layers: number of layers, of two directions each.
      dropout: rate of dropout on what goes into each layer and into the logits.
      dtype: of the computation; parameters, the LSTM's state and logits are float32.
    """

    input_vocabulary_size: int
    num_classes: int
    hidden: int = 128
    embedding: int = 128
    layers: int = 1
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool = False, features: str | None = None, begin: str | None = None
                 ) -> jax.Array | States:
        """Reads texts.

        Args:
          tokens: int32 [batch, length], <pad> behind the end; or the value of endpoint `begin`.
          train: whether dropout is active, which then needs a 'dropout' rng.
          features: endpoint whose value to return instead of the logits.
          begin: endpoint that `tokens` is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of `features`.
        """
        return run_stages([
            ('states', functools.partial(self._read, train=train)),
            ('summary', self._summary),
            ('logits', functools.partial(self._classify, train=train)),
        ], tokens, begin=begin, features=features)

    def _read(self, tokens: jax.Array, *, train: bool) -> States:
        mask = tokens != PAD
        # Unit variance: the default, a tenth of that, takes long to move the gates.
        embed = nn.Embed(self.input_vocabulary_size, self.embedding, dtype=self.dtype, name='embedding',
                         embedding_init=nn.initializers.normal(1.0))
        x = embed(tokens)
        for layer in range(1, self.layers + 1):
            x = Dropout(self.dropout, name=f'dropout{layer}')(x, train=train)
            x = jnp.concatenate([self._run(f'lstm{layer}_{name}', x, mask, reverse=reverse)
                                 for name, reverse in (('forward', False), ('backward', True))], axis=-1)
        return {'states': x, 'mask': mask}

    def _run(self, name: str, x: jax.Array, mask: jax.Array, *, reverse: bool) -> jax.Array:
        """Returns the states of one direction, float [batch, length, hidden], zero where there is no word."""
        cell = nn.OptimizedLSTMCell(self.hidden, dtype=self.dtype, name=name)

        def step(cell, carry, inputs):
            word, there = inputs
            after, output = cell(carry, word)
            there = there[:, None]
            carry = jax.tree.map(lambda new, old: jnp.where(there, new, old), after, carry)
            return carry, jnp.where(there, output, 0)

        scan = nn.scan(step, variable_broadcast='params', split_rngs={'params': False}, in_axes=1, out_axes=1,
                       reverse=reverse)
        zeros = jnp.zeros((x.shape[0], self.hidden))  # a size that an export leaves open has no len
        return scan(cell, (zeros, zeros), (x, mask))[1]

    def _summary(self, read: States) -> jax.Array:
        states, mask = read['states'], read['mask']
        last = jnp.maximum(mask.sum(axis=1) - 1, 0)
        forward = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0, :self.hidden]
        return jnp.concatenate([forward, states[:, 0, self.hidden:]], axis=-1)

    def _classify(self, summary: jax.Array, *, train: bool) -> jax.Array:
        summary = Dropout(self.dropout, name='dropout')(summary, train=train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name='logits')(summary).astype(jnp.float32)
