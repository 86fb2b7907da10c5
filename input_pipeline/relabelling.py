"""Fewer classes out of many: five grades of a disease become 'healthy' and 'ill'."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..common.class_groups import group_of_classes
from ..common.errors import UserError
from ..common.json_cache import cached_json
from .arrays import ArraySource
from .selection import Selected

_FIELD = 'config.data.merge_classes'
_CHUNK = 1024  # examples read per task


class ClassMerge:
    """Which of the old classes become which new one.

    Args:
      pairs: config.data.merge_classes, (new class, (old classes or regexes that match their whole name, ...)) pairs,
        see common/class_groups.py. A class belongs to the first that matches; one that matches none is left out.
      class_names: the old ones.

    Attributes:
      class_names: the new ones, in the order of `pairs`.

    Raises:
      UserError: not such pairs, or a pattern that matches no class.
    """

    def __init__(self, pairs: Sequence, class_names: Sequence[str]):
        for pair in pairs:
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)):
                raise UserError(f"{_FIELD}: {pair!r} is not a pair such as ('ill', ('mild', 'severe'))")
        self.class_names = [name for name, _ in pairs]
        for i, name in enumerate(self.class_names):
            if name in self.class_names[:i]:
                raise UserError(f'{_FIELD} has {name!r} twice: give all its old classes at once')
        groups = [[patterns] if isinstance(patterns, str) else patterns for _, patterns in pairs]
        self._new = group_of_classes(groups, class_names, _FIELD)

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Returns new labels, int32 [n], of old ones; -1 for examples that are left out."""
        return self._new[labels]


def merge(source, labels: np.ndarray, pairs: Sequence, name: str):
    """Returns a source with merged classes, of the same kind: in memory or streaming.

    Args:
      source: with 'class_names' in its facts.
      labels: int32 [n] of its examples.
      pairs: see `Merging`.
      name: for messages.

    Raises:
      UserError: see `Merging`; no example is left.
    """
    merging = ClassMerge(pairs, source.info.class_names)
    new = merging(labels)
    kept = np.flatnonzero(new >= 0)
    if not len(kept):
        raise UserError(f'{_FIELD} leaves no example of {name}')
    if len(kept) < len(new):
        logging.info('%s of %s examples of %s are of no merged class and left out', f'{len(new) - len(kept):,}',
                     f'{len(new):,}', name)
    if not isinstance(source, ArraySource):
        return Selected(source, kept, new[kept], merging.class_names)
    info = source.info.replace(class_names=tuple(merging.class_names))
    if len(kept) == len(new):
        merged = ArraySource(source.arrays | {'label': new}, info, source.metadata)
        merged._whole = source  # as long as this is in use, other parts of its split can share its arrays
        return merged
    arrays = {feature: values[kept] for feature, values in source.arrays.items()}
    return ArraySource(arrays | {'label': new[kept]}, info,
                       source.metadata and [source.metadata[i] for i in kept])


def count_labels(source) -> tuple[int, ...] | None:
    """Returns how many examples of each class a source has; None where that takes reading all of them."""
    labels = source.arrays.get('label') if isinstance(source, ArraySource) else getattr(source, 'labels', None)
    if labels is None or not source.info.class_names:
        return None
    return tuple(np.bincount(labels, minlength=len(source.info.class_names)).tolist())


def check_labels(source) -> None:
    """Raises UserError if a source has no classes to merge."""
    if getattr(source, 'has_masks', False) or not source.info.class_names:
        raise UserError(f'{_FIELD}: these examples have no labels with class names')


def read_labels(source) -> np.ndarray:
    """Returns the labels of a source that streams, int32 [n]: its `labels`, or by reading it once, kept in the cache.

    Args:
      source: with `identity` and `name`, see `memory.load`.
    """
    if hasattr(source, 'labels'):
        return source.labels

    def read_all() -> list[int]:
        logging.info('reading the labels of %s: %s examples, once', source.name, f'{len(source):,}')
        chunks = [np.arange(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [int(label) for part in pool.map(source.read, chunks) for label in part['label']]

    return np.asarray(cached_json('labels', source.identity, read_all), np.int32)
