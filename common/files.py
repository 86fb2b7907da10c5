"""Files and folders that are whole or absent, and the folder of caches.

Everything is written beside under a new name that nobody can have planted, and then takes the place of the old one.
So a kill leaves the old file or the new one, and a link in a folder from somebody else is replaced, never followed.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_NEW = '.new'  # how names of files that are being written end
_ABANDONED_SECONDS = 3600  # nobody writes to one file for so long without touching it


def write_json(path: Path, values: Any) -> None:
    """Writes JSON so that the file is whole or the old one."""
    write_text(path, json.dumps(values, indent=2) + '\n')


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 so that the file is whole or the old one; what UTF-8 does not have becomes an escape, '\\udce9'."""
    with replacing(path) as file:
        file.write(text.encode(errors='backslashreplace'))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file that takes the place of `path` at the end of the block; after an exception the old one stays."""
    temporary = _beside(path)
    # O_EXCL: the file is new. It follows no link, planted or not.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, 'wb') as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yields a new folder that takes the place of `folder` at the end of the block, unless it raises."""
    temporary = _beside(folder)
    temporary.mkdir()
    try:
        yield temporary
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _beside(path: Path) -> Path:
    # A name has at most 255 bytes, and a character up to four.
    return path.with_name(f'.{path.name[:50]}.{secrets.token_hex(8)}{_NEW}')


def remove_abandoned(folder: Path) -> None:
    """Removes what killed processes left behind in a folder while they wrote a file."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith('.') and entry.name.endswith(_NEW):
                with contextlib.suppress(OSError):  # gone, or not ours
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                        _remove(Path(entry.path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def cache_folder() -> Path:
    """Returns where compiled steps, decoded data and features are kept: $PRACTICUM_CACHE or ~/.cache/practicum."""
    chosen = os.environ.get('PRACTICUM_CACHE')
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'practicum'
    except RuntimeError:  # no $HOME, and a user of a container who is in no passwd
        return _homeless_cache()


def _homeless_cache() -> Path:
    """Returns a folder for temporary files that belongs to this user alone: compiled steps in it will be run."""
    folder = Path(tempfile.gettempdir()) / f'practicum-{os.getuid()}'
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        trusted = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    except OSError:
        trusted = False
    if not trusted:
        folder = Path(tempfile.mkdtemp(prefix='practicum-'))
    os.environ['PRACTICUM_CACHE'] = str(folder)  # said and decided once
    logging.warning('this user has no home folder: caches are kept in %s; $PRACTICUM_CACHE names another', folder)
    return folder


def cache_limit() -> int:
    """Returns how many bytes decoded data, and as many features, may take: $PRACTICUM_CACHE_GB, or 20 GB."""
    with contextlib.suppress(ValueError, OverflowError):
        return max(0, int(float(os.environ.get('PRACTICUM_CACHE_GB', '20')) * 1e9))
    return 20 * 10**9


def write_cached(file: Path, write: Callable[[BinaryIO], Any], what: str) -> None:
    """Writes a file of the cache and lets the oldest ones of its folder go; a full or read-only disk is no error.

    Args:
      file: below `cache_folder()`.
      write: writes the content to an open file.
      what: is written, for the line that says it could not be.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as writing:
            write(writing)
    except OSError as error:
        logging.info('%s are not cached: %s', what, error)
    else:
        trim(file.parent, cache_limit(), keep=file)


def trim(folder: Path, limit: int, keep: Path | None = None) -> None:
    """Removes the files and folders in a folder of the cache that were read or written longest ago.

    Args:
      folder: may be absent.
      limit: bytes that may stay.
      keep: the entry that was just written; it stays.
    """
    remove_abandoned(folder)
    entries = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):  # another process has removed it
                if not entry.name.startswith('.'):
                    entries.append((*_last_use_and_size(Path(entry.path)), entry.path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            return
        if keep is None or Path(path) != keep:
            with contextlib.suppress(OSError):
                _remove(Path(path))
            total -= size


def _last_use_and_size(path: Path) -> tuple[float, int]:
    """Returns when a file, or any file of a folder, was last read or written, and its bytes."""
    found = [path.lstat()]
    if path.is_dir() and not path.is_symlink():
        # Not the folder's own access time: looking into it is no use of it.
        found = [file.lstat() for file in path.iterdir()] or found
    return max(max(one.st_atime, one.st_mtime) for one in found), sum(one.st_size for one in found)


def digest(values: Any) -> str:
    """Returns a short stable hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]
