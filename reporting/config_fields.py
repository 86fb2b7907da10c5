"""Configs of several runs side by side: their fields by name, and which of them differ."""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ..training.rows import to_json

# What is evaluated at the end and where metrics go has no part in the training: runs that differ in them alone are the
# same training.
NOT_OF_TRAINING = ('evaluation.final', 'evaluation.batch_size', 'writers', 'tensorboard', 'log_every',
                   'checkpoint.keep')


def leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {'optimizer.learning_rate': 0.001, ...} of a config out of a JSON file, however deep.

    Values are numbers, bools, strings, None and lists; numbers that are not finite are None.
    """
    found: dict[str, Any] = {}
    waiting = [(str(key), value) for key, value in config.items()]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f'{name}.{key}', inner) for key, inner in value.items()]
        else:
            try:
                found[name] = to_json(value)
            except RecursionError:  # a list in a list in a list
                found[name] = '...'
    return found


def complete(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns leaves of configs in which fields that some of them lack have today's default, if there is one.

    So a run of an earlier version does not differ from a later one in fields that had not been invented. A config
    without any field, of a run whose config.json is damaged or not yet written, stays empty.
    """
    names = {name for config in configs for name in config}
    if all(len(config) in (0, len(names)) for config in configs):
        return list(configs)
    from ..training.defaults import base
    defaults = leaves(json.loads(json.dumps(base().to_dict())))
    known = {name: defaults[name] for name in names if name in defaults}
    return [{**known, **config} if config else config for config in configs]


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the fields that have several values in the configs, sorted; not to have it is one, too.

    Empty configs do not count.
    """
    values: dict[str, set[Hashable]] = {}
    counts: dict[str, int] = {}
    present = [config for config in configs if config]
    for config in present:
        for name, value in config.items():
            values.setdefault(name, set()).add(identity(value))
            counts[name] = counts.get(name, 0) + 1
    return sorted(name for name, found in values.items() if len(found) > 1 or counts[name] < len(present))


def identity(value: Any) -> Hashable:
    """Returns something that is equal for equal values of a field: 1 and 1.0 are, 1 and True are not."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 'number', value
    if isinstance(value, (str, bool)) or value is None:
        return type(value).__name__, value
    return 'list', json.dumps(value, sort_keys=True)


def show_value(value: Any) -> str:
    """Returns a value of a field as text: lists as in JSON, strings as they are."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f'{value:.1f}'
    return json.dumps(value, ensure_ascii=False)
