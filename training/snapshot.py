"""What a result came from: resolved config, commit and what differs from it, package versions, devices.

A start from a checkout with changes keeps them in <workdir>/source/<hash>: diff.patch, to be applied to the commit,
files that git does not know, and modules from outside the checkout such as an experiment of one's own.
"""

import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ..common.errors import UserError
from ..common.files import replacing_folder, write_json
from ..common.threads import cores
from . import config as config_lib
from .rows import copy_damaged

CONFIG_FILE = 'config.json'
ENVIRONMENT_FILE = 'environment.json'
SOURCE_FOLDER = 'source'
_MOST_BYTES = 2**20  # of changed source that is kept; more than that is data
_PACKAGES = ('practicum', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'clu', 'numpy')


def write(workdir: Path, config: ConfigDict, about: dict[str, Any] | None = None) -> list[str]:
    """Writes config.json, and adds this start of the run to environment.json.

    Args:
      workdir: the run's folder.
      config: the run's config.
      about: what else to note of this start: 'total_steps', 'parameters', how many numbers the model learns, and
        'dataset', a dict with 'name' and 'train_examples'. The report shows them.

    Returns:
      What differs from the config of the run's earlier start, one line per field.
    """
    changed = changes(workdir, config)
    write_json(workdir / CONFIG_FILE, config_lib.to_dict(config))
    starts = _read(workdir / ENVIRONMENT_FILE, list) or []
    start = environment() | (about or {}) | {'source': _keep_source(workdir)}
    write_json(workdir / ENVIRONMENT_FILE, [*starts, start])
    return changed


def changes(workdir: Path, config: ConfigDict) -> list[str]:
    """Returns what differs from the config of the run's latest start, one line per field."""
    earlier = _read(workdir / CONFIG_FILE, dict)
    if earlier is None:
        return []
    try:
        earlier = config_lib.to_dict(config_lib.from_dict(earlier))  # fields that are new since have their defaults
    except (UserError, TypeError, ValueError, KeyError, AttributeError):
        pass  # not a config: every field differs
    return config_lib.differences(earlier, json.loads(json.dumps(config_lib.to_dict(config))))


def _read(path: Path, kind: type) -> Any:
    """Returns what a JSON file of an earlier start holds; None, after a copy and a warning, where it is damaged."""
    try:
        values = json.loads(path.read_bytes().decode())
        json.dumps(values)  # a file that is nested too deeply to be written again is of no use
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        values = None
    if isinstance(values, kind):
        return values
    logging.warning('%s is damaged and not used; the file as it was is %s', path, copy_damaged(path))
    return None


def environment() -> dict[str, Any]:
    """Returns facts about this process: command, commit, versions, devices."""
    return {
        'started': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        'command': shlex.join(('python', *sys.argv)),
        'git': git_state(),
        'python': platform.python_version(),
        'packages': {name: _version(name) for name in _PACKAGES},
        'devices': [str(device.device_kind) for device in jax.devices()],
        'processes': jax.process_count(),
        'cpu_cores': cores(),
    }


def processor() -> str:
    """Returns the processor's name; '' where it is not known."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:  # not Linux
        return ''
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), '')


def git_state() -> dict[str, Any]:
    """Returns the commit, whether tracked files differ from it, and a hash of how; {} outside of a git checkout."""
    commit, diff = _git('rev-parse', 'HEAD').decode().strip(), _diff()
    if not commit:
        return {}
    return {'commit': commit, 'dirty': bool(diff), 'diff_sha256': hashlib.sha256(diff).hexdigest()[:16]}


def _git(*args: str) -> bytes:
    """Returns what git says of the checkout; b'' where this is none, though a folder above may be somebody else's."""
    if not (config_lib.ROOT / '.git').exists():
        return b''
    try:
        done = subprocess.run(('git', *args), cwd=config_lib.ROOT, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return b''
    return done.stdout if done.returncode == 0 else b''


def _diff() -> bytes:
    return _git('diff', '--binary', 'HEAD')


def _keep_source(workdir: Path) -> dict[str, Any]:
    """Writes what this start ran beyond the commit and the installed packages.

    Returns:
      'folder': where it lies below the workdir, '' if there is nothing; 'files': name -> bytes. {'left_out': why} if it
      is too much.
    """
    files: dict[str, Path | bytes] = {}
    if diff := _diff():
        files['diff.patch'] = diff
    untracked = _git('ls-files', '--others', '--exclude-standard', '-z', '--', '*.py').split(b'\0')
    for name in filter(None, map(os.fsdecode, untracked)):
        files[f'untracked/{name}'] = config_lib.ROOT / name
    for path in _outside_modules():
        files[f'outside/{path.as_posix().lstrip("/")}'] = path
    sizes, contents = {}, {}
    for name, content in files.items():
        try:
            sizes[name] = len(content) if isinstance(content, bytes) else content.stat().st_size
            if sum(sizes.values()) <= _MOST_BYTES:
                contents[name] = content if isinstance(content, bytes) else content.read_bytes()
        except OSError:  # gone meanwhile
            sizes.pop(name, None)
    if sum(sizes.values()) > _MOST_BYTES:
        left_out = f'{len(sizes):,} changed source files of {sum(sizes.values()):,} bytes'
        logging.warning('%s are too much to be kept: commit them, else nobody can rebuild this run', left_out)
        return {'left_out': left_out}
    if not contents:
        return {'folder': '', 'files': {}}
    parts = [part for name in sorted(contents) for part in (os.fsencode(name), contents[name])]
    folder = f"{SOURCE_FOLDER}/{hashlib.sha256(bytes(1).join(parts)).hexdigest()[:16]}"
    _write_source(workdir / folder, contents)
    return {'folder': folder, 'files': sizes}


def _write_source(folder: Path, contents: dict[str, bytes]) -> None:
    """Writes the files of one state of the source; many starts share it."""
    folder.parent.mkdir(exist_ok=True)
    if folder.is_dir() and not folder.is_symlink():
        return
    with replacing_folder(folder) as writing:
        for name, content in contents.items():
            (writing / name).parent.mkdir(parents=True, exist_ok=True)
            (writing / name).write_bytes(content)


def _outside_modules() -> list[Path]:
    """Returns the files of imported modules that belong neither to the checkout nor to Python or installed packages."""
    files = {getattr(module, '__file__', None) for module in list(sys.modules.values())}
    found = {_outside(file, config_lib.ROOT) for file in files if isinstance(file, str) and file.endswith('.py')}
    return sorted(found - {None})


@functools.cache  # thousands of modules, and many runs may begin in one process
def _outside(file: str, root: Path) -> Path | None:
    """Returns the path of a module's file, None if it belongs to the checkout, to Python or to an installed package."""
    path = Path(file).resolve()
    own = path.is_relative_to(root) or {'site-packages', 'dist-packages'} & set(path.parts)
    return None if own or any(path.is_relative_to(folder) for folder in _installed()) else path


@functools.cache  # a second of every start, were they looked up for each module
def _installed() -> frozenset[Path]:
    """Returns the folders of Python and of installed packages."""
    return frozenset(Path(path).resolve() for path in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ''
