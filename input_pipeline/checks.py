"""What every data set must be, checked on the host before the first step: silence would train on nonsense."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.files import digest
from .arrays import ArraySource
from .source import Source

_EXAMPLES = 32  # read to be looked at, of sources that stream
_LOWEST, _HIGHEST = -0.5, 1.5  # of float images that are said to be in [0, 1]: room for what resizing overshoots


def check_source(source: Source, image: Mapping[str, Any], where: str) -> None:
    """Checks the first examples of a source, and all labels, masks and numbers where they are in memory.

    Args:
      source: any, opened.
      image: config.image.
      where: the name of the set for messages, such as 'the training set'.

    Raises:
      UserError: see `check_batch`.
    """
    batch = source.read(np.arange(min(len(source), _EXAMPLES)))
    check_batch(batch, source.info, image, where)
    if isinstance(source, ArraySource):
        targets = {name: values for name, values in source.arrays.items() if name != 'image'}
        check_batch(targets, source.info, image, where)
    elif source.labels is not None:
        check_batch({'label': source.labels}, source.info, image, where)


def digest_of(source: Source) -> str:
    """Returns what tells data sets apart: number, classes, labels, and the content of some examples spread over all.

    Hosts that read different ones, such as an older copy of a folder, would train on a mixture of them.
    """
    chosen = np.unique(np.linspace(0, len(source) - 1, _EXAMPLES).astype(int))
    arrays = source.read(chosen) | ({} if source.labels is None else {'labels of all': source.labels})
    checksums = {name: zlib.crc32(np.ascontiguousarray(values)) for name, values in arrays.items()}
    return digest([len(source), source.info.to_json(), source.describe(chosen), checksums])


def check_batch(batch: Mapping[str, np.ndarray], info: DatasetInfo, image: Mapping[str, Any], where: str = 'the data'
                ) -> None:
    """Checks types and ranges of a batch.

    Args:
      batch: feature name -> array [n, ...].
      info: of the data set.
      image: config.image.
      where: the name of the set, for messages.

    Raises:
      UserError: one line that says which feature of which set is wrong: features of different lengths, a type that no
        step computes with, float images that are not in [0, 1] although config.image.mean and std do not say what they
        are, labels or mask values that are no class, numbers that are not finite.
    """
    lengths = {name: len(values) for name, values in batch.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f'{where}: its features have different numbers of examples: '
                        + ', '.join(f'{name} {length:,}' for name, length in lengths.items()))
    for name, values in batch.items():
        if values.dtype.kind not in 'biuf' or values.dtype.itemsize > 4:
            raise UserError(f'{where}: {name} is of type {values.dtype}; give {_wanted(name)}')
        if values.dtype.kind == 'f' and not np.isfinite(values).all():
            raise UserError(f'{where}: {name} of example {_first(~np.isfinite(values)):,} is not finite')
    if 'image' in batch:
        _check_images(batch['image'], image, where)
    classes = len(info.class_names or ())
    for name in ('label', 'segmentation_mask'):
        if name not in batch or not classes:
            continue
        values = batch[name]
        if values.dtype.kind not in 'iu':
            raise UserError(f'{where}: {name} is of type {values.dtype}; give {_wanted(name)}')
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            raise UserError(f'{where}: {name} of example {_first(wrong):,} is {values[wrong].flat[0]}, but there are '
                            f'{classes} classes, 0 to {classes - 1}')
    if 'labels' in batch and (batch['labels'].shape[1:] != (classes,) or not np.isin(batch['labels'], (0, 1)).all()):
        raise UserError(f"{where}: labels of shape {batch['labels'].shape} are not 0 and 1 for {classes} classes each")


def _check_images(values: np.ndarray, image: Mapping[str, Any], where: str) -> None:
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        raise UserError(f"{where}: image is of type {values.dtype}; give {_wanted('image')}")
    if values.shape[-1] != image['channels']:
        raise UserError(f"{where}: image has {values.shape[-1]} channel(s), not config.image.channels = "
                        f"{image['channels']}")
    given = any(np.ravel(image['mean'])) or any(np.ravel(image['std']) != 1)
    if values.dtype != np.float32 or given:
        return
    low, high = float(values.min()), float(values.max())
    if low < _LOWEST or high > _HIGHEST:
        raise UserError(f'{where}: its float images are from {low:.4g} to {high:.4g}; scale them to 0 to 1, give uint8 '
                        'or uint16, or say with config.image.mean and config.image.std what becomes 0 and 1')


def _first(wrong: np.ndarray) -> int:
    """Returns the first example of which anything is wrong."""
    return int(np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))[0])


def _wanted(name: str) -> str:
    return {'image': 'uint8, uint16 or float32', 'label': 'int32', 'segmentation_mask': 'uint8'}.get(
        name, 'float32 or int32')
