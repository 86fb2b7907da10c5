"""What an evaluation set of a config can say: a split, data of its own, and how its images are altered.

    config.evaluation.sets.noisy = {'split': 'test', 'corrupt': {'gaussian_noise': 3}}
    config.evaluation.sets.elsewhere = {'split': 'test', 'data': {'name': 'images/another_hospital'}}
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from ..common.errors import UserError, nearest
from ..input_pipeline import corruption
from .defaults import base

# Fields of config.data and config.image that say what is read and how. The model and its normalisation stay.
_DATA = ('source', 'name', 'data_dir', 'manual_dir', 'download', 'memory_limit_mb', 'max_unreadable', 'merge_classes',
         'arrays', 'columns', 'target', 'image_column')
_IMAGE = ('resize', 'bits')
_ANOTHER = ('source', 'name', 'arrays')  # with one of them it is another data set than the one that is trained on
# What another data set does not share with the training's: how that is divided, and what is for training only.
_NOT_SHARED = {'folds': 0, 'fold': 0, 'group_by': '', 'sampling': 'uniform', 'random_resized_crop': ()}


@functools.cache
def template() -> ConfigDict:
    """Returns every field that a set can have, at the value where it changes nothing; locked."""
    config = base()
    augment = {field: config.augment[field] for field in config.augment}
    fields = ConfigDict({'split': 'test', 'invert': False, 'data': {}, 'image': {}, 'augment': augment,
                         'corrupt': dict.fromkeys(corruption.CORRUPTIONS, 0)})
    for section, names in (('data', _DATA), ('image', _IMAGE)):
        for name in names:
            fields[section][name] = config[section][name]
    return fields.lock()


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """One of config.evaluation.sets, with what it shares with the training filled in.

    Attributes:
      split, invert: see `input_pipeline.sources.open_split`.
      data, image: config.data and config.image as they are for this set.
      augment, corrupt: see input_pipeline/alteration.py; {} for nothing.
    """
    split: str
    invert: bool
    data: ConfigDict
    image: ConfigDict
    augment: dict[str, Any]
    corrupt: dict[str, int]


def resolve(config: ConfigDict, name: str) -> EvaluationSet:
    """Returns an evaluation set by name.

    Raises:
      UserError: there is none of that name, or a field of it is unknown or of the wrong type.
    """
    if name not in config.evaluation.sets:
        raise UserError(f'config.evaluation.sets has no {name!r}; there are: '
                        f'{", ".join(config.evaluation.sets) or "none"}')
    check(config, name)
    chosen = config.evaluation.sets[name]
    parts = {}
    for section in ('data', 'image'):
        parts[section] = config[section].copy_and_resolve_references()
        own = chosen.get(section, {})
        with parts[section].unlocked():
            for field in own:
                parts[section][field] = own[field]
            if section == 'data' and any(field in own for field in _ANOTHER):
                parts[section].update(_NOT_SHARED)
    return EvaluationSet(chosen.split, chosen.get('invert', False), **parts,
                         augment=dict(chosen.get('augment', {})), corrupt=dict(chosen.get('corrupt', {})))


def check(config: ConfigDict, name: str) -> None:
    """Raises UserError if a set has a field that none can have, or one of the wrong type, or no split."""
    where = f'config.evaluation.sets.{name}'
    chosen = config.evaluation.sets.get(name)
    if not isinstance(chosen, ConfigDict):
        raise UserError(f"{where} is {chosen!r}; it is a section, such as {{'split': 'test'}}")
    known = dict(leaves(template()))
    for path, value in leaves(chosen):
        if isinstance(template().get(path), ConfigDict):
            raise UserError(f'{where}.{path} is a section; its fields: {", ".join(template()[path])}')
        if path not in known:
            raise UserError(f'{where} has no field {path!r}; {nearest(path, list(known))}')
        if not _fits(value, known[path]):
            kind = 'text' if known[path] is None else type(known[path]).__name__
            raise UserError(f'{where}.{path} = {value!r}: it is of type {kind}, such as {known[path]!r}')
    if 'split' not in chosen:
        raise UserError(f"{where} needs 'split', such as 'test' or 'train[:10%]'")


def add(config: ConfigDict, key: str) -> None:
    """Makes room for a field of a set that is about to be set, as 'evaluation.sets.noisy.corrupt.gaussian_noise'.

    A set that is not there yet begins as the split 'test'.

    Raises:
      UserError: no set has such a field.
    """
    name, _, path = key.removeprefix('evaluation.sets.').partition('.')
    known = dict(leaves(template()))
    if path not in known:
        fields = [f'evaluation.sets.{name}.{field}' for field in known]
        raise UserError(f'unknown field config.{key}; {nearest(key, fields)}')
    section, _, field = path.rpartition('.')
    with config.unlocked():
        sets = config.evaluation.sets
        if name not in sets:
            sets[name] = ConfigDict({'split': 'test', 'invert': False})
        parent = sets[name]
        if section:
            if section not in parent:
                parent[section] = ConfigDict()
            parent = parent[section]
        if field not in parent:
            parent[field] = template()[section][field] if section else template()[field]


def check_added(sets: ConfigDict, before: set[str], used: tuple[str, ...]) -> None:
    """Raises UserError if overrides made a set that nobody evaluates: its name may be a typo.

    Args:
      sets: config.evaluation.sets.
      before: names in it before the overrides.
      used: names that are evaluated.
    """
    for name in sets:
        if name not in before and name not in used:
            raise UserError(f'config.evaluation.sets has no {name!r}; {nearest(name, sorted(before))} (a new set must '
                            'be named by config.evaluation.periodic or final, or by --sets)')


def leaves(section: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yields path and value of every field; data.arrays, whose keys are free, is one field."""
    for key in section:
        value = section.get(key)
        if isinstance(value, ConfigDict) and prefix + key != 'data.arrays':
            yield from leaves(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of the type of a field; None is the default of texts that may be left out."""
    if wanted is None:
        return value is None or isinstance(value, str)
    return type(value) is type(wanted) or (type(wanted), type(value)) == (float, int)
