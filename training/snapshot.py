"""What a result came from: resolved config, commit, package versions, devices."""

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ..common.files import write_json
from . import config as config_lib
from .rows import copy_damaged

CONFIG_FILE = 'config.json'
ENVIRONMENT_FILE = 'environment.json'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'clu', 'numpy')


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
    write_json(workdir / ENVIRONMENT_FILE, starts + [environment() | (about or {})])
    return changed


def changes(workdir: Path, config: ConfigDict) -> list[str]:
    """Returns what differs from the config of the run's latest start, one line per field."""
    earlier = _read(workdir / CONFIG_FILE, dict)
    if earlier is None:
        return []
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
        'cpu_cores': os.cpu_count(),
    }


def git_state() -> dict[str, Any]:
    """Returns the commit, whether tracked files differ from it, and a hash of how; {} outside a git checkout."""
    def git(*args: str) -> str:
        done = subprocess.run(('git', *args), cwd=config_lib.ROOT, capture_output=True, text=True, timeout=20)
        return done.stdout if done.returncode == 0 else ''
    try:
        commit, diff = git('rev-parse', 'HEAD').strip(), git('diff', 'HEAD')
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return {}
    if not commit:
        return {}
    return {'commit': commit, 'dirty': bool(diff), 'diff_sha256': hashlib.sha256(diff.encode()).hexdigest()[:16]}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ''
