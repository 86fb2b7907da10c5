"""Resume is exact: a run that is killed or stopped and started again ends in the bits of the uninterrupted run."""

import json
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import launch
from practicum.common.dataset_info import DatasetInfo
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.batches import TrainBatches
from practicum.training.checkpoints import Checkpoints
from practicum.training.writers import MetricWriters
from tests.conftest import ROOT, _own_logging

# Log lines, evaluations and checkpoints fall on different steps, so that a checkpoint cuts through windows of the
# others; adam, dropout, augmentation and moving averages all carry something from step to step. The loss is highest in
# the beginning, so that the best checkpoint by this metric is an early one.
OPTIONS = ('total=72 steps', 'log_every=5 steps', 'evaluation.every=6 steps', 'evaluation.batch_size=32',
           'ema_decay=0.9', 'checkpoint.best_metric=validation/loss', 'checkpoint.best_mode=max', 'parallel.devices=1')


def command(workdir: Path) -> list[str]:
    return ['--config', str(ROOT / 'tests' / 'tiny.py'), '--workdir', str(workdir),
            *(f'--config.{option}' for option in OPTIONS)]


def run_interrupted(workdir: Path, when: str, number: signal.Signals) -> subprocess.CompletedProcess:
    """Runs tests/training/interrupted.py; returns the ended process."""
    driver = ROOT / 'tests' / 'training' / 'interrupted.py'
    done = subprocess.run([sys.executable, str(driver), when, number.name, *command(workdir)], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    sent = re.search(rf'sending {number.name} at ([0-9.]+)', done.stderr)
    assert sent, f'{when} never came:\n{done.stdout}\n{done.stderr}'
    return done


def outcome(workdir: Path) -> dict:
    """Returns all that must not depend on interruptions; arrays as bytes."""
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    for row in rows:
        row.pop('timings', None)
    result = json.loads((workdir / 'result.json').read_text())
    with Checkpoints(workdir, writable=False) as checkpoints:
        arrays = {step: {path: (value.dtype.str, value.tobytes())
                         for path, value in checkpoints.restore(step).arrays.items()} for step in checkpoints.steps()}
        best = checkpoints.best_step()
    return {'rows': rows, 'result': {key: result[key] for key in ('step', 'metrics', 'best')}, 'arrays': arrays,
            'best': best}


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory) -> dict:
    workdir = tmp_path_factory.mktemp('uninterrupted')
    with _own_logging():
        assert launch.main(command(workdir)) == 0
    found = outcome(workdir)
    assert sorted(found['arrays']) == [12, 68, 72] and found['best'] == 12
    assert {path.split('/')[0] for path in found['arrays'][72]} == {'params', 'ema', 'opt_state', 'step'}
    assert [row['step'] for row in found['rows'] if 'train/loss' in row] == [*range(5, 71, 5), 72]
    assert [row['step'] for row in found['rows'] if 'validation/loss' in row] == [*range(6, 73, 6)]
    return found


@pytest.mark.parametrize('times', [1, pytest.param(3, marks=pytest.mark.thorough)])
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(call_launch, uninterrupted, tmp_path, times):
    """SIGKILL while starting, restoring, saving, while files are written, renamed and removed, and more at times."""
    generator = random.Random(times)
    moments = [f'save:{generator.uniform(0, 0.06):.3f}' for _ in range(times)]  # threads in C++ write to the disk
    moments += [f'file:{generator.randint(1, 90)}' for _ in range(2 * times - 1)]
    moments += [f'step:{generator.randint(1, 7)}' for _ in range(times - 1)]
    moments += [f'evaluation:{generator.randint(1, 6)}' for _ in range(times - 1)]
    generator.shuffle(moments)
    for moment in moments:
        done = run_interrupted(tmp_path, moment, signal.SIGKILL)
        assert done.returncode == -signal.SIGKILL, (moment, done.stdout, done.stderr)
        assert 'DAMAGED' not in done.stdout  # no step that is listed is half written or half deleted
    assert call_launch(*command(tmp_path)).code == 0
    assert outcome(tmp_path) == uninterrupted
    assert sorted(path.name for path in (tmp_path / 'checkpoints').iterdir()) == ['12', '68', '72']  # no debris


def test_a_run_that_is_asked_to_stop_saves_and_ends_in_the_same_bits(call_launch, uninterrupted, tmp_path):
    """SIGTERM in training, in evaluation, just after one, and while a checkpoint is written: 143. Ctrl-C: 130."""
    def stop(when: str, number: signal.Signals) -> tuple[int, list[dict]]:
        """Returns the step that was saved and the rows of metrics.jsonl after the run was stopped."""
        done = run_interrupted(tmp_path, when, number)
        assert done.returncode == 128 + number, (when, done.stdout, done.stderr)
        assert done.stderr.count('\n') == 1, done.stderr  # what interrupted.py says
        step = int(re.search('asked to stop: saved step ([0-9]+); the same command goes on', done.stdout).group(1))
        with Checkpoints(tmp_path, writable=False) as checkpoints:
            assert checkpoints.restore('last').step == step
        return step, [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]

    # Step 6 has the highest validation loss, but without the stop it would not have been saved.
    step, rows = stop('row:2', signal.SIGTERM)
    assert step == 6 and 'validation/loss' in rows[-1]
    step, rows = stop('step:3', signal.SIGTERM)
    assert step == 9 and rows[-1]['step'] == 6
    step, rows = stop('evaluation:2', signal.SIGTERM)
    assert step == 12 and not any(row['step'] == 12 for row in rows)  # half an evaluation is none
    stop('save:0.01', signal.SIGINT)
    assert call_launch(*command(tmp_path)).code == 0
    assert outcome(tmp_path) == uninterrupted

    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob('*') if path.is_file()}
    again = call_launch(*command(tmp_path))
    assert again.code == 0 and 'this run is finished' in again.out and 'test/accuracy' in again.out
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob('*') if path.is_file()}
    assert after == before, 'a finished run that is started again changes nothing'


def test_the_hundred_thousandth_batch_of_a_million_examples_is_there_at_once():
    """The step is the position: resuming replays nothing."""
    source = ArraySource({'x': np.arange(1_200_000)}, DatasetInfo())
    late = TrainBatches(source, batch_size=256, seed=3)(100_000)['x']
    going_on = TrainBatches(source, batch_size=256, seed=3)
    for step in range(99_998, 100_001):
        batch = going_on(step)['x']
    np.testing.assert_array_equal(late, batch)


def test_rows_of_metrics_survive_a_disk_that_is_full_on_restart(tmp_path):
    rows = ''.join(json.dumps({'step': step, 'train/loss': 1.0}) + '\n' for step in range(100))
    (tmp_path / 'metrics.jsonl').write_text(rows)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(rows) // 2, hard))
    try:
        with pytest.raises(OSError):
            MetricWriters(tmp_path, resumed_step=99)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / 'metrics.jsonl').read_text() == rows
