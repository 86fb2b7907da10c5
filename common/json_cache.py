"""What took long to find out about files and stays true while they stay the same: kept as JSON in the cache folder."""

import json
from collections.abc import Callable
from typing import Any

from .files import cache_folder, digest, write_cached

_VERSION = 1  # of the files; those of another one are computed again


def cached_json(what: str, identity: Any, compute: Callable[[], Any]) -> Any:
    """Returns compute(), or what it returned last time.

    Args:
      what: its folder in the cache, such as 'labels'.
      identity: what JSON can hold and what changes whenever the result could.
      compute: returns what JSON can hold.
    """
    file = cache_folder() / what / f'{digest([_VERSION, identity])}.json'
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        pass  # not there or broken
    value = compute()
    write_cached(file, lambda opened: opened.write(json.dumps(value).encode()), what)
    return value
