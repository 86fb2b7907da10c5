"""A sweep with real trainings: what its trials see, compile and leave when their worker is killed."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.tuning.workers import TINY, Worker, begin, best_of, check_whole

# That the periodic evaluations of an experiment name a final set does not matter.
PEEKING = ("--config.evaluation.periodic=('validation', 'test')",)


@pytest.fixture(scope='module', params=[1, pytest.param(2, marks=pytest.mark.thorough)])
def swept(request, tmp_path_factory) -> tuple[Path, list[int]]:
    """The folder of a sweep of two trials, and how many compiled programs there were after each run."""
    workdir = tmp_path_factory.mktemp('whole') / 'sweep'
    cache = workdir.with_name('cache')
    worker = Worker(workdir, *begin(trials=2, seeds=request.param, pruner='none'), *PEEKING, stub=False,
                    environment={'PRACTICUM_CACHE': str(cache)})
    compiled: list[int] = []
    while worker.is_alive():
        done = len(list(workdir.glob('*/result.json')))
        if done > len(compiled):
            compiled.append(len(list((cache / 'compiled').iterdir())))
        time.sleep(0.02)
    assert worker.wait() == 0, worker.log
    return workdir, compiled


def names_in(file: Path) -> set[str]:
    """Returns the sets whose metrics a file has."""
    lines = file.read_text().splitlines() if file.suffix == '.jsonl' else [file.read_text()]
    rows = [json.loads(line) for line in lines]
    return {name.partition('/')[0] for row in rows for name in row.get('metrics', row) if '/' in name}


def test_trials_never_see_the_final_sets(swept):
    workdir, _ = swept
    check_whole(workdir, 2)
    more = len(best_of(workdir)['seeds']) - 1  # runs that are no trials
    files = [*workdir.glob('*/result.json'), *workdir.glob('*/metrics.jsonl'), *workdir.glob('*/trial.json')]
    assert len(files) == 3 * 2 + 2 * more
    assert all('test' not in names_in(file) for file in files)
    assert all('test/' not in (workdir / f'{number:04}' / 'console.log').read_text() for number in range(2)
               if number != best_of(workdir)['trial'])
    best = f"{best_of(workdir)['trial']:04}"
    assert sorted(str(path.parent.relative_to(workdir)) for path in workdir.glob('*/evaluation.json')) == [
        best, *[f'{best}-seed1'] * more]


def test_the_best_is_scored_on_the_final_sets_with_each_seed(swept):
    workdir, _ = swept
    best = best_of(workdir)
    assert best['seeds'] in ([0], [0, 1]) and best['final'] == ['test']
    runs = [workdir / f"{best['trial']:04}", workdir / f"{best['trial']:04}-seed1"][:len(best['seeds'])]
    scored = [json.loads((run / 'evaluation.json').read_text())['metrics'] for run in runs]
    assert best['metrics']['test/accuracy']['values'] == [metrics['test/accuracy'] for metrics in scored]
    results = [json.loads((run / 'result.json').read_text())['metrics'] for run in runs]
    assert best['metrics']['validation/accuracy']['values'] == [metrics['validation/accuracy'] for metrics in results]


def test_another_learning_rate_or_seed_compiles_nothing(swept):
    workdir, compiled = swept
    assert compiled[0] > 0 and compiled[1:] == compiled[:1] * len(best_of(workdir)['seeds'])


@pytest.mark.thorough
def test_a_trial_ends_with_its_worker(tmp_path):
    """And has saved what it did: the next worker goes on from there."""
    workdir = tmp_path / 'sweep'
    endless = ('--config.total=100000000 steps', '--config.log_every=50 steps',
               *(f'--config.{name}.every=100000000 steps' for name in ('evaluation', 'checkpoint')))
    worker = Worker(workdir, *begin(trials=1, pruner='none'), *endless, stub=False)
    rows = workdir / '0000' / 'metrics.jsonl'
    deadline = time.monotonic() + 120
    while not rows.exists() or not rows.read_text():
        assert time.monotonic() < deadline, worker.log
        time.sleep(0.05)
    child = [int(path.name) for path in Path('/proc').glob('[0-9]*') if _parent(path) == worker.pid]
    assert len(child) == 1
    worker.kill(signal.SIGKILL)
    worker.wait()
    deadline = time.monotonic() + 60
    while os.path.exists(f'/proc/{child[0]}'):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 'asked to stop: saved step' in (workdir / '0000' / 'console.log').read_text()


def _parent(process: Path) -> int:
    try:
        return int((process / 'stat').read_text().rpartition(')')[2].split()[1])
    except OSError:
        return -1


@pytest.mark.thorough
def test_a_member_that_fails_is_one_failed_trial(tmp_path):
    workdir = tmp_path / 'sweep'
    worker = Worker(workdir, '--config', str(TINY), '--search', 'optimizer.learning_rate=0.01,1e38', '--sampler',
                    'grid', '--pruner', 'none', '--seeds', '0', '--config.population=2', '--config.optimizer.name=sgd',
                    stub=False)
    assert worker.wait(240) == 0, worker.log
    states = [json.loads((workdir / number / 'trial.json').read_text()) for number in ('0000', '0001')]
    assert [state['state'] for state in states] == ['complete', 'failed']
    assert not (workdir / '0001' / 'console.log').exists()  # one process trained both
    assert json.loads((workdir / '0000' / 'config.json').read_text())['population'] == 1
    assert 'is not finite (learning rate 1e+38)' in states[1]['error']
