"""What every data set must be, checked on the host before the first step: silence would train on nonsense."""

import logging
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.files import digest
from . import splits
from .arrays import ArraySource
from .source import Source

_EXAMPLES = 32  # read to be looked at, of sources that stream
_CLASSES = 40  # that one line lists
_NAMES = 256  # of examples, spread over all, that hosts compare
LOWEST, HIGHEST = -0.5, 1.5  # of float images that are said to be in [0, 1]: room for what resizing overshoots


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
    if image.get('bits', 8) == 16 and 'image' in batch and batch['image'].dtype == np.uint8:
        logging.warning('warning: config.image.bits = 16, but the images of %s come with 8 bits', where)
    if isinstance(source, ArraySource):
        targets = {name: values for name, values in source.arrays.items() if name != 'image'}
        check_batch(targets, source.info, image, where)
    elif source.labels is not None:
        check_batch({'label': source.labels}, source.info, image, where)


def check_objects(source: Source) -> None:
    """Raises UserError if a training set with boxes that is in memory has no object to be found."""
    if isinstance(source, ArraySource) and source.has_boxes:
        arrays = source.arrays
        if not ((arrays['box_labels'] >= 0) & (arrays['box_crowd'] == 0)).any():
            raise UserError(f'the training set has no object in any of its {len(source):,} images: look at '
                            'config.data.name and config.data.train')


def say_what_is_learned(training: Source, evaluated: Mapping[str, Source]) -> None:
    """Logs the classes of a training set with boxes, and warns of what is a mistake as a rule.

    That is a class that is written in two ways, and examples that are both learned and evaluated. A set whose name
    begins with 'train' is meant to be of examples that were learned.

    Args:
      training: the training set.
      evaluated: the evaluation sets by name.
    """
    if training.has_boxes:
        logging.info('classes: %s', _count_objects(training))
        written: dict[str, str] = {}
        for name in training.info.class_names or ():
            other = written.setdefault(' '.join(name.casefold().split()), name)
            if other != name:
                logging.warning('the classes %r and %r differ only in case or spaces: if they are one, give it one '
                                'name in the annotations', other, name)
    for name, source in evaluated.items():
        shared = 0 if name.startswith('train') else splits.count_shared(source.taken, training.taken)
        if shared:
            total = sum(len(part.positions) for part in source.taken)
            logging.warning("%s of the %s examples of evaluation set %r are in the training set, too: its metrics do "
                            "not say how well new ones are done (one that is meant to be so has a name like 'train')",
                            f'{shared:,}', f'{total:,}', name)


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
        are, labels or mask values that are no class, numbers that are not finite, boxes without area, outside of the
        image or of no class.
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
    if 'boxes' in batch:
        _check_boxes(batch, info, image, where)
    if 'labels' in batch and (batch['labels'].shape[1:] != (classes,) or not np.isin(batch['labels'], (0, 1)).all()):
        raise UserError(f"{where}: labels of shape {batch['labels'].shape} are not 0 and 1 for {classes} classes each")


def summary(source: Source) -> str:
    """Returns a digest that is the same on all hosts with the same data, and cheap whatever the size of the data.

    It is of the number of examples, what is known of the data set, the labels, masks and other whole numbers that are
    in memory, and the names of some files, or their captions. Pixels and fractions are left out: machines round them
    differently.
    """
    arrays = source.arrays if isinstance(source, ArraySource) else {'label': source.labels}
    checksums = {name: zlib.crc32(np.ascontiguousarray(values)) for name, values in arrays.items()
                 if values is not None and values.dtype.kind in 'biu' and name != 'image'}
    spread = np.unique(np.linspace(0, len(source) - 1, _NAMES).astype(np.int64))
    names = [{key: example[key] for key in ('file', 'captions') if key in example}
             for example in source.describe(spread)]
    return digest([len(source), source.info.to_json(), checksums, names])


def _count_objects(source: Source) -> str:
    """Returns the classes, with the numbers of their objects to be found if they are in memory."""
    names = source.info.class_names or ()
    listed, unit = list(names), ''
    if isinstance(source, ArraySource):
        labels = source.arrays['box_labels']
        counts = np.bincount(labels[(labels >= 0) & (source.arrays['box_crowd'] == 0)], minlength=len(names))
        listed, unit = [f'{name} {count:,}' for name, count in zip(names, counts.tolist())], ' objects'
    more = f', and {len(listed) - _CLASSES} more' if len(listed) > _CLASSES else ''
    return ', '.join(listed[:_CLASSES]) + unit + more


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
    if low < LOWEST or high > HIGHEST:
        raise UserError(f'{where}: its float images are from {low:.4g} to {high:.4g}; scale them to 0 to 1, give uint8 '
                        'or uint16, or say with config.image.mean and config.image.std what becomes 0 and 1')


def _check_boxes(batch: Mapping[str, np.ndarray], info: DatasetInfo, image: Mapping[str, Any], where: str) -> None:
    boxes, labels, crowd = (batch.get(name) for name in ('boxes', 'box_labels', 'box_crowd'))
    if boxes.ndim != 3 or boxes.shape[2] != 4 or any(
            values is None or values.shape != boxes.shape[:2] for values in (labels, crowd)):
        shapes = ', '.join(f'{name} {batch[name].shape}' for name in ('boxes', 'box_labels', 'box_crowd')
                           if name in batch)
        raise UserError(f'{where}: boxes are [n, max_boxes, 4], with box_labels and box_crowd [n, max_boxes]: {shapes}')
    classes = len(info.class_names or ())
    wrong = (labels < -1) | (labels >= classes)
    if labels.dtype.kind not in 'iu' or wrong.any():
        said = f'box_labels of example {_first(wrong):,} are' if wrong.any() else 'box_labels are'
        raise UserError(f'{where}: {said} {labels[wrong].flat[0] if wrong.any() else labels.dtype}, but there are '
                        f'{classes} classes, 0 to {classes - 1}, and -1 for no box')
    if not np.isin(crowd, (0, 1)).all():
        raise UserError(f'{where}: box_crowd of example {_first(~np.isin(crowd, (0, 1))):,} is neither 0 nor 1')
    height, width = info.input_size or image['size']
    there = labels >= 0
    outside = ((boxes < 0) | (boxes > np.array([width, height, width, height], np.float32))).any(2)
    flat = (boxes[..., 2:] <= boxes[..., :2]).any(2)
    for wrong, what in ((outside & there, f'outside of its {width}x{height} pixels'), (flat & there, 'without area')):
        if wrong.any():
            sides = ', '.join(f'{side:.7g}' for side in boxes[wrong][0])
            raise UserError(f'{where}: example {_first(wrong):,} has a box {what}: left, top, right, bottom = {sides}')


def _first(wrong: np.ndarray) -> int:
    """Returns the first example of which anything is wrong."""
    return int(np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))[0])


def _wanted(name: str) -> str:
    return {'image': 'uint8, uint16 or float32', 'label': 'int32', 'segmentation_mask': 'uint8',
            'box_labels': 'int32', 'box_crowd': 'uint8'}.get(
        name, 'float32 or int32')
