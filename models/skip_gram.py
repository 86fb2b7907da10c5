"""Skip-gram: vectors of words that tell which others stand near them."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class SkipGram(nn.Module):
    """Mikolov et al. 2013: the inner product of a word's vector and another's context vector is the log-odds that the
    other stands near it, rather than being drawn from all words.

    Attributes:
      vocabulary_size: number of tokens.
      width: of vectors.
      dtype: of the computation; parameters and log-odds are float32.
    """

    vocabulary_size: int
    width: int = 100
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, centre: jax.Array, context: jax.Array, negatives: jax.Array, *, train: bool = False
                 ) -> dict[str, jax.Array]:
        """Compares words.

        Args:
          centre: int32 [batch], words.
          context: int32 [batch], a word near each.
          negatives: int32 [batch, negatives], words drawn from all.
          train: not used.

        Returns:
          'positive', float32 [batch], and 'negative', float32 [batch, negatives]: log-odds.
        """
        del train
        # As in word2vec: small numbers, and nothing near anything.
        near = nn.initializers.uniform(1 / self.width)
        vectors = nn.Embed(self.vocabulary_size, self.width, dtype=self.dtype, name='embedding',
                           embedding_init=lambda *how: near(*how) - 0.5 / self.width)
        contexts = nn.Embed(self.vocabulary_size, self.width, dtype=self.dtype, name='context',
                            embedding_init=nn.initializers.zeros)
        word = vectors(centre)
        others = contexts(jnp.concatenate([context[:, None], negatives], axis=1))
        odds = jnp.einsum('bd,bkd->bk', word, others).astype(jnp.float32)
        return {'positive': odds[:, 0], 'negative': odds[:, 1:]}
