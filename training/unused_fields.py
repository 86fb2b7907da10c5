"""Which fields of a config were set and are read by nothing, so that a run can say so."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from ..common.dataset_info import DatasetInfo
from ..common.vocabulary import ALWAYS_LOWER
from ..input_pipeline.augmentation import SHOWS_OUTSIDE
from ..input_pipeline.text_source import READERS
from ..tasks import Task
from . import optimizer, schedules
from .defaults import base
from .evaluation_sets import leaves

_TFDS = ('tfds', 'tfds_text', 'tfds_texts')

# Section -> the field whose value says what is read of it, and field -> the values with which it is.
_READ_WITH = (
    ('optimizer', 'optimizer.name', optimizer.FIELDS),
    ('schedule', 'schedule.name', schedules.FIELDS),
    ('image', 'data.source', {'sound': ('sounds',)}),
    ('text', 'data.source', {**dict.fromkeys(('num_steps', 'streams', 'window', 'subsample'), tuple(READERS)),
                             'max_sentences': ('stories',)}),
    ('data', 'data.source', {'arrays': ('arrays',), 'columns': ('csv', 'texts'), 'target': ('csv', 'texts'),
                             'image_column': ('csv',), **dict.fromkeys(('data_dir', 'manual_dir', 'download'), _TFDS)}),
)
_OWN_NAMES = {'optimizer': optimizer.NAMES, 'schedule': schedules.NAMES}  # what others read is in `arguments`
# Section -> fields, and those of which one must be on for them to be read.
_READ_IF = (
    ('optimizer', ('nesterov',), ('momentum',)),
    ('optimizer', ('weight_decay_on', 'decoupled_weight_decay'), ('weight_decay',)),
    ('augment', ('fill',), SHOWS_OUTSIDE),
    ('augment', ('rand_augment_magnitude',), ('rand_augment',)),
    ('augment', ('mix_probability',), ('mixup', 'cutmix')),
    ('image.sound', ('step', 'range_db'), ('window',)),
    ('text', ('subsample',), ('window',)),
    ('data.regions', ('image_size', 'context', 'limit', 'per_image', 'positive_share', 'positive_overlap'), ('kind',)),
    ('checkpoint', ('best_mode',), ('best_metric',)),
    ('early_stopping', ('mode', 'patience', 'min_delta'), ('metric',)),
    ('init_from', ('step', 'include', 'skip', 'rename'), ('workdir',)),
    ('cached_features', ('flip', 'batch_size'), ('endpoint',)),
    ('profile', ('start_step',), ('steps',)),
)
# Fields, when they are not read, and why.
_NOT_READ: tuple[tuple[tuple[str, ...], Callable[[ConfigDict], bool], str], ...] = (
    (('text.num_steps', 'text.streams'), lambda config: config.text.window > 0,
     'pairs of words, config.text.window, have neither windows nor streams'),
    (('text.max_length', 'data.processes'), lambda config: config.data.source in READERS,
     'a running text is read whole'),
    (('text.min_count', 'text.max_size', 'text.source.min_count', 'text.source.max_size'),
     lambda config: bool(config.text.vocabulary_from), 'the vocabulary is that of config.text.vocabulary_from'),
    (('text.lowercase',), lambda config: config.text.tokens in ALWAYS_LOWER,
     'the tokens of config.text.tokens are in lower case anyway'),
    (('text.source.lowercase',), lambda config: config.text.source.tokens in ALWAYS_LOWER,
     'the tokens of config.text.source.tokens are in lower case anyway'),
    (('augment.fill',), lambda config: config.augment.fill not in ('reflect', 'wrap')
     and not any(config.augment[name] for name in SHOWS_OUTSIDE if name != 'random_crop'),
     "config.augment.random_crop shows zeros unless it is 'reflect' or 'wrap'"),
    (('parallel.min_shard_mb',), lambda config: config.parallel.sharding == 'replicated'
     and not config.parallel.sharding_rules, 'only read with config.parallel.sharding or sharding_rules'),
)


def warn(config: ConfigDict, info: DatasetInfo, task: Task) -> None:
    """Logs a warning for the fields that differ from their defaults and change nothing.

    Args:
      config: complete, of a run.
      info: of its data.
      task: of its examples.
    """
    said: set[str] = set()
    for fields, reason in _unused(config, info, task):
        if fields := [field for field in fields if field not in said]:
            said.update(fields)
            logging.warning('warning: no effect of %s: %s', ', '.join(f'config.{field}' for field in fields), reason)


def _unused(config: ConfigDict, info: DatasetInfo, task: Task) -> Iterator[tuple[list[str], str]]:
    """Yields (fields, why they are not read); a field may come again."""
    given, usual = dict(leaves(config)), dict(leaves(base()))
    # The keys of data.arrays are its own; those of models, tasks and `arguments` are not in `usual`.
    changed = [field for field, value in given.items() if field in usual and (
        len(value) if field == 'data.arrays' else value != usual[field])]
    if 'image' not in task.input_features:
        ours = [field for field in changed if field.startswith(('augment.', 'image.'))
                and not (field.startswith('image.sound.') and config.data.source == 'sounds')]
        yield ours, f'{config.task.name} does not look at images'
    if info.vocabulary is None:
        yield [field for field in changed if field.startswith('text.')], 'there are no texts in config.data'
    elif 'source' not in info.vocabulary:
        yield [field for field in changed if field.startswith('text.source.')], 'nothing is translated'
    for section, deciding, readers in _READ_WITH:
        for values in dict.fromkeys(readers.values()):
            fields = [field for name in readers if readers[name] == values for field in changed
                      if f'{field}.'.startswith(f'{section}.{name}.')]
            if not set(values) & _values(config, deciding):
                needed = ' or '.join(filter(None, [', '.join(map(repr, values[:-1])), repr(values[-1])]))
                name = config[section].get('name')
                more = '' if name in _OWN_NAMES.get(section, (name,)) else (
                    f'; what {name} has of its own is in config.{section}.arguments')
                yield fields, f'only read with config.{deciding} = {needed}{more}'
    for section, names, switches in _READ_IF:
        fields = [field for field in changed if field in {f'{section}.{name}' for name in names}]
        if not any(given[f'{section}.{switch}'] for switch in switches):
            known = [f'config.{section}.{switch}' for switch in switches]
            yield fields, f'only read with {" or ".join(known) if len(known) < 3 else "one of " + ", ".join(known)}'
    for names, is_off, reason in _NOT_READ:
        if is_off(config):
            yield [field for field in changed if field in names], reason


def _values(config: ConfigDict, field: str) -> set[Any]:
    """Returns the value of a field; of one that evaluation sets may have a value of their own of, theirs as well."""
    section, name = field.split('.')
    used = {*config.evaluation.periodic, *config.evaluation.final}
    own = [one[section][name] for key, one in config.evaluation.sets.items()
           if key in used and name in one.get(section, {})]
    return {config[section][name], *own}
