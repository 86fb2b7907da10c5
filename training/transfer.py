"""Starting from another run's weights: which are loaded, under which names, and what was left."""

import dataclasses
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest, some
from ..common.vocabulary import Vocabulary
from ..models.net_surgery import as_convolution
from . import array_paths
from .array_paths import compile_pattern, select
from .checkpoints import FOLDER, flatten, read, unflatten
from .optimizer import pair_hint


@dataclasses.dataclass
class Report:
    """What a transfer did, by parameter path.

    Attributes:
      loaded: our path -> their path.
      initial: our paths that keep their initial values.
      unused: their paths that went nowhere.
      rewritten: our path -> (shape there, shape here), of kernels of dense layers that are convolutions here.
    """
    loaded: dict[str, str]
    initial: list[str]
    unused: list[str]
    rewritten: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f'  loaded   {ours}' + (f'  from {theirs}' if theirs != ours else '') + self._shapes(ours)
                 for ours, theirs in sorted(self.loaded.items())]
        lines += [f'  initial  {path}' for path in self.initial]
        lines += [f'  unused   {path}' for path in self.unused]
        summary = f'{len(self.loaded)} loaded, {len(self.initial)} left at init, {len(self.unused)} unused'
        return '\n'.join([*lines, f'  {summary}'])

    def _shapes(self, path: str) -> str:
        return '  {} as {}'.format(*map(list, self.rewritten[path])) if path in self.rewritten else ''


def init_unless_resuming(config: ConfigDict, variables: dict[str, Any], info: DatasetInfo,
                         workdir: Path) -> dict[str, Any] | None:
    """Returns what `init_from` does, or None if there is nothing to take over: for calls before the workdir is made.

    A run that has checkpoints of its own goes on from them, and the other run need not be there any more.

    Args:
      config, variables, info: see `init_from`.
      workdir: of this run; nothing is written to it.

    Raises:
      UserError: see `init_from`.
    """
    if not config.workdir or any(path.name.isdecimal() for path in (workdir / FOLDER).glob('*')):
        return None
    return init_from(config, variables, info)


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
    ours = array_paths.flatten(parts)
    difference = _vocabulary_difference(checkpoint.info, info)
    hint = (f'; the vocabularies differ (here and there: {difference}): config.text.vocabulary_from={config.workdir} '
            'takes over theirs')
    mapped, report = assign(ours, theirs, include=config.include, skip=config.skip, rename=config.rename,
                            shape_hint=hint if difference else '')
    size = len((checkpoint.info.vocabulary or {}).get('entries', ()))
    of_tokens = [path for path, array in mapped.items() if size in array.shape]
    if difference and of_tokens:
        raise UserError(f'config.init_from: {of_tokens[0]} is about other tokens in {config.workdir}{hint}')
    then, now = checkpoint.info.class_names or (), info.class_names or ()
    if then != now and len(then) == len(now) and any(array.shape[-1:] == (len(now),) for array in mapped.values()):
        logging.warning('config.init_from: the classes of %s have other names or another order (%s; here %s): what it '
                        'says of a class is taken for another one', config.workdir, some(then), some(now))
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

    The kernel of a dense layer on a flattened feature map becomes that of the convolution that ours is, where all sizes
    agree: see models/net_surgery.py.

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

    wanted = sorted(select(include, ours, 'init_from.include') - select(skip, ours, 'init_from.skip'))
    if not wanted:
        raise UserError('config.init_from: skip leaves nothing to load')
    difference = array_paths.compare({name: theirs[path] for name, path in renamed.items()},
                                     {path: ours[path] for path in wanted})
    for path in difference.missing:
        raise UserError(f'config.init_from: the other run has no {path}; add it to init_from.skip, or rename: '
                        f'{nearest(path, list(renamed))}')
    rewritten = {}
    for path, (there, here) in difference.shapes.items():
        if (kernel := as_convolution(theirs[renamed[path]], here)) is not None:
            theirs = {**theirs, renamed[path]: kernel}
            rewritten[path] = there, here
            continue
        raise UserError(f'config.init_from: {path} has shape {here} here and {there} there; add it to init_from.skip '
                        f'to leave it at its initial value{shape_hint}')
    loaded = {path: renamed[path] for path in wanted}
    return ({name: theirs[path] for name, path in loaded.items()},
            Report(loaded, sorted(set(ours) - set(loaded)), sorted(set(theirs) - set(loaded.values())), rewritten))
