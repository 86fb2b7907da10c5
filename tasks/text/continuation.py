"""Going on with texts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ...common.vocabulary import PAD, START, UNKNOWN
from ...models import decoding

_NEVER = -1  # no token: running text goes on after the end of a line


def continue_texts(model, variables: Mapping[str, Any], prompts: jax.Array, key: jax.Array, *, length: int,
                   temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, beam_size: int = 0) -> jax.Array:
    """Writes on with a language model such as models/lstm.py.

    Args:
      model, variables: the flax module and its parameters.
      prompts: int32 [rows, tokens], at least one token.
      key: of what is drawn.
      length: number of tokens to write; <end> is one of them, and ends a line, not the text.
      temperature, top_k, top_p: see `decoding.sample`.
      beam_size: find the most probable text of that length with so many beams instead of drawing one; 0 to draw.

    Returns:
      int32 [rows, length], without <pad>, <start> and <unk>.

    Raises:
      UserError: a number out of its range.
    """
    state = model.apply(variables, prompts[:, :-1])['carry']  # of no token at all: the state of the beginning

    def step(state: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        outputs = model.apply(variables, tokens[:, None], state)
        return outputs['carry'], outputs['logits'][:, 0]
    how = {'length': length, 'end': _NEVER, 'banned': (PAD, START, UNKNOWN)}
    first = prompts[:, -1].astype(jnp.int32)
    if beam_size:
        return decoding.beam_search(step, state, first, beam_size=beam_size, **how)[0][:, 0]
    return decoding.sample(step, state, first, key, temperature=temperature, top_k=top_k, top_p=top_p, **how)
