"""A train step of convolutional networks: ours, the same network of flax's own layers, and PyTorch.

    python benchmarks/cnn_step.py --baseline_python PYTHON --models resnet50 resnet20

PYTHON is an interpreter of an environment with benchmarks/requirements.txt and torchvision; without it PyTorch is left
out. All steps are forward, backward and SGD in float32 on random images; rounds alternate, and the processes that
wait are idle. There is no second copy of the networks: for 'plain flax' a model is traced as on a GPU, without the
kernels of models/cpu_kernels.py. 'engine' is the step that training compiles from a config, with the gradient's mean
over devices, metrics and SGD by optax. Prints JSON lines: medians in milliseconds of wall time and ratios to ours, also
as medians of the ratios within a round, which other processes on the machine disturb less.
"""

import argparse
import contextlib
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare()

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import alternating, step_process
from practicum import models, tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.models import cpu_kernels
from practicum.training import defaults as base
from practicum.training.optimizer import Optimizer
from practicum.training.parallel import Parallel
from practicum.training.state import hyperparameters, init_state
from practicum.training.step import TRAIN, apply_model, make_train_step

CASES = {  # config.model, batch, side, channels, classes, name for PyTorch
    'alexnet': ({'name': 'alexnet'}, 16, 224, 3, 1000, 'alexnet'),
    'vgg16': ({'name': 'vgg', 'depth': 16}, 4, 224, 3, 1000, 'vgg16'),
    'googlenet': ({'name': 'googlenet'}, 8, 224, 3, 1000, 'googlenet'),
    'resnet18': ({'name': 'resnet', 'depth': 18}, 8, 224, 3, 1000, 'resnet18'),
    'resnet50': ({'name': 'resnet', 'depth': 50}, 8, 224, 3, 1000, 'resnet50'),
    'resnet20': ({'name': 'resnet_cifar', 'depth': 20}, 128, 32, 3, 10, 'resnet20'),
    'small_cnn': ({'name': 'small_cnn'}, 128, 28, 1, 24, None),
}


def plain_layers():
    """Returns a context in which the layers of models/ are flax's own, as on a GPU."""
    return mock.patch.object(cpu_kernels, 'on_cpu', lambda: False)


def jax_step(case: str, context: Callable) -> tuple[Callable[[int], float], int]:
    """Returns run(steps) -> milliseconds per step, and the number of parameters."""
    config, batch, side, channels, classes, _ = CASES[case]
    model = models.build(config, num_classes=classes)
    images = jax.random.uniform(jax.random.key(0), (batch, side, side, channels))
    labels = jax.nn.one_hot(jnp.arange(batch) % classes, classes)
    rngs = {'dropout': jax.random.key(1)}

    def loss_fn(params, rest, images):
        logits, rest = model.apply({'params': params, **rest}, images, train=True, mutable=list(rest), rngs=rngs)
        return -(labels * jax.nn.log_softmax(logits)).sum(axis=-1).mean(), rest

    def step(params, rest, images):
        gradients, rest = jax.grad(loss_fn, has_aux=True)(params, rest, images)
        return jax.tree.map(lambda value, gradient: value - 0.01 * gradient, params, gradients), rest

    with context():
        rest = dict(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images[:1]))
        state = rest.pop('params'), rest
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*state, images).compile()

    def run(steps):
        nonlocal state
        begin = time.perf_counter()
        for _ in range(steps):
            state = compiled(*state, images)
        jax.block_until_ready(state)
        return 1e3 * (time.perf_counter() - begin) / steps
    return run, sum(leaf.size for leaf in jax.tree.leaves(state[0]))


def torch_step(python: str, case: str) -> tuple[Callable[[int], float], int]:
    """As jax_step, in a process of its own."""
    _, batch, side, _, classes, name = CASES[case]
    return step_process.start([python, ROOT / 'benchmarks' / 'baselines' / 'cnn_torch.py', '--model', name,
                               '--batch', batch, '--size', side, '--num_classes', classes])


def engine_step(case: str) -> tuple[Callable[[int], float], int]:
    """As jax_step, of the step that training compiles, on a batch that lies ready on the device."""
    config_data, batch, side, channels, classes, _ = CASES[case]
    config = base.base()
    with config.unlocked():
        config.optimizer.update({'name': 'sgd', 'momentum': 0.0, 'learning_rate': 0.01})
    parallel = Parallel(config.parallel)
    task = tasks.build({'name': 'classification'}, DatasetInfo(class_names=tuple(map(str, range(classes)))))
    model = models.build(config_data, num_classes=classes)
    optimizer = Optimizer(config.optimizer)
    images = np.random.default_rng(0).random((batch, side, side, channels), np.float32)
    train_step = make_train_step(apply_model(model, task), task, optimizer, lambda step: 1.0, lambda batch, keys: batch)
    compiled = parallel.compile(train_step, **TRAIN)
    state = parallel.place(init_state(model, (images[:1],), optimizer, hyperparameters(config), ema=False))
    on_device = parallel.shard({'image': images, 'label': np.arange(batch) % classes})
    return alternating.training(compiled, state, on_device), sum(leaf.size for leaf in jax.tree.leaves(state.params))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--baseline_python')
    parser.add_argument('--models', nargs='+', choices=list(CASES), default=list(CASES))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=2)
    args = parser.parse_args()
    for case in args.models:
        built = {'ours': jax_step(case, contextlib.nullcontext), 'plain flax': jax_step(case, plain_layers),
                 'engine': engine_step(case)}
        if args.baseline_python and CASES[case][-1]:
            built['PyTorch'] = torch_step(args.baseline_python, case)
        alternating.parameters(built)
        times = alternating.measure({name: run for name, (run, _) in built.items()}, args.rounds, args.steps, warm_up=1)
        row = {'what': f'{case}, batch {CASES[case][1]}'}
        for name, values in times.items():
            row[f'{name} ms'] = round(statistics.median(values), 1)
        for name, values in times.items():
            if name != 'ours':
                row[f'ours / {name}'] = round(statistics.median(a / b for a, b in zip(times['ours'], values)), 3)
        print(json.dumps(row), flush=True)


if __name__ == '__main__':
    main()
