"""Log-probability of binary test digits under an RBM, by annealed importance sampling.

    python benchmarks/log_probability.py runs/mnist_rbm [runs/mnist_rbm-cd3 ...] [--chains 100] [--temperatures 14500]

Salakhutdinov and Murray 2008, "On the quantitative analysis of deep belief networks": the partition function Z of a
machine is estimated with chains that are led from independent pixels, whose Z is known, to the machine, through
temperatures of which there are few where it is hot and many where it is cold. Prints log Z, the range of three standard
errors around its estimate, and the mean of -F(v) - log Z over the digits of a split, each pixel drawn once to be 0 or 1
with its grey value as the probability. The estimate of Z is unbiased; that of log Z is then too low on average, and the
log-probability too high, the more so the fewer temperatures.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.common.errors import UserError
from practicum.inference.run import Run
from practicum.input_pipeline import sources
from practicum.models import rbm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workdirs', nargs='+', type=Path)
    parser.add_argument('--step', default='last')
    parser.add_argument('--chains', type=int, default=100)
    parser.add_argument('--temperatures', type=int, default=14_500)
    parser.add_argument('--split', default='test')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if args.chains < 2 or args.temperatures < 10:
        parser.error('it takes at least 2 chains and 10 temperatures')
    print('| run | log Z | three standard errors | log-probability | processor seconds |\n|---|---|---|---|---|')
    try:
        for workdir in args.workdirs:
            began = time.process_time()
            log_z, low, high, log_probability = measure(Run(workdir, args.step), args)
            print(f'| {workdir.name} | {log_z:.2f} | {low:.2f} to {high:.2f} | {log_probability:.2f} nats | '
                  f'{time.process_time() - began:.0f} |', flush=True)
    except UserError as error:
        sys.exit(f'error: {error}')


def measure(run: Run, args: argparse.Namespace) -> tuple[float, float, float, float]:
    """Returns log Z, its range of three standard errors, and the mean log-probability of the split."""
    if run.config.model.name != 'rbm' or run.model.layer != 1:
        raise UserError(f'{run.workdir} is no RBM of pixels: Z is that of a first layer')
    layer = run.variables['params']['dense1']
    base = base_rates(pixels(run, run.config.data.train))
    weights = importance_weights(layer, base, temperatures(args.temperatures), args.chains, jax.random.key(args.seed))
    log_z, low, high = summarize(np.asarray(weights, np.float64) + log_base_partition(base, layer['bias'].shape[0]))
    grey = pixels(run, args.split)
    binary = (np.random.default_rng(args.seed).random(grey.shape) < grey).astype(np.float32)
    energies = [np.asarray(rbm.free_energy(layer, part), np.float64) for part in np.array_split(binary, 10)]
    return log_z, low, high, float(-np.concatenate(energies).mean() - log_z)


def pixels(run: Run, split: str) -> np.ndarray:
    """Returns the images of a split as rows, float32 in [0, 1]."""
    source = sources.open_split(run.config.data, run.config.image, split)
    images = source.read(np.arange(len(source)))['image']
    return images.reshape(len(source), -1).astype(np.float32) / np.iinfo(images.dtype).max


def base_rates(images: np.ndarray) -> np.ndarray:
    """Returns the logits of each pixel's mean, of so many images and ten half-grey ones, float32 [pixels]."""
    mean = (images.sum(axis=0, dtype=np.float64) + 5) / (len(images) + 10)
    return np.float32(np.log(mean) - np.log1p(-mean))


def log_base_partition(base: np.ndarray, hidden: int) -> float:
    """Returns log Z of independent pixels with these logits, and hidden units that say nothing."""
    return float(np.logaddexp(0, np.float64(base)).sum() + hidden * np.log(2))


def temperatures(count: int) -> np.ndarray:
    """Returns inverse temperatures from 0 to 1, as the paper spaces them: 500, 4,000 and 10,000 of 14,500."""
    first, second = round(count * 500 / 14_500), round(count * 4_000 / 14_500)
    parts = (0, 0.5, first), (0.5, 0.9, second), (0.9, 1, count - first - second)
    return np.append(np.concatenate([np.linspace(*part, endpoint=False) for part in parts]), 1.0).astype(np.float32)


def importance_weights(layer: rbm.Layer, base: np.ndarray, betas: np.ndarray, chains: int, key: jax.Array) -> jax.Array:
    """Returns the logarithm of each chain's importance weight, float32 [chains]; exp of it is Z / Z of the base.

    Args:
      layer: parameters of the machine.
      base: logits of the pixels' base rates, float32 [pixels].
      betas: inverse temperatures, increasing from 0 to 1.
      chains: how many.
      key: a PRNG key.
    """
    def log_probability(beta, visible):
        hidden = rbm.hidden_logits(layer, visible)
        bias = (1 - beta) * base + beta * layer['visible_bias']
        return visible @ bias + jnp.sum(jax.nn.softplus(beta * hidden), axis=-1)

    def step(state, betas):
        visible, weights, compensation, key = state
        before, beta = betas
        # Kahan's sum: thousands of small differences in float32.
        gain = log_probability(beta, visible) - log_probability(before, visible) - compensation
        total = weights + gain
        compensation = (total - weights) - gain
        key, draw_hidden, draw_visible = jax.random.split(key, 3)
        hidden = jax.random.bernoulli(draw_hidden, jax.nn.sigmoid(beta * rbm.hidden_logits(layer, visible)))
        logits = (1 - beta) * base + beta * rbm.visible_logits(layer, hidden.astype(jnp.float32))
        visible = jax.random.bernoulli(draw_visible, jax.nn.sigmoid(logits)).astype(jnp.float32)
        return (visible, total, compensation, key), None

    @jax.jit
    def run(key):
        key, begin = jax.random.split(key)
        visible = jax.random.bernoulli(begin, jax.nn.sigmoid(base), (chains, len(base))).astype(jnp.float32)
        zeros = jnp.zeros(chains)
        return jax.lax.scan(step, (visible, zeros, zeros, key), (betas[:-1], betas[1:]))[0][1]
    return run(key)


def summarize(log_estimates: np.ndarray) -> tuple[float, float, float]:
    """Returns the logarithm of the mean of estimates, and of three standard errors below and above it.

    Args:
      log_estimates: logarithms of independent estimates, float64 [estimates].
    """
    largest = log_estimates.max()
    ratios = np.exp(log_estimates - largest)
    mean, error = ratios.mean(), 3 * ratios.std(ddof=1) / np.sqrt(len(ratios))
    with np.errstate(divide='ignore'):  # below 0 of a rough estimate: minus infinity
        return tuple(float(largest + np.log(max(value, 0))) for value in (mean, mean - error, mean + error))


if __name__ == '__main__':
    main()
