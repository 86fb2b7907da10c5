"""A real Slurm on this machine, as long as a block of Python or a command lasts: two virtual nodes and a queue.

It needs Debian's packages slurm-wlm and munge, and no configuration. State, keys and logs are in a temporary folder.

  .venv/bin/python tests/slurm_cluster.py                          # a shell in which sbatch, squeue, scontrol work
  .venv/bin/python tests/slurm_cluster.py sbatch --wait job.sh     # one command

The nodes are called 127.0.0.1 and 127.0.0.2: names that resolve on any Linux, to this machine. They have more
processors and GPUs than there are, which Slurm counts but does not look for. The partition `high` takes nodes from
`low`, whose jobs are put back into the queue. There are no accounts, cgroups or limits of memory.
"""

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'scontrol')
NODES = ('127.0.0.1', '127.0.0.2')
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_GUARD = '--guard'
_CONFIG = """
ClusterName=practicum
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,batch_sched_delay=0
GresTypes=gpu
KillWait=20
MinJobAge=86400
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=127.0.0.1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=32 RealMemory=1000 Gres=gpu:4
NodeName=127.0.0.2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=32 RealMemory=1000 Gres=gpu:4
PartitionName=low Nodes=ALL Default=YES MaxTime=1-0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL MaxTime=1-0 PriorityTier=10 PreemptMode=OFF
"""


class SlurmCluster:
    """A context manager; inside, `run` reaches the cluster, and afterwards nothing of it is left.

    Attributes:
      environment: in which Slurm's commands find this cluster.
      folder: of its state and logs, removed at the end.

    Raises:
      RuntimeError: a program is missing, or a part of Slurm does not come up; the message has the end of its log.
    """

    def __init__(self):
        missing = self.missing()
        if missing:
            raise RuntimeError(f"{', '.join(missing)} not found: apt-get install slurm-wlm munge")
        self.folder = Path(tempfile.mkdtemp(prefix='slurm-'))
        self.environment = {**os.environ, 'PATH': _PATH, 'SLURM_CONF': str(self.folder / 'slurm.conf')}
        self._daemons: dict[str, subprocess.Popen] = {}
        # It ends everything when its pipe is closed: here, or by the kernel if this process is killed.
        self._guard = subprocess.Popen([sys.executable, __file__, _GUARD, self.folder], stdin=subprocess.PIPE,
                                       start_new_session=True)

    @staticmethod
    def missing() -> list[str]:
        """Returns the programs that are not installed."""
        return [name for name in PROGRAMS if not shutil.which(name, path=_PATH)]

    def __enter__(self) -> 'SlurmCluster':
        try:
            self._configure()
            self._start('munged', '--foreground', '--force', f'--socket={self.folder}/munge.socket',
                        f'--key-file={self.folder}/munge.key', f'--pid-file={self.folder}/munge.pid',
                        f'--seed-file={self.folder}/munge.seed', f'--log-file={self.folder}/munge.log')
            self._wait(lambda: (self.folder / 'munge.socket').exists(), 'munged')
            self._start('slurmctld', '-D', '-c')
            for node in NODES:
                self._start('slurmd', '-D', '-N', node, name=f'slurmd-{node}')
            self._wait(lambda: self._idle() == len(NODES), *self._daemons)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc) -> None:
        self._guard.communicate()
        for process in self._daemons.values():
            process.wait()

    def run(self, *words, cwd: Path | None = None) -> str:
        """Runs one of Slurm's commands and returns what it prints."""
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=cwd, env=self.environment,
                              timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
        return done.stdout.strip()

    def submit(self, *words, cwd: Path | None = None) -> int:
        """Calls sbatch and returns the number of the job."""
        return int(self.run('sbatch', '--parsable', *words, cwd=cwd))

    def job(self, number: int) -> dict[str, str]:
        """Returns what scontrol knows of a job, such as 'JobState', 'Restarts' and 'ExitCode'."""
        return dict(re.findall(r'(\S+?)=(\S*)', self.run('scontrol', 'show', 'job', '--oneliner', number)))

    def log(self) -> str:
        """Returns the logs of all parts of the cluster."""
        return '\n'.join(f'== {file.name}\n{file.read_text(errors="replace")}'
                         for file in sorted(self.folder.glob('*.log')))

    def _configure(self) -> None:
        for name in ('state', *(f'spool-{node}' for node in NODES)):
            (self.folder / name).mkdir()
        for number in range(4):  # GPUs are files, and these are not opened
            (self.folder / f'gpu{number}').touch()
        with contextlib.ExitStack() as stack:  # three at once, so that they differ
            sockets = [stack.enter_context(socket.create_server(('127.0.0.1', 0))) for _ in range(3)]
            ports = [one.getsockname()[1] for one in sockets]
        (self.folder / 'slurm.conf').write_text(_CONFIG.format(
            host=socket.gethostname().partition('.')[0], ports=ports, user=getpass.getuser(), folder=self.folder))
        (self.folder / 'gres.conf').write_text(f'Name=gpu File={self.folder}/gpu[0-3]\n')
        key = self.folder / 'munge.key'
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        self.folder.chmod(0o755)  # or munged does not like where its socket is

    def _start(self, *words: str, name: str = '') -> None:
        """Starts a part of the cluster in the foreground."""
        name = name or words[0]
        with (self.folder / f'{name}.log').open('wb') as log:
            self._daemons[name] = subprocess.Popen(
                list(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                start_new_session=True)

    def _wait(self, ready, *names: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [name for name in names if self._daemons[name].poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"{', '.join(dead or names)} did not come up:\n{self.log()[-3000:]}")
            time.sleep(0.1)

    def _idle(self) -> int:
        done = subprocess.run(['sinfo', '--noheader', '--Node', '--states=idle', '--partition=low', '--format=%N'],
                              capture_output=True, text=True, env=self.environment, timeout=60)
        return len(done.stdout.split())


def processes_of(folder: str | Path) -> list[int]:
    """Returns the processes of a cluster, jobs included: they know its configuration."""
    found, mark = [], f'SLURM_CONF={folder}/'.encode()
    for entry in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if mark in (entry / 'environ').read_bytes():
                found.append(int(entry.name))
    return found


def _guard(folder: str) -> None:
    """Waits until standard input is closed, and then ends a cluster and removes its folder."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    while left := processes_of(folder):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int | None:
    """Runs the command that is given, or a shell, in a new cluster."""
    if sys.argv[1:2] == [_GUARD]:
        return _guard(sys.argv[2])
    command = sys.argv[1:] or [os.environ.get('SHELL', '/bin/sh')]
    with SlurmCluster() as cluster:
        return subprocess.run(command, env=cluster.environment).returncode


if __name__ == '__main__':
    sys.exit(main())
