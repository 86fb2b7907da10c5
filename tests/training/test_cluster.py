"""What Slurm and Open MPI tell of the other processes; that they are reached is tried in test_distributed."""

import pytest

from practicum.common.errors import UserError
from practicum.training import cluster

SLURM = {'SLURM_JOB_ID': '4099', 'SLURM_STEP_NODELIST': 'gpu[007-009]', 'SLURM_NTASKS': '12',
         'SLURM_STEP_NUM_TASKS': '12', 'SLURM_STEP_NUM_NODES': '3', 'SLURM_PROCID': '6', 'SLURM_LOCALID': '2'}
OPEN_MPI = {'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911', 'OMPI_COMM_WORLD_SIZE': '8',
            'OMPI_COMM_WORLD_RANK': '5', 'OMPI_COMM_WORLD_LOCAL_RANK': '1', 'OMPI_COMM_WORLD_LOCAL_SIZE': '4'}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Returns a function that sets variables, none of which is set before."""
    for name in {*SLURM, *OPEN_MPI, 'PMIX_NAMESPACE', 'JAX_COORDINATOR_ADDRESS', 'JAX_COORDINATOR_PORT'}:
        monkeypatch.delenv(name, raising=False)

    def set_all(*parts):
        for name, value in {name: value for part in parts for name, value in part.items()}.items():
            monkeypatch.setenv(name, value)
    return set_all


def test_a_process_alone_is_no_cluster(environment):
    assert cluster.find() is None
    environment(SLURM, {'SLURM_STEP_NUM_TASKS': '1'})  # a job array, or the shell of salloc for several tasks
    assert cluster.find() is None
    environment({'OMPI_COMM_WORLD_SIZE': '1'})
    assert cluster.find() is None


@pytest.mark.parametrize('nodes, first', [
    ('node7', 'node7'), ('node7,other2', 'node7'), ('gpu[007-009]', 'gpu007'), ('gpu[007,009-012],other2', 'gpu007'),
    ('gpu[007-009],node[1-2]', 'gpu007'), ('127.0.0.[1-2]', '127.0.0.1'), ('a-b-c[1-2]', 'a-b-c1')])
def test_the_first_node_of_slurm_has_process_0(environment, nodes, first):
    environment(SLURM, {'SLURM_STEP_NODELIST': nodes})
    assert cluster.find().address == f'{first}:61443'


def test_a_task_of_slurm_takes_the_gpu_of_its_number_and_one_alone_on_its_node_takes_all(environment):
    environment(SLURM)
    found = cluster.find()
    assert (found.processes, found.rank, found.local_rank) == (12, 6, 2)
    environment({'SLURM_STEP_NUM_TASKS': '3', 'SLURM_PROCID': '2', 'SLURM_LOCALID': '0'})
    found = cluster.find()
    assert (found.processes, found.rank, found.local_rank) == (3, 2, None)


def test_open_mpi_tells_where_process_0_is(environment):
    environment(OPEN_MPI)
    found = cluster.find()
    assert (found.address, found.processes, found.rank, found.local_rank) == ('10.96.0.1:62624', 8, 5, 1)
    environment({'OMPI_MCA_orte_hnp_uri': '1314521088.0;tcp6://[fe80::b9b:ac5d,2620:10d::2]:43370'})
    assert cluster.find().address.startswith('[fe80::b9b:ac5d]:6')


def test_open_mpi_5_does_not_tell_but_on_one_machine(environment):
    environment({name: value for name, value in OPEN_MPI.items() if 'uri' not in name})
    with pytest.raises(UserError, match='-x JAX_COORDINATOR_ADDRESS=HOST:PORT'):
        cluster.find()
    environment({'OMPI_COMM_WORLD_LOCAL_SIZE': '8', 'PMIX_NAMESPACE': 'prterun-node1-17@1'})
    first = cluster.find().address
    environment({'OMPI_COMM_WORLD_RANK': '6'})
    assert cluster.find().address == first and first.startswith('127.0.0.1:6')
    environment({'PMIX_NAMESPACE': 'prterun-node1-18@1'})
    assert cluster.find().address != first


def test_mpirun_in_a_job_of_slurm_goes_by_open_mpi(environment):
    environment(SLURM, OPEN_MPI)
    assert cluster.find().processes == 8


def test_another_address_can_be_given_to_all(environment):
    environment(SLURM, {'JAX_COORDINATOR_PORT': '1234'})
    assert cluster.find().address == 'gpu007:1234'
    environment({'JAX_COORDINATOR_ADDRESS': '10.0.0.1:99'})
    assert cluster.find().address == '10.0.0.1:99'
    environment(OPEN_MPI)
    assert cluster.find().address == '10.0.0.1:99'
