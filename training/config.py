"""Experiment files and command-line overrides -> one locked ConfigDict; and back to JSON."""

import ast
import importlib.machinery
import importlib.util
import inspect
import math
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ..common.errors import UserError, nearest, shortened
from . import durations, evaluation_sets
from .defaults import base as defaults

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / 'experiments'
# Inputs of the compiled step: runs that differ in them alone share it, one after the other or as a population.
HYPERPARAMETERS = ('seed', 'optimizer.learning_rate', 'optimizer.weight_decay')
# Their fields are checked where they are used.
_FREE = ('data.arrays', 'model', 'task', 'optimizer.arguments', 'schedule.arguments', 'evaluation.sets')
_RENAMED = {'task.cases': 'task.per_example'}  # fields of earlier versions -> what they are called now
_REPLACED = {('parallel.mode', 'shard_map'): 'jit'}  # values of earlier versions


def load(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Builds the config of an experiment.

    Args:
      spec: 'experiments/mnist_lenet.py', or with a variant 'experiments/mnist_lenet.py:small'. The bare name of an
        experiment, 'mnist_lenet:small', works too.
      overrides: 'optimizer.learning_rate=0.03' and so on, without the leading '--config.'.

    Returns:
      The locked config, with the field `experiment` naming file and variant.

    Raises:
      UserError: unknown file, variant or field, a value of the wrong type, or whatever the file itself raises.
    """
    path_text, _, variant = spec.partition(':')
    path = _find(path_text)
    module = _import(path)
    name = variant or 'get_config'
    function = getattr(module, name, None)
    if name.startswith('_') or name not in variants(path) + ['get_config'] or not inspect.isfunction(function):
        raise UserError(f'{path.name} has no variant {variant!r}; {nearest(variant, variants(path))}')
    with _blaming(path):
        config = function()
    if not isinstance(config, ConfigDict):
        raise UserError(f'{path}: {name}() returns {type(config).__name__}, not a ConfigDict: end it with '
                        "'return config'")
    return complete(config, path.stem + (f':{variant}' if variant else ''), overrides)


def search_space(spec: str, config: ConfigDict) -> Any:
    """Returns what an experiment's function search_space(config) gives for its sweep; {} where it has none.

    Args:
      spec: as for `load`.
      config: what `load` returned, the variant's name in its field `experiment`.
    """
    path = _find(spec.partition(':')[0])
    function = getattr(_import(path), 'search_space', None)
    if function is None:
        return {}
    with _blaming(path):
        return function(config)


def portable(spec: str) -> str:
    """Returns a spec that means the same in every folder: in another checkout too, if the file is of this one."""
    text, colon, variant = spec.partition(':')
    path = _find(text).resolve()
    return (path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)) + colon + variant


def complete(config: ConfigDict, experiment: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Names, checks, locks and returns a config that was built from `defaults()`; overrides as for `load`."""
    with config.unlocked():
        if 'experiment' in config:
            del config['experiment']
        _replace_names(config)
        _check_fields(config, defaults())
        _check_values(config)
        config.experiment = experiment
    config.lock()
    sets = set(config.evaluation.sets)
    for override in overrides:
        apply_override(config, override)
    evaluation_sets.check_added(config.evaluation.sets, sets, (*config.evaluation.periodic, *config.evaluation.final))
    return config


def _replace_names(config: ConfigDict) -> None:
    for old, new in _RENAMED.items():
        section, _, field = old.partition('.')
        if section in config and field in config[section]:
            config[section][new.partition('.')[2]] = config[section][field]
            del config[section][field]
    for (field, value), now in _REPLACED.items():
        section, _, name = field.partition('.')
        if section in config and config[section].get(name) == value:
            config[section][name] = now


def _check_fields(config: ConfigDict, known: ConfigDict, prefix: str = '') -> None:
    """Raises UserError if an experiment file set an unknown field, or replaced a section and left fields out."""
    for key in config:
        if key not in known:
            raise _unknown(prefix + key, defaults())
    for key in known:
        if key not in config:
            raise UserError(f'config.{prefix}{key} is missing: set fields of {prefix[:-1]} one by one')
        if isinstance(known.get(key), ConfigDict) and prefix + key not in _FREE:
            if not isinstance(config.get(key), ConfigDict):
                raise UserError(f'config.{prefix}{key} is a section; its fields: {", ".join(known.get(key))}')
            _check_fields(config.get(key), known.get(key), f'{prefix}{key}.')


def _check_values(config: ConfigDict, prefix: str = '') -> None:
    """Raises UserError where an experiment file names no model or task, or set a number to infinity or NaN."""
    for section in ('model', 'task') if not prefix else ():
        if not isinstance(config[section], ConfigDict) or not isinstance(config[section].get('name'), str):
            raise UserError(f"config.{section} needs a name: config.{section} = {{'name': ..., and its fields}}")
    for key in config:
        value = config.get(key)
        if isinstance(value, ConfigDict):
            _check_values(value, f'{prefix}{key}.')
        elif isinstance(value, float):
            _check_finite(prefix + key, value)


def _check_finite(key: str, value: float) -> None:
    if not math.isfinite(value):
        raise UserError(f'config.{key} = {value}: it must be a finite number')


def variants(path: Path) -> list[str]:
    """Returns the names of an experiment's variants: its public functions but get_config that need no arguments."""
    tree = ast.parse(path.read_bytes())
    return [node.name for node in tree.body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith('_') and node.name != 'get_config'
            and not _needs_arguments(node.args)]


def _needs_arguments(arguments: ast.arguments) -> bool:
    return (len(arguments.posonlyargs) + len(arguments.args) > len(arguments.defaults)
            or None in arguments.kw_defaults)  # None: a keyword without default


def _find(text: str) -> Path:
    path = Path(os.path.expanduser(text))
    for file in (path, ROOT / path):
        if os.path.isfile(file):  # Path.is_file() raises where a name is too long or a folder may not be entered
            return file
    named = EXPERIMENTS / f'{path.stem}.py'
    if path.parent == Path('.') and path.suffix in ('', '.py') and os.path.isfile(named) and path.stem != 'base':
        return named
    raise UserError(f'no config file {shortened(text)}; {nearest(path.stem, [p.stem for p in experiment_files()])}')


def experiment_files() -> list[Path]:
    """Returns the experiment files of this repository, sorted by name."""
    return sorted(p for p in EXPERIMENTS.glob('*.py') if p.stem not in ('__init__', 'base'))


class _FromSource(importlib.machinery.SourceFileLoader):
    """Compiles a file each time: by its date and size alone a file that was changed within a second is the same."""

    def get_code(self, fullname: str):
        return self.source_to_code(self.get_data(self.path), self.path)


def _import(path: Path):
    name = f'experiment_{path.stem}'
    loader = _FromSource(name, str(path)) if path.suffix == '.py' else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise UserError(f'{path} is not a Python file')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as import does; and snapshot.py keeps the files that a run came from
    with _blaming(path):
        spec.loader.exec_module(module)
    if not hasattr(module, 'get_config'):
        raise UserError(f'{path} has no function get_config()')
    return module


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turns whatever an experiment file raises into a UserError that names file and line."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit() too: it would end launch.py without a word
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        text = _text(error)
        if isinstance(error, SyntaxError) and error.filename == str(path):
            lines, text = [error.lineno], error.msg
        where = f'{path}:{lines[-1]}' if lines else str(path)
        raise UserError(f'{where}: {type(error).__name__}: {shortened(" ".join(text.split()), 1000)}') from error


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return 'it cannot be printed'


def apply_override(config: ConfigDict, override: str) -> None:
    """Sets one field in place, 'optimizer.learning_rate=0.03'.

    The value is read as a Python literal where the field is not a string. For a duration field such as `total`,
    `total_epochs=50` is short for `total='50 epochs'`.

    Raises:
      UserError: no '=', an unknown field (the nearest one is named) or a value of another type.
    """
    key, equals, text = override.partition('=')
    key = _RENAMED.get(key, key)
    if not equals or not key:
        raise UserError(f'--config.{shortened(override)} sets nothing: write --config.field=value')
    parent, name = config, key
    if key.startswith('evaluation.sets.'):
        evaluation_sets.add(config, key)
    if '.' in key:
        parents, name = key.rsplit('.', 1)
        for part in parents.split('.'):
            child = parent.get(part) if isinstance(parent, ConfigDict) else None
            if not isinstance(child, ConfigDict):
                raise _unknown(key, config)
            parent = child
    if name not in parent:
        base, _, unit = name.rpartition('_')
        if unit in ('steps', 'epochs', 'examples') and base in parent and durations.parse(str(parent.get(base))):
            name, text = base, f'{text} {unit}'
        elif key.startswith(('model.', 'task.', 'optimizer.arguments.', 'schedule.arguments.')):
            with parent.unlocked():  # a field the experiment leaves at its default; building it checks the name
                parent[name] = _literal(text)
            return
        else:
            raise _unknown(key, config)
    parent[name] = _convert(key, text, parent.get(name), parent.get_type(name))


def _unknown(key: str, config: ConfigDict) -> UserError:
    return UserError(f'unknown field config.{shortened(key)}; {nearest(key, _paths(config))}')


def _paths(config: ConfigDict, prefix: str = '') -> list[str]:
    paths = []
    for key in config:
        value = config.get(key)
        paths += _paths(value, f'{prefix}{key}.') if isinstance(value, ConfigDict) else [prefix + key]
    return paths


def _convert(key: str, text: str, current: Any, kind: type) -> Any:
    if isinstance(current, ConfigDict):
        raise UserError(f'config.{key} is a section, not a value; its fields: {", ".join(current)}')
    if current is None and text == 'None':
        return None
    if kind in (str, type(None)):  # after a trip through JSON an empty text field is a plain None
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in '\'"' else text
    value = _literal(text)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple:
        if isinstance(value, str) or not isinstance(value, tuple):
            value = (value,)
    if type(value) is not kind:
        raise UserError(f'config.{key} takes {_article(kind)}, such as {shortened(repr(current))}; '
                        f'{shortened(repr(text))} is not one')
    if kind is float:
        _check_finite(key, value)
    return value


def _literal(text: str) -> Any:
    """'0.5' -> 0.5, '[1, 2]' -> (1, 2), and what is no Python literal stays text."""
    try:
        return _tuples(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        return text  # '{[]}' has no hash, and 50,000 minus signs are too deep


def _article(kind: type) -> str:
    return {int: 'a whole number', float: 'a number', bool: 'True or False', tuple: 'a tuple'}.get(kind, kind.__name__)


def _tuples(value: Any) -> Any:
    """JSON and some users write lists where configs have tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return value


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as plain nested dicts that survive JSON (tuples become lists there)."""
    return config.to_dict()


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """Returns the locked config that `to_dict` came from, also after a trip through JSON.

    Fields that did not exist when a checkpoint was written have their defaults, under which they change nothing.
    """
    config = ConfigDict(_tuples(values))
    _replace_names(config)
    _fill_in(config, defaults())
    config.lock()
    return config


def _fill_in(config: ConfigDict, known: ConfigDict, prefix: str = '') -> None:
    for key in known:
        if key not in config:
            config[key] = known.get(key)
        elif isinstance(known.get(key), ConfigDict) and prefix + key not in _FREE:
            _fill_in(config[key], known[key], f'{prefix}{key}.')


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = '') -> list[str]:
    """Returns one line for each leaf that differs between two configs given as dicts."""
    lines = []
    old, new = _tuples(old), _tuples(new)
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f'{prefix}{key}.')
        elif a != b:
            lines.append(f'{prefix}{key}: {a!r} -> {b!r}')
    return lines
