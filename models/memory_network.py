"""End-to-end memory networks, which answer a question by looking at the sentences of a story several times."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest
from ..common.vocabulary import PAD

ENCODINGS = ('bag', 'position')


class MemoryNetwork(nn.Module):
    """Sukhbaatar et al. 2015, "End-to-end memory networks", with adjacent tying.

    Every sentence is a memory: a vector that it is found by, and one of what it says. The question's vector is compared
    with the first, softmax of that is the attention, and the sum of the second that it weighs is added to the
    question, which is the question of the next hop. What a sentence says in one hop is what it is found by in the next.
    Unlike in the paper, the vectors of answers are no words' vectors, so an answer may be of several words.

    Attributes:
      num_classes: number of answers.
      vocabulary_size: number of tokens; a few hundred, as sentences are multiplied as counts of all of them.
      width: of vectors.
      hops: how often the story is looked at.
      encoding: how words become a sentence: 'bag', their sum, or 'position', weighted by where in the sentence a word
        is (section 4.1), which tells 'A is north of B' from 'B is north of A'.
      nonlinear: whether a ReLU follows each hop.
      linear_steps: training steps of the linear start, in which the attention has no softmax; 0 for none. They are
        counted in the model's state, so that a resumed training goes on alike.
      init_scale: standard deviation that vectors begin with.
      dtype: of the computation; parameters, attention and logits are float32.
    """

    num_classes: int
    vocabulary_size: int
    width: int = 32
    hops: int = 3
    encoding: str = 'bag'
    nonlinear: bool = False
    linear_steps: int | None = None  # a union, as 0 is a value
    init_scale: float = 0.1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, story: jax.Array, question: jax.Array, *, train: bool = False) -> dict[str, Any]:
        """Answers questions.

        Args:
          story: int32 [batch, sentences, words], <pad> after the last word and the last sentence; none before is empty.
          question: int32 [batch, words].
          train: whether a step of the linear start is counted.

        Returns:
          'logits', float32 [batch, num_classes]; 'attention', float32 [batch, hops, sentences]; 'auxiliary', () for
          the classification task.

        Raises:
          UserError: a field that does not fit.
        """
        if self.encoding not in ENCODINGS:
            raise UserError(f'config.model.encoding = {self.encoding!r}; {nearest(self.encoding, ENCODINGS)}')
        told = jnp.any(story != PAD, axis=-1)  # [batch, sentences]
        ages = jnp.maximum(jnp.sum(told, axis=1, keepdims=True) - 1 - jnp.arange(story.shape[1]), 0)
        counts, asked = self._count(story), self._count(question)
        normal = nn.initializers.normal(self.init_scale)
        vectors = [self.param(f'words{number}', normal, (self.vocabulary_size, self.width))
                   for number in range(self.hops + 1)]
        times = [self.param(f'time{number}', normal, (story.shape[1], self.width)) for number in range(self.hops + 1)]
        memories = [self._encode(counts, words) + time.astype(self.dtype)[ages] for words, time in zip(vectors, times)]
        state = self._encode(asked, vectors[0])
        linear = self._is_linear(train)
        attentions = []
        for hop in range(self.hops):
            match = jnp.einsum('bsd,bd->bs', memories[hop], state).astype(jnp.float32)
            attention = jnp.where(linear, match * told, told * nn.softmax(jnp.where(told, match, -1e9)))
            attentions.append(attention)
            state += jnp.einsum('bs,bsd->bd', attention.astype(self.dtype), memories[hop + 1])
            state = nn.relu(state) if self.nonlinear else state
        logits = nn.Dense(self.num_classes, use_bias=False, dtype=self.dtype, kernel_init=normal, name='answers')(state)
        return {'logits': logits.astype(jnp.float32), 'attention': jnp.stack(attentions, axis=1), 'auxiliary': ()}

    def _count(self, tokens: jax.Array) -> tuple[jax.Array, ...]:
        """Returns what a sentence's vector is linear in: weighted counts of words, [..., vocabulary_size] each."""
        there = (tokens != PAD).astype(self.dtype)
        words = jax.nn.one_hot(tokens, self.vocabulary_size, dtype=self.dtype)
        if self.encoding == 'bag':
            return (jnp.einsum('...wv,...w->...v', words, there),)
        # The paper's weights, 1 - j / J - (k / d)(1 - 2 j / J), are linear in the place k of a number in the vector.
        share = jnp.arange(1, tokens.shape[-1] + 1) / jnp.maximum(jnp.sum(there, axis=-1, keepdims=True), 1)
        weights = there * (1 - share), there * (2 * share - 1)
        return tuple(jnp.einsum('...wv,...w->...v', words, weight.astype(self.dtype)) for weight in weights)

    def _encode(self, counts: tuple[jax.Array, ...], vectors: jax.Array) -> jax.Array:
        """Returns sentences as vectors, [..., width]."""
        sums = [count @ vectors.astype(self.dtype) for count in counts]
        if len(sums) == 1:
            return sums[0]
        return sums[0] + sums[1] * (jnp.arange(1, self.width + 1) / self.width).astype(self.dtype)

    def _is_linear(self, train: bool) -> jax.Array | bool:
        """Whether the linear start goes on; counts the step."""
        if not self.linear_steps:
            return False
        steps = self.variable('batch_stats', 'steps', lambda: jnp.zeros(()))
        linear = steps.value < self.linear_steps
        if train and not self.is_initializing():
            steps.value += 1
        return linear
