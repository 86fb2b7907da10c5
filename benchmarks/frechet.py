"""How far generated images are from real ones: the Frechet distance in the features of a classifier.

    python benchmarks/frechet.py runs/mnist_gan [runs/mnist_gan-dcgan runs/mnist_vae ...] \
        --classifier runs/mnist_lenet-small [--endpoint dense1]

Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", with a
classifier of the data's own in place of Inception: distances of one classifier and endpoint can be compared with each
other alone. As many images are generated as the test set has; the floor is the distance of as many training images,
the last ones. The classifier's mean confidence and the share of each class show digits that are none, and classes that
are never drawn.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.common.errors import UserError, nearest
from practicum.inference.run import Run
from practicum.input_pipeline import preprocessing, sources
from practicum.models.stages import watching

_BATCH = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workdirs', nargs='+', type=Path)
    parser.add_argument('--classifier', type=Path, required=True)
    parser.add_argument('--endpoint', default='dense1')
    parser.add_argument('--step', default='last')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        runs = [Run(workdir, args.step) for workdir in args.workdirs]
        look = classifier(Run(args.classifier, 'last'), args.endpoint)
        print_table(runs, look, args.seed)
    except UserError as error:
        sys.exit(f'error: {error}')


def print_table(runs: list[Run], look: Callable, seed: int) -> None:
    """Prints a row of training images, one of the test images, and one of each run.

    Args:
      runs: of which the first one's data are compared with.
      look: see `classifier`.
      seed: of the latent points.
    """
    test = images(runs[0], 'test')
    train = images(runs[0], runs[0].config.data.train)[-len(test):]
    features, probabilities = look(test)
    wanted = moments(features)
    print(f'| {len(test):,} images | Frechet distance | confidence | share of each class in % |\n|---|---|---|---|')
    print(f'| test | - | {describe(probabilities)} |')
    rows = [('training', lambda: train)]
    rows += [(run.workdir.name, functools.partial(generated, run, len(test), seed)) for run in runs]
    for name, make in rows:
        features, probabilities = look(make())
        print(f'| {name} | {distance(*moments(features), *wanted):.2f} | {describe(probabilities)} |', flush=True)


def classifier(run: Run, endpoint: str) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns look(images) -> (features [n, features], probabilities [n, classes]), for uint8 images."""
    prepare = preprocessing.build(run.config.image)

    @jax.jit
    def step(batch):
        found = {}

        def watch(name, value):
            found[name] = value
            return value
        with watching(watch):
            logits = run.model.apply(run.variables, prepare({'image': batch}, None)['image'], train=False)
        if endpoint not in found:
            raise UserError(f'--endpoint {endpoint}: {run.workdir} has none of that name; '
                            f'{nearest(endpoint, list(found))}')
        return found[endpoint].reshape(len(batch), -1), jax.nn.softmax(logits)

    def look(pictures):
        wanted = (*run.config.image.size, run.config.image.channels)
        if pictures.shape[1:] != wanted:
            raise UserError(f'--classifier {run.workdir} takes images of {"x".join(map(str, wanted))}, these are '
                            f'{"x".join(map(str, pictures.shape[1:]))}')
        parts = [step(pictures[begin:begin + _BATCH]) for begin in range(0, len(pictures), _BATCH)]
        return tuple(np.concatenate([np.asarray(part, np.float64) for part in column]) for column in zip(*parts))
    return look


def images(run: Run, split: str) -> np.ndarray:
    """Returns the images of a split as they are read, uint8 [n, height, width, channels]."""
    source = sources.open_split(run.config.data, run.config.image, split)
    return source.read(np.arange(len(source)))['image']


def generated(run: Run, count: int, seed: int) -> np.ndarray:
    """Returns images of a GAN, or of a variational autoencoder, as image files would have them, uint8."""
    ways = {'adversarial': ('latent', lambda latents: run.model.apply(run.variables, latents, method='generate')),
            'variational': ('code', lambda codes: jax.nn.sigmoid(
                run.model.apply(run.variables, codes, begin='code')['logits']))}
    if run.config.task.name not in ways:
        raise UserError(f'{run.workdir} generates no images from latent points: its task is {run.config.task.name}')
    field, draw = ways[run.config.task.name]
    latents = jax.random.normal(jax.random.key(seed), (count, getattr(run.model, field)))
    draw = jax.jit(draw)
    found = np.concatenate([draw(latents[begin:begin + _BATCH]) for begin in range(0, count, _BATCH)])
    return np.round(255 * found).astype(np.uint8)


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean [features] and covariance [features, features] of features [n, features]."""
    return features.mean(axis=0), np.cov(features, rowvar=False)


def distance(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray) -> float:
    """Returns the squared Frechet distance of two normal distributions, as it is usually reported.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); the trace of the root is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is
    symmetric: no complex numbers come of rounding, as they do of a root of C1 C2.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_covariance @ root), 0)).sum()
    return float(((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


def describe(probabilities: np.ndarray) -> str:
    """Returns mean confidence and the share of each class, in per cent."""
    shares = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1]) / len(probabilities)
    return f'{probabilities.max(axis=1).mean():.3f} | {" ".join(f"{100 * share:.1f}" for share in shares)}'


if __name__ == '__main__':
    main()
