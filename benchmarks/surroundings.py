"""What a measurement was made on."""

import subprocess
import time
from typing import Any

from practicum.training import snapshot


def describe(baseline_python: str | None = None) -> dict[str, Any]:
    """Returns date, processor, cores, devices, commit and versions, to be printed above the numbers.

    Args:
      baseline_python: interpreter of the environment that a baseline runs in, if there is one.
    """
    found = snapshot.environment()
    versions = {name: version for name, version in found['packages'].items() if name in ('jax', 'flax', 'numpy')}
    if baseline_python:
        versions['torch'] = _version(baseline_python, 'torch')
    return {'date': time.strftime('%Y-%m-%d'), 'processor': snapshot.processor(), 'cores': found['cpu_cores'],
            'devices': found['devices'], 'commit': found['git'].get('commit', '')[:12],
            'uncommitted changes': found['git'].get('dirty'), 'python': found['python'], **versions}


def _version(python: str, package: str) -> str:
    code = f'from importlib import metadata; print(metadata.version({package!r}))'
    return subprocess.run([python, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
