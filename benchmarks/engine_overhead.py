"""What the training loop costs beyond the bare compiled step.

    python benchmarks/engine_overhead.py --data_dir DIR

For LeNet and for an MLP of 16 units, batch 128 on MNIST, three loops alternate in one process:
  by hand  a plain flax + optax step under jax.jit, loss only, on batches that lie ready on the device
  bare     the step of training/step.py, compiled as in training, on batches that lie ready
  engine   training/loop.py as launch.py runs it: gathering batches, metrics, logging, metrics.jsonl
Prints the median time per step of each over the rounds, and engine minus bare.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare()

import jax
import jax.numpy as jnp
import optax

from practicum.training import components, loop
from practicum.training import config as config_lib
from practicum.training.outputs import Outputs
from practicum.training.preemption import StopRequest
from practicum.training.writers import read_rows

CASES = {  # steps of a run
    'LeNet b128': 300,
    'MLP16 b128': 6000,
}


def build(case: str, steps: int, data_dir: str):
    config = config_lib.load('experiments/mnist_lenet.py')
    with config.unlocked():
        if case.startswith('MLP16'):
            config.model = {'name': 'mlp', 'hidden': (16,)}
    for override in (f'data.data_dir={data_dir}', 'batch_size=128', f'total={steps} steps', 'tensorboard=False',
                     f'log_every={steps // 3} steps', 'evaluation.every=', 'evaluation.periodic=()',
                     'evaluation.final=()', 'checkpoint.every=', 'checkpoint.best_metric='):
        config_lib.apply_override(config, override)
    return components.build_training(config)


def time_bare(training, batches, steps: int) -> float:
    state = training.place(training.initial_state())
    shards = [training.parallel.shard(batch) for batch in batches]
    return time_loop(training.train_step, state, shards, steps)


def time_by_hand(training, batches, steps: int) -> float:
    model, optimizer = training.model, optax.adam(1e-3)

    def loss_fn(params, image, label):
        logits = model.apply({'params': params}, image.astype(jnp.float32) / 255, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    def step(state, batch):
        params, opt_state = state
        loss, grads = jax.value_and_grad(loss_fn)(params, batch['image'], batch['label'])
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss
    params = training.initial_state().params
    on_device = [jax.device_put(batch) for batch in batches]
    return time_loop(jax.jit(step, donate_argnums=0), (params, optimizer.init(params)), on_device, steps)


def time_loop(step, state, batches, steps: int) -> float:
    """Seconds per step, after a warm-up."""
    for batch in batches[:3]:
        state, out = step(state, batch)
    jax.block_until_ready((state, out))
    begin = time.perf_counter()
    for batch in itertools.islice(itertools.cycle(batches), steps):
        state, out = step(state, batch)
    jax.block_until_ready((state, out))
    return (time.perf_counter() - begin) / steps


def time_engine(training) -> float:
    """Seconds per step in the loop's own windows, without the first, which compiles."""
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        workdir = Path(folder)
        with Outputs(training.config, training.parallel, workdir) as outputs:
            state = training.place(training.initial_state())
            loop.run(training, None, state, {}, stop, outputs, workdir)
        rows = [row for row in read_rows(workdir) if 'timings' in row]
    return statistics.median(1 / row['timings']['steps_per_second'] for row in rows[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data_dir', required=True, help='tfds data_dir with MNIST')
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    results = {}
    for case, steps in CASES.items():
        training = build(case, steps, args.data_dir)
        batches = [training.batches(i) for i in range(16)]
        loops = {'by hand': lambda: time_by_hand(training, batches, steps // 2),
                 'bare': lambda: time_bare(training, batches, steps // 2),
                 'engine': lambda: time_engine(training)}
        times = {name: [] for name in loops}
        for number in range(args.rounds):
            order = list(loops) if number % 2 else list(reversed(loops))
            for name in order:
                times[name].append(loops[name]())
        medians = {name: statistics.median(values) for name, values in times.items()}
        extra = statistics.median(e - b for e, b in zip(times['engine'], times['bare']))
        results[case] = {**{f'{k} ms': round(1e3 * v, 4) for k, v in medians.items()},
                         'engine - bare us': round(1e6 * extra, 1),
                         'engine / bare': round(medians['engine'] / medians['bare'], 4)}
        print(case, json.dumps(results[case]), flush=True)


if __name__ == '__main__':
    main()
