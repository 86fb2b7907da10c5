"""Classes of a set, whatever they are classes of: examples, objects, pixels; and which examples show them."""

import dataclasses

import numpy as np

from ...common.errors import UserError, nearest
from ...common.vocabulary import SPECIAL, Vocabulary
from ...input_pipeline import relabelling
from .data_sets import DataSet
from .survey import Survey

_MOST_TAGS = 1000


@dataclasses.dataclass
class Classes:
    """Classes of a set, and where they are.

    Attributes:
      names: of the classes.
      unit: what `counts` counts: 'examples', 'objects' or 'pixels'.
      counts: int [classes].
      shown_in: int [classes], examples that show each.
      exclusive: whether an example has one class and no other.
      counted: how many examples were counted.
      complete: whether those are all of the set.
    """
    names: tuple[str, ...]
    unit: str
    counts: np.ndarray
    shown_in: np.ndarray
    exclusive: bool
    counted: int
    complete: bool
    _places: np.ndarray  # of the examples below, in the set
    _labels: np.ndarray | None = None  # int [n]
    _shows: np.ndarray | None = None  # bool [n, classes]

    def places(self, number: int) -> np.ndarray:
        """Returns which examples show a class, int [n]."""
        return self._places[self._labels == number if self._labels is not None else self._shows[:, number]]

    def empty_places(self) -> np.ndarray:
        """Returns which examples show none but the background, int [n]."""
        if self._labels is not None:
            return self._places[:0]
        return self._places[~self._shows[:, self.first:].any(axis=1)]

    @property
    def first(self) -> int:
        """The first class that is not the background of masks."""
        return int(self.unit == 'pixels')

    def number(self, name: str) -> int:
        """Returns the class of a name.

        Raises:
          UserError: there is none.
        """
        if name not in self.names:
            raise UserError(f'--class {name}: there is no such class; {nearest(name, self.names)}')
        return self.names.index(name)


def classes_of(data_set: DataSet, found: Survey, *, tags: bool = False) -> Classes | None:
    """Returns the classes of a set; None of data without.

    Args:
      data_set: the set.
      found: what a look at it has found.
      tags: whether the words of its captions are classes.
    """
    source, arrays, count = data_set.source, found.arrays, len(found.indices)
    names = tuple(source.info.class_names or ())
    if tags and 'captions' in arrays:
        vocabulary = Vocabulary.from_meta(source.info.vocabulary)
        names = vocabulary.entries[len(SPECIAL):][:_MOST_TAGS]
        shows = np.stack([(arrays['captions'] == number).any((1, 2))
                          for number in range(len(SPECIAL), len(SPECIAL) + len(names))], axis=1)
        return _several(names, 'examples', shows.sum(0), shows, found)
    if not names:
        return None
    if 'labels' in arrays:
        shows = arrays['labels'] > 0
        return _several(names, 'examples', shows.sum(0), shows, found)
    if found.mask_pixels is not None:
        return _several(names, 'pixels', found.mask_pixels.sum(0), found.mask_pixels > 0, found)
    if 'box_labels' in arrays:
        labels = np.where(arrays['box_crowd'] == 0, arrays['box_labels'], -1)
        shows = np.zeros((count, len(names)), bool)
        rows, columns = np.nonzero(labels >= 0)
        shows[rows, labels[rows, columns]] = True
        return _several(names, 'objects', np.bincount(labels[labels >= 0], minlength=len(names)), shows, found)
    if 'label' not in arrays:
        return None
    labels, places = arrays['label'], found.indices
    if not found.complete and source.labels is not None:
        labels, places = source.labels, np.arange(len(source))
    counts = relabelling.count_labels(source) if len(labels) == len(source) else None
    counts = np.bincount(labels, minlength=len(names)) if counts is None else np.asarray(counts)
    return Classes(names, 'examples', counts, counts, True, len(labels), len(labels) == len(source), places, labels)


def _several(names: tuple[str, ...], unit: str, counts: np.ndarray, shows: np.ndarray, found: Survey) -> Classes:
    return Classes(tuple(names), unit, counts, shows.sum(0), False, len(shows), found.complete, found.indices,
                   _shows=shows)
