"""Several workers on one sweep: how they begin, share, lose their trials to each other and come back."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.tuning.workers import Worker, begin, best_of, check_whole, trials_of

TRIALS = 4
SWEEP = begin(trials=TRIALS, pruner='none')
SLOW = {'STUB_SECONDS': '0.5'}  # a trial takes 4.5 seconds, and is saved after each 1.5


def wait_for(ready, worker: Worker, seconds: float = 120) -> None:
    """Waits until `ready()`."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, worker.log
        time.sleep(0.02)


def starts(folder: Path) -> list[int]:
    """Returns at which evaluations a trial began: [0] if it was never interrupted."""
    return [int(line) for line in (folder / 'starts').read_text().split()]


def finish(*workers: Worker) -> None:
    """Waits for the ends of workers that have nothing to complain of."""
    for worker in workers:
        assert worker.wait() == 0, worker.log


@pytest.mark.parametrize('attempt', [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_two_that_begin_at_once_are_one_sweep(tmp_path, attempt):
    workdir = tmp_path / 'sweep'
    workers = [Worker(workdir, *SWEEP, log=tmp_path / f'log{i}', environment={'STUB_SECONDS': '0.1'}) for i in (0, 1)]
    finish(*workers)
    found = check_whole(workdir, TRIALS)
    assert all(trial['state'] == 'COMPLETE' and starts(workdir / f"{trial['number']:04}") == [0] for trial in found)
    assert all('trial ' in worker.log for worker in workers)
    assert sum(worker.log.count('configurations fit') for worker in workers) == 1
    assert (workdir / f"{best_of(workdir)['trial']:04}" / 'scored').read_text().count('\n') == 1


@pytest.mark.thorough
def test_one_that_joins_waits_for_the_check(tmp_path):
    workdir = tmp_path / 'sweep'
    first = Worker(workdir, *SWEEP, environment={'STUB_CHECK_SECONDS': '2'})
    wait_for((workdir / '.begin.lock').exists, first)
    joining = [Worker(workdir, log=tmp_path / f'log{i}') for i in (0, 1)]
    finish(first, *joining)
    check_whole(workdir, TRIALS)
    assert 'another worker is beginning this sweep: waiting for it' in joining[0].log


def test_nothing_to_join(tmp_path):
    worker = Worker(tmp_path / 'sweep')
    assert worker.wait() == 2
    assert worker.log == f'error: no sweep in {tmp_path}/sweep: begin one with --config, or name another --workdir\n'


@pytest.mark.thorough
def test_the_number_of_trials_is_that_of_all_starts(tmp_path):
    workdir = tmp_path / 'sweep'
    for trials, expected in ((2, 2), (4, 4), (4, 4), (3, 4), (None, 4)):
        finish(Worker(workdir, *(begin(trials=trials, pruner='none') if trials else ())))
        check_whole(workdir, expected)
    assert all(starts(workdir / f'{number:04}') == [0] for number in range(4))
    best = best_of(workdir)
    finish(Worker(workdir, '--seeds', '3'))
    assert best_of(workdir)['seeds'] == [0, 1, 2] and best_of(workdir)['params'] == best['params']
    assert best_of(workdir)['metrics']['test/accuracy']['values'][0] == best['metrics']['test/accuracy']['mean']
    assert (workdir / f"{best['trial']:04}" / 'scored').read_text().count('\n') == 1


@pytest.mark.thorough
def test_a_trial_that_is_pruned_is_asked_to_stop_once(tmp_path):
    """A second request would end it while it closes its files, and it would be started again for that."""
    workdir = tmp_path / 'sweep'
    worker = Worker(workdir, *begin(trials=3, seeds=0, sampler='random'),
                    environment={'STUB_SECONDS': '0.2', 'STUB_SAVE_SECONDS': '1.5'})
    finish(worker)
    states = {number: json.loads((workdir / number / 'trial.json').read_text())['state']
              for number in ('0000', '0001', '0002')}
    assert 'pruned' in states.values()
    assert all(starts(workdir / number) == [0] for number in states)
    assert 'goes on' not in worker.log


def test_earlier_looks_at_the_final_sets_are_known_to_the_database(tmp_path):
    workdir = tmp_path / 'sweep'
    finish(Worker(workdir, *begin(trials=1, pruner='none')))
    best = best_of(workdir)['trial']
    for trials in range(2, 9):
        if best_of(workdir)['trial'] != best:
            break
        finish(Worker(workdir, '--trials', trials))
    assert best_of(workdir)['scored_before'] == [best]
    (workdir / 'best.json').write_text('[1]')
    worker = Worker(workdir)
    finish(worker)
    assert best_of(workdir)['scored_before'] == [best]
    assert f'earlier the best was trial {best}, which was scored on test too' in worker.log


def test_a_database_that_was_removed_is_missed(tmp_path):
    workdir = tmp_path / 'sweep'
    finish(Worker(workdir, *begin(trials=1, pruner='none')))
    (workdir / 'study.db').unlink()
    worker = Worker(workdir)
    assert worker.wait() == 2
    assert 'has no trials of this sweep, but' in worker.log and 'Traceback' not in worker.log


@pytest.mark.thorough
def test_more_trials_while_others_are_at_work(tmp_path):
    """They are all over before anybody scores the best."""
    workdir = tmp_path / 'sweep'
    first = Worker(workdir, *begin(trials=2, pruner='none'), environment=SLOW)
    wait_for((workdir / '0000' / 'starts').exists, first)
    second = Worker(workdir, '--trials', '4', log=tmp_path / 'log', environment=SLOW)
    finish(first, second)
    check_whole(workdir, 4)
    assert first.log.count('done: validation') + second.log.count('done: validation') == 5  # and the best, scored
    assert best_of(workdir)['scored_before'] == []


@pytest.mark.thorough
def test_one_that_is_killed_elsewhere_is_missed_after_three_heartbeats(tmp_path):
    workdir = tmp_path / 'sweep'
    lost = Worker(workdir, *SWEEP, '--heartbeat', '1', host='there', environment=SLOW)
    wait_for((workdir / '0000' / 'saved').exists, lost)
    lost.kill()
    assert lost.wait() == -signal.SIGKILL
    worker = Worker(workdir, host='here')
    finish(worker)
    check_whole(workdir, TRIALS)
    assert len(starts(workdir / '0000')) == 2 and starts(workdir / '0000')[1] >= 3
    assert 'trial 0 has lost its worker' in worker.log


def test_one_that_is_killed_here_is_missed_at_once(tmp_path):
    """By default a heartbeat is a minute: nobody waits for three of them."""
    workdir = tmp_path / 'sweep'
    lost = Worker(workdir, *SWEEP, environment=SLOW)
    wait_for((workdir / '0000' / 'saved').exists, lost)
    lost.kill()
    assert lost.wait() == -signal.SIGKILL
    worker = Worker(workdir)
    wait_for(lambda: 'trial 0 has lost its worker' in worker.log, worker)
    finish(worker)
    assert starts(workdir / '0000')[1] >= 3


@pytest.mark.thorough
def test_a_slow_one_keeps_its_trial(tmp_path):
    """However long a trial takes, and the scoring at the end."""
    workdir = tmp_path / 'sweep'
    slow = Worker(workdir, *begin(trials=2, pruner='none', heartbeat=1), host='there',
                  environment={'STUB_SECONDS': '0.6', 'STUB_SCORE_SECONDS': '5'})
    wait_for((workdir / '0000' / 'starts').exists, slow)
    other = Worker(workdir, host='here', log=tmp_path / 'log', environment={'STUB_SCORE_SECONDS': '5'})
    finish(slow, other)
    check_whole(workdir, 2)
    assert starts(workdir / '0000') == starts(workdir / '0001') == [0]
    assert (workdir / f"{best_of(workdir)['trial']:04}" / 'scored').read_text().count('\n') == 1
    assert 'has lost its worker' not in slow.log + other.log


@pytest.mark.thorough
@pytest.mark.parametrize('child_too', [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_one_that_comes_back_after_its_trial_was_taken(tmp_path, child_too):
    workdir = tmp_path / 'sweep'
    frozen = Worker(workdir, *SWEEP, '--heartbeat', '1', host='there', environment=SLOW)
    wait_for((workdir / '0000' / 'saved').exists, frozen)
    child = [int(path.name) for path in Path('/proc').glob('[0-9]*')
             if f'{frozen.pid}\0train'.encode() in _command(path) and f'{workdir}/0000'.encode() in _command(path)]
    assert len(child) == 1
    processes = [frozen.pid, *(child if child_too else ())]
    freeze(processes)
    other = Worker(workdir, host='here', log=tmp_path / 'log', environment=SLOW)
    if child_too:  # it holds the folder until it is asked to leave it
        wait_for(lambda: 'waiting for the process of a lost worker' in other.log, other)
    else:
        wait_for(lambda: 'trial 0 done' in other.log, other)
    for process in processes:
        os.kill(process, signal.SIGCONT)
    finish(frozen, other)
    found = check_whole(workdir, TRIALS)
    assert all(trial['state'] == 'COMPLETE' and len(trial['reports']) == 9 for trial in found)
    assert 'another worker has taken it over' in frozen.log


@pytest.mark.thorough
def test_one_that_is_frozen_here_keeps_its_trial(tmp_path):
    """The kernel says that it is there, whatever its heart does."""
    workdir = tmp_path / 'sweep'
    frozen = Worker(workdir, *begin(trials=1, heartbeat=1), environment=SLOW)
    wait_for((workdir / '0000' / 'starts').exists, frozen)
    freeze([frozen.pid])
    other = Worker(workdir, log=tmp_path / 'log')
    wait_for(lambda: 'waiting for those of the other workers' in other.log, other)
    time.sleep(5)
    assert 'has lost its worker' not in other.log
    frozen.kill(signal.SIGCONT)
    finish(frozen, other)
    assert starts(workdir / '0000') == [0]


@pytest.mark.parametrize('number, code', [
    (signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.thorough)])
def test_one_that_is_asked_to_stop_puts_its_trial_back(tmp_path, number, code):
    workdir = tmp_path / 'sweep'
    worker = Worker(workdir, *SWEEP, environment=SLOW)
    wait_for((workdir / '0000' / 'starts').exists, worker)
    worker.kill(number)
    assert worker.wait() == code
    assert trials_of(workdir)[0]['state'] == 'WAITING'
    assert json.loads((workdir / '0000' / 'trial.json').read_text())['state'] == 'waiting'
    assert f'launch.py sweep --workdir {workdir} goes on from there' in worker.log
    finish(Worker(workdir))
    check_whole(workdir, TRIALS)


def freeze(processes: list[int]) -> None:
    """Stops processes at a moment when they have no lock on the database: the others would wait for it, too."""
    while True:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        if not any(line.split()[1] == 'POSIX' and int(line.split()[4]) in processes
                   for line in Path('/proc/locks').read_text().splitlines()):
            return
        for process in processes:
            os.kill(process, signal.SIGCONT)
        time.sleep(0.05)


def _command(process: Path) -> bytes:
    try:
        return (process / 'cmdline').read_bytes()
    except OSError:
        return b''
