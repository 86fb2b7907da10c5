"""Processes that read: the same batches as threads, no more imported than needed, and none left behind."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import reading_processes, sources
from practicum.input_pipeline.batches import EvalBatches, TrainBatches, stream
from practicum.input_pipeline.reading_processes import ProcessSource
from practicum.input_pipeline.source import Source
from practicum.training.defaults import base
from tests.conftest import ROOT

IMAGE = {'size': (8, 8), 'channels': 3}


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """24 JPEGs and PNGs of 20x16 in two classes."""
    folder = tmp_path_factory.mktemp('pets')
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 16, 3), np.uint8)
    for i, image in enumerate(pixels):
        parent = folder / ('cat', 'dog')[i % 2]
        parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(parent / f'{i}.{("jpg", "png")[i % 3 == 0]}')
    return folder


@pytest.fixture(scope='module', autouse=True)
def pool():
    """One pool for all tests: processes take a moment to start."""
    kept = reading_processes._Pool(2)
    reading_processes._pools[2] = kept
    yield kept


def open_split(root: Path, *, training=False, invert=False, processes=2, **fields) -> Source:
    data = base().data
    data.update({'source': 'folder', 'name': str(root), 'memory_limit_mb': 0, 'processes': processes, **fields})
    return sources.open_split(data, IMAGE, 'train', training=training, invert=invert)


@pytest.mark.parametrize('kind, fields', [
    (lambda source: TrainBatches(source, 16, seed=3), {'training': True, 'random_resized_crop': (0.2, 1.0)}),
    (lambda source: TrainBatches(source, 16, seed=3), {'training': True, 'invert': True}),
    (lambda source: EvalBatches(source, 16), {})])
def test_batches_are_those_that_threads_read(root, kind, fields):
    read = []
    for processes in (0, 2):
        source = open_split(root, processes=processes, **fields)
        read.append(list(stream(kind(source), range(2), source=source, workers=3)))
    for a, b in zip(*read, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])
    assert open_split(root).describe(np.arange(3)) == open_split(root, processes=0).describe(np.arange(3))


def test_tfds_is_read_too():
    data = base().data
    data.update(name='digits', memory_limit_mb=0)
    image = {'size': (8, 8), 'channels': 1}
    threads = sources.open_split(data, image, 'validation')
    data.processes = 2
    processes = sources.open_split(data, image, 'validation')
    np.testing.assert_array_equal(*(source.read(np.arange(9))['image'] for source in (threads, processes)))


class Modules(Source):
    """Says what has been imported where it is read, and whose process that is."""
    name = 'modules'

    def __len__(self):
        return 1

    def read(self, indices, uniforms=None):
        loaded = [name in sys.modules for name in ('jax', 'flax', 'tensorflow', 'tensorboard')]
        return {'loaded': np.array(loaded), 'process': np.array([os.getpid()])}


def test_neither_jax_nor_tensorflow_is_imported(root):
    open_split(root, training=True).read(np.arange(4))
    data = base().data
    data.update(name='digits', memory_limit_mb=0, processes=2)
    sources.open_split(data, {'size': (8, 8), 'channels': 1}, 'validation').read(np.arange(4))
    found = [ProcessSource(Modules(), 2).read(np.arange(1)) for _ in range(2)]
    assert not any(one['loaded'].any() for one in found)
    assert os.getpid() not in {int(one['process'][0]) for one in found}


class Failing(Source):
    """Fails as it is asked to."""
    name = 'failing'

    def __len__(self):
        return 3

    def read(self, indices, uniforms=None):
        if indices[0] == 0:
            raise UserError('a.jpg: is damaged')
        if indices[0] == 1:
            raise KeyError('a bug')
        os.kill(os.getpid(), signal.SIGKILL)


def test_mistakes_and_bugs_come_back_as_what_they_are():
    source = ProcessSource(Failing(), 2)
    for _ in range(3):
        with pytest.raises(UserError, match=r'^a.jpg: is damaged$'):
            source.read(np.array([0]))
        with pytest.raises(RuntimeError, match='KeyError: .a bug'):
            source.read(np.array([1]))


def test_a_process_that_is_killed_is_one_line():
    with pytest.raises(UserError, match='config.data.processes: .*killed by signal 9: memory may') as error:
        ProcessSource(Failing(), 1).read(np.array([2]))
    assert '\n' not in str(error.value)


def test_what_cannot_be_sent_is_one_line():
    source = Failing()
    source.lock = open(os.devnull)
    with pytest.raises(UserError, match='config.data.processes: failing cannot be sent to other processes'):
        ProcessSource(source, 2).read(np.array([0]))
    source.lock.close()


def test_long_arrays_are_shared_and_forgotten():
    def shared() -> list[str]:
        return [link for link in map(_link_of, os.listdir('/proc/self/fd')) if link.startswith('/memfd:practicum')]

    gc.collect()
    before = len(shared())
    source = ProcessSource(sources.ArraySource({'x': np.arange(10**5, dtype=np.float32)}, Source.info), 2)
    assert source.read(np.array([7, 99_999]))['x'].tolist() == [7, 99_999]
    assert len(shared()) == before + 1
    del source
    assert len(shared()) == before


def _link_of(descriptor: str) -> str:
    try:
        return os.readlink(f'/proc/self/fd/{descriptor}')
    except OSError:  # the one that listed the folder
        return ''


PARENT = '''
import signal, sys, time
sys.path.insert(0, sys.argv[1])
import launch
import numpy as np
from practicum.common.dataset_info import DatasetInfo
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.reading_processes import ProcessSource
source = ProcessSource(ArraySource({'x': np.arange(5)}, DatasetInfo()), 2)
source.read(np.arange(5))
workers = [source._pool._idle.get() for _ in range(2)]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
print(*[worker._process.pid for worker in workers], flush=True)
time.sleep(60)
'''


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(how):
    """Also not one that was sent the signal itself, as by Ctrl-C: it lets the other one finish and ends with it."""
    parent = subprocess.Popen([sys.executable, '-c', PARENT, str(ROOT)], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    for pid in children:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.1)
    assert all(running(pid) for pid in children)
    os.kill(parent.pid, how)
    parent.wait()
    parent.stdout.close()
    for _ in range(500):
        if not any(running(pid) for pid in children):
            return
        time.sleep(0.02)
    raise AssertionError('still there after 10 s')


def running(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except FileNotFoundError:
        return False


def test_the_field_is_checked(root):
    with pytest.raises(UserError, match='config.data.processes = -1'):
        open_split(root, processes=-1)


def test_processes_that_read_nothing_are_named(root, own_cache, caplog):
    open_split(root, training=True)
    assert 'no effect' not in caplog.text
    source = open_split(root, training=True, memory_limit_mb=100)
    assert not isinstance(source, ProcessSource)
    assert 'no effect of config.data.processes: ' in caplog.text and 'is read whole, into memory' in caplog.text
