"""Tests need no network, no GPU and no file outside the repository. Devices are eight virtual CPU devices."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / '.pytest_cache' / 'practicum'  # compiled steps, decoded data, the digits: shared by all tests

sys.path.insert(0, str(ROOT))
os.environ['PRACTICUM_CACHE'] = str(SCRATCH / 'cache')
os.environ['TFDS_DATA_DIR'] = str(SCRATCH / 'tfds')
os.environ['JAX_PLATFORMS'] = 'cpu'
for _name in ('SLURM_STEP_NODELIST', 'OMPI_COMM_WORLD_SIZE'):
    os.environ.pop(_name, None)


def pytest_configure(config: pytest.Config) -> None:
    """Prepares the digits once, before workers of pytest-xdist start."""
    from training import process
    process.prepare(cpu_devices=8)
    if not hasattr(config, 'workerinput'):
        from input_pipeline import tfds_source
        data_dir = Path(os.environ['TFDS_DATA_DIR'])
        if tfds_source.find_prepared(data_dir, 'digits') is None:
            tfds_source.prepare(data_dir, 'digits', download=False)


@pytest.fixture(scope='session')
def run_launch():
    """Returns run(*args, env=None, **kwargs): launch.py in a fresh process, with text output captured."""
    import subprocess

    def run(*args, env=None, timeout=120, **kwargs):
        return subprocess.run([sys.executable, str(ROOT / 'launch.py'), *map(str, args)], capture_output=True,
                              text=True, timeout=timeout, cwd=ROOT, env={**os.environ, **(env or {})}, **kwargs)
    return run
