"""Fewer classes out of many: five grades of a disease become 'healthy' and 'ill'."""

import logging
from collections.abc import Sequence

import numpy as np

from ..common.class_groups import group_of_classes
from ..common.errors import UserError
from ..common.json_cache import cached_json
from ..common.threads import parallel_map
from .arrays import ArraySource
from .source import Source

_FIELD = 'config.data.merge_classes'
_CHUNK = 128  # examples read per task, after which a request to stop is heard


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


def merge(labels: np.ndarray, class_names: Sequence[str], pairs: Sequence, name: str
          ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Merges the classes of some examples.

    Args:
      labels: int32 [n], the old ones.
      class_names: the old ones.
      pairs: see `ClassMerge`.
      name: of the data set, for messages.

    Returns:
      Which examples stay, int [kept], their new labels, int32 [kept], and the new class names.

    Raises:
      UserError: see `ClassMerge`; no example is left.
    """
    merging = ClassMerge(pairs, class_names)
    new = merging(labels)
    kept = np.flatnonzero(new >= 0)
    if not len(kept):
        raise UserError(f'{_FIELD} leaves no example of {name}')
    if len(kept) < len(new):
        logging.info('%s of %s examples of %s are of no merged class and left out', f'{len(new) - len(kept):,}',
                     f'{len(new):,}', name)
    return kept, new[kept], tuple(merging.class_names)


def count_labels(source: Source) -> tuple[int, ...] | None:
    """Returns how many examples, or boxes, of each class a source has; None where that takes reading all of them."""
    labels = source.labels
    if source.has_boxes and isinstance(source, ArraySource):
        labels = source.arrays['box_labels']
        labels = labels[labels >= 0]
    if labels is None or not source.info.class_names:
        return None
    return tuple(np.bincount(labels, minlength=len(source.info.class_names)).tolist())


def read_labels(source: Source, field: str) -> np.ndarray:
    """Returns the labels of all examples, int32 [n]: `Source.labels`, or by reading it once, kept in the cache.

    Args:
      field: of the config, which needs them.

    Raises:
      UserError: the examples have no labels with class names.
      Interrupted: the process was asked to stop.
    """
    if source.has_boxes:
        raise UserError(f'{field} is for data with one class to an example: {source.name} has boxes, several objects '
                        'to an image' + (', whose classes are merged by giving them one name in the annotations'
                                         if field == _FIELD else ''))
    if source.has_masks or not source.info.class_names or isinstance(source, ArraySource) and source.labels is None:
        raise UserError(f'{field}: these examples have no labels with class names')
    if source.labels is not None:
        return source.labels

    def read_all() -> list[int]:
        logging.info('reading the labels of %s: %s examples, once', source.name, f'{len(source):,}')
        chunks = [np.arange(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
        found: list[int] = []
        for part in parallel_map(lambda chunk: source.read(chunk).get('label'), chunks):
            if part is None:
                raise UserError(f'{field}: these examples have no labels with class names')
            found += part.tolist()
        return found

    return np.asarray(cached_json('labels', source.identity, read_all), np.int32)
