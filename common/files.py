"""Files that are whole or absent, and the folder of caches."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_json(path: Path, values: Any) -> None:
    """Writes JSON so that the file is whole or the old one."""
    write_text(path, json.dumps(values, indent=2) + '\n')


def write_text(path: Path, text: str) -> None:
    """Writes a file so that it is whole or the old one, also if the process is killed meanwhile."""
    temporary = path.with_name(f'.{path.name}.new')
    temporary.write_text(text)
    os.replace(temporary, path)


def cache_folder() -> Path:
    """Returns where compiled steps and decoded data sets are kept: $PRACTICUM_CACHE or ~/.cache/practicum."""
    chosen = os.environ.get('PRACTICUM_CACHE')
    if chosen:
        return Path(chosen)
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'practicum'


def write_cached(file: Path, write: Callable[[BinaryIO], Any], what: str) -> None:
    """Writes a file of the cache beside and renames it, so that it is whole or absent; a full disk is no error.

    Args:
      file: below `cache_folder()`.
      write: writes the content to an open file.
      what: is written, for the line that says it could not be.
    """
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix='.writing-', delete=False) as writing:
            temporary = Path(writing.name)
            write(writing)
        os.replace(temporary, file)
    except OSError as error:
        logging.info('%s are not cached: %s', what, error)
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def digest(values: Any) -> str:
    """Returns a short stable hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]
