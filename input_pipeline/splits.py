"""Which examples a split names: 'train', 'train[:80%]', 'train[:20%]+train[40%:]'; and folds of cross-validation."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError, nearest, some
from ..common.json_cache import cached_json
from . import near_duplicates
from .source import Source

NEAR_DUPLICATES = 'near_duplicates'  # a value of config.data.group_by
FOLD = 'fold'  # the split's name that stands for the examples held out by config.data.folds

_MOST_FILES = 100_000  # of a split, whose names are compared with those of another

_PART = re.compile(r'(\w{1,100})(?:\[(-?\d{1,18}%?)?:(-?\d{1,18}%?)?\])?')


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a split as it is written, 'train[10%:-500]'.

    Attributes:
      name: of the whole split.
      first, last: where it begins and ends, as written; None for the beginning and the end.
    """
    name: str
    first: str | None
    last: str | None

    def bounds(self, total: int) -> tuple[int, int]:
        """Returns begin and end of the part of a split with so many examples.

        Raises:
          UserError: it is empty.
        """
        begin, end = _bound(self.first, total, 0), _bound(self.last, total, total)
        if begin >= end:
            raise UserError(f'split {str(self)!r} is empty: {self.name} has {total} examples')
        return begin, end

    def __str__(self) -> str:
        return self.name if self.first is self.last is None else f"{self.name}[{self.first or ''}:{self.last or ''}]"


def parse(split: str) -> list[Part]:
    """Returns the parts that a split is the union of.

    Raises:
      UserError: it is not understood, or has a percentage beyond 100.
    """
    parts = []
    for text in split.split('+'):
        match = _PART.fullmatch(text.strip())
        if not match:
            raise UserError(f"split {split!r} is not understood: write 'train', 'train[:10%]', 'train[-5000:]' or "
                            "'train[:20%]+train[40%:]'")
        for bound in match.groups()[1:]:
            if bound and bound.endswith('%') and abs(int(bound[:-1])) > 100:
                raise UserError(f'split {split!r}: there is no {bound} of the examples, 100% are all')
        parts.append(Part(*match.groups()))
    return parts


def whole_splits(splits: Iterable[str]) -> list[str]:
    """Returns the names of the whole splits that these are parts of, each once; folds are parts of those named too."""
    names = [part.name for split in splits for part in parse(split)]
    return [name for name in dict.fromkeys(names) if name != FOLD]


def positions(parts: Sequence[Part], lengths: Mapping[str, int]) -> np.ndarray:
    """Returns the examples of a union, int [n], as indices of the named splits put one after the other.

    Args:
      lengths: of the splits that the parts name, in that order.

    Raises:
      UserError: a part is empty, or two have examples in common.
    """
    begins = dict(zip(lengths, np.cumsum([0, *lengths.values()]).tolist()))
    chosen = np.concatenate([begins[part.name] + np.arange(*part.bounds(lengths[part.name])) for part in parts])
    if len(np.unique(chosen)) < len(chosen):
        raise UserError(f"split {'+'.join(map(str, parts))!r} has examples twice: its parts overlap")
    return chosen


@dataclasses.dataclass(frozen=True)
class Taken:
    """Which examples of a whole split a source is made of.

    Attributes:
      place: what tells the whole split from all others.
      positions: int [n], of the examples in it.
      files: the file of every example of the whole split; None where they are none, or too many to compare.
    """
    place: tuple[str, ...]
    positions: np.ndarray
    files: Sequence[Path] | None = None

    def names(self) -> list[str]:
        """Returns the files of the examples."""
        return [str(self.files[i].absolute()) for i in self.positions.tolist()]


def taken_from(data: Mapping[str, Any], wholes: Mapping[str, Any], chosen: np.ndarray) -> tuple[Taken, ...]:
    """Returns where examples are from.

    Args:
      data: config.data.
      wholes: name of each whole split -> what it holds, in the order that `chosen` counts them in.
      chosen: int [n], indices of the wholes put one after the other.
    """
    place = (data['source'], str(Path(data['name']).expanduser().resolve()), str(data['data_dir']))
    found, begin = [], 0
    for name, whole in wholes.items():
        # Numbers written in the config are the same ones in every split.
        which = str(data['arrays']) if data['source'] == 'arrays' else name
        end = begin + len(whole)
        files = getattr(whole, 'files', None)
        found.append(Taken((*place, which), chosen[(begin <= chosen) & (chosen < end)] - begin,
                           files if files is not None and end - begin <= _MOST_FILES else None))
        begin = end
    return tuple(found)


def count_shared(some_taken: Sequence[Taken], others: Sequence[Taken]) -> int:
    """Returns how many of some examples are among others: the same ones of a split, or the same files in two splits."""
    found = 0
    for one in some_taken:
        shared = np.zeros(len(one.positions), bool)
        for other in others:
            if one.place == other.place:
                shared |= np.isin(one.positions, other.positions)
            elif one.files is not None and other.files is not None:
                names = set(other.names())
                shared |= [name in names for name in one.names()]
        found += int(shared.sum())
    return found


def _bound(text: str | None, total: int, default: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * total / 100) if text.endswith('%') else int(text)
    return min(total, max(0, value + total if value < 0 else value))


def check_folds(data: Mapping[str, Any]) -> None:
    """Raises UserError if config.data.folds, fold and group_by make no sense."""
    folds, fold = data['folds'], data['fold']
    if folds < 0 or folds == 1:
        raise UserError(f'config.data.folds = {folds}: it is 0, for none, or at least 2')
    if not 0 <= fold < max(folds, 1):
        raise UserError(f'config.data.fold = {fold}: of {folds} folds it is one from 0 to {max(folds, 1) - 1}')
    if data['group_by'] and not folds:
        raise UserError('config.data.group_by keeps examples together in one fold: set config.data.folds')


def fold_of(source: Source, chosen: np.ndarray, folds: int, group_by: str) -> np.ndarray:
    """Returns the fold of each of some examples, int [n] in 0..folds-1.

    It depends on nothing but the examples themselves: in every run, and for every number of the fold that is held out,
    the same ones are together. Folds are of equal size, give or take one example, or one group.

    Args:
      source: where they are from.
      chosen: int [n], indices of examples.
      folds: how many.
      group_by: config.data.group_by; '' for no groups.

    Raises:
      UserError: fewer examples, or groups, than folds; examples that have no group.
    """
    what = 'examples'
    if group_by:
        groups = _groups(source, chosen, group_by)
        what = f'groups by config.data.group_by = {group_by!r}'
    else:
        groups = np.random.Generator(np.random.Philox(key=[folds, len(chosen)])).permutation(len(chosen))
    names, members, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise UserError(f'config.data.folds = {folds}: {source.name} has only {len(names)} {what}')
    if not group_by:
        return groups % folds
    # By their hashes rather than their names, which may be ordered by age or severity; each to the smallest fold.
    order = sorted(range(len(names)), key=lambda i: hashlib.md5(str(names[i]).encode()).digest())
    sizes, fold = np.zeros(folds, np.int64), np.zeros(len(names), np.int64)
    for i in order:
        fold[i] = np.argmin(sizes)
        sizes[fold[i]] += counts[i]
    return fold[members]


def _groups(source: Source, chosen: np.ndarray, group_by: str) -> np.ndarray:
    """Returns the group of each example as a text, by a key of the metadata, a regex over 'file', or likeness."""
    if group_by == NEAR_DUPLICATES:
        names = [facts.get('file', str(i)) for i, facts in zip(chosen.tolist(), source.describe(chosen))]
        return np.asarray(names)[near_duplicates.groups(source, chosen)]
    metadata = source.describe(chosen[:1])[0]
    if group_by in metadata:
        def group(metadata: Mapping[str, Any]) -> str:
            if metadata.get(group_by) in (None, ''):
                raise UserError(f'config.data.group_by = {group_by!r}: {source.name} has an example without: '
                                f'{metadata}')
            return str(metadata[group_by])
    elif 'file' in metadata:
        try:
            pattern = re.compile(group_by)
        except re.error as error:
            raise UserError(f'config.data.group_by = {group_by!r} is no regular expression ({error})') from error

        def group(metadata: Mapping[str, Any]) -> str:
            match = pattern.search(metadata['file'])
            if match is None:
                raise UserError(f"config.data.group_by = {group_by!r} matches nothing in {metadata['file']}; a key of "
                                f'the metadata or a regex, {some(sorted(metadata))}')
            return match.group(1) or '' if pattern.groups else match.group()
    else:
        raise UserError(f'config.data.group_by = {group_by!r}: the examples of {source.name} have no such metadata; '
                        f'{nearest(group_by, list(metadata))}')

    def compute() -> list[str]:
        return [group(metadata) for metadata in source.describe(chosen)]
    identity = source.identity  # which looks at every file
    if identity is None:
        return np.asarray(compute())
    chosen_digest = hashlib.sha256(np.ascontiguousarray(chosen, np.int64)).hexdigest()
    return np.asarray(cached_json('groups', [identity, group_by, chosen_digest], compute))


def file_of_split(root: Path, split: str, suffix: str) -> tuple[Path, list[Path]]:
    """Returns <root>/<split><suffix>, and all files of the folder with that suffix.

    Raises:
      UserError: there is no such split.
    """
    files = sorted(root.glob(f'*{suffix}'))
    file = root / f'{split}{suffix}'
    if file not in files:
        raise UserError(f'{root} has no {split}{suffix}; {nearest(split, [found.stem for found in files])}')
    return file, files
