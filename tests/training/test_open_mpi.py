"""`mpirun -n 2 launch.py` with a real Open MPI: one run, which is stopped and goes on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which('mpirun'), reason='no mpirun here: apt-get install openmpi-bin')
MPIRUN = ('mpirun', '--oversubscribe', '--bind-to', 'none', '-n', '2')
# Version 5, of which Debian has none, does not say where mpirun runs.
AS_VERSION_5 = ('env', '-u', 'OMPI_MCA_orte_hnp_uri')


def start(log, workdir, total: int, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    """Starts a run of two processes that prints to a file."""
    environment = {**os.environ, 'OMPI_ALLOW_RUN_AS_ROOT': '1', 'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1'}
    with log.open('w') as output:
        return subprocess.Popen(
            [*MPIRUN, *prefix, sys.executable, '-u', ROOT / 'launch.py', '--config', ROOT / 'tests' / 'tiny.py',
             '--workdir', workdir, f'--config.total={total} steps', '--config.evaluation.every=1000000 steps',
             '--config.checkpoint.every=1000000 steps'], cwd=ROOT, env=environment, stdout=output, stderr=output)


def process_of(workdir: Path, rank: int) -> int:
    """Returns the id of one of the processes of a run."""
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            environment, words = ((entry / name).read_bytes().split(b'\0') for name in ('environ', 'cmdline'))
        except OSError:
            continue
        if f'OMPI_COMM_WORLD_RANK={rank}'.encode() in environment and str(workdir).encode() in words:
            return int(entry.name)
    raise AssertionError('there is no such process')


@pytest.mark.thorough
def test_a_run_of_mpirun_is_stopped_and_goes_on(tmp_path):
    log, workdir = tmp_path / 'log', tmp_path / 'run'
    with start(log, workdir, 1_000_000) as mpirun:
        try:
            deadline = time.monotonic() + 90
            while not re.search('^step ', log.read_text(), re.MULTILINE):
                assert time.monotonic() < deadline and mpirun.poll() is None, log.read_text()
                time.sleep(0.05)
            # Not mpirun itself: it leaves a second or so until it kills, which is too short for a test.
            os.kill(process_of(workdir, rank=1), signal.SIGTERM)
            assert mpirun.wait(60) == 143, log.read_text()
        finally:
            mpirun.kill()
    assert log.read_text().count(' of 2 waits for the others at ') == 2
    assert '1 x cpu on each of 2 processes' in log.read_text()
    saved = re.search('asked to stop: saved step ([0-9,]+)', log.read_text()).group(1)

    with start(log, workdir, int(saved.replace(',', '')) + 4, AS_VERSION_5) as mpirun:
        try:
            assert mpirun.wait(120) == 0, log.read_text()
        finally:
            mpirun.kill()
    assert f'resuming at step {saved}\n' in log.read_text()
    assert log.read_text().count(' of 2 waits for the others at 127.0.0.1:') == 2
