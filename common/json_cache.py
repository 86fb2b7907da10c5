"""What took long to find out about files and stays true while they stay the same: kept as JSON in the cache folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import cache_folder, digest, write_cached
from .turns import one_at_a_time

_VERSION = 1  # of the files; those of another one are computed again


def cached_json(what: str, identity: Any, compute: Callable[[], Any], doing: str = '') -> Any:
    """Returns compute(), or what it returned last time; processes that want the same wait for the first of them.

    Args:
      what: its folder in the cache, such as 'labels'.
      identity: what JSON can hold and what changes whenever the result could.
      compute: returns what JSON can hold.
      doing: what is computed, for the line of those that wait, such as 'checking pets/train'.
    """
    file = cache_folder() / what / f'{digest([_VERSION, identity])}.json'
    found = _read(file)
    if found is None:
        with one_at_a_time(doing or f'finding out about {what}', [what, file.name]):
            found = _read(file)
            if found is None:
                found = [compute()]
                write_cached(file, lambda opened: opened.write(json.dumps(found[0]).encode()), what)
    return found[0]


def _read(file: Path) -> list[Any] | None:
    """Returns [what a file holds]; None if it is not there or broken."""
    try:
        return [json.loads(file.read_text())]
    except (OSError, ValueError):
        return None
