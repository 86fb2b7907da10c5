"""Starting from another run's weights: which are loaded, under which names, and what was left."""

import dataclasses
import logging
import re
from collections.abc import Mapping
from typing import Any

import flax
import numpy as np
from ml_collections import ConfigDict

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from ..common.vocabulary import Vocabulary
from .checkpoints import flatten, read, unflatten
from .optimizer import compile_pattern, pair_hint


@dataclasses.dataclass
class Report:
    """What a transfer did, by parameter path.

    Attributes:
      loaded: our path -> their path.
      initial: our paths that keep their initial values.
      unused: their paths that went nowhere.
    """
    loaded: dict[str, str]
    initial: list[str]
    unused: list[str]

    def __str__(self) -> str:
        lines = [f'  loaded   {ours}' + (f'  from {theirs}' if theirs != ours else '')
                 for ours, theirs in sorted(self.loaded.items())]
        lines += [f'  initial  {path}' for path in self.initial]
        lines += [f'  unused   {path}' for path in self.unused]
        summary = f'{len(self.loaded)} loaded, {len(self.initial)} left at init, {len(self.unused)} unused'
        return '\n'.join([*lines, f'  {summary}'])


def init_from(config: ConfigDict, variables: dict[str, Any], info: DatasetInfo) -> dict[str, Any]:
    """Returns the variables with what config.init_from takes over from another run.

    Args:
      config: config.init_from.
      variables: {'params', 'batch_stats', 'ema'} pytrees as initialised.
      info: what is known of this run's data.

    Raises:
      UserError: no such checkpoint, a pattern that matches nothing, a wrong shape, nothing loaded, or parameters of
        tokens that are others here.
    """
    try:
        checkpoint = read(config.workdir, config.step)
    except UserError as error:
        raise UserError(f'config.init_from: {error}') from error
    theirs = flatten(checkpoint.variables)
    parts = {key: variables[key] for key in ('params', 'batch_stats')}
    ours = flax.traverse_util.flatten_dict(parts, sep='/')
    difference = _vocabulary_difference(checkpoint.info, info)
    hint = (f'; the vocabularies differ (here and there: {difference}): config.text.vocabulary_from={config.workdir} '
            'takes over theirs')
    mapped, report = assign(ours, theirs, include=config.include, skip=config.skip, rename=config.rename,
                            shape_hint=hint if difference else '')
    size = len((checkpoint.info.vocabulary or {}).get('entries', ()))
    of_tokens = [path for path, array in mapped.items() if size in array.shape]
    if difference and of_tokens:
        raise UserError(f'config.init_from: {of_tokens[0]} is about other tokens in {config.workdir}{hint}')
    logging.info('init_from %s step %d:\n%s', config.workdir, checkpoint.step, report)
    arrays = {path: mapped.get(path, np.asarray(value)) for path, value in ours.items()}
    parts = unflatten(parts, arrays, what=str(config.workdir))
    return dict(parts, ema=parts if variables['ema'] else {})


def _vocabulary_difference(theirs: DatasetInfo, ours: DatasetInfo) -> str:
    """Returns in words where the vocabularies of two runs differ; '' if they do not or there are not two."""
    if theirs.vocabulary is None or ours.vocabulary is None:
        return ''
    return Vocabulary.from_meta(ours.vocabulary).difference(Vocabulary.from_meta(theirs.vocabulary))


def assign(ours: Mapping[str, Any], theirs: Mapping[str, np.ndarray], *, include: tuple[str, ...] = ('.*',),
           skip: tuple[str, ...] = (), rename: tuple[tuple[str, str], ...] = (),
           shape_hint: str = '') -> tuple[dict[str, np.ndarray], Report]:
    """Matches their arrays to ours by path.

    Args:
      ours, theirs: path -> array (ours only for its shape).
      include: regexes over our paths of what to load.
      skip: regexes over our paths of what to leave at its initial value.
      rename: (regex, replacement) pairs applied to their paths, in order.
      shape_hint: what else to say of a shape that differs.

    Returns:
      our path -> their array, and a report.

    Raises:
      UserError: a pattern without effect, a shape that differs, an included parameter they lack, nothing to load.
    """
    renamed = {path: path for path in theirs}  # new name -> their name
    for pair in rename:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise UserError(f'config.init_from.rename: {pair!r} is not a (regex, replacement) pair'
                            f'{pair_hint(rename)}')
        pattern, replacement = pair
        compiled = compile_pattern(pattern, 'init_from.rename')
        try:
            after = {compiled.sub(replacement, name): path for name, path in renamed.items()}
        except (re.error, TypeError) as error:
            raise UserError(f'config.init_from.rename: {pair!r} does not replace: {error}') from error
        if after == renamed:
            raise UserError(f'config.init_from.rename: {pattern!r} changes no name; {nearest(pattern, list(renamed))}')
        if len(after) < len(renamed):
            raise UserError(f'config.init_from.rename: {pattern!r} gives two arrays the same name')
        renamed = after

    def select(patterns: tuple[str, ...], field: str) -> set[str]:
        chosen = set()
        for pattern in patterns:
            hits = {path for path in ours if compile_pattern(pattern, field).fullmatch(path)}
            if not hits:
                raise UserError(f'config.{field}: {pattern!r} matches nothing; {nearest(pattern, list(ours))}')
            chosen |= hits
        return chosen

    wanted = select(include, 'init_from.include') - select(skip, 'init_from.skip')
    if not wanted:
        raise UserError('config.init_from: skip leaves nothing to load')
    mapped, loaded = {}, {}
    for path in sorted(wanted):
        if path not in renamed:
            raise UserError(f'config.init_from: the other run has no {path}; add it to init_from.skip, or rename: '
                            f'{nearest(path, list(renamed))}')
        value = theirs[renamed[path]]
        if value.shape != tuple(ours[path].shape):
            raise UserError(f'config.init_from: {path} has shape {tuple(ours[path].shape)} here and {value.shape} '
                            f'there; add it to init_from.skip to leave it at its initial value{shape_hint}')
        mapped[path], loaded[path] = value, renamed[path]
    unused = sorted(set(theirs) - set(loaded.values()))
    return mapped, Report(loaded, sorted(set(ours) - set(loaded)), unused)
