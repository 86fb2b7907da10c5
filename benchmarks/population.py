"""What training K runs at once as one process saves: steps, the training loop, and whole runs.

    python benchmarks/population.py [--rounds 9] [--whole]

For each case steps of all K at once and steps of one run alternate in one process: the bare compiled step on a batch
that lies ready, and the loop of training/loop.py, which makes the batches and takes the metrics. Prints K times the
median time of a single run over that of all at once, for wall time and for processor time. With --whole also the same
of K launches of digits_mlp, one after the other, and of one launch with config.population=K.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare(training=True)

import jax
import numpy as np

from practicum.training import components, loop
from practicum.training import config as config_lib
from practicum.training.preemption import StopRequest
from practicum.training.progress import Progress
from practicum.training.window import StepMetrics

CASES = {  # name -> experiment, overrides, K, steps of a measurement
    'MLP (128, 128)': ('digits_mlp', (), 8, 200),
    'MLP (16,)': ('digits_mlp', ('model.hidden=(16,)', 'model.dropout=0.0'), 64, 200),
    'LeNet': ('digits_lenet', (), 8, 20),
}
OVERRIDES = ('parallel.devices=1', 'tensorboard=False', 'total=100000 steps')


class Nothing:
    """A boundary at which nothing is logged, evaluated or saved."""
    done = True

    def __init__(self, end: int):
        self.end, self._returned = end, StepMetrics(0)
        self.add = self._returned.add

    def next(self, step: int) -> int:
        return self.end

    def __call__(self, step: int, state) -> None:
        self._returned.rows(0, step)


def stepper(training: components.Training, state) -> Callable[[int], None]:
    """Returns run(steps): the compiled step on a batch that lies ready."""
    state, batch = training.place(state), training.feed(training.batches(0))

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = training.train_step(state, batch)
        jax.block_until_ready((state, metrics))
    return run


def looper(training: components.Training, state) -> Callable[[int], None]:
    """Returns run(steps): the training loop."""
    state = training.place(state)

    def run(steps: int) -> None:
        nonlocal state
        progress = Progress(steps, 0, training.config.batch_size)
        with StopRequest() as stop:
            _, state = loop.take_steps(training, 0, state, Nothing(steps), progress, stop, Path())
    return run


def timed(run: Callable[[int], None], steps: int) -> tuple[float, float]:
    """Returns the wall and the processor time of a step, in seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    run(steps)
    return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps


def compare(experiment: str, overrides: tuple[str, ...], count: int, steps: int, rounds: int) -> dict:
    """Returns how many times faster a step of `count` runs is than a step of each."""
    single = components.build_training(config_lib.load(experiment, (*OVERRIDES, *overrides)))
    together = components.build_training(config_lib.load(experiment, (*OVERRIDES, 'parallel.mode=jit', *overrides)),
                                         range(count))
    one = jax.tree.map(np.array, single.initial_state())  # copies: a step takes the memory of the state
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[one] * count)
    runs = {}
    for name, make in (('step', stepper), ('loop', looper)):
        runs[name, 1], runs[name, count] = make(single, one), make(together, stacked)
    times = {key: [] for key in runs}
    for run in runs.values():
        run(3)
    for number in range(rounds):
        for key in (runs if number % 2 else reversed(runs)):
            times[key].append(timed(runs[key], steps))
    found = {'K': count}
    for name in ('step', 'loop'):
        for place, kind in enumerate(('wall', 'processor')):
            alone, at_once = (statistics.median(pair[place] for pair in times[name, number]) for number in (1, count))
            found |= {f'{name} {kind}: single us': round(1e6 * alone), f'{name} {kind}: K us': round(1e6 * at_once),
                      f'{name} {kind}: speedup': round(count * alone / at_once, 2)}
    return found


def whole(count: int) -> dict:
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
                                *(f'--config.{override}' for override in OVERRIDES[:2])],
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
    if args.whole:
        print('whole runs of digits_mlp', json.dumps(whole(8)), flush=True)


if __name__ == '__main__':
    main()
