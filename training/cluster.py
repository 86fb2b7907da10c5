"""Finds the other processes of a run, of which Slurm, Open MPI or the command line tells, and joins them.

JAX could find them by itself, but where they cannot be reached it waits for five minutes without a word and then aborts
in C++. So the address is known, tried and printed before JAX waits there.
"""

import dataclasses
import logging
import os
import re
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Mapping

from ..common.errors import UserError, printable

# A host that stays silent for so long is given up, and the run with it. Threads of C++ answer, however long steps are.
HEARTBEAT_SECONDS = 30
# The others are done when the last step is, and then wait for process 0: it still scores single examples, draws, and
# writes the last checkpoint, to a slow disk if need be. Should it die meanwhile, its silence is noticed all the same.
SHUTDOWN_SECONDS = 3600
JOIN_SECONDS = 300  # for the slowest of all processes to start
_RESOLVE_SECONDS = 4
# Variables in which a launcher tells its tasks of each other. What it gives each of them, such as GPUs, is in others.
_DESCRIBES_TASKS = ('SLURM_STEP', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID', 'OMPI_', 'PMIX_', 'PMI_',
                    'JAX_COORDINATOR', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
_FIRST_PORT, _PORTS = 61440, 4096  # where JAX, too, puts the jobs of Slurm and Open MPI


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run, of which this is one.

    Attributes:
      address: 'host:port' of process 0.
      processes: how many there are.
      rank: which one this is.
      local_rank: which one on its machine, and so which GPU it takes; None if it takes all of them.
      origin: what said so, for messages.
      cure: what else can be said where process 0 is not reached at this address.
    """
    address: str
    processes: int
    rank: int
    local_rank: int | None
    origin: str
    cure: str

    def __str__(self) -> str:
        return f'process {self.rank} of {self.processes}'

    def check_address(self) -> None:
        """Raises UserError, within five seconds, unless the address can be used.

        That is: it is host:port, the name resolves here, and process 0 can open the port.
        """
        host, _, port = self.address.rpartition(':')
        if not (host and port.isdigit() and 0 < int(port) < 65536):
            raise UserError(f'{self.origin} {printable(self.address)}: it is host:port of process 0, such as '
                            'node1:12345')
        problem = _resolution_problem(host.strip('[]'))
        if problem:
            raise UserError(f'{self.origin} {printable(self.address)}: the name {printable(host)} cannot be resolved '
                            f'on {socket.gethostname()} ({problem}); {self.cure}')
        if self.rank > 0:
            return
        try:
            socket.create_server(('', int(port))).close()
        except OSError as error:
            raise UserError(f'{self.origin} {self.address}: process 0 cannot open port {port} '
                            f'({os.strerror(error.errno)}); {self.cure}') from error

    def join(self, jax, before_exit: Callable[[], None]) -> None:
        """Waits until all processes are there; ends this one with one line and exit code 2 if they do not come."""
        logging.warning('%s waits for the others at %s', self, self.address)
        # JAX, too, gives up, but aborts: it is given more time than it gets.
        limit = threading.Timer(JOIN_SECONDS, self._give_up, [before_exit])
        limit.daemon = True
        limit.start()
        try:
            jax.distributed.initialize(
                self.address, self.processes, self.rank, local_device_ids=self._local_devices(),
                cluster_detection_method='deactivate', initialization_timeout=2 * JOIN_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS, shutdown_timeout_seconds=SHUTDOWN_SECONDS)
        except RuntimeError as error:
            raise UserError(f'cannot join the other processes, {self.origin} {self.address}: '
                            f'{" ".join(str(error).split())[:200]}') from error
        finally:
            limit.cancel()

    def _local_devices(self) -> list[int] | None:
        named = 'JAX_LOCAL_DEVICE_IDS' in os.environ  # JAX reads it itself
        return None if self.local_rank is None or named else [self.local_rank]

    def _give_up(self, before_exit: Callable[[], None]) -> None:
        print(f'error: {self} has waited {JOIN_SECONDS} s at {self.address}, and not all of them came: look into the '
              f'output of the others, and whether a firewall is between them; {self.cure}', file=sys.stderr, flush=True)
        before_exit()
        os._exit(2)


def find(coordinator: str = '', num_processes: int = 0, process_id: int = -1) -> Cluster | None:
    """Returns the cluster that the command line, Open MPI or Slurm describes; None for a single process.

    Args:
      coordinator, num_processes, process_id: of the command line; its own description goes before the others.

    Raises:
      UserError: half of a description is missing.
    """
    by_hand = (bool(coordinator), num_processes > 0, process_id >= 0)
    if all(by_hand):
        if process_id >= num_processes:
            raise UserError(f'--process_id {process_id} must be below --num_processes {num_processes}')
        return Cluster(coordinator, num_processes, process_id, _local_rank(os.environ), '--coordinator',
                       'choose another')
    if any(by_hand):
        raise UserError('--coordinator, --num_processes and --process_id go together: give all three')
    # Open MPI first: inside a job of Slurm both are there, and Slurm's variables are those of mpirun's own helpers.
    return _find_open_mpi(os.environ) or _find_slurm(os.environ)


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment in which a process is on its own, though it is started by one of several tasks."""
    return {name: value for name, value in environ.items() if not name.startswith(_DESCRIBES_TASKS)}


def _find_slurm(environ: Mapping[str, str]) -> Cluster | None:
    """Returns the tasks that srun started; None for one task, and for what runs in a job without srun."""
    nodes = environ.get('SLURM_STEP_NODELIST', '')
    # SLURM_NTASKS may be that of a whole allocation, in whose interactive shell there is one process.
    tasks = int(environ.get('SLURM_STEP_NUM_TASKS') or environ.get('SLURM_NTASKS', '1'))
    if not nodes or tasks < 2:
        return None
    # 'node7', 'node7,other2', 'node[007-015,020],other2': the first of them has process 0.
    prefix, first = re.match(r'([^,\[]*)(?:\[([^,\-\]]*))?', nodes).groups()
    return Cluster(_address(environ, prefix + (first or ''), int(environ['SLURM_JOB_ID'])), tasks,
                   int(environ['SLURM_PROCID']), _local_rank(environ), "Slurm's process 0 at",
                   'export JAX_COORDINATOR_ADDRESS=HOST:PORT for another address')


def _find_open_mpi(environ: Mapping[str, str]) -> Cluster | None:
    """Returns the processes that mpirun started; None for one.

    Raises:
      UserError: they are on several machines, and a version of Open MPI that does not tell on which process 0 is.
    """
    processes = int(environ.get('OMPI_COMM_WORLD_SIZE', '1'))
    if processes < 2:
        return None
    # Version 4 tells where mpirun runs: '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911', or 'tcp6://[fe80::1,...]:42'.
    found = re.match(r'(\d+)\..*?(?:tcp://([^,:]+)|tcp6://(\[[^,\]]+))', environ.get('OMPI_MCA_orte_hnp_uri', ''))
    if found:
        host = found.group(2) or found.group(3) + ']'
        job = int(found.group(1)) // 4096  # of which its numbers are multiples
    elif environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') == str(processes):
        host, job = '127.0.0.1', zlib.crc32(environ.get('PMIX_NAMESPACE', '').encode())
    elif environ.get('JAX_COORDINATOR_ADDRESS'):
        host, job = '', 0
    else:
        raise UserError('this version of Open MPI does not say on which machine process 0 runs: add '
                        '-x JAX_COORDINATOR_ADDRESS=HOST:PORT to mpirun')
    return Cluster(_address(environ, host, job), processes, int(environ['OMPI_COMM_WORLD_RANK']),
                   _local_rank(environ), "Open MPI's process 0 at",
                   'for another address: mpirun -x JAX_COORDINATOR_ADDRESS=HOST:PORT')


def _local_rank(environ: Mapping[str, str]) -> int | None:
    """Returns which process of its machine this is; None if it is the only one there, and so takes all GPUs."""
    if int(environ.get('OMPI_COMM_WORLD_SIZE', '1')) > 1:
        alone = environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') == '1'
        return None if alone else int(environ['OMPI_COMM_WORLD_LOCAL_RANK'])
    if 'SLURM_STEP_NODELIST' in environ:
        alone = environ.get('SLURM_STEP_NUM_NODES') == environ.get('SLURM_STEP_NUM_TASKS')
        return None if alone else int(environ['SLURM_LOCALID'])
    return None


def _address(environ: Mapping[str, str], host: str, job: int) -> str:
    """Returns where process 0 listens: what the user exported, or a port that jobs on one machine rarely share."""
    return environ.get('JAX_COORDINATOR_ADDRESS') or (
        f"{host}:{environ.get('JAX_COORDINATOR_PORT') or _FIRST_PORT + job % _PORTS}")


def _resolution_problem(host: str) -> str:
    """Returns why a name cannot be resolved, or ''; a server of names that does not answer is one reason."""
    found = []

    def resolve() -> None:
        try:
            socket.getaddrinfo(host, None)
            found.append('')
        except (OSError, UnicodeError) as error:
            found.append(getattr(error, 'strerror', None) or 'it is no name')
    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(_RESOLVE_SECONDS)
    return found[0] if found else f'no answer within {_RESOLVE_SECONDS} s'
