"""What principal component analysis makes of MNIST with as many numbers as an autoencoder has.

    python benchmarks/pca_digits.py --data_dir DIR [--numbers 2 10 20 30]

The components are those of the digits that the experiments train on, train[:-5000], scored on the test digits as the
reconstruction task scores: the squared error of pixels in [0, 1], summed over a digit, and PSNR in dB, means over the
digits. Clipping what lies below 0 or above 1 helps PCA a little.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.input_pipeline import sources
from practicum.training.defaults import base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data_dir')
    parser.add_argument('--numbers', type=int, nargs='+', default=[2, 10, 20, 30])
    args = parser.parse_args()
    from sklearn.decomposition import PCA
    train, test = (digits(split, args.data_dir) for split in ('train[:-5000]', 'test'))
    began = time.process_time()
    pca = PCA(max(args.numbers), svd_solver='covariance_eigh').fit(train)
    codes = pca.transform(test)
    print('| numbers | squared error | clipped | PSNR | clipped |\n|---|---|---|---|---|')
    for number in args.numbers:
        found = codes[:, :number] @ pca.components_[:number] + pca.mean_
        plain, clipped = (((image - test) ** 2).sum(axis=1) for image in (found, np.clip(found, 0, 1)))
        psnr = [f'{-10 * np.log10(np.maximum(errors / test.shape[1], 1e-10)).mean():.2f} dB'
                for errors in (plain, clipped)]
        print(f'| {number} | {plain.mean():.2f} | {clipped.mean():.2f} | {" | ".join(psnr)} |')
    print(f'{time.process_time() - began:.0f} processor seconds', file=sys.stderr)


def digits(split: str, data_dir: str | None) -> np.ndarray:
    """Returns the digits of a split as rows of pixels in [0, 1]."""
    config = base()
    config.data.name, config.data.data_dir = 'mnist', data_dir
    source = sources.open_split(config.data, config.image, split)
    return source.read(np.arange(len(source)))['image'].reshape(len(source), -1).astype(np.float64) / 255


if __name__ == '__main__':
    main()
