"""How fast captions are written, and how fast VGG-16 looks at images: ours and PyTorch.

    python benchmarks/caption_speed.py --baseline_python PYTHON

PYTHON is an interpreter of an environment with benchmarks/requirements.txt; without it PyTorch is left out. Writing is
greedy and with 3 beams, for 1 and for 64 images whose features are known, 20 words of 3,000 by an LSTM of 512 units;
no caption ends before, and rounds alternate, while the process that waits is idle. Ours is models/decoding.py in one
compiled function; PyTorch's a loop over nn.LSTM or nn.LSTMCell, whichever is faster. VGG-16 is the step that caches the
features of training images, from uint8 at 224x224 pixels to 512 numbers; PyTorch's has its convolutions in
channels_last memory and is given floats. tests/models/test_lstm_torch_parity.py shows that both write the same.
Prints JSON lines: medians in milliseconds of wall time, captions or images per second of the medians, and the median
of the ratios within a round, which other processes on the machine disturb less.
"""

import argparse
import functools
import json
import statistics
import sys
import time
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
from practicum import models
from practicum.common.vocabulary import END, PAD, START, UNKNOWN
from practicum.input_pipeline import preprocessing
from practicum.models import batch_axis, decoding
from practicum.training import defaults as base
from practicum.training import forward
from practicum.training.parallel import Parallel, Place

VOCABULARY, HIDDEN, FEATURES, LENGTH, BEAMS, SIZE = 3000, 512, 512, 20, 3, 224


def build_captioner():
    return models.build({'name': 'captioner', 'body': {'name': 'vgg', 'depth': 16}, 'endpoint': 'pool5',
                         'inject': 'first', 'hidden': HIDDEN, 'embedding': HIDDEN},
                        vocabulary_size=VOCABULARY)


def our_writing(beams: int, rows: int) -> tuple[Callable[[int], float], int]:
    """Returns run(batches) -> milliseconds per batch, and the number of parameters; 1 beam is greedy search."""
    model = build_captioner()
    features = jnp.asarray(np.random.default_rng(0).random((rows, FEATURES), np.float32))
    variables = jax.jit(lambda key: model.init(key, features, jnp.zeros((rows, 1, 2), jnp.int32), begin='features'))(
        jax.random.key(0))

    @jax.jit
    def write(variables, features):
        def step(state, tokens):
            return model.apply(variables, state, tokens, method='step')
        search = functools.partial(decoding.beam_search, beam_size=beams) if beams > 1 else decoding.greedy
        state = model.apply(variables, features, begin='features', method='start')
        return search(step, state, jnp.full(rows, START), length=LENGTH, end=END, banned=(PAD, START, END, UNKNOWN))
    return _timed(write, variables, features), _count(variables)


def our_looking(rows: int) -> tuple[Callable[[int], float], int]:
    """As our_writing: how training/feature_cache.py computes features."""
    config = base.base()
    parallel = Parallel(config.parallel)
    with config.unlocked():
        config.image.update({'size': (SIZE, SIZE), 'channels': 3, 'mean': (0.485, 0.456, 0.406),
                             'std': (0.229, 0.224, 0.225)})
    model = build_captioner()
    prepare, body = preprocessing.build(config.image), forward.apply_body(model, 'features')
    images = np.random.default_rng(0).integers(0, 256, (rows, SIZE, SIZE, 3), np.uint8)

    def step(variables, batch):
        return batch_axis.gather(body(variables, prepare(batch, None)))
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, SIZE, SIZE, 3)), features='features'))(
        jax.random.key(0))
    compiled = parallel.compile(step, inputs=(Place.SHARED, Place.ROWS), outputs=Place.SHARED)
    return _timed(compiled, parallel.place(variables), parallel.shard({'image': images})), _count(variables)


def _timed(function: Callable, *arguments: Any) -> Callable[[int], float]:
    def run(batches):
        begin = time.perf_counter()
        for _ in range(batches):
            np.asarray(jax.tree.leaves(function(*arguments))[0])
        return 1e3 * (time.perf_counter() - begin) / batches
    return run


def _count(variables: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


def torch_process(python: str, what: str, rows: int) -> tuple[Callable[[int], float], int]:
    """As our_writing, in a process of its own; what: 'greedy', 'beam_search' or 'vgg16'."""
    return step_process.start([python, ROOT / 'benchmarks' / 'baselines' / 'caption_torch.py', what, '--rows', rows,
                               '--vocabulary_size', VOCABULARY, '--hidden', HIDDEN, '--features', FEATURES, '--length',
                               LENGTH, '--beam_size', BEAMS, '--size', SIZE])


def report(title: str, unit: str, rows: int, times: dict[str, list[float]]) -> None:
    row = {'what': title}
    for name, values in times.items():
        row[f'{name} ms'] = round(statistics.median(values), 2)
        row[f'{name} {unit}/s'] = round(1e3 * rows / statistics.median(values), 1)
    if 'PyTorch' in times:
        ratios = [theirs / ours for ours, theirs in zip(times['ours'], times['PyTorch'])]
        row['PyTorch / ours'] = round(statistics.median(ratios), 2)
    print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--baseline_python')
    parser.add_argument('--what', nargs='+', choices=('greedy', 'beam_search', 'vgg16'),
                        default=('greedy', 'beam_search', 'vgg16'))
    parser.add_argument('--batches', nargs='+', type=int, default=(1, 64), help='captions written together')
    parser.add_argument('--images', type=int, default=8, help='that VGG-16 looks at together')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--repeats', type=int, default=5, help='batches of a round')
    args = parser.parse_args()
    print(json.dumps(surroundings.describe(args.baseline_python)), flush=True)
    for what in args.what:
        for rows in ((args.pictures,) if what == 'vgg16' else args.batches):
            ours = our_looking(rows) if what == 'vgg16' else our_writing(1 if what == 'greedy' else BEAMS, rows)
            built = {'ours': ours}
            if args.baseline_python:
                built['PyTorch'] = torch_process(args.baseline_python, what, rows)
            alternating.parameters(built)
            times = alternating.measure({name: run for name, (run, _) in built.items()}, args.rounds, args.repeats)
            report(f'{what}, batch {rows}', 'images' if what == 'vgg16' else 'captions', rows, times)


if __name__ == '__main__':
    main()
