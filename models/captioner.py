"""Captions of images: an LSTM that is shown features of a convolutional network."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest
from .caption_decoder import CaptionDecoder, Carry

INJECTS = ('first', 'every', 'attention')


class Captioner(CaptionDecoder):
    """Writes captions of an image; see CaptionDecoder for the rest of its fields and its endpoints.

    inject='first': the LSTM sees the image once, before <start> (Vinyals et al. 2015, "Show and tell", section 3.1).
    inject='every': beside every word (Donahue et al. 2015, "Long-term recurrent convolutional networks", section 5).
    inject='attention': beside every word a mean over the image's pixels, weighted by what was written so far (Xu et
    al. 2015, "Show, attend and tell", sections 3.1 and 4.2, deterministic "soft" attention). Differences: pixels are
    normalized and projected to `embedding` before they are attended to; with several layers the last one's hidden state
    decides where to look; the doubly stochastic penalty is left out.

    The endpoint features: [batch, channels], the mean over pixels where the body's endpoint is a feature map; for
    attention [batch, pixels, channels], the rows of the map one after the other.

    Attributes:
      inject: how the image goes in, 'first', 'every' or 'attention'.
      positions: whether attention is told where each pixel lies, by a learned vector that is added to it (as in Gehring
        et al. 2017, section 3.1); a network whose pixels see little around them cannot tell left from right.
    """

    inject: str = 'first'
    positions: bool = False

    def setup(self):
        super().setup()
        if self.inject not in INJECTS:
            raise UserError(f'config.model.inject = {self.inject!r}; {nearest(self.inject, INJECTS)}')
        if self.inject == 'attention':
            def dense(size: int, name: str, use_bias: bool = True) -> nn.Dense:
                return nn.Dense(size, use_bias=use_bias, dtype=self.dtype, name=name)
            self.place = _Positions(name='positions') if self.positions else lambda pixels: pixels
            self.initial = [(dense(self.hidden, f'initial_memory{layer}'), dense(self.hidden, f'initial_hidden{layer}'))
                            for layer in range(1, self.layers + 1)]
            self.attention_image = dense(self.embedding, 'attention_image')
            self.attention_hidden = dense(self.embedding, 'attention_hidden', use_bias=False)
            self.attention_score = dense(1, 'attention_score', use_bias=False)  # a bias would change no weight
            self.attention_gate = dense(1, 'attention_gate')
            self.output_hidden = dense(self.embedding, 'output_hidden')
            self.output_context = dense(self.embedding, 'output_context', use_bias=False)

    def pool(self, feature_map: jax.Array) -> jax.Array:
        """Returns features, see the class.

        Raises:
          UserError: the body's endpoint has no pixels to attend to.
        """
        if self.inject == 'attention':
            if feature_map.ndim != 4:
                raise UserError(f"config.model.inject = 'attention' needs a feature map, and config.model.endpoint = "
                                f'{self.endpoint!r} has no pixels: name one of an earlier layer')
            return feature_map.reshape(feature_map.shape[0], -1, feature_map.shape[-1])
        return feature_map.astype(jnp.float32).mean((1, 2)) if feature_map.ndim == 4 else feature_map

    def attention(self, images: jax.Array, captions: jax.Array, *, begin: str | None = None) -> jax.Array:
        """Returns how much each pixel of the feature map is looked at before each word is predicted.

        Args:
          images, captions, begin: as for a call.

        Returns:
          float32 [batch, K, L - 1, pixels], sums over pixels are 1.

        Raises:
          UserError: a captioner without attention.
        """
        if self.inject != 'attention':
            raise UserError(f"config.model.inject = {self.inject!r}: 'attention' alone has weights to show")
        features = images if begin == 'features' else self(images, begin=begin, features='features')
        return self.write(features, self.words(captions[..., :-1]))['weights']

    def begin_writing(self, features: jax.Array) -> tuple[Any, Carry]:
        image = self.project(features)
        if self.inject == 'first':
            return {}, self.run_layers(self.zero_carry(image.shape[0]), image[:, None])[0]
        if self.inject == 'every':
            return {'image': image}, self.zero_carry(image.shape[0])
        image = self.place(image)
        mean = image.mean(axis=1, keepdims=True)
        carry = tuple((jnp.tanh(memory(mean)).astype(jnp.float32), jnp.tanh(hidden(mean)).astype(jnp.float32))
                      for memory, hidden in self.initial)
        return {'pixels': image, 'keys': self.attention_image(image)}, carry

    def advance(self, carry: Carry, seen: Any, words: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
        if self.inject == 'first':
            carry, hidden = self.run_layers(carry, words)
            return carry, {'hidden': hidden}
        if self.inject == 'every':
            image = jnp.broadcast_to(seen['image'][:, None], words.shape)
            carry, hidden = self.run_layers(carry, jnp.concatenate([words, image], axis=-1))
            return carry, {'hidden': hidden}
        before = carry[-1][1]
        queries = self.attention_hidden(before)
        scores = self.attention_score(jnp.tanh(seen['keys'][:, None] + queries[:, :, None]))[..., 0]
        weights = jax.nn.softmax(scores.astype(jnp.float32))  # [batch, K, pixels]
        context = jnp.einsum('bkp,bpe->bke', weights.astype(self.dtype), seen['pixels'])
        context *= nn.sigmoid(self.attention_gate(before))
        carry, hidden = self.run_layers(carry, jnp.concatenate([words, context], axis=-1))
        return carry, {'hidden': hidden, 'context': context, 'weights': weights}

    def to_logits(self, outputs: dict[str, jax.Array], words: jax.Array, *, train: bool) -> jax.Array:
        if self.inject == 'attention':  # Xu et al., equation 7
            output = words + self.output_hidden(outputs['hidden']) + self.output_context(outputs['context'])
            outputs = {'hidden': output}
        return super().to_logits(outputs, words, train=train)


class _Positions(nn.Module):
    """Adds a learned vector to each pixel."""

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        vectors = self.param('vectors', nn.initializers.normal(0.5), pixels.shape[1:])
        return pixels + vectors.astype(pixels.dtype)
