"""Sequence to sequence: an LSTM that writes a text while it looks at another one."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .caption_decoder import CaptionDecoder, Carry

_NOWHERE = -1e9  # score of padding: its weight is exactly 0


class Translator(CaptionDecoder):
    """Writes a text for a text; see CaptionDecoder for the rest of its fields and its endpoints.

    attention=True: before every token a mean over the states of the words that were read, weighted by what was written
    so far (Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate", sections 3.1
    and A.1.2, with an LSTM in place of the gated unit and without maxout).
    attention=False: all that is known of the text is one vector of fixed length, from which the LSTM begins (Sutskever
    et al. 2014, "Sequence to sequence learning with neural networks") and which stands beside every token (Cho et al.
    2014, section 2.2).

    Both begin with the states at the first word, of which the backward one has read the whole text. The body is a
    text_lstm. Padding has no weight. Endpoints feature_map and features are the states that the body read, see there.

    Attributes:
      attention: whether words are looked at one by one.
    """

    endpoint: str = 'states'
    attention: bool = True

    def setup(self):
        super().setup()

        def dense(size: int, name: str, use_bias: bool = True) -> nn.Dense:
            return nn.Dense(size, use_bias=use_bias, dtype=self.dtype, name=name)
        self.initial = [(dense(self.hidden, f'initial_memory{layer}'), dense(self.hidden, f'initial_hidden{layer}'))
                        for layer in range(1, self.layers + 1)]
        self.output_word = dense(self.embedding, 'output_word', use_bias=False)
        self.output_hidden = dense(self.embedding, 'output_hidden')
        self.output_context = dense(self.embedding, 'output_context', use_bias=False)
        if self.attention:
            self.attention_states = dense(self.hidden, 'attention_states')
            self.attention_hidden = dense(self.hidden, 'attention_hidden', use_bias=False)
            self.attention_score = dense(1, 'attention_score', use_bias=False)  # a bias would change no weight

    def look(self, images: jax.Array, *, train: bool) -> Any:
        """Returns what the body read of texts, int32 [batch, length]."""
        read = super().look(images, train=train)
        if not isinstance(read, dict) or set(read) != {'states', 'mask'}:
            raise UserError(f"config.model.endpoint = {self.endpoint!r} of config.model.body is no text that was read: "
                            "a translator takes 'states' of a text_lstm")
        return read

    def pool(self, feature_map: Any) -> Any:
        """Returns the states as they are."""
        return feature_map

    def attention_weights(self, texts: jax.Array, written: jax.Array) -> jax.Array:
        """Returns how much each word is looked at before each token is written.

        Args:
          texts: int32 [batch, length], what is translated.
          written: int32 [batch, K, L], as for a call.

        Returns:
          float32 [batch, K, L - 1, length], sums over the words are 1.

        Raises:
          UserError: a translator without attention.
        """
        if not self.attention:
            raise UserError('config.model.attention = False: there are no weights to show')
        return self.write(self(texts, features='features'), self.words(written[..., :-1]))['weights']

    def begin_writing(self, features: Any) -> tuple[Any, Carry]:
        states, mask = features['states'], features['mask']
        first = states[:, :1]
        carry = tuple((jnp.tanh(memory(first)).astype(jnp.float32), jnp.tanh(hidden(first)).astype(jnp.float32))
                      for memory, hidden in self.initial)
        if not self.attention:
            return {'summary': first}, carry
        return {'states': states, 'mask': mask, 'keys': self.attention_states(states)}, carry

    def advance(self, carry: Carry, seen: Any, words: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
        if not self.attention:
            context = jnp.broadcast_to(seen['summary'], (*words.shape[:2], seen['summary'].shape[-1]))
            carry, hidden = self.run_layers(carry, jnp.concatenate([words, context], axis=-1))
            return carry, {'hidden': hidden, 'context': context}
        queries = self.attention_hidden(carry[-1][1])
        scores = self.attention_score(jnp.tanh(seen['keys'][:, None] + queries[:, :, None]))[..., 0]
        scores = jnp.where(seen['mask'][:, None], scores.astype(jnp.float32), _NOWHERE)
        weights = jax.nn.softmax(scores)  # [batch, K, length]
        context = jnp.einsum('bkl,ble->bke', weights.astype(self.dtype), seen['states'])
        carry, hidden = self.run_layers(carry, jnp.concatenate([words, context], axis=-1))
        return carry, {'hidden': hidden, 'context': context, 'weights': weights}

    def to_logits(self, outputs: dict[str, jax.Array], words: jax.Array, *, train: bool) -> jax.Array:
        output = (self.output_word(words) + self.output_hidden(outputs['hidden'])
                  + self.output_context(outputs['context']))
        return super().to_logits({'hidden': jnp.tanh(output)}, words, train=train)
