"""Drawn chirps as pictures, and how well runs of experiments/chirps.py tell them apart under more and more noise.

    python benchmarks/chirps_by_noise.py --output chirps.png --runs runs/chirps-seed0 runs/chirps-seed1

Writes a picture of every class at four levels of noise, and prints a table in Markdown of the accuracy on the test
sounds of each level, from what the runs wrote of every example.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.input_pipeline import sounds
from practicum.input_pipeline.datasets import chirps
from practicum.training import config as config_lib

SHOWN = (0.25, 0.5, 1.0, 2.0)
EDGES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', type=Path)
    parser.add_argument('--runs', type=Path, nargs='*', default=[])
    args = parser.parse_args()
    if args.output:
        drawn = io.BytesIO()
        draw(config_lib.load('experiments/chirps.py').image).savefig(drawn, dpi=80)
        Image.open(drawn).convert('L').save(args.output, optimize=True)
    if args.runs:
        print('| noise | ' + ' | '.join(f'{low:g} to {high:g}' for low, high in zip(EDGES, EDGES[1:])) + ' |')
        print('|---' * len(EDGES) + '|')
        print('| accuracy | ' + ' | '.join(f'{100 * share:.1f} %' for share in by_noise(args.runs)) + ' |')


def draw(image) -> Figure:
    """Returns a figure of every class at the levels of noise in SHOWN; image: config.image."""
    figure = Figure(figsize=(1.5 * len(chirps.CLASSES), 1.5 * len(SHOWN)), layout='constrained')
    axes = figure.subplots(len(SHOWN), len(chirps.CLASSES))
    for row, noise in enumerate(SHOWN):
        for column, kind in enumerate(chirps.CLASSES):
            wave = chirps.draw(kind, noise, np.random.default_rng((1, column))) / 32768
            axes[row, column].imshow(sounds.to_image(sounds.fitted(wave, chirps.RATE, image.sound), image)[..., 0],
                                     cmap='gray', vmin=0, vmax=255, interpolation='nearest')
            axes[row, column].set(xticks=[], yticks=[])
            axes[0, column].set_title(kind.replace('_', '-'), fontsize=10)
        axes[row, 0].set_ylabel(f'noise {noise:g}', fontsize=10)
    return figure


def by_noise(runs: list[Path]) -> list[float]:
    """Returns the accuracy of the test sounds between two of EDGES each, over all runs."""
    rows = [row for run in runs for row in json.loads((run / 'test_examples.json').read_text())['examples']]
    noise = np.array([row['noise'] for row in rows])
    right = np.array([row['class'] == row['predicted'] for row in rows])
    return [float(right[(low <= noise) & (noise <= high)].mean()) for low, high in zip(EDGES, EDGES[1:])]


if __name__ == '__main__':
    main()
