"""A train step of the LSTM language model and of the captioner: ours, as training compiles it, and PyTorch's.

    python benchmarks/lstm_step.py --baseline_python PYTHON --cases small medium captioner

PYTHON is an interpreter of an environment with benchmarks/requirements.txt; without it PyTorch is left out. 'small' and
'medium' are the networks of experiments/brown_lstm.py with 10,000 words, 'captioner' is models/captioner.py with
inject='first' on features that were computed before: 80 captions of 21 steps, 5 of each of 16 images. Steps are
forward, backward, clipping and SGD in float32, dropout included, on random words; rounds alternate, and the process
that waits is idle. tests/models/test_lstm_torch_parity.py shows that the networks are the same. Prints JSON lines:
medians in milliseconds of wall time, words per second of the medians, and the median of the ratios within a round,
which other processes on the machine disturb less.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alternating

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare()

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import step_process, surroundings  # noqa: E402
from practicum import models, tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.vocabulary import SPECIAL, Vocabulary
from practicum.training import defaults as base
from practicum.training import forward
from practicum.training.optimizer import Optimizer
from practicum.training.parallel import Parallel
from practicum.training.state import hyperparameters, initial_carry
from practicum.training.step import TRAIN, TrainState, apply_model, make_train_step

CASES = {
    'small': {'vocabulary_size': 10_000, 'hidden': 200, 'embedding': 200, 'layers': 2, 'dropout': 0.0, 'batch': 20,
              'num_steps': 20, 'learning_rate': 1.0, 'clip_norm': 0.25},
    'medium': {'vocabulary_size': 10_000, 'hidden': 650, 'embedding': 650, 'layers': 2, 'dropout': 0.5, 'batch': 20,
               'num_steps': 35, 'learning_rate': 1.0, 'clip_norm': 5 / 35},
    'captioner': {'vocabulary_size': 3000, 'hidden': 512, 'embedding': 512, 'layers': 1, 'dropout': 0.5, 'images': 16,
                  'captions': 5, 'features': 512, 'num_steps': 21, 'learning_rate': 1.0, 'clip_norm': 0.25},
}


def words_per_step(case: str) -> int:
    fields = CASES[case]
    return fields['num_steps'] * (fields['batch'] if 'batch' in fields else fields['images'] * fields['captions'])


def torch_step(python: str, case: str) -> tuple[Callable[[int], float], int]:
    """Returns run(steps) -> milliseconds per step, in a process of its own, and the number of parameters."""
    options = [text for name, value in CASES[case].items() for text in (f'--{name}', value)]
    network = 'captioner' if case == 'captioner' else 'language_model'
    return step_process.start([python, ROOT / 'benchmarks' / 'baselines' / 'lstm_torch.py', network, *options])


def our_step(case: str) -> tuple[Callable[[int], float], int]:
    """As torch_step, in this process, on a batch that lies ready on the device."""
    fields = CASES[case]
    config = base.base()
    parallel = Parallel(config.parallel)
    with config.unlocked():
        config.optimizer.update({'name': 'sgd', 'momentum': 0.0, 'learning_rate': fields['learning_rate'],
                                 'clip_norm': fields['clip_norm']})
    optimizer = Optimizer(config.optimizer)
    words = [f'word{number}' for number in range(fields['vocabulary_size'] - len(SPECIAL))]
    vocabulary = Vocabulary('whitespace', (*SPECIAL, *words))
    build = _captioner if case == 'captioner' else _language_model
    task, apply, variables, batch = build(fields, vocabulary)
    carry = initial_carry(apply, task, variables, batch, len(next(iter(batch.values()))))
    params = variables['params']
    state = TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), {}, carry, hyperparameters(config))
    state = parallel.place(state, TrainState.places())
    train_step = make_train_step(apply, task, optimizer, lambda step: 1.0, lambda batch, keys: batch)
    compiled = parallel.compile(train_step, **TRAIN)
    on_device = parallel.shard(batch)
    return alternating.training(compiled, state, on_device), sum(leaf.size for leaf in jax.tree.leaves(params))


def _language_model(fields: dict[str, Any], vocabulary: Vocabulary) -> tuple:
    """Returns task, forward, variables and a batch."""
    task = tasks.build({'name': 'language_model'}, DatasetInfo(vocabulary=vocabulary.to_meta()))
    model = models.build({'name': 'lstm', **{name: fields[name] for name in ('hidden', 'embedding', 'layers',
                                                                             'dropout')}},
                         **task.model_fields())
    tokens = _words(fields, fields['batch'], fields['num_steps'] + 1)
    batch = {'tokens': tokens[:, :-1], 'targets': tokens[:, 1:], 'begin': np.zeros(len(tokens), np.float32)}
    params = jax.jit(model.init)(jax.random.key(0), tokens)['params']
    return task, apply_model(model, task), {'params': params}, batch


def _captioner(fields: dict[str, Any], vocabulary: Vocabulary) -> tuple:
    """As _language_model."""
    shape = fields['images'], fields['captions'], fields['num_steps'] + 1
    task = tasks.build({'name': 'captioning'}, DatasetInfo(
        vocabulary=vocabulary.to_meta(), caption_length=shape[2] - 2,
        tokens_per_example=float(shape[1] * (shape[2] - 1))))
    model = models.build({'name': 'captioner', 'body': {'name': 'vgg', 'depth': 16}, 'endpoint': 'pool5',
                          'inject': 'first', **{name: fields[name] for name in ('hidden', 'embedding', 'layers',
                                                                                'dropout')}},
                         **task.model_fields())
    batch = {forward.FEATURES: np.random.default_rng(0).random((shape[0], fields['features']), np.float32),
             'captions': _words(fields, *shape)}
    params = jax.jit(lambda key: model.init(key, *batch.values(), begin='features'))(jax.random.key(0))['params']
    return task, forward.head(model, task, 'features'), {'params': params}, batch


def _words(fields: dict[str, Any], *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(len(SPECIAL), fields['vocabulary_size'], shape).astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--baseline_python')
    parser.add_argument('--cases', nargs='+', choices=list(CASES), default=list(CASES))
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--steps', type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(surroundings.describe(args.baseline_python)), flush=True)
    for case in args.cases:
        built = {'ours': our_step(case)}
        if args.baseline_python:
            built['PyTorch'] = torch_step(args.baseline_python, case)
        count = alternating.parameters(built)
        times = alternating.measure({name: run for name, (run, _) in built.items()}, args.rounds, args.steps)
        row = {'what': case, 'parameters': count}
        for name, values in times.items():
            row[f'{name} ms'] = round(statistics.median(values), 1)
            row[f'{name} words/s'] = round(1e3 * words_per_step(case) / statistics.median(values))
        if 'PyTorch' in times:
            ratios = [theirs / ours for ours, theirs in zip(times['ours'], times['PyTorch'])]
            row['PyTorch / ours'] = round(statistics.median(ratios), 2)
        print(json.dumps(row), flush=True)


if __name__ == '__main__':
    main()
