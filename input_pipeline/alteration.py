"""Evaluation sets that are augmented or corrupted: every example once, and in every evaluation in the same way.

It is done on the host, one example at a time. What an example becomes depends on nothing but its position in the set,
to the bit: not on the batch it comes in, nor on devices, nor on a run's seed. Whatever looks at single examples later,
such as a segmentation's scores or a drawing of the worst ones, sees what the model saw.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError
from ..common.threads import parallel_map
from . import augmentation, checks, corruption, preprocessing
from .arrays import ArraySource
from .source import Examples, IndexedSource, Source

_SEED = 0x5e7  # of all keys; any number
_CHUNK = 64  # examples altered per task, after which a request to stop is heard

Alter = Callable[[Examples, np.ndarray], Examples]  # (examples, their positions in the set) -> examples


def altered(source: Source, augment: Mapping[str, Any], corrupt: Mapping[str, int], where: str) -> Source:
    """Returns a source whose images are augmented, then corrupted; in memory if it was there.

    Args:
      source: of an evaluation set.
      augment: fields of config.augment; {} or those at which they are off change nothing. Masks and boxes move with
        their image.
      corrupt: corruption -> severity, see corruption.py; likewise.
      where: the name of the set for messages.

    Raises:
      UserError: an unknown field, examples that have no images or are videos, images that an operation cannot change.
      Interrupted: the process was asked to stop.
    """
    try:
        alter = _build(augment, corrupt)
        if alter is None:
            return source
        if source.streams or source.frames != 1 or 'image' not in source.read(np.zeros(1, np.int64)):
            raise UserError('it has no single images to augment or corrupt')
        if not isinstance(source, ArraySource):
            return _AlteredSource(source, alter)
        return source.select(change=lambda examples: _alter_all(examples, alter, where))
    except UserError as error:
        raise UserError(f'{where}: {error}') from None


def _build(augment: Mapping[str, Any], corrupt: Mapping[str, int]) -> Alter | None:
    """Returns what alters examples; None if nothing is to be done."""
    settings = augmentation.checked(augment)
    mixed = [name for name in ('mixup', 'cutmix') if settings[name]]
    if mixed:
        raise UserError(f'{mixed[0]} mixes the images of a training batch with their labels; it is not for evaluation')
    change, spoil = augmentation.build(settings), corruption.build(corrupt)
    augmenting = change is not augmentation.unchanged
    if not augmenting and not any(corrupt.values()):
        return None

    @jax.jit
    def augment_one(position, features):
        key = jax.random.fold_in(jax.random.key(_SEED), position)
        features = features | {'image': preprocessing.scale(features['image'])}
        one = augmentation.apply(change, key[None], jax.tree.map(lambda array: array[None], features))
        return jax.tree.map(lambda array: array[0], one)

    def alter_one(position: int, features: Examples) -> Examples:
        image = features['image']
        pixels = np.asarray(image, np.float32)
        if image.dtype.kind == 'u':
            pixels = pixels / np.float32(np.iinfo(image.dtype).max)
        elif pixels.min() < checks.LOWEST or pixels.max() > checks.HIGHEST:
            raise UserError(f'its float images are from {pixels.min():.4g} to {pixels.max():.4g}; only images in '
                            '[0, 1] are augmented and corrupted')
        if augmenting:
            with _on_host():
                features = jax.device_get(augment_one(*jax.device_put((np.uint32(position), features))))
            pixels = features['image']
        return features | {'image': _like(image, spoil(position, pixels))}

    def alter(examples: Examples, positions: np.ndarray) -> Examples:
        moving = {name: examples[name] for name in augmentation.MOVING if name in examples}
        done = [alter_one(int(position), {name: values[row] for name, values in moving.items()})
                for row, position in enumerate(positions)]
        return examples | {name: np.stack([one[name] for one in done]) for name in moving}

    return alter


class _AlteredSource(IndexedSource):
    """Examples of a source that streams, altered as they are read."""

    def __init__(self, source: Source, alter: Alter):
        super().__init__(source)
        self._alter = alter

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """See `Source`."""
        return self._alter(super().read(indices, uniforms), indices)


def _alter_all(examples: Examples, alter: Alter, where: str) -> Examples:
    total = len(examples['image'])
    logging.info('altering the images of %s: %s examples, once', where, f'{total:,}')
    chunks = [np.arange(i, min(i + _CHUNK, total)) for i in range(0, total, _CHUNK)]
    done, tick = [], ProgressLog('altering', total)
    for chunk, part in zip(chunks, parallel_map(
            lambda chunk: alter({name: values[chunk] for name, values in examples.items()}, chunk), chunks)):
        done.append(part)
        tick(int(chunk[-1]))
    return {name: np.concatenate([part[name] for part in done]) for name in examples}


@contextlib.contextmanager
def _on_host():
    """Computes on the CPU, whose results do not depend on which GPU there is; where JAX has no other, on that."""
    try:
        device = jax.local_devices(backend='cpu')[0]
    except RuntimeError:
        device = None
    with jax.default_device(device):
        yield


def _like(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Returns float32 images as the type of the original: integers are rounded."""
    if original.dtype.kind != 'u':
        return changed.astype(original.dtype)
    return np.round(np.clip(changed, 0, 1) * np.iinfo(original.dtype).max).astype(original.dtype)
