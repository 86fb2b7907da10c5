"""Several processes are one run: the same numbers, one writer, one answer to a signal, and no survivor that hangs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.training.checkpoints import Checkpoints
from practicum.training.loop import train
from tests.conftest import ROOT
from tests.tiny import tiny_config

# Evaluations and checkpoints are rare, so that all time goes into steps; descent, so that rounding stays small.
OPTIONS = ('log_every=10 steps', 'evaluation.every=1000 steps', 'checkpoint.every=1000 steps', 'optimizer.name=sgd',
           'optimizer.learning_rate=0.02', 'ema_decay=0.9')
LAST_WORDS = 'error: lost another process of this run'


class Pair:
    """Two processes of two virtual devices each, which share no folder.

    Args:
      folder: for workdirs, output and caches.
      total: steps.
      config: an experiment file.
      program: launch.py, or one that calls it.
      names: of the workdirs.
      homes: whether ~ is another folder for each of them, home0 and home1.
      extra: more overrides.
      workdir: a folder that they share; each has its own by default.
    """

    def __init__(self, folder: Path, total: int, config: Path = ROOT / 'tests' / 'tiny.py',
                 program: Path = ROOT / 'launch.py', names: tuple[str, str] = ('run', 'run'),
                 homes: bool = False, extra: tuple[str, ...] = (), workdir: Path | None = None):
        folder.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        self.workdirs = [workdir or folder / f'host{rank}' / name for rank, name in enumerate(names)]
        self._logs = [(folder / f'out{rank}', folder / f'err{rank}') for rank in range(2)]
        environments = [{} for _ in range(2)] if config.name == 'tiny.py' else [
            {'PRACTICUM_CACHE': str(folder.parent / f'cache{rank}')} for rank in range(2)]
        if homes:
            environments = [{'HOME': str(folder / f'home{rank}')} for rank in range(2)]
        self.processes = []
        for rank in range(2):
            words = ['--config', config, '--workdir', self.workdirs[rank], '--cpu_devices', 2,
                     '--coordinator', f'127.0.0.1:{port}', '--num_processes', 2, '--process_id', rank,
                     f'--config.total={total} steps', *(f'--config.{option}' for option in (*OPTIONS, *extra))]
            out, err = self._logs[rank]
            with out.open('w') as stdout, err.open('w') as stderr:
                self.processes.append(subprocess.Popen([sys.executable, program, *map(str, words)], cwd=ROOT,
                                                       env={**os.environ, **environments[rank]},
                                                       stdout=stdout, stderr=stderr))

    def __enter__(self) -> 'Pair':
        return self

    def __exit__(self, *exc) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def output(self, rank: int) -> str:
        """What a process printed to stdout but for the chatter of JAX's C++ parts."""
        lines = self._logs[rank][0].read_text().splitlines(keepends=True)
        return ''.join(line for line in lines if not line.startswith('[Gloo]'))

    def errors(self, rank: int) -> str:
        """What a process printed to stderr."""
        return self._logs[rank][1].read_text()

    def wait_for_steps(self) -> None:
        """Waits until the pair is in the middle of training."""
        deadline = time.monotonic() + 90
        while not re.search('^step ', self.output(0), re.MULTILINE):
            assert time.monotonic() < deadline and all(process.poll() is None for process in self.processes), (
                self.output(0), self.errors(0), self.errors(1))
            time.sleep(0.05)

    def wait(self, timeout: float) -> list[int]:
        """Returns the exit codes."""
        return [process.wait(timeout) for process in self.processes]


def saved_step(pair: Pair) -> int:
    step = int(re.search('asked to stop: saved step ([0-9,]+)', pair.output(0)).group(1).replace(',', ''))
    with Checkpoints(pair.workdirs[0], writable=False) as checkpoints:
        assert checkpoints.restore('last').step == step
    return step


@pytest.mark.parametrize('stops', [
    [[None, signal.SIGINT]],  # JAX learns of Ctrl-C as of SIGTERM
    pytest.param([[signal.SIGINT, None], [signal.SIGTERM, signal.SIGTERM]], marks=pytest.mark.thorough)])
def test_two_processes_are_stopped_resumed_and_end_like_one(tmp_path, stops):
    """A signal to any of them stops both, both exit with its code, and only process 0 writes."""
    step = 0
    for numbers in stops:
        with Pair(tmp_path, total=1_000_000) as pair:
            pair.wait_for_steps()
            for process, number in zip(pair.processes, numbers):
                if number:
                    process.send_signal(number)
            assert pair.wait(30) == [128 + (number or signal.SIGTERM) for number in numbers]
            assert pair.errors(0) == pair.errors(1) == ''
            assert not step or f'resuming at step {step:,}' in pair.output(0)
            before, step = step, saved_step(pair)
            assert step > before
    total = step + 20
    with Pair(tmp_path, total) as pair:
        assert pair.wait(120) == [0, 0], (pair.output(0), pair.errors(0), pair.errors(1))
        assert f'resuming at step {step:,}' in pair.output(0)
        assert len(pair.output(1).splitlines()) == 1 and 'waits for the others' in pair.output(1)
        assert pair.errors(0) == pair.errors(1) == ''
    assert not pair.workdirs[1].exists()

    alone = tmp_path / 'alone'
    assert train(tiny_config(f'total={total} steps', 'parallel.devices=4', *OPTIONS), alone) == 0
    rows, wanted_rows = (read_rows(workdir) for workdir in (pair.workdirs[0], alone))
    assert [row['step'] for row in rows] == [row['step'] for row in wanted_rows]
    for row, wanted in zip(rows, wanted_rows):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    results = [json.loads((workdir / 'result.json').read_text())['metrics'] for workdir in (pair.workdirs[0], alone)]
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    arrays, wanted_arrays = (read_last(workdir) for workdir in (pair.workdirs[0], alone))
    assert set(arrays) == set(wanted_arrays)
    for path, value in wanted_arrays.items():
        np.testing.assert_allclose(arrays[path], value, rtol=1e-3, atol=1e-4, err_msg=path)


@pytest.mark.thorough
def test_two_processes_in_mode_jit_keep_a_state_in_shards(tmp_path):
    """They save it together, and go on from it together; another process alone has it in one piece.

    Each scores the examples that it evaluates: the table of all of them is that of one process.
    """
    sharded = ('parallel.mode=jit', 'parallel.sharding=fsdp', 'parallel.min_shard_mb=0', 'task.per_example=True')
    for total in (10, 20):
        with Pair(tmp_path, total, extra=sharded, workdir=tmp_path / 'run') as pair:
            assert pair.wait(120) == [0, 0], (pair.output(0), pair.errors(0), pair.errors(1))
            assert pair.errors(0) == pair.errors(1) == ''
    alone = tmp_path / 'alone'
    one = tiny_config('total=20 steps', 'parallel.devices=4', 'task.per_example=True', *OPTIONS)
    assert train(one, alone) == 0
    tables = [json.loads((workdir / 'test_examples.json').read_text()) for workdir in (tmp_path / 'run', alone)]
    assert len(tables[1]['examples']) == 359
    for row, wanted in zip(*(table['examples'] for table in tables), strict=True):
        assert {name: value for name, value in row.items() if not isinstance(value, float)} == {
            name: value for name, value in wanted.items() if not isinstance(value, float)}
        numbers = {name: value for name, value in wanted.items() if isinstance(value, float)}
        assert numbers and {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-4)
    results = [json.loads((workdir / 'result.json').read_text())['metrics'] for workdir in (tmp_path / 'run', alone)]
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    arrays, wanted_arrays = (read_last(workdir) for workdir in (tmp_path / 'run', alone))
    assert set(arrays) == set(wanted_arrays)
    for path, value in wanted_arrays.items():
        np.testing.assert_allclose(arrays[path], value, rtol=1e-4, atol=1e-6, err_msg=path)


def read_rows(workdir: Path) -> list[dict]:
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != 'timings'} for row in rows]


def read_last(workdir: Path) -> dict[str, np.ndarray]:
    with Checkpoints(workdir, writable=False) as checkpoints:
        return checkpoints.restore('last').arrays


@pytest.mark.parametrize('victim', [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_a_killed_process_ends_the_other_within_a_minute_with_one_clear_line(tmp_path, victim):
    with Pair(tmp_path, total=1_000_000) as pair:
        pair.wait_for_steps()
        pair.processes[victim].kill()
        assert pair.processes[1 - victim].wait(60) != 0
        deadline = time.monotonic() + 5  # the line comes from a shell that outlives the process for a moment
        while LAST_WORDS not in pair.errors(1 - victim) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pair.errors(1 - victim).count(LAST_WORDS) == 1
        assert pair.errors(1 - victim).splitlines()[-1].startswith(LAST_WORDS)
        assert 'Traceback' not in pair.errors(1 - victim)


FROZEN = """from tests.tiny import get_config as tiny


def get_config():
    config = tiny()
    config.augment.shift = 0.0
    config.model = {'name': 'small_cnn', 'features': (4, 6), 'hidden': 16, 'block_dropout': (0.0, 0.0),
                    'dropout': 0.2, 'batch_norm': False}
    config.optimizer.freeze = ('conv.*',)
    config.cached_features.endpoint = 'flat'
    return config
"""
SLOW_WRITER = """import sys
import time

sys.path.insert(0, {root!r})
import launch
from practicum.training import cluster, results

cluster.HEARTBEAT_SECONDS = 10
write_result = results.write_result


def slowly(*args, **facts):
    time.sleep(15)
    write_result(*args, **facts)


results.write_result = slowly
sys.exit(launch.main())
"""


@pytest.mark.thorough
def test_a_slow_end_is_waited_for_and_caches_need_not_be_shared(tmp_path):
    """Process 0 writes its results for longer than a silent host lives, and later has features that the other lacks."""
    config, program = tmp_path / 'frozen.py', tmp_path / 'slow.py'
    config.write_text(FROZEN)
    program.write_text(SLOW_WRITER.format(root=str(ROOT)))
    runs = []
    for name, launcher in (('first', program), ('second', ROOT / 'launch.py')):
        with Pair(tmp_path / name, 4, config, launcher) as pair:
            assert pair.wait(120) == [0, 0], (pair.output(0), pair.errors(0), pair.errors(1))
            assert pair.errors(0) == pair.errors(1) == ''
        assert json.loads((pair.workdirs[0] / 'result.json').read_text())['step'] == 4
        runs.append(read_last(pair.workdirs[0]))
        assert len(list((tmp_path / 'cache0' / 'features').iterdir())) == 3
        assert not (tmp_path / 'cache1' / 'features').exists()
    for path, value in runs[0].items():
        np.testing.assert_allclose(runs[1][path], value, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.thorough
def test_a_mistake_that_only_one_process_can_see_ends_both(tmp_path):
    """Here: another run writes to the workdir of process 0."""
    with Checkpoints(tmp_path / 'host0' / 'run', writable=True), Pair(tmp_path, total=1_000_000) as pair:
        codes = pair.wait(60)
        assert codes[0] == 2 and codes[1] != 0
        assert 'error: another process is training in' in pair.errors(0)
        assert 'Traceback' not in pair.errors(0) + pair.errors(1)


@pytest.mark.thorough
def test_two_runs_of_one_config_do_not_silently_become_one(tmp_path):
    """As with `srun -n 2` around a script that names a workdir for each task."""
    with Pair(tmp_path, total=1_000_000, names=('seed0', 'seed1')) as pair:
        assert pair.wait(60)[0] == 2
        for rank in range(2):
            assert (f'error: the processes have different names of --workdir ({pair.workdirs[rank]} here): give all of '
                    'them the same') in pair.errors(rank)
    assert not any(workdir.exists() for workdir in pair.workdirs)


OWN_IMAGES = """from tests.tiny import get_config as tiny


def get_config():
    config = tiny()
    config.data.source, config.data.name = 'folder', '~/images'
    config.evaluation.periodic, config.evaluation.final, config.checkpoint.best_metric = (), (), ''
    return config
"""


def test_hosts_with_different_data_notice_at_the_start(tmp_path):
    """The same path, but one machine has another file: as many, of the same classes."""
    config = tmp_path / 'own_images.py'
    config.write_text(OWN_IMAGES)
    for rank in range(2):
        for name in ('cat/1', 'cat/2', 'dog/3', f'dog/{4 + rank}'):
            file = tmp_path / f'home{rank}' / 'images' / f'{name}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (8, 8)).save(file)
    with Pair(tmp_path, 1_000_000, config, homes=True) as pair:
        assert pair.wait(60)[0] == 2
        for rank in range(2):
            assert ('error: the processes have different training data (4 examples here): give all machines the same '
                    'files\n') in pair.errors(rank)
    assert not any(workdir.exists() for workdir in pair.workdirs)


def test_a_port_that_is_taken_is_one_error(run_launch, tmp_path):
    """JAX alone would crash."""
    with socket.create_server(('', 0)) as taken:
        port = taken.getsockname()[1]
        done = run_launch('--config', ROOT / 'tests' / 'tiny.py', '--workdir', tmp_path / 'run', '--coordinator',
                          f'127.0.0.1:{port}', '--num_processes', 2, '--process_id', 0)
    assert done.returncode == 2
    assert done.stderr == (f'error: --coordinator 127.0.0.1:{port}: process 0 cannot open port {port} '
                           '(Address already in use); choose another\n')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('environment, words, message', [
    ({}, ('--coordinator', 'nowhere.invalid:99', '--num_processes', 2, '--process_id', 1),
     'error: --coordinator nowhere.invalid:99: the name nowhere.invalid cannot be resolved on '),
    ({'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'nowhere[07-08].invalid', 'SLURM_STEP_NUM_TASKS': '2',
      'SLURM_STEP_NUM_NODES': '1', 'SLURM_PROCID': '1', 'SLURM_LOCALID': '1'}, (),
     "error: Slurm's process 0 at nowhere07:61447: the name nowhere07 cannot be resolved on "),
], ids=['by hand', 'slurm'])
def test_a_name_that_does_not_resolve_is_one_error_at_once(run_launch, environment, words, message):
    """JAX alone would wait for five minutes and abort in C++."""
    done = run_launch('--config', ROOT / 'tests' / 'tiny.py', *words, env=environment, timeout=30)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.startswith(message) and done.stderr.count('\n') == 1


IMPATIENT = """import sys

sys.path.insert(0, {root!r})
import launch
from practicum.training import cluster

cluster.JOIN_SECONDS = 1
sys.exit(launch.main())
"""


@pytest.mark.parametrize('rank', [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_a_process_whose_others_do_not_come_gives_up_in_one_line(tmp_path, rank):
    program = tmp_path / 'impatient.py'
    program.write_text(IMPATIENT.format(root=str(ROOT)))
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{probe.getsockname()[1]}'
    done = subprocess.run([sys.executable, program, '--config', ROOT / 'tests' / 'tiny.py', '--coordinator', address,
                           '--num_processes', '2', '--process_id', str(rank)], capture_output=True, text=True,
                          timeout=60, cwd=ROOT)
    assert done.returncode == 2 and done.stdout == f'process {rank} of 2 waits for the others at {address}\n'
    assert done.stderr.startswith(f'error: process {rank} of 2 has waited 1 s at {address}, and not all of them came')
    assert done.stderr.count('\n') == 1


def test_a_process_that_is_killed_while_it_waits_does_not_speak_of_a_lost_one(tmp_path):
    with Pair(tmp_path, total=1_000_000) as pair:
        pair.processes[1].kill()
        deadline = time.monotonic() + 30
        while 'waits for the others' not in pair.output(0):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pair.processes[0].kill()
        pair.wait(5)
        while 'error: ' not in pair.errors(0):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert pair.errors(0).startswith('error: process 0 of 2 was ended while it waited for the others at 127.0.0.1:')
        assert pair.errors(0).count('\n') == 1


@pytest.mark.parametrize('words, message', [
    (('--coordinator', 'node1', '--num_processes', 2, '--process_id', 0), 'it is host:port of process 0'),
    (('--num_processes', 2, '--process_id', 0), 'go together'),
    (('--coordinator', 'node1:99', '--num_processes', 2, '--process_id', 2), 'must be below --num_processes 2'),
])
def test_half_a_description_of_the_cluster_is_one_error(run_launch, words, message):
    done = run_launch('--config', ROOT / 'tests' / 'tiny.py', *words)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ') and message in done.stderr and done.stderr.count('\n') == 1
