"""Arrays of pytrees by path, 'params/conv1/kernel': select them by regex, compare what is needed with what is there."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import flax

from ..common.errors import UserError, nearest


def flatten(tree: Any) -> dict[str, Any]:
    """Returns {path: leaf} of a pytree, flax structs and optax states included; empty nodes vanish."""
    nested = {'': flax.serialization.to_state_dict(tree)}  # which may be a leaf itself
    return {path[1:]: leaf for path, leaf in flax.traverse_util.flatten_dict(nested, sep='/').items()}


def fill(target: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns a pytree like `target`, each leaf of which is the array of its path; there may be more arrays."""
    nested = {'': flax.serialization.to_state_dict(target)}
    flat = flax.traverse_util.flatten_dict(nested, sep='/', keep_empty_nodes=True)
    filled = {path: leaf if leaf is flax.traverse_util.empty_node else arrays[path[1:]] for path, leaf in flat.items()}
    return flax.serialization.from_state_dict(target, flax.traverse_util.unflatten_dict(filled, sep='/')[''])


@dataclasses.dataclass(frozen=True)
class Difference:
    """How the arrays that are there differ from those that are needed.

    Attributes:
      missing: paths that are needed and not there, in the order of those needed.
      left_over: paths that are there and not needed, in the order of those there.
      shapes: path -> (shape that is there, shape that is needed), where these differ.
    """
    missing: list[str]
    left_over: list[str]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def compare(there: Mapping[str, Any], needed: Mapping[str, Any]) -> Difference:
    """Compares arrays by path; of both only `.shape` is looked at."""
    shapes = {path: (tuple(there[path].shape), tuple(leaf.shape)) for path, leaf in needed.items() if path in there}
    return Difference([path for path in needed if path not in there], [path for path in there if path not in needed],
                      {path: (found, wanted) for path, (found, wanted) in shapes.items() if found != wanted})


def compile_pattern(pattern: str, field: str) -> re.Pattern:
    """Compiles a regex of the config; raises UserError that names it if it is none."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f'config.{field}: {pattern!r} is not a regular expression: {error}') from error


def select(patterns: Iterable[str], paths: Collection[str], field: str) -> set[str]:
    """Returns the paths that fully match one of the regexes of a config's field.

    Raises:
      UserError: a regex that matches nothing, or is none.
    """
    chosen = set()
    for pattern in patterns:
        hits = set(filter(compile_pattern(pattern, field).fullmatch, paths))
        if not hits:
            raise UserError(f'config.{field}: {pattern!r} matches nothing; {nearest(pattern, list(paths))}')
        chosen |= hits
    return chosen
