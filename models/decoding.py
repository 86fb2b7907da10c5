"""Writing with a model of the next token: greedily, by sampling, or with beam search.

All three work on `step(state, tokens) -> (state, logits)`: tokens int32 [rows], what each row wrote last; state a
pytree whose leaves have the rows first and keep their types; logits float32 [rows, vocabulary]. They can be compiled,
and stop as soon as every row has ended.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..common.errors import UserError

Step = Callable[[Any, jax.Array], tuple[Any, jax.Array]]

PAD = 0  # what follows the end; models/ knows no vocabulary, but all of ours begin with <pad>


def greedy(step: Step, state: Any, first: jax.Array, *, length: int, end: int, banned: Sequence[int] = ()) -> jax.Array:
    """Writes the most probable token at every step.

    Args:
      step: see above.
      state: before the first token.
      first: int32 [rows], what goes in first, such as <start>; it is not part of the result.
      length: number of tokens at most, the end included.
      end: the token that ends a text.
      banned: tokens never to write.

    Returns:
      int32 [rows, length]: the texts with their ends, then PAD.
    """
    def choose(logits, index):
        del index
        return jnp.argmax(logits, axis=-1)
    return _write(step, state, first, choose, length, end, banned)


def sample(step: Step, state: Any, first: jax.Array, key: jax.Array, *, length: int, end: int, temperature: float = 1.0,
           top_k: int = 0, top_p: float = 1.0, banned: Sequence[int] = ()) -> jax.Array:
    """Draws every token from what the model expects, or from the more probable part of it.

    Args:
      step, state, first, length, end, banned: as for `greedy`.
      key: of the draws; a row's depend on it and the row's index alone.
      temperature: what logits are divided by; 0 is greedy.
      top_k: how many of the most probable tokens to draw from; 0 for all.
      top_p: draw from the smallest set of most probable tokens that has this mass (nucleus sampling, Holtzman et al.
        2020, "The curious case of neural text degeneration", section 3.1); after temperature and top_k.

    Returns:
      As `greedy`.

    Raises:
      UserError: a number out of its range.
    """
    if temperature < 0:
        raise UserError(f'temperature = {temperature}: it must be at least 0, which is greedy')
    if top_k < 0:
        raise UserError(f'top_k = {top_k}: it must be at least 0, which draws from all tokens')
    if not 0 < top_p <= 1:
        raise UserError(f'top_p = {top_p}: it must be in (0, 1]')
    if temperature == 0:
        return greedy(step, state, first, length=length, end=end, banned=banned)

    def choose(logits, index):
        kept = truncate(logits / temperature, top_k=top_k, top_p=top_p)
        rows = jnp.arange(kept.shape[0])
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, index), rows)
        return jax.vmap(jax.random.categorical)(keys, kept)
    return _write(step, state, first, choose, length, end, banned)


def truncate(logits: jax.Array, *, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
    """Returns logits, float [rows, vocabulary], with -inf for the tokens that `sample` does not draw from.

    Among equally probable tokens those with smaller numbers come first.
    """
    vocabulary = logits.shape[-1]
    if not 0 < top_k < vocabulary and top_p >= 1:
        return logits
    ordered, order = lax.top_k(logits, min(top_k, vocabulary) or vocabulary)
    mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
    before = jnp.pad(mass[:, :-1], ((0, 0), (1, 0)))  # of all tokens that are more probable: nothing before the first
    kept = jnp.where(before < top_p, ordered, -jnp.inf)
    rows = jnp.arange(logits.shape[0])[:, None]
    return jnp.full_like(logits, -jnp.inf).at[rows, order].set(kept)


def beam_search(step: Step, state: Any, first: jax.Array, *, beam_size: int, length: int, end: int,
                length_penalty: float = 0.0, banned: Sequence[int] = ()) -> tuple[jax.Array, jax.Array]:
    """Finds probable texts: after every token the `beam_size` best ones of each row go on.

    A text's score is its log-probability / ((5 + n) / 6) ** length_penalty for n tokens, the end included (Wu et al.
    2016, "Google's neural machine translation system", section 7, without the coverage penalty). One that has ended
    keeps its place and its score, and is compared by score with those that go on; one that has not ended after `length`
    tokens counts as it is. With one beam this is greedy; with vocabulary ** (length - 1) beams no text is left out.

    Args:
      step, state, first, length, end: as for `greedy`.
      beam_size: texts per row.
      length_penalty: 0 compares log-probabilities, larger values favour longer texts.
      banned: tokens never to write; the probabilities of the others stay the model's.

    Returns:
      tokens: int32 [rows, beam_size, length], best first, PAD after the end.
      scores: float32 [rows, beam_size]; -inf, with PAD alone, where there are fewer texts than beams.

    Raises:
      UserError: no beam, or no token.
    """
    _check_positive(beam_size=beam_size, length=length)
    rows = first.shape[0]
    state = jax.tree.map(lambda leaf: jnp.repeat(leaf, beam_size, axis=0), state)
    beams = (rows, beam_size)
    # All beams of a row begin with the same text: all but one of them have no probability.
    total = jnp.broadcast_to(jnp.where(jnp.arange(beam_size) == 0, 0.0, -jnp.inf), beams)

    def score(total, count):
        return total / ((5.0 + count) / 6.0) ** length_penalty

    def going_on(carry):
        index, _, _, _, total, ended, _ = carry
        return (index < length) & ~jnp.all(ended | jnp.isneginf(total))

    def extend(carry):
        index, state, last, tokens, total, ended, count = carry
        state, logits = step(state, last.reshape(-1))
        vocabulary = logits.shape[-1]
        log_probs = _without(jax.nn.log_softmax(logits.astype(jnp.float32)), banned).reshape(*beams, vocabulary)
        # A text that has ended has one continuation, itself.
        stay = jnp.where(jnp.arange(vocabulary) == PAD, 0.0, -jnp.inf)
        totals = total[..., None] + jnp.where(ended[..., None], stay, log_probs)
        counts = jnp.where(ended, count, count + 1)
        scores = score(totals, counts[..., None])
        _, chosen = lax.top_k(scores.reshape(rows, -1), beam_size)
        parent, last = chosen // vocabulary, (chosen % vocabulary).astype(jnp.int32)

        def of_parent(values):
            index = parent.reshape(*beams, *(1,) * (values.ndim - 2))
            return jnp.take_along_axis(values, index, axis=1)
        flat = (jnp.arange(rows)[:, None] * beam_size + parent).reshape(-1)
        state = jax.tree.map(lambda leaf: leaf[flat], state)
        tokens = of_parent(tokens).at[:, :, index].set(last)
        total = jnp.take_along_axis(totals.reshape(rows, -1), chosen, axis=1)
        ended = of_parent(ended)
        return index + 1, state, last, tokens, total, ended | (last == end), of_parent(counts)

    last = jnp.broadcast_to(first.astype(jnp.int32)[:, None], beams)
    _, _, _, tokens, total, _, count = lax.while_loop(going_on, extend, (
        jnp.zeros((), jnp.int32), state, last, jnp.full((*beams, length), PAD, jnp.int32), total,
        jnp.zeros(beams, bool), jnp.zeros(beams, jnp.int32)))
    return jnp.where(jnp.isneginf(total)[..., None], PAD, tokens), score(total, count)


def _write(step, state, first, choose, length, end, banned):
    """Returns int32 [rows, length] of what choose(logits without the banned tokens, index) says."""
    _check_positive(length=length)

    def going_on(carry):
        index, _, _, _, ended = carry
        return (index < length) & ~jnp.all(ended)

    def extend(carry):
        index, state, last, tokens, ended = carry
        state, logits = step(state, last)
        last = choose(_without(logits, banned), index).astype(jnp.int32)
        tokens = tokens.at[:, index].set(jnp.where(ended, PAD, last))
        return index + 1, state, last, tokens, ended | (last == end)

    rows = first.shape[0]
    carry = lax.while_loop(going_on, extend, (
        jnp.zeros((), jnp.int32), state, first.astype(jnp.int32), jnp.full((rows, length), PAD, jnp.int32),
        jnp.zeros(rows, bool)))
    return carry[3]


def _without(logits: jax.Array, banned: Sequence[int]) -> jax.Array:
    return logits.at[:, jnp.asarray(tuple(banned), jnp.int32)].set(-jnp.inf) if len(banned) else logits


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f'{name} = {number}: it must be at least 1')
