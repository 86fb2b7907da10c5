"""ZCA whitening: pixels of an image made uncorrelated, each still looking like itself (Bell and Sejnowski 1997, "The
'independent components' of natural scenes are edge filters").

    whitened = (image - mean image) U (S + epsilon)^(-1/2) U'

with the covariance of the training images U S U'. The matrix is learned once, from the training set of a run, and is
what its checkpoints know of the data: evaluation, prediction and export use it and never another.
"""

import base64
import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..common.errors import UserError
from ..common.json_cache import cached_json
from .source import Source

MOST_NUMBERS = 3072  # of an image, such as 32x32x3: the matrix has the square of it, in every checkpoint
_MOST_IMAGES = 10_000  # that the matrix is learned from, evenly spread over the training set
_CHUNK = 500
_VERSION = 1


def check(image: Mapping[str, Any]) -> None:
    """Raises UserError if config.image asks for a whitening that cannot be.

    Args:
      image: config.image.
    """
    epsilon = image['zca_epsilon']
    if not 0 <= epsilon < math.inf:
        raise UserError(f'config.image.zca_epsilon = {epsilon}: it is added to variances, a number above 0, or 0 for '
                        'no whitening')
    numbers = math.prod((*image['size'], image['channels']))
    if epsilon and numbers > MOST_NUMBERS:
        raise UserError(f'config.image.zca_epsilon: an image of {"x".join(map(str, image["size"]))}x'
                        f'{image["channels"]} has {numbers:,} numbers, and the matrix of its whitening '
                        f'{numbers ** 2 / 1e6:,.0f} million: it is for images of up to {MOST_NUMBERS:,} (32x32x3)')


def learn(source: Source, epsilon: float, prepare: Callable) -> dict[str, Any]:
    """Returns the whitening of a training set, as JSON can hold it; from the cache if it was learned before.

    Args:
      source: of single images.
      epsilon: added to the variances before their roots are taken. Where it is small what varies least, noise as a
        rule, is made as strong as all else.
      prepare: (batch, None) -> batch, what else happens to images before they are whitened.

    Raises:
      UserError: the examples are no single images.
    """
    if source.streams or source.frames != 1 or 'image' not in source.read(np.zeros(1, np.int64)):
        raise UserError(f'config.image.zca_epsilon: {source.name} has no single images to whiten')
    count = min(len(source), _MOST_IMAGES)
    if count < 2:
        raise UserError(f'config.image.zca_epsilon: {source.name} has {count} image, which varies in nothing')
    places = np.linspace(0, len(source) - 1, count).round().astype(np.int64)
    images = np.concatenate([np.asarray(prepare({'image': source.read(places[i:i + _CHUNK])['image']}, None)['image'])
                             for i in range(0, count, _CHUNK)])
    of = hashlib.blake2b(np.ascontiguousarray(images), digest_size=16).hexdigest()

    def compute() -> dict[str, Any]:
        logging.info('learning to whiten from %s images, once', f'{count:,}')
        mean, matrix = fit(images.reshape(count, -1), epsilon)
        return {'epsilon': epsilon, 'images': count, 'of': of, 'shape': list(images.shape[1:]), 'mean': _text(mean),
                'matrix': _text(matrix[np.triu_indices(len(matrix))])}
    return cached_json('whitening', [_VERSION, of, epsilon], compute, f'learning to whiten {source.name}')


def fit(rows: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean, float32 [numbers], and the symmetric matrix, float32 [numbers, numbers], of a whitening.

    Args:
      rows: float32 [images, numbers].
      epsilon: added to the variances.
    """
    mean = rows.mean(0, dtype=np.float64)
    covariance = np.zeros((rows.shape[1],) * 2)
    for begin in range(0, len(rows), _CHUNK):  # not all of them as float64 at once
        centred = rows[begin:begin + _CHUNK] - mean
        covariance += centred.T @ centred
    variances, directions = np.linalg.eigh(covariance / len(rows))
    matrix = directions / np.sqrt(np.maximum(variances, 0) + epsilon) @ directions.T
    return mean.astype(np.float32), ((matrix + matrix.T) / 2).astype(np.float32)


def arrays(whitening: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and matrix of what `learn` returned, see `fit`."""
    mean, upper = _numbers(whitening['mean']), _numbers(whitening['matrix'])
    matrix = np.zeros((len(mean), len(mean)), np.float32)
    matrix[np.triu_indices(len(mean))] = upper
    return mean, matrix + np.triu(matrix, 1).T


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.astype('<f4').tobytes()).decode()


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), '<f4').astype(np.float32)
