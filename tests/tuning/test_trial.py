"""Reading the metrics of a run that is under way, and how a child process ends."""

import json
import math
import os
import signal
import sys
import time

import pytest

from practicum.common.errors import UserError
from practicum.tuning import trial


def row(step: int, **values) -> str:
    return json.dumps({'step': step, **values}) + '\n'


def test_evaluations_are_read_as_the_file_grows(tmp_path):
    read = trial.Evaluations(tmp_path, 'validation/loss')
    assert read() == []
    with (tmp_path / 'metrics.jsonl').open('w') as file:
        file.write(row(5, **{'train/loss': 2.0}) + row(10, **{'validation/loss': 1.5, 'timings': {}}))
        file.flush()
        assert read() == [(1, 1.5)]
        file.write(row(20, **{'validation/loss': 1.0})[:9])  # half a line
        file.flush()
        assert read() == [(1, 1.5)]
        file.write(row(20, **{'validation/loss': 1.0})[9:] + row(30, **{'validation/loss': None}) + 'nonsense\n')
        file.flush()
        found = read()
    assert found[:2] == [(1, 1.5), (2, 1.0)] and found[2][0] == 3 and math.isnan(found[2][1])
    read.close()


def test_a_resumed_run_writes_the_file_anew(tmp_path):
    read = trial.Evaluations(tmp_path, 'validation/loss')
    path = tmp_path / 'metrics.jsonl'
    path.write_text(row(10, **{'validation/loss': 1.5}) + row(20, **{'validation/loss': 1.0}))
    assert len(read()) == 2
    new = tmp_path / 'new'
    new.write_text(row(10, **{'validation/loss': 1.5}))
    os.replace(new, path)
    assert read() == [(1, 1.5)]
    read.close()


def test_the_last_error_of_this_process_is_what_failed(tmp_path):
    console = tmp_path / 'console.log'
    console.write_text('error: of an earlier process\n')
    with trial.Child(['show', '--config', 'no_such_experiment'], console) as child:
        while child.wait() is None:
            pass
        assert child.wait() == 2
        assert child.last_line().startswith('no config file no_such_experiment')
    assert 'earlier' in console.read_text()


@pytest.mark.parametrize('error', [OSError, AttributeError])
def test_kernels_without_process_descriptors(tmp_path, monkeypatch, error):
    def missing(_):
        raise error
    monkeypatch.setattr(os, 'pidfd_open', missing)
    monkeypatch.setattr(trial, '_POLL_SECONDS', 0.05)
    with trial.Child(['show', '--config', 'no_such_experiment'], tmp_path / 'console.log') as child:
        assert child.wait(0.01) is None
        while child.wait() is None:
            pass
        assert child.wait() == 2


def test_a_child_is_not_one_of_the_tasks_that_its_worker_is(tmp_path, monkeypatch):
    monkeypatch.setenv('SLURM_STEP_NODELIST', 'node1')
    monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '8')
    monkeypatch.setenv('SLURM_PROCID', '3')
    monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '8')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5')
    with trial.Child(['list'], tmp_path / 'console.log') as child:
        environment = {}
        for _ in range(500):  # until it is another program than this one
            environment = dict(entry.split('=', 1) for entry in
                               open(f'/proc/{child._process.pid}/environ').read().split('\0') if entry)
            if 'CUDA_VISIBLE_DEVICES' in environment:
                break
            time.sleep(0.01)
    assert not [name for name in environment if name.startswith(('SLURM_STEP', 'SLURM_PROCID', 'OMPI_'))]
    assert environment['CUDA_VISIBLE_DEVICES'] == '5'


def test_wait_until_free(tmp_path, monkeypatch):
    from practicum.training import workdir
    descriptor = workdir.take_lock(tmp_path)
    monkeypatch.setattr(trial, '_PATIENCE_SECONDS', 0.1)
    monkeypatch.setattr(trial, '_POLL_SECONDS', 0.05)
    with pytest.raises(UserError, match='another process trains there'):
        trial.wait_until_free(tmp_path, lambda: False)
    trial.wait_until_free(tmp_path, lambda: True)  # asked to stop
    os.close(descriptor)
    trial.wait_until_free(tmp_path, lambda: False)


def test_a_child_without_its_worker_does_not_begin(tmp_path):
    import subprocess
    done = subprocess.run([sys.executable, str(trial._CHILD), '1', 'list'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM and done.stdout == ''


@pytest.mark.parametrize('value, expected', [(1, 1.0), (0.5, 0.5), (None, None), (math.nan, None), ('x', None),
                                             (True, None), (math.inf, None)])
def test_finite(value, expected):
    assert trial.finite(value) == expected
