"""Continuing texts with a language model's checkpoint: `launch.py generate`."""

import functools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from .. import tasks
from ..common.errors import UserError
from ..common.vocabulary import END
from ..tasks.text.continuation import continue_texts
from ..training import checkpoints
from ..training import config as config_lib
from ..training.forward import build_model

_MOST_TOKENS = 100_000
_COLDEST = 1e-3  # colder ones divide logits by next to nothing


def generate(workdir: Path, prompts: Sequence[str], *, step: str | int = 'best', length: int = 50, samples: int = 1,
             temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, beam_size: int = 0, seed: int = 0,
             form: str = 'text') -> int:
    """Prints what a language model makes of the beginnings of texts.

    Args:
      workdir: of a run with config.task.name = 'language_model'.
      prompts: beginnings; '' for the beginning of a line.
      step: 'best', 'last' or a number.
      length: words, or characters, to write.
      samples: texts for each prompt.
      temperature, top_k, top_p, beam_size: see tasks/text/continuation.py.
      seed: of what is drawn.
      form: 'text' or 'json'.

    Returns:
      Exit code.

    Raises:
      UserError: no such checkpoint, one that is no language model, or a number out of its range.
    """
    for name, value in (('length', length), ('samples', samples)):
        if value < 1:
            raise UserError(f'--{name} {value}: it must be at least 1')
    if not math.isfinite(temperature):
        raise UserError(f'--temperature {temperature}: it must be a finite number, at least 0')
    if beam_size < 0:
        raise UserError(f'--beam_size {beam_size}: it must be at least 1, or 0 to draw')
    if length > _MOST_TOKENS:
        raise UserError(f'--length {length}: it must be at most {_MOST_TOKENS:,}')
    if 0 < temperature < _COLDEST:
        raise UserError(f'--temperature {temperature}: it must be 0 or at least {_COLDEST}')
    if beam_size and (samples, temperature, top_k, top_p) != (1, 1.0, 0, 1.0):
        raise UserError('--beam_size searches the most probable text: leave it out to draw with --samples, '
                        '--temperature, --top_k, --top_p')
    if not 0 <= seed < 2**32:
        raise UserError(f'--seed {seed}: it must be in [0, 2**32)')
    checkpoint = checkpoints.read(workdir, step)
    config = config_lib.from_dict(checkpoint.meta['config'])
    if config.task.name != 'language_model':
        raise UserError(f'{config.experiment} in {workdir} is no language model, its task is {config.task.name}: '
                        'use launch.py predict')
    task = tasks.build(config.task, checkpoint.info)
    model = build_model(config, task)
    write = jax.jit(functools.partial(continue_texts, model, length=length, temperature=temperature, top_k=top_k,
                                      top_p=top_p, beam_size=beam_size))
    rows = []
    for number, prompt in enumerate(prompts):
        lines = prompt.split('\n')
        unknown = list(dict.fromkeys(token for line in lines for token in task.vocabulary.unknown(line)))
        if unknown:
            print(f'warning: the model does not know {", ".join(map(repr, unknown[:5]))}'
                  f'{", ..." if len(unknown) > 5 else ""}: read as <unk>', file=sys.stderr)
        ids = [END]  # the line before has ended
        for index, line in enumerate(lines):
            ids += task.vocabulary.encode(line) + ([END] if index < len(lines) - 1 else [])
        repeated = jnp.tile(jnp.asarray(ids, jnp.int32), (samples, 1))
        key = jax.random.fold_in(jax.random.key(seed), number)
        # Character models go on in the middle of a word, word models after it.
        gap = ' ' if prompt and not prompt[-1].isspace() and task.vocabulary.kind != 'characters' else ''
        for tokens in np.asarray(write(checkpoint.variables, repeated, key)).tolist():
            text = task.vocabulary.decode_lines(tokens)
            rows.append({'prompt': prompt, 'continuation': text, 'text': f'{prompt}{gap}{text}'})
    print(json.dumps(rows, indent=2) if form == 'json' else '\n\n'.join(row['text'] for row in rows))
    return 0
