"""A train step of our LeNet against the same network of flax's own layers.

    python benchmarks/lenet_step.py

On CPUs `models.layers.ConvMaxPool` computes convolution and pooling in another form; the parameters and, to
rounding, the gradients are the same. Both steps are forward, backward and Adam on random 28x28 images; rounds
alternate in one process. Prints medians in milliseconds and their ratio.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.models.lenet import LeNet


class PlainLeNet(nn.Module):
    """LeNet as one writes it with flax alone."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (20, 50):
            x = nn.max_pool(nn.Conv(features, (5, 5), padding='VALID')(x), (2, 2), (2, 2))
        return nn.Dense(10)(nn.relu(nn.Dense(500)(x.reshape(x.shape[0], -1))))


def seconds_per_step(model: nn.Module, batch_size: int, steps: int) -> float:
    images = jax.random.uniform(jax.random.key(0), (batch_size, 28, 28, 1))
    labels = jnp.arange(batch_size) % 10
    optimizer = optax.adam(1e-3)

    def loss_fn(params):
        return optax.softmax_cross_entropy_with_integer_labels(model.apply({'params': params}, images), labels).mean()

    def step(params, opt_state):
        updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state
    step = jax.jit(step, donate_argnums=(0, 1))
    params = model.init(jax.random.key(0), images)['params']
    state = jax.block_until_ready(step(params, optimizer.init(params)))
    begin = time.perf_counter()
    for _ in range(steps):
        state = step(*state)
    jax.block_until_ready(state)
    return (time.perf_counter() - begin) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--steps', type=int, default=100)
    args = parser.parse_args()
    models = {'plain flax': PlainLeNet(), 'ours': LeNet(num_classes=10)}
    for batch_size in (64, 128):
        times = {name: [] for name in models}
        for number in range(args.rounds):
            for name in (models if number % 2 else reversed(models)):
                times[name].append(1e3 * seconds_per_step(models[name], batch_size, args.steps))
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(f'batch {batch_size}', json.dumps({f'{name} ms': round(value, 2) for name, value in medians.items()}),
              f"ratio {medians['plain flax'] / medians['ours']:.2f}", flush=True)


if __name__ == '__main__':
    main()
