"""What training K runs at once as one process saves: the vmapped step against K single ones, and whole runs.

    python benchmarks/population.py [--rounds 9] [--whole]

For each case one step of all K and one step of one run alternate in one process. Prints K times the single step's
median time over that of all at once, for wall time and for processor time. With --whole also the processor time of K
launches of digits_mlp, one after the other, over that of one launch with config.population=K.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare(training=True)

import jax
import numpy as np

from practicum.training import components
from practicum.training import config as config_lib

CASES = {  # name -> experiment, overrides, K, steps of a measurement
    'MLP (128, 128)': ('digits_mlp', (), 8, 200),
    'MLP (16,)': ('digits_mlp', ('model.hidden=(16,)', 'model.dropout=0.0'), 64, 200),
    'LeNet': ('digits_lenet', (), 8, 20),
}
OVERRIDES = ('parallel.devices=1', 'tensorboard=False')


def stepper(training: components.Training, state):
    """Returns run(steps) -> (wall, processor) seconds per step, on a batch that lies ready."""
    state, batch = training.place(state), training.feed(training.batches(0))

    def run(steps: int) -> tuple[float, float]:
        nonlocal state
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            state, metrics = training.train_step(state, batch)
        jax.block_until_ready((state, metrics))
        return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps
    return run


def compare(experiment: str, overrides: tuple[str, ...], count: int, steps: int, rounds: int) -> dict:
    """Returns how many times faster one step of `count` runs is than a step of each."""
    config = config_lib.load(experiment, (*OVERRIDES, *overrides))
    single = components.build_training(config)
    together = components.build_training(config_lib.load(experiment, (*OVERRIDES, 'parallel.mode=jit', *overrides)),
                                         range(count))
    states = [single.initial_state()] * count
    runs = {'single': stepper(single, states[0]),
            'together': stepper(together, jax.tree.map(lambda *leaves: np.stack(leaves), *states))}
    times = {name: [] for name in runs}
    for run in runs.values():
        run(3)
    for number in range(rounds):
        for name in (runs if number % 2 else reversed(runs)):
            times[name].append(runs[name](steps))
    found = {'K': count}
    for place, kind in enumerate(('wall', 'processor')):
        one, all_at_once = (statistics.median(pair[place] for pair in times[name]) for name in runs)
        found |= {f'{kind}: single us': round(1e6 * one, 1), f'{kind}: K at once us': round(1e6 * all_at_once, 1),
                  f'{kind}: speedup': round(count * one / all_at_once, 2)}
    return found


def whole(count: int, *overrides: str) -> dict:
    """Returns the processor seconds of launches one by one and at once."""
    found = {'K': count}
    with tempfile.TemporaryDirectory() as folder:
        launched = {'one by one': [[f'--config.seed={seed}'] for seed in range(count)],
                    'at once': [[f'--config.population={count}']]}
        for name, launches in launched.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            began = time.perf_counter()
            for number, arguments in enumerate(launches):
                subprocess.run([sys.executable, 'launch.py', '--config', 'digits_mlp', '--workdir',
                                f'{folder}/{name}/{number}', *arguments,
                                *(f'--config.{override}' for override in (*OVERRIDES, *overrides))],
                               cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found[f'{name}: processor s'] = round(used, 1)
            found[f'{name}: wall s'] = round(time.perf_counter() - began, 1)
    found['speedup, processor'] = round(found['one by one: processor s'] / found['at once: processor s'], 2)
    found['speedup, wall'] = round(found['one by one: wall s'] / found['at once: wall s'], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--cases', nargs='*', default=list(CASES), choices=list(CASES))
    parser.add_argument('--whole', action='store_true')
    args = parser.parse_args()
    for name in args.cases:
        experiment, overrides, count, steps = CASES[name]
        print(name, json.dumps(compare(experiment, overrides, count, steps, args.rounds)), flush=True)
    if args.whole or not args.cases:
        print('whole runs of digits_mlp', json.dumps(whole(8)), flush=True)


if __name__ == '__main__':
    main()
