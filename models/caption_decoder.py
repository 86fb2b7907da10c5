"""What captioners of images and of videos share: a body that looks, and an LSTM that writes what is seen."""

import functools
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .layers import Dropout
from .stages import run_stages

Carry = tuple[tuple[jax.Array, jax.Array], ...]  # of each LSTM layer (memory cell, hidden), float32 [batch, K, hidden]


class CaptionDecoder(nn.Module):
    """A body's features, and LSTM layers that predict each word of a caption from those before it.

    Subclasses say how images become features (`pool`), what the LSTM begins with (`begin_writing`) and what it does
    with a word (`advance`). In all of these arrays are [batch, K, ...] for K captions of an image, so that what comes
    from the image alone is computed and kept once for all of them.

    Features are normalized per vector (layer normalization, Ba et al. 2016, without parameters) before their first
    dense layer: those of a body after a ReLU are of any scale, up to hundreds, and an LSTM whose gates they saturate
    does not learn. It needs no statistics of a batch, so that it is the same in training and in decoding. Words begin
    with unit variance for the same reason: they stand beside the image.

    Endpoints: feature_map (of the body), features, logits.

    Attributes:
      vocabulary_size: number of tokens.
      body: a network with endpoints; it runs once per image.
      endpoint: of the body, whose value is looked at.
      hidden: size of every LSTM layer.
      embedding: size of the vectors of words and of the projected features.
      layers: number of LSTM layers.
      dropout: rate of dropout on words' vectors and before the logits.
      see_images: False sets features to zero: what can be written without looking.
      dtype: of the computation; parameters, the LSTM's state and logits are float32.
    """

    vocabulary_size: int
    body: nn.Module
    endpoint: str
    hidden: int = 512
    embedding: int = 256
    layers: int = 1
    dropout: float = 0.5
    see_images: bool = True
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.words = nn.Embed(self.vocabulary_size, self.embedding, dtype=self.dtype,
                              embedding_init=nn.initializers.normal(1.0), name='embedding')
        self.normalize = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype)
        self.image = nn.Dense(self.embedding, dtype=self.dtype)
        self.cells = [nn.OptimizedLSTMCell(self.hidden, dtype=self.dtype, name=f'lstm{layer}')
                      for layer in range(1, self.layers + 1)]
        self.logits = nn.Dense(self.vocabulary_size, dtype=self.dtype)
        self.words_dropout = Dropout(self.dropout)
        self.logits_dropout = Dropout(self.dropout)

    def __call__(self, images: jax.Array, captions: jax.Array | None = None, *, train: bool = False,
                 features: str | None = None, begin: str | None = None) -> jax.Array:
        """Predicts every word of captions from the image and the words before it.

        Args:
          images: float [batch, height, width, channels], for videos [batch, frames, height, width, channels]; or the
            value of endpoint `begin`.
          captions: int32 [batch, K, L], K captions of each image, `<start> w1 ... wn <end> <pad> ...`; what follows a
            word changes nothing at it. None if `features` comes before the logits.
          train: whether the body trains and dropout is active, which then needs a 'dropout' rng.
          features: endpoint whose value to return instead of the logits; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          Logits of the tokens captions[..., 1:], float32 [batch, K, L - 1, vocabulary_size], or the value of
          `features`.

        Raises:
          UserError: no such endpoint, of this network or of the body, or no captions.
        """
        return run_stages([
            ('feature_map', functools.partial(self.look, train=train)),
            ('features', self.pool),
            ('logits', functools.partial(self._predict, captions=captions, train=train)),
        ], images, begin=begin, features=features)

    def start(self, images: jax.Array, *, begin: str | None = None) -> dict[str, Any]:
        """Returns the state before the first token, a pytree of [batch, ...], for models/decoding.py.

        Args:
          images, begin: as for a call.
        """
        features = images if begin == 'features' else self(images, begin=begin, features='features')
        seen, carry = self._begin(features)
        return {'seen': seen, 'carry': jax.tree.map(lambda x: x[:, 0], carry)}

    def step(self, state: dict[str, Any], tokens: jax.Array) -> tuple[dict[str, Any], jax.Array]:
        """Reads one token.

        Args:
          state: of `start` or of the step before; rows of it may be repeated and reordered.
          tokens: int32 [rows].

        Returns:
          The state after it, and logits of the next token, float32 [rows, vocabulary_size].
        """
        words = self.words(tokens[:, None])
        carry = jax.tree.map(lambda x: x[:, None], state['carry'])
        carry, outputs = self.advance(carry, state['seen'], words)
        logits = self.to_logits(outputs, words, train=False)
        return dict(state, carry=jax.tree.map(lambda x: x[:, 0], carry)), logits[:, 0]

    # --- what subclasses define ---

    def pool(self, feature_map: jax.Array) -> jax.Array:
        """Returns 'features' of the body's value, without learning anything."""
        raise NotImplementedError

    def begin_writing(self, features: jax.Array) -> tuple[Any, Carry]:
        """Returns what every step sees, a pytree of [batch, ...], and the state before <start>, with one caption."""
        raise NotImplementedError

    def advance(self, carry: Carry, seen: Any, words: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
        """Reads one word of every caption, float [batch, K, embedding].

        Returns:
          The next state, and {'hidden': [batch, K, hidden]}, with whatever else `to_logits` needs.
        """
        raise NotImplementedError

    # --- what they are made of ---

    def look(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Returns the value of the body's endpoint for images, float [batch, height, width, channels]."""
        if 'features' not in inspect.signature(type(self.body).__call__).parameters:
            raise UserError(f'config.model.body: {type(self.body).__name__} has no endpoints to look at, as those of '
                            'vgg or resnet')
        if self.endpoint == 'logits':
            raise UserError("config.model.endpoint = 'logits': the body's classes are not learned here; name one "
                            'before them')
        return self.body(images, train=train, features=self.endpoint)

    def to_logits(self, outputs: dict[str, jax.Array], words: jax.Array, *, train: bool) -> jax.Array:
        """Returns float32 [batch, K, ..., vocabulary_size] of what `advance` returned for words of such a shape."""
        del words
        return self.logits(self.logits_dropout(outputs['hidden'], train=train)).astype(jnp.float32)

    def project(self, features: jax.Array) -> jax.Array:
        """Returns normalized features as vectors beside those of words, float [..., embedding]."""
        return self.image(self.normalize(features))

    def zero_carry(self, batch: int) -> Carry:
        """Returns the state of an LSTM that has read nothing, [batch, 1, hidden]."""
        zeros = jnp.zeros((batch, 1, self.hidden))
        return ((zeros, zeros),) * self.layers

    def run_layers(self, carry: Carry, x: jax.Array, *, first: int = 0) -> tuple[Carry, jax.Array]:
        """Runs one step of the LSTM layers from number `first` on; carry is theirs, and so is what is returned."""
        after = []
        for cell, state in zip(self.cells[first:], carry, strict=True):
            state, x = cell(state, x)
            after.append(state)
        return tuple(after), x

    def spread(self, carry: Carry, captions: int) -> Carry:
        """Returns the state for each of K captions of an image."""
        return jax.tree.map(lambda x: jnp.repeat(x, captions, axis=1), carry)

    def write(self, features: jax.Array, words: jax.Array) -> dict[str, jax.Array]:
        """Returns what `advance` returns for all words, float [batch, K, steps, embedding], stacked along axis 2."""
        seen, carry = self._begin(features)
        # Logits are computed after the loop, in one product: inside it they take half as long again.
        scan = nn.scan(lambda model, carry, seen, word: model.advance(carry, seen, word), variable_broadcast='params',
                       split_rngs={'params': False}, in_axes=(nn.broadcast, 2), out_axes=2)
        return scan(self, self.spread(carry, words.shape[1]), seen, words)[1]

    def _predict(self, features: jax.Array, *, captions: jax.Array | None, train: bool) -> jax.Array:
        if captions is None:
            raise UserError(f'{type(self).__name__} needs captions beyond its endpoint features')
        words = self.words_dropout(self.words(captions[..., :-1]), train=train)
        return self.to_logits(self.write(features, words), words, train=train)

    def _begin(self, features: jax.Array) -> tuple[Any, Carry]:
        # Here rather than before the endpoint, so that cached features are the same with and without.
        return self.begin_writing(features if self.see_images else jax.tree.map(jnp.zeros_like, features))
