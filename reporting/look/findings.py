"""What of a data set deserves a word: what is wrong first, then what was looked for and is not there."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...input_pipeline import checks
from .classes import Classes
from .data_sets import DataSet, says_range
from .repeats import Repeats
from .survey import Pixels

_UNBALANCED = 10  # times as many examples of one class as of another
_NAMED = 5


def findings(sets: Mapping[str, DataSet], problems: Sequence[str], limit: float, classes: Mapping[str, Classes],
             ranges: Mapping[str, Pixels], repeats: Sequence[Repeats]) -> tuple[list[str], list[str]]:
    """Returns lines about what is wrong, or likely to be, and about what is fine.

    Args:
      sets: by name, the training set first.
      problems: lines about sets that cannot be opened.
      limit: config.data.max_unreadable.
      classes, ranges: by set, where there are any, its classes and its pixels.
      repeats: see `find_repeats`.
    """
    wrong, fine = list(problems), []
    for name, one in sets.items():
        total = len(one.source) + one.unreadable_count
        if one.unreadable_count:
            refused = f': more than config.data.max_unreadable = {limit} allows, so that nothing is trained' \
                if one.unreadable_count > limit * total else ' and are left out'
            wrong.append(f'{name}: {one.unreadable_count:,} of {total:,} examples cannot be read{refused}')
        wrong += [f'{name}: {text}' for text in one.said if 'cannot be read' not in text]
    files = any(part.files is not None for one in sets.values() for part in one.source.taken)
    if files and not any(one.unreadable_count for one in sets.values()):
        fine.append('every image can be read')
    for name, pixels in ranges.items():
        if pixels.histogram is None and not says_range(sets[name].image) and (
                pixels.low < checks.LOWEST or pixels.high > checks.HIGHEST):
            wrong.append(f'{name}: its float images are from {pixels.low:.4g} to {pixels.high:.4g}: set '
                         'config.image.mean and std, to what is measured here or to what becomes 0 and 1, or nothing '
                         'is trained')
    for one in repeats:
        wrong += _of_repeats(one)
    if repeats:
        fine += _of_no_repeats(repeats)
    return wrong + _of_classes(classes), fine


def _of_repeats(one: Repeats) -> list[str]:
    lines = []
    if one.name == one.within:
        if one.same:
            other = f', {one.other_targets:,} of them with another target' if one.other_targets else ''
            lines.append(f'{one.name}: {one.same:,} of {one.compared:,} examples are there more than once{other}')
        return lines
    if one.shared:
        lines.append(f'{one.shared:,} examples of {one.name} are examples of {one.within}: its metrics do not say how '
                     'well new ones are done')
    elif one.same:
        other = f' ({one.other_targets:,} with another target)' if one.other_targets else ''
        lines.append(f'{one.same:,} of {one.compared:,} examples of {one.name} are in {one.within}, too{other}: its '
                     'metrics do not say how well new ones are done')
    if one.alike:
        lines.append(f'{one.alike:,} of {one.compared:,} images of {one.name} '
                     f'{"is" if one.alike == 1 else "are"} almost the same as one of '
                     f"{one.within}: look at them; config.data.group_by = 'near_duplicates', or a group, keeps such "
                     'images in one fold')
    return lines


def _of_no_repeats(repeats: Sequence[Repeats]) -> list[str]:
    lines = []
    if not any(one.same for one in repeats if one.name == one.within):
        lines.append('no example is there twice in one set')
    across = [one for one in repeats if one.name != one.within]
    if across and not any(one.same or one.shared or one.alike for one in across):
        names = ' or '.join(one.name for one in across)
        lines.append(f'nothing of {across[0].within} is in {names}')
    return lines


def _of_classes(classes: Mapping[str, Classes]) -> list[str]:
    lines = []
    for name, found in classes.items():
        missing = [title for title, count in zip(found.names, found.counts.tolist()) if not count]
        if missing and found.complete:
            listed = ', '.join(missing[:_NAMED]) + (', ...' if len(missing) > _NAMED else '')
            lines.append(f'{name}: no {found.unit} of {len(missing):,} of {len(found.names):,} classes: {listed}')
    training = next(iter(classes.values()), None)
    if training is not None and training.unit != 'pixels':
        counts = training.counts
        there = np.flatnonzero(counts)
        if len(there) > 1:
            most, least = there[counts[there].argmax()], there[counts[there].argmin()]
            if counts[most] >= _UNBALANCED * counts[least]:
                cure = ": config.data.sampling = 'balanced' and config.task.class_weights are for that" \
                    if training.exclusive else ''
                lines.append(f'{counts[most] / counts[least]:.0f} times as many {training.unit} of '
                             f'{training.names[most]} ({counts[most]:,}) as of {training.names[least]} '
                             f'({counts[least]:,}){cure}')
    return lines
