"""Captions of videos: an LSTM that is shown features of a convolutional network for every frame."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest
from .caption_decoder import CaptionDecoder, Carry

POOLINGS = ('mean', 'lstm')


class VideoCaptioner(CaptionDecoder):
    """Writes captions of a video; see CaptionDecoder for the rest of its fields and its endpoints.

    pooling='mean': the mean over frames stands beside every word (Venugopalan et al. 2015, "Translating videos to
    natural language using deep recurrent neural networks", section 3).
    pooling='lstm': the first LSTM layer reads the frames, then goes on with zeros in their place, while the layers
    above read its hidden state beside zeros, and then beside the words (S2VT; Venugopalan et al. 2015, "Sequence to
    sequence - video to text", section 3.2).

    The endpoint features: [batch, frames, channels], means over pixels where the body's endpoint is a feature map.

    Attributes:
      layers: number of LSTM layers, at least two for 'lstm'.
      pooling: how frames become one image, 'mean' or 'lstm'.
    """

    layers: int = 2
    pooling: str = 'mean'

    def setup(self):
        super().setup()
        if self.pooling not in POOLINGS:
            raise UserError(f'config.model.pooling = {self.pooling!r}; {nearest(self.pooling, POOLINGS)}')
        if self.pooling == 'lstm' and self.layers < 2:
            raise UserError(f"config.model.layers = {self.layers}: pooling = 'lstm' needs at least 2, one for the "
                            'frames and one for the words')

    def look(self, images: jax.Array, *, train: bool) -> jax.Array:
        # As one batch: XLA's CPU backend runs convolutions inside a loop ten times slower.
        feature_map = super().look(images.reshape(-1, *images.shape[2:]), train=train)
        return feature_map.reshape(*images.shape[:2], *feature_map.shape[1:])

    def pool(self, feature_map: jax.Array) -> jax.Array:
        return feature_map.astype(jnp.float32).mean((2, 3)) if feature_map.ndim == 5 else feature_map

    def begin_writing(self, features: jax.Array) -> tuple[Any, Carry]:
        carry = self.zero_carry(features.shape[0])
        if self.pooling == 'mean':
            return {'image': self.project(features.mean(axis=1))}, carry
        frames = self.project(features)[:, None]
        scan = nn.scan(lambda model, carry, frame: model._read(carry, frame, jnp.zeros_like(frame)),
                       variable_broadcast='params', split_rngs={'params': False}, in_axes=2, out_axes=2)
        return {}, scan(self, carry, frames)[0]

    def advance(self, carry: Carry, seen: Any, words: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
        if self.pooling == 'mean':
            image = jnp.broadcast_to(seen['image'][:, None], words.shape)
            carry, hidden = self.run_layers(carry, jnp.concatenate([words, image], axis=-1))
            return carry, {'hidden': hidden}
        return self._read(carry, jnp.zeros_like(words[:, :1]), words)

    def spread(self, carry: Carry, captions: int) -> Carry:
        if self.pooling == 'mean':
            return super().spread(carry, captions)
        # What the first layer does while words are written depends on the video alone: it runs once for all captions.
        return carry[0], *super().spread(carry[1:], captions)

    def _read(self, carry: Carry, frame: jax.Array, words: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
        """Runs one step of both halves on float [batch, 1, embedding] and [batch, K, embedding]."""
        first, seen = self.cells[0](carry[0], frame)
        seen = jnp.broadcast_to(seen, (*words.shape[:-1], self.hidden)).astype(words.dtype)
        rest, hidden = self.run_layers(carry[1:], jnp.concatenate([words, seen], axis=-1), first=1)
        return (first, *rest), {'hidden': hidden}
