"""Tests need no network, no GPU and no file outside the repository. Devices are eight virtual CPU devices."""

import contextlib
import ctypes
import gc
import logging
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_MUCH_MEMORY = 2**31  # bytes of one process; there are several
_ROOM = 2**30  # bytes of disk: the tests fill half of it
SCRATCH = ROOT / '.pytest_cache' / 'practicum'  # compiled steps, decoded data, the digits: shared by all tests

sys.path.insert(0, str(ROOT))
os.environ['PRACTICUM_CACHE'] = str(SCRATCH / 'cache')
os.environ['TFDS_DATA_DIR'] = str(SCRATCH / 'tfds')
os.environ['JAX_PLATFORMS'] = 'cpu'
# Most of the tests' time is compiling: half of it with neither the optimizations nor XLA's newer emitters, and less
# where small programs are not split for more cores than there are. A JAX that no longer knows a flag says so and ends;
# XLA_FLAGS='' runs the tests without them.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1')
os.environ['PYTHONDONTWRITEBYTECODE'] = '1'  # where a test has no room on the disk, half a module would be kept
for _name in ('SLURM_STEP_NODELIST', 'OMPI_COMM_WORLD_SIZE', 'JAX_COORDINATOR_ADDRESS', 'JAX_LOCAL_DEVICE_IDS'):
    os.environ.pop(_name, None)


import launch  # noqa: E402  the checkout becomes the package `practicum`


def of_the_repository(paths: list[Path]) -> list[Path]:
    """Returns the files that git tracks, all of them without git: what users add for themselves is not tested."""
    import subprocess
    try:
        listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return paths
    tracked = {ROOT / name for name in listed.split('\0')}
    return [path for path in paths if path in tracked] if listed else paths


class _AnyFolderName:
    """Keeps pytest from importing the checkout as a package of its folder's name, which need not be an identifier."""

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    """Prepares the digits once, before workers of pytest-xdist start."""
    config.pluginmanager.register(_AnyFolderName())
    from practicum.training import process
    process.prepare(cpu_devices=8)
    if not hasattr(config, 'workerinput'):
        for folder in (Path(tempfile.gettempdir()), ROOT):
            if shutil.disk_usage(folder).free < _ROOM:
                pytest.exit(f'the disk of {folder} has less than 1 GiB left: tests write there', returncode=2)
        from practicum.input_pipeline import prepared_data
        data_dir = Path(os.environ['TFDS_DATA_DIR'])
        if prepared_data.find_prepared(data_dir, 'digits') is None:
            prepared_data.prepare(data_dir, 'digits', download=False)


def pytest_collection_finish() -> None:
    """Looks for garbage less often, and never among what was imported: a tenth of the time, tracing makes so much."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files that take long first: a worker that begins one of them last is waited for by all others."""
    items.sort(key=lambda item: not {'training', 'tuning', 'test_experiments.py'} & {*item.path.parts})


def free_memory() -> None:
    """Gives back the memory of compiled programs, which JAX keeps as long as a process lives: gigabytes of tests.

    Not before there is some: it takes half a second, and what the next tests need is compiled again.
    """
    if int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') < _MUCH_MEMORY:
        return
    import jax
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL('libc.so.6').malloc_trim(0)


@pytest.fixture(scope='module', autouse=True)
def _memory_of_a_module():
    yield
    free_memory()


@pytest.fixture(autouse=True)
def _level_of_the_log():
    """Fails the test that changes it for all that follow, which differ from worker to worker."""
    before = logging.getLogger().level
    yield
    level = logging.getLogger().level
    logging.getLogger().setLevel(before)
    assert level == before, 'the log is left at another level: use call_launch in place of launch.main'


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder, and warnings that are given once are given again."""
    from practicum.common import console
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    console.warn_once.cache_clear()


@pytest.fixture(scope='session')
def run_launch():
    """Returns run(*args, env=None, **kwargs): launch.py in a fresh process, with text output captured."""
    import subprocess

    def run(*args, env=None, timeout=120, **kwargs):
        return subprocess.run([sys.executable, str(ROOT / 'launch.py'), *map(str, args)], capture_output=True,
                              text=True, timeout=timeout, cwd=ROOT, env={**os.environ, **(env or {})}, **kwargs)
    return run


@pytest.fixture
def call_launch(capsys):
    """Returns call(*args) -> an object with code, out and err: launch.py in this process."""
    def call(*args):
        capsys.readouterr()
        with _own_logging():
            code = launch.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return types.SimpleNamespace(code=code, out=out, err=err)
    return call


@pytest.fixture(scope='session')
def trained_run(tmp_path_factory) -> Path:
    """The workdir of a finished run of tests/tiny.py, 48 steps long, with moving averages. Tests only read it."""
    workdir = tmp_path_factory.mktemp('trained') / 'run'
    with _own_logging():
        assert launch.main(['--config', str(ROOT / 'tests' / 'tiny.py'), '--workdir', str(workdir),
                            '--config.total=48 steps', '--config.optimizer.learning_rate=0.01', '--config.figures=True',
                            '--config.ema_decay=0.9']) == 0
    return workdir


@pytest.fixture(scope='session')
def digit_files(tmp_path_factory) -> Path:
    """A folder with the first eight test digits as 0.png ... 7.png. Tests only read it."""
    import numpy as np
    from PIL import Image

    from practicum.input_pipeline import sources
    from tests.tiny import tiny_config
    folder = tmp_path_factory.mktemp('digits')
    config = tiny_config()
    for i, picture in enumerate(sources.open_split(config.data, config.image, 'test').read(np.arange(8))['image']):
        Image.fromarray(picture[..., 0]).save(folder / f'{i}.png')
    return folder


@contextlib.contextmanager
def _own_logging():
    """main() hangs the root logger on stdout, which pytest captures and closes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
