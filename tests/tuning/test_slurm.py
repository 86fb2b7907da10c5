"""docs/sweep.sbatch on a real Slurm of this machine: an array is the workers of one sweep, whatever happens to them.

For who has changed sweeps/, training/cluster.py or docs/sweep.sbatch: it takes minutes, and so is opt-in.
"""

import os
import re
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm_cluster import NODES, SlurmCluster
from tests.tuning.workers import Worker, begin, best_of, check_whole

pytestmark = [
    pytest.mark.skipif(not os.environ.get('PRACTICUM_TEST_SLURM'), reason='takes minutes: make test-slurm'),
    pytest.mark.skipif(bool(SlurmCluster.missing()), reason=f"no {', '.join(SlurmCluster.missing())} here: apt-get "
                       'install slurm-wlm munge'),
]
TRIALS = 5
# What is proposed does not depend on which worker is faster.
SWEEP = (*begin(trials=TRIALS, sampler='random', pruner='none', sampler_seed=1), '--config.total=12000 steps',
         *(f'--config.{name}.every=2000 steps' for name in ('evaluation', 'checkpoint')))


@pytest.fixture(scope='module')
def cluster():
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder to submit from."""
    folder = tmp_path / 'site'
    (folder / '.venv' / 'bin').mkdir(parents=True)
    (folder / 'launch.py').symlink_to(ROOT / 'launch.py')
    program = folder / '.venv' / 'bin' / 'python'
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return folder


def wait(cluster: SlurmCluster, site: Path, ready, seconds: float = 400) -> None:
    """Waits until `ready()`."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, log(site) + cluster.run('scontrol', 'show', 'jobs')
        time.sleep(0.3)


def log(site: Path) -> str:
    """What all workers have printed."""
    return '\n'.join(path.read_text() for path in sorted(site.glob('log-*')))


def states(cluster: SlurmCluster, job: int) -> set[str]:
    """Returns the states of the tasks of an array."""
    return set(re.findall(r'JobState=(\S*)', cluster.run('scontrol', 'show', 'job', '--oneliner', job)))


def test_an_array_is_one_sweep_and_survives_preemption(cluster, site, tmp_path):
    alone = Worker(tmp_path / 'alone', *SWEEP, stub=False)
    assert alone.wait(600) == 0, alone.log
    expected = check_whole(tmp_path / 'alone', TRIALS)

    job = cluster.submit('--array=1-3', '--cpus-per-task=1', f'--nodelist={NODES[0]}', '--output=log-%a',
                         ROOT / 'docs' / 'sweep.sbatch', 'sweep', *SWEEP, cwd=site)
    sweep = site / 'sweep'
    wait(cluster, site, lambda: all('resuming' not in text and 'validation' in text for text in (
        (sweep / f'{number:04}' / 'metrics.jsonl').read_text() if (sweep / f'{number:04}' / 'metrics.jsonl').exists()
        else '' for number in range(3))))
    other = cluster.submit('--partition=high', f'--nodelist={NODES[0]}', '--exclusive', '--output=/dev/null',
                           '--wrap=sleep 1')
    wait(cluster, site, lambda: cluster.job(other)['JobState'] == 'COMPLETED')
    assert 'asked to stop: launch.py sweep --workdir sweep goes on from there' in log(site)
    wait(cluster, site, lambda: states(cluster, job) == {'COMPLETED'})

    assert check_whole(sweep, TRIALS) == expected
    assert best_of(sweep) == best_of(tmp_path / 'alone')
    assert len(list(site.glob('log-*'))) == 3 and ' goes on: ' in log(site)
    consoles = [(sweep / f'{number:04}' / 'console.log').read_text() for number in range(TRIALS)]
    assert sum('resuming at step' in console for console in consoles) >= 1


def test_a_mistake_is_not_repeated(cluster, site):
    job = cluster.submit('--array=1-2', '--cpus-per-task=1', '--output=log-%a', ROOT / 'docs' / 'sweep.sbatch',
                         'sweep', cwd=site)
    wait(cluster, site, lambda: states(cluster, job) == {'FAILED'})
    assert cluster.job(job)['ExitCode'] == '2:0' and cluster.job(job)['Restarts'] == '0'
    assert log(site).count('error: no sweep in sweep: begin one with --config') == 2
