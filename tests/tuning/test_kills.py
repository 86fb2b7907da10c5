"""A sweep whose workers are killed anywhere is the sweep that nobody disturbed: every trial once, bit for bit."""

import random
import signal

import pytest

from tests.tuning.workers import Worker, begin, best_of, check_whole

TRIALS = 12  # TPE draws the first ten at random
SWEEP = begin(trials=TRIALS, seeds=2, sampler_seed=3)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('sweep') / 'undisturbed'
    worker = Worker(workdir, *SWEEP)
    assert worker.wait() == 0, worker.log
    return check_whole(workdir, TRIALS), best_of(workdir)


@pytest.mark.thorough
def test_undisturbed(undisturbed):
    trials, best = undisturbed
    assert {trial['state'] for trial in trials} == {'COMPLETE', 'PRUNED'}  # or the kills would prove little
    assert best['seeds'] == [0, 1] and set(best['metrics']) == {'validation/accuracy', 'test/accuracy'}


@pytest.mark.thorough
@pytest.mark.parametrize('kind, most, seed', [
    ('commit', 90, 0), ('file', 90, 1)])
def test_killed_again_and_again(undisturbed, kind, most, seed, tmp_path):
    """Before a commit to the database or a change of a file, any: benchmarks/sweep_kills.py tries all there are."""
    workdir, moments = tmp_path / 'sweep', random.Random(seed)
    for kills in range(100):  # noqa: B007
        worker = Worker(workdir, *SWEEP, kill=f'{kind}:{moments.randint(1, most)}')
        if worker.wait() == 0:
            break
        assert worker.wait() == -signal.SIGKILL, worker.log
    assert kills >= 5
    assert (check_whole(workdir, TRIALS), best_of(workdir)) == undisturbed


@pytest.mark.parametrize('moment', [
    *(pytest.param(moment, marks=pytest.mark.thorough) for moment in (
        'after:optuna.storages:RDBStorage.set_trial_intermediate_value:2',  # reported, but nobody has pruned it
        'call:practicum.tuning.study:Study.finish:2',  # it has its result.json, but the study does not know
        'after:optuna.storages:RDBStorage._create_new_trial:3',  # a trial without parameters, and without a worker
        'call:practicum.tuning.sweep:best_trials:1',  # before the best's seeds
        'call:practicum.tuning.sweep:write_json:1')),  # best.json
])
def test_killed_at_a_moment(moment, undisturbed, tmp_path):
    workdir = tmp_path / 'sweep'
    killed = Worker(workdir, *SWEEP, kill=moment)
    assert killed.wait() == -signal.SIGKILL, killed.log
    worker = Worker(workdir)
    assert worker.wait() == 0, worker.log
    assert (check_whole(workdir, TRIALS), best_of(workdir)) == undisturbed
