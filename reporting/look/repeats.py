"""Examples that are there twice: within a set, and of an evaluation set in the training set, where they flatter it."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ...input_pipeline import duplicates, splits
from .columns import row_keys
from .data_sets import DataSet
from .survey import MOST_COMPARED, Survey

_SHOWN = 12  # pairs
_CANDIDATES = 500  # of which those are the first that differ


@dataclasses.dataclass
class Pair:
    """Two images.

    Attributes:
      first, second: (set, its example).
      likeness: correlation; None of those with the same pixels.
    """
    first: tuple[str, int]
    second: tuple[str, int]
    likeness: float | None


@dataclasses.dataclass
class Repeats:
    """What of a set is there twice.

    Attributes:
      name: of the set.
      within: the set it is compared with; its own name for itself.
      compared: examples of the set.
      shared: of them the same examples of the data set, or the same files.
      same: with the same pixels, or the same inputs, as another example.
      other_targets: of those, with another class or number to be predicted.
      alike: almost the same image as another, see `duplicates.alike`; None where that was not looked for.
      pairs: some of them, for the page.
    """
    name: str
    within: str
    compared: int
    shared: int = 0
    same: int = 0
    other_targets: int = 0
    alike: int | None = None
    pairs: list[Pair] = dataclasses.field(default_factory=list)


def find_repeats(sets: Mapping[str, DataSet], surveys: Mapping[str, Survey]) -> list[Repeats]:
    """Returns what is there twice in each set, then in each evaluation set and the training set.

    Sets whose images are altered are left out, and those that are meant to be of the training set.
    """
    training = next(iter(sets))
    plain = [name for name, one in sets.items() if name in surveys and (
        name == training or not one.altered and not one.trained)]
    found = [_compare(sets, surveys, name, name) for name in plain]
    found += [_compare(sets, surveys, name, training) for name in plain if name != training]
    return [one for one in found if one is not None]


def _compare(sets: Mapping[str, DataSet], surveys: Mapping[str, Survey], name: str, within: str) -> Repeats | None:
    own, other = surveys[name], surveys[within]
    result = Repeats(name, within, len(own.indices))
    if name != within:
        result.shared = splits.count_shared(sets[name].source.taken, sets[within].source.taken)
    if own.prints is not None and other.prints is not None:
        partner = duplicates.same(own.prints, None if name == within else other.prints)
    elif 'x' in own.arrays and 'x' in other.arrays:
        partner = _same_rows(row_keys(own.arrays), row_keys(other.arrays), name == within)
    else:
        return None
    rows = np.flatnonzero(partner >= 0)
    result.same = len(rows)
    differing = rows[_differ(own, other, rows, partner[rows])]
    result.other_targets = len(differing)
    if own.prints is None:
        return result
    order = [*differing, *rows[~np.isin(rows, differing)]]
    pairs: list[tuple[int, int, float | None]] = [(row, int(partner[row]), None) for row in order[:_CANDIDATES]]
    if own.prints.comparable and other.prints.comparable and max(
            len(own.indices), len(other.indices)) <= MOST_COMPARED:
        partner, likeness = duplicates.alike(own.prints, None if name == within else other.prints,
                                             f'comparing the images of {name}')
        rows = np.flatnonzero(partner >= 0)
        result.alike = len(rows)
        best = rows[np.argsort(-likeness[rows], kind='stable')][:_CANDIDATES]
        pairs += [(row, int(partner[row]), float(likeness[row])) for row in best]
    seen: set[frozenset] = set()
    for row, column, likeness in pairs:
        pair = Pair((name, int(own.indices[row])), (within, int(other.indices[column])), likeness)
        key = frozenset((pair.first, pair.second))
        if key not in seen and len(result.pairs) < _SHOWN:
            seen.add(key)
            result.pairs.append(pair)
    return result


def _same_rows(own: np.ndarray, other: np.ndarray, within: bool) -> np.ndarray:
    first: dict[bytes, int] = {}
    again: dict[bytes, int] = {}
    for row, key in enumerate(map(bytes, other)):
        if first.setdefault(key, row) != row:
            again.setdefault(key, row)
    found = np.full(len(own), -1)
    for row, key in enumerate(map(bytes, own)):
        partner = first.get(key, -1)
        found[row] = again.get(key, -1) if within and partner == row else partner
    return found


def _differ(own: Survey, other: Survey, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns which pairs of examples have other targets, bool [pairs]."""
    different = np.zeros(len(rows), bool)
    for name in ('label', 'labels', 'y'):
        if name in own.arrays and name in other.arrays and own.arrays[name].shape[1:] == other.arrays[name].shape[1:]:
            unequal = own.arrays[name][rows] != other.arrays[name][columns]
            different |= unequal.any(axis=tuple(range(1, unequal.ndim)))
    return different
