"""What took long to find out about files and stays true while they stay the same: kept as JSON in the cache folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import cache_folder, digest, write_cached
from .turns import found_or_made

_VERSION = 1  # of the files; those of another one are computed again


def cached_json(what: str, identity: Any, compute: Callable[[], Any], doing: str = '') -> Any:
    """Returns compute(), or what it returned last time; processes that want the same wait for the first of them.

    Args:
      what: its folder in the cache, such as 'labels'.
      identity: what JSON can hold and what changes whenever the result could.
      compute: returns what JSON can hold.
      doing: what is computed, for the line of those that wait, such as 'checking pets/train'.
    """
    file = _file(what, identity)

    def compute_and_put() -> list[Any]:
        value = compute()
        put_json(what, identity, value)
        return [value]
    return found_or_made(lambda: _read(file), compute_and_put, doing or f'finding out about {what}',
                         [what, file.name])[0]


def put_json(what: str, identity: Any, value: Any) -> None:
    """Has `cached_json` return this value from now on."""
    write_cached(_file(what, identity), lambda opened: opened.write(json.dumps(value).encode()), what)


def _file(what: str, identity: Any) -> Path:
    return cache_folder() / what / f'{digest([_VERSION, identity])}.json'


def _read(file: Path) -> list[Any] | None:
    """Returns [what a file holds]; None if it is not there or broken."""
    try:
        return [json.loads(file.read_text())]
    except (OSError, ValueError):
        return None
