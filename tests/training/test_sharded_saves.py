"""A state that no process holds whole is saved by all of them as one step, or not at all, and read in one piece."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from practicum.common.errors import UserError
from practicum.training import checkpoints as checkpoints_lib
from practicum.training import shards
from practicum.training.checkpoint_meta import CorruptError
from practicum.training.checkpoints import Checkpoints
from tests.conftest import ROOT
from tests.training.sharded_saves import expected_arrays


class Group:
    """Processes of sharded_saves.py; see there for the actions."""

    def __init__(self, workdir: Path, *actions: str, count: int = 2, workdirs: list[Path] | None = None):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        program = ROOT / 'tests' / 'training' / 'sharded_saves.py'
        self.processes = [subprocess.Popen(
            [sys.executable, str(program), str(rank), str(count), str(port), str((workdirs or [workdir] * count)[rank]),
             *actions], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for rank in range(count)]

    def __enter__(self) -> 'Group':
        return self

    def __exit__(self, *exc) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait(self) -> tuple[list[int], list[list[str]], list[str]]:
        """Returns exit codes, lines printed but for those of JAX's C++ parts, and stderr."""
        texts = [process.communicate(timeout=120) for process in self.processes]
        lines = [[line for line in out.splitlines() if not line.startswith('[Gloo]')] for out, _ in texts]
        return [process.returncode for process in self.processes], lines, [err for _, err in texts]


def assert_holds_sharded(workdir: Path, step: int) -> None:
    """By both ways of reading, in this process, which has eight devices."""
    wanted = expected_arrays(step)
    with Checkpoints(workdir, writable=False) as checkpoints:
        found = checkpoints.restore(step)
    variables = checkpoints_lib.read(workdir, step).arrays
    assert found.step == step and found.meta['note'] == f'step {step}'
    assert set(found.arrays) == set(wanted)
    assert set(variables) == {path for path in wanted if path.startswith('params/')}
    for path, value in wanted.items():
        for array in filter(lambda array: array is not None, (found.arrays[path], variables.get(path))):
            assert array.dtype == value.dtype
            np.testing.assert_array_equal(array, value)


@pytest.fixture(scope='module')
def saved_by_two(tmp_path_factory) -> Path:
    """A workdir with steps of two processes; copy it before changing it."""
    workdir = tmp_path_factory.mktemp('saved_by_two') / 'run'
    with Group(workdir, *(f'save:{step}' for step in range(1, 6)), 'steps') as group:
        codes, lines, errors = group.wait()
    assert codes == [0, 0], errors
    assert lines == [['[1, 3, 4, 5] 1'], []]  # process 0 ranks and removes
    return workdir


@pytest.fixture
def workdir(saved_by_two, tmp_path) -> Path:
    return Path(shutil.copytree(saved_by_two, tmp_path / 'run'))


def test_two_processes_save_one_step_that_reads_in_one_piece(saved_by_two):
    for step in (1, 3, 4, 5):
        assert_holds_sharded(saved_by_two, step)
    assert sorted(path.name for path in (saved_by_two / 'checkpoints').iterdir()) == ['1', '3', '4', '5']  # no debris
    written = [sum(array.nbytes for array in np.load(path).values())
               for path in sorted((saved_by_two / 'checkpoints' / '5' / 'shards').glob('*.npz'))]
    kernel, _, tall, mu = (value.nbytes // 2 for value in list(expected_arrays(5).values())[:4])
    assert written == [mu, mu, kernel + tall, kernel + tall]  # each its half, nobody the whole


@pytest.mark.parametrize('count', [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_what_two_saved_restores_in_one_and_in_two(workdir, count):
    with Group(workdir, 'compare:4', 'save:6', 'compare:6', count=count) as group:
        codes, lines, errors = group.wait()
    assert codes == [0] * count, errors
    # Gloo prints on the same standard output, into the middle of a line.
    assert [''.join(printed).count('equal') for printed in lines] == [2] * count
    assert_holds_sharded(workdir, 6)
    assert (workdir / 'checkpoints' / '6' / 'shards').is_dir() == (count == 2)


def test_every_byte_of_a_shard_is_checked(workdir):
    generator = random.Random(0)
    folder = workdir / 'checkpoints' / '5' / 'shards'
    for path in sorted(folder.glob('*.npz')):
        data = path.read_bytes()
        with np.load(path) as file:  # the largest array lies in the file as it lies in memory
            payload = max(file.values(), key=lambda array: array.nbytes).tobytes()
        start = data.index(payload)
        damages = [data[:at] + bytes([data[at] ^ 1 << generator.randrange(8)]) + data[at + 1:]
                   for at in (start + generator.randrange(len(payload)) for _ in range(5))]
        for damage in (*damages, data[:len(data) // 2], b'', None):
            path.unlink() if damage is None else path.write_bytes(damage)
            with Checkpoints(workdir, writable=False) as checkpoints:
                with pytest.raises(UserError, match='step 5 .* is damaged'):
                    checkpoints.restore(5)
        path.write_bytes(data)
    assert_holds_sharded(workdir, 5)
    shutil.rmtree(folder)
    with Checkpoints(workdir, writable=True) as checkpoints:
        assert checkpoints.restore('last').step == 4


@pytest.mark.parametrize('action, message', [
    ('nan:7', 'NonFiniteError: params/conv/kernel of step 7'),
    pytest.param('unwritable:7', 'UserError: the checkpoint of step 7 could not be written to .*: File too large '
                 r'.process 1 on .*; earlier steps are intact: \[1, 3, 4, 5\]', marks=pytest.mark.thorough),
])
def test_what_one_process_finds_wrong_is_the_same_error_in_both(workdir, action, message):
    with Group(workdir, action, 'save:8') as group:
        codes, lines, errors = group.wait()
    assert codes == [2, 2], errors
    assert lines[0] == lines[1] and len(lines[0]) == 1
    assert re.fullmatch(message, lines[0][0])
    with Checkpoints(workdir, writable=False) as checkpoints:
        assert checkpoints.steps() == [1, 3, 4, 5]


@pytest.mark.parametrize('victim', [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_a_process_that_dies_in_the_middle_of_a_save_leaves_no_step(workdir, victim):
    """Its own blocks are written by then."""
    with Group(workdir, f'die:7:{victim}') as group:
        codes, _, errors = group.wait()
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] != 0
    assert 'error: lost another process of this run' in errors[1 - victim]
    assert list((workdir / 'checkpoints').glob('.shards-*/*/*.npz'))
    with Checkpoints(workdir, writable=False) as checkpoints:
        assert checkpoints.steps() == [1, 3, 4, 5]
    with Group(workdir, 'save:7') as group:
        assert group.wait()[0] == [0, 0]
    assert_holds_sharded(workdir, 7)
    assert sorted(path.name for path in (workdir / 'checkpoints').iterdir()) == ['1', '4', '5', '7']


@pytest.mark.thorough
def test_both_killed_at_a_random_moment_leave_whole_steps_only(workdir):
    generator, newest = random.Random(5), [5]
    for _ in range(3):
        shards.remove_abandoned(workdir / 'checkpoints')  # so that what the loop waits for is of the processes below
        with Group(workdir, *(f'save:{step}' for step in range(newest[-1] + 1, newest[-1] + 1000))) as group:
            deadline = time.monotonic() + 60
            while not list((workdir / 'checkpoints').glob('.shards-*/*')) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(generator.uniform(0.2, 1))
            for process in generator.sample(group.processes, 2):
                process.kill()
        with Checkpoints(workdir, writable=False) as checkpoints:
            steps = checkpoints.steps()
        for step in steps:
            assert_holds_sharded(workdir, step)
        newest.append(steps[-1])
    assert newest[-1] > 5


@pytest.mark.thorough
def test_a_process_with_another_workdir_is_one_error_in_both(tmp_path):
    with Group(tmp_path, 'save:1', workdirs=[tmp_path / 'a', tmp_path / 'b']) as group:
        codes, lines, errors = group.wait()
    assert codes == [2, 2], errors
    assert lines[0] == lines[1] and len(lines[0]) == 1
    assert lines[0][0].startswith('UserError: process 1 on ')
    assert lines[0][0].endswith('put --workdir on a disk that all share')
    assert not (tmp_path / 'b').exists()


def test_an_array_on_several_devices_of_one_process_is_saved_whole(tmp_path):
    value = np.arange(64, dtype=np.float32).reshape(16, 4)
    mesh = Mesh(np.array(jax.devices()[:4]), ('data',))
    sharded = jax.device_put(value, NamedSharding(mesh, PartitionSpec('data')))
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, {'params': {'kernel': sharded}}, {'step': np.int32(1)}, {})
        np.testing.assert_array_equal(checkpoints.restore('last').arrays['params/kernel'], value)
        assert 'shards' not in checkpoints.restore('last').meta
    assert not (tmp_path / 'checkpoints' / '1' / 'shards').exists()


def test_blocks_that_are_not_the_whole_array_are_damage():
    layout = {'a@b/kernel': {'shape': [4, 2], 'dtype': 'float32'}}
    half = np.ones((2, 2), np.float32)
    joined = shards.join({'a@b/kernel@0,0': half, 'a@b/kernel@2,0': 2 * half, 'other@3': half}, layout)
    np.testing.assert_array_equal(joined['a@b/kernel'], np.concatenate([half, 2 * half]))
    assert set(joined) == {'a@b/kernel', 'other@3'}
    for blocks in ({}, {'a@b/kernel@0,0': half}):
        with pytest.raises(CorruptError, match='blocks of a@b/kernel are missing'):
            shards.join(blocks, layout)
