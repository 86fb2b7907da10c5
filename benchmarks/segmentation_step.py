"""A train step of FCN and U-Net: ours, the same network of flax's own layers, and PyTorch.

    python benchmarks/segmentation_step.py --baseline_python PYTHON

PYTHON is an interpreter of an environment with benchmarks/requirements.txt; without it PyTorch is left out. All steps
are forward, backward and SGD in float32 on random 256x256 grey images with two classes; rounds alternate, and the
processes that wait are idle. Then the upsampling layer of FCN alone, forward and backward. Prints JSON lines: medians
in milliseconds and ratios to ours.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import alternating

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare()

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax  # noqa: E402

from benchmarks import step_process  # noqa: E402
from practicum import models
from practicum.models.cpu_kernels import conv_transpose
from practicum.models.pixel_blocks import space_to_depth

SIZE = 256
FEATURES = (16, 32, 64, 128, 256)


class PlainFCN(nn.Module):
    """FCN as one writes it with flax alone."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        for features, size, stride in ((100, 5, 2), (200, 5, 2), (300, 3, 1), (300, 3, 1)):
            x = nn.relu(nn.Conv(features, (size, size), stride)(x))
            if stride == 2:
                x = nn.max_pool(x, (2, 2), (2, 2), 'SAME')
        return nn.ConvTranspose(2, (31, 31), (16, 16))(nn.Conv(2, (1, 1))(x))


class PlainUNet(nn.Module):
    """U-Net as one writes it with flax alone, but for blocks of stem_stride pixels as channels."""

    stem_stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def block(features, x):
            for _ in range(2):
                x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(nn.Conv(features, (3, 3), use_bias=False)(x)))
            return x

        x = space_to_depth(x, self.stem_stride)
        skips = []
        for features in FEATURES[:-1]:
            skips.append(block(features, x))
            x = nn.max_pool(skips[-1], (2, 2), (2, 2))
        x = block(FEATURES[-1], x)
        for features, skip in reversed(list(zip(FEATURES, skips))):
            x = block(features, jnp.concatenate([skip, nn.ConvTranspose(features, (2, 2), (2, 2))(x)], axis=-1))
        return nn.ConvTranspose(2, (self.stem_stride,) * 2, (self.stem_stride,) * 2)(x)


def jax_step(model: nn.Module, batch: int) -> tuple[Callable[[int], float], int]:
    """Returns run(steps) -> milliseconds per step, and the number of parameters."""
    images = jax.random.uniform(jax.random.key(0), (batch, SIZE, SIZE, 1))
    labels = jax.nn.one_hot((images[..., 0] > 0.5).astype(int), 2)
    rest = dict(jax.jit(lambda key: model.init(key, images[:1], train=False))(jax.random.key(0)))
    params = rest.pop('params')

    def loss_fn(params, rest, images):
        logits, rest = model.apply({'params': params, **rest}, images, train=True, mutable=list(rest))
        return -(labels * jax.nn.log_softmax(logits)).sum(axis=-1).mean(), rest

    def step(params, rest, images):
        gradients, rest = jax.grad(loss_fn, has_aux=True)(params, rest, images)
        return jax.tree.map(lambda value, gradient: value - 0.01 * gradient, params, gradients), rest
    step = jax.jit(step, donate_argnums=(0, 1))
    state = params, rest

    def run(steps):
        nonlocal state
        begin = time.perf_counter()
        for _ in range(steps):
            state = step(*state, images)
        jax.block_until_ready(state)
        return 1e3 * (time.perf_counter() - begin) / steps
    return run, sum(leaf.size for leaf in jax.tree.leaves(state[0]))


def torch_step(python: str, model: str, batch: int, stem_stride: int) -> tuple[Callable[[int], float], int]:
    """As jax_step, in a process of its own."""
    return step_process.start([python, ROOT / 'benchmarks' / 'baselines' / 'fcn_unet_torch.py', '--model', model,
                               '--batch', batch, '--size', SIZE, '--stem_stride', stem_stride,
                               '--features', *FEATURES])


def upsampling_step(upsample: Callable, batch: int) -> Callable[[int], float]:
    """Returns run(steps) -> milliseconds of a forward and backward pass through FCN's upsampling alone."""
    x = jax.random.normal(jax.random.key(0), (batch, SIZE // 16, SIZE // 16, 2))
    kernel = jax.random.normal(jax.random.key(1), (31, 31, 2, 2))
    weights = jax.random.normal(jax.random.key(2), (batch, SIZE, SIZE, 2))
    step = jax.jit(jax.value_and_grad(lambda x, kernel, weights: (upsample(x, kernel) * weights).sum(), argnums=(0, 1)))

    def run(steps):
        begin = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(step(x, kernel, weights))
        return 1e3 * (time.perf_counter() - begin) / steps
    return run


def medians(runs: dict[str, Callable[[int], float]], rounds: int, steps: int) -> dict[str, float]:
    times = alternating.measure(runs, rounds, steps)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, times: dict[str, float], **more: float) -> None:
    print(json.dumps({'what': title, **{f'{name} ms': round(value, 2) for name, value in times.items()},
                      **{f'{name} / ours': round(value / times['ours'], 2) for name, value in times.items()
                         if name != 'ours'}, **more}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--baseline_python')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=3)
    args = parser.parse_args()
    plain = {('fcn', 1): PlainFCN(), ('unet', 2): PlainUNet(2), ('unet', 1): PlainUNet(1)}
    for (name, stem_stride), plain_model in plain.items():
        for batch in (1, 8):
            fields = {'features': FEATURES, 'stem_stride': stem_stride} if name == 'unet' else {}
            built = {'ours': jax_step(models.build({'name': name, **fields}, num_classes=2), batch),
                     'plain flax': jax_step(plain_model, batch)}
            if args.baseline_python:
                built['PyTorch'] = torch_step(args.baseline_python, name, batch, stem_stride)
            runs = {key: run for key, (run, _) in built.items()}
            alternating.parameters(built)
            title = f'{name}{f" stem_stride {stem_stride}" if fields else ""}, batch {batch}'
            times = medians(runs, args.rounds, args.steps * (1 if batch > 1 else 4))
            report(title, times)
            if name == 'fcn':
                layer = medians({
                    'ours': upsampling_step(lambda x, kernel: conv_transpose(x, kernel, 16), batch),
                    'lax.conv_transpose': upsampling_step(
                        lambda x, kernel: lax.conv_transpose(x, kernel, (16, 16), 'SAME'), batch)}, args.rounds, 20)
                share = round(100 * layer['ours'] / times['ours'], 2)
                report(f'upsampling 31x31 stride 16, batch {batch}', layer, **{'% of our step': share})


if __name__ == '__main__':
    main()
