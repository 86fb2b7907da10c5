"""docs/train.sbatch on a real Slurm of this machine: it comes back after what should be survived, and only then.

For who has changed training/cluster.py, training/process.py, training/preemption.py or docs/train.sbatch: it takes two
to four minutes, and so is opt-in.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm_cluster import NODES, SlurmCluster, processes_of

pytestmark = [
    pytest.mark.skipif(not os.environ.get('PRACTICUM_TEST_SLURM'), reason='takes minutes: make test-slurm'),
    pytest.mark.skipif(bool(SlurmCluster.missing()), reason=f"no {', '.join(SlurmCluster.missing())} here: apt-get "
                       'install slurm-wlm munge'),
]
ENDLESS = ('--config.total=10000000 steps', '--config.log_every=50 steps', '--config.evaluation.every=10000000 steps',
           '--config.checkpoint.every=10000000 steps')
LOST = '#!/bin/sh\necho >>starts\n[ "$SLURM_PROCID" = 0 ] || kill -9 $$\n'


class Site:
    """A folder to submit from, with docs/train.sbatch, launch.py and a Python in .venv.

    Args:
      cluster: running.
      folder: to be made.
      python: the script that stands for Python; None for the real one.
    """

    def __init__(self, cluster: SlurmCluster, folder: Path, python: str | None = None):
        self.cluster, self.folder = cluster, folder
        (folder / '.venv' / 'bin').mkdir(parents=True)
        (folder / 'launch.py').symlink_to(ROOT / 'launch.py')
        program = folder / '.venv' / 'bin' / 'python'
        program.write_text(python or f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        program.chmod(0o755)

    def train(self, *words, options: tuple[str, ...] = ()) -> int:
        """Submits a training of digits_mlp into ./run; returns the job's number."""
        return self.cluster.submit('--cpus-per-task=1', '--output=log', *options, ROOT / 'docs' / 'train.sbatch',
                                   ROOT / 'experiments' / 'digits_mlp.py', 'run', *words, cwd=self.folder)

    @property
    def log(self) -> str:
        """What the jobs have printed so far."""
        path = self.folder / 'log'
        return path.read_text() if path.exists() else ''

    def wait(self, ready, seconds: float = 120) -> None:
        """Waits until `ready()`."""
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, self.log + self.cluster.run('scontrol', 'show', 'jobs')
            time.sleep(0.2)

    def wait_for_training(self, job: int, starts: int) -> None:
        """Waits until a job has begun so many times, and has taken steps since."""
        self.wait(lambda: self.cluster.job(job)['JobState'] == 'RUNNING'
                  and len(parts := self.log.split('10,000,000 steps of')) == starts + 1
                  and re.search('^step ', parts[-1], re.MULTILINE))

    def wait_for_end(self, job: int) -> dict[str, str]:
        """Returns what is known of a job when it is over."""
        self.wait(lambda: self.cluster.job(job)['JobState'] not in ('RUNNING', 'PENDING', 'COMPLETING', 'REQUEUED'))
        return self.cluster.job(job)

    def saved_steps(self) -> list[str]:
        """Returns after which steps the jobs were stopped."""
        return re.findall('asked to stop: saved step ([0-9,]+)', self.log)

    def resumed_steps(self) -> list[str]:
        """Returns from which steps the jobs went on."""
        return re.findall('resuming at step ([0-9,]+)', self.log)


@pytest.fixture(scope='module')
def cluster():
    with SlurmCluster() as cluster:
        yield cluster


def test_a_run_survives_whatever_slurm_does_to_it(cluster, tmp_path):
    """Requeued, robbed of a task, preempted, cancelled, submitted again with another number of tasks."""
    site = Site(cluster, tmp_path / 'site')
    job = site.train(*ENDLESS, options=(f'--nodelist={NODES[0]}', '--ntasks-per-node=2'))
    site.wait_for_training(job, starts=1)
    assert 'process 0 of 2 waits for the others at 127.0.0.1:' in site.log
    assert 'on 1 x cpu on each of 2 processes' in site.log

    cluster.run('scontrol', 'requeue', job)
    site.wait_for_training(job, starts=2)
    assert site.resumed_steps() == site.saved_steps()

    os.kill(task(site, rank=1), signal.SIGKILL)
    site.wait_for_training(job, starts=3)
    assert 'after 1 restarts of the job: requeued: yes' in site.log and 'error: lost another process' in site.log
    assert site.resumed_steps()[-1] == site.saved_steps()[-1]  # nothing was saved since

    other = cluster.submit('--partition=high', f'--nodelist={NODES[0]}', '--exclusive', '--output=/dev/null',
                           '--wrap=sleep 1')
    site.wait_for_training(job, starts=4)
    assert cluster.job(other)['JobState'] == 'COMPLETED'
    assert len(site.saved_steps()) == 2 and site.resumed_steps()[-1] == site.saved_steps()[-1]

    cluster.run('scancel', job)
    assert site.wait_for_end(job)['JobState'] == 'CANCELLED'
    site.wait(lambda: len(site.saved_steps()) == 3)  # the tasks have some seconds more than the job

    saved = site.saved_steps()[-1]
    total = int(saved.replace(',', '')) + 30
    job = site.train(f'--config.total={total} steps', options=('--ntasks-per-node=1',))
    done = site.wait_for_end(job)
    assert (done['JobState'], done['Restarts']) == ('COMPLETED', '0'), site.log
    assert site.resumed_steps()[-1] == saved and 'on 1 x cpu (pmap)' in site.log
    assert (site.folder / 'run' / 'result.json').exists()


def task(site: Site, rank: int) -> int:
    """Returns the process id of a task of the site's run."""
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            environment = (entry / 'environ').read_bytes().split(b'\0')
            words = (entry / 'cmdline').read_bytes().split(b'\0')
        except OSError:
            continue
        if (f'SLURM_PROCID={rank}'.encode() in environment and b'SLURM_STEP_NUM_TASKS=2' in environment
                and f'SLURM_SUBMIT_DIR={site.folder}'.encode() in environment and b'launch.py' in words):
            return int(entry.name)
    raise AssertionError('there is no such task')


def test_a_job_ends_before_its_time_limit_and_comes_back(cluster, tmp_path):
    site = Site(cluster, tmp_path / 'site')
    job = site.train(*ENDLESS, options=('--ntasks-per-node=2', '--time=1', '--signal=TERM@45'))
    site.wait(site.resumed_steps)
    assert site.resumed_steps() == site.saved_steps() and cluster.job(job)['Restarts'] == '1'
    cluster.run('scancel', job)
    site.wait_for_end(job)


def test_a_job_that_loses_a_task_again_and_again_comes_back_three_times(cluster, tmp_path):
    site = Site(cluster, tmp_path / 'site', LOST)
    done = site.wait_for_end(site.train(options=('--ntasks-per-node=2',)))
    assert (done['JobState'], done['ExitCode'], done['Restarts']) == ('FAILED', '137:0', '3')
    assert (site.folder / 'starts').read_text().count('\n') == 8  # of two tasks


def test_a_mistake_is_not_repeated(cluster, tmp_path):
    site = Site(cluster, tmp_path / 'site')
    job = site.train('--config.batch_sise=1', options=('--ntasks-per-node=2',))
    done = site.wait_for_end(job)
    assert (done['JobState'], done['ExitCode'], done['Restarts']) == ('FAILED', '2:0', '0')
    assert 'did you mean batch_size?' in site.log


def test_two_nodes_are_one_run(cluster, tmp_path):
    """Both are this machine, but Slurm starts a task on each, and the first one's name is that of process 0."""
    site = Site(cluster, tmp_path / 'site')
    job = site.train('--config.total=30 steps', options=('--nodes=2', '--ntasks-per-node=1'))
    assert site.wait_for_end(job)['JobState'] == 'COMPLETED', site.log
    assert 'on 1 x cpu on each of 2 processes' in site.log


def test_a_job_submitted_from_another_folder_says_so(cluster, tmp_path):
    site = Site(cluster, tmp_path / 'site')
    (site.folder / 'launch.py').unlink()
    assert site.wait_for_end(site.train())['ExitCode'] == '2:0'
    assert site.log.startswith('error: in the folder of launch.py, call: sbatch docs/train.sbatch')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_cluster_whose_owner_is_killed(tmp_path, number):
    command = 'sbatch --output=/dev/null --wrap="sleep 1000" && echo $SLURM_CONF && sleep 1000'
    with subprocess.Popen([sys.executable, ROOT / 'tests' / 'slurm_cluster.py', 'sh', '-c', command],
                          stdout=subprocess.PIPE, text=True) as owner:
        owner.stdout.readline()
        folder = Path(owner.stdout.readline().strip()).parent
        assert len(processes_of(folder)) >= 4
        owner.send_signal(number)
    deadline = time.monotonic() + 20
    while folder.exists() or processes_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
