"""A sweep whose trials are in PostgreSQL, on a real server of this machine."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import ROOT
from tests.postgres_server import PostgresServer, processes_of
from tests.tuning.workers import Worker, begin, best_of, check_whole, trials_of

pytestmark = [
    pytest.mark.skipif(PostgresServer.programs() is None, reason='no PostgreSQL here: apt-get install postgresql'),
    pytest.mark.skipif(importlib.util.find_spec('psycopg2') is None, reason='pip install psycopg2-binary'),
]
TRIALS = 4
SLOW = {'STUB_SECONDS': '0.5'}


@pytest.fixture(scope='module')
def server():
    with PostgresServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _password(server, monkeypatch):
    monkeypatch.setenv('PGPASSWORD', server.password)


def sweep(server: PostgresServer, **more) -> tuple[str, ...]:
    """Returns the arguments of a worker that begins a sweep on the server."""
    return begin(**{'trials': TRIALS, 'pruner': 'none', 'storage': server.url, **more})


def wait_for(ready, *workers: Worker) -> None:
    """Waits until `ready()`."""
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, workers[0].log
        time.sleep(0.05)


def starts(folder: Path) -> list[int]:
    """Returns at which evaluations a trial began."""
    return [int(line) for line in (folder / 'starts').read_text().split()]


def test_two_that_begin_at_once_on_an_empty_database(server, tmp_path):
    server.query('drop schema public cascade')
    server.query('create schema public')
    workdir = tmp_path / 'sweep'
    workers = [Worker(workdir, *sweep(server), log=tmp_path / f'log{i}', environment={'STUB_SECONDS': '0.1'})
               for i in (0, 1)]
    for worker in workers:
        assert worker.wait() == 0, worker.log
        assert 'trial ' in worker.log
    assert {trial['state'] for trial in check_whole(workdir, TRIALS)} == {'COMPLETE'}
    assert not (workdir / 'study.db').exists()


def test_a_server_and_a_file_give_the_same_sweep(server, tmp_path):
    """Killed at several moments, too."""
    found = []
    for name, words in (('file', begin(trials=12, sampler_seed=3)),
                        ('server', sweep(server, trials=12, pruner='asha', sampler_seed=3))):
        for kill in ('commit:20', 'commit:70', 'call:practicum.tuning.study:Study.finish:3', ''):
            worker = Worker(tmp_path / name, *words, kill=kill if name == 'server' else '')
            assert worker.wait() == (-9 if kill and name == 'server' else 0), worker.log
        found.append((check_whole(tmp_path / name, 12), best_of(tmp_path / name)))
    assert found[0] == found[1]


@pytest.mark.parametrize('elsewhere', [False, True])
def test_one_that_is_killed_is_missed(server, tmp_path, elsewhere):
    workdir = tmp_path / 'sweep'
    lost = Worker(workdir, *sweep(server, heartbeat=1), environment=SLOW, host='there')
    wait_for((workdir / '0000' / 'saved').exists, lost)
    lost.kill()
    lost.wait()
    worker = Worker(workdir, host='here' if elsewhere else 'there')
    assert worker.wait() == 0, worker.log
    check_whole(workdir, TRIALS)
    assert len(starts(workdir / '0000')) == 2 and starts(workdir / '0000')[1] >= 3


def test_a_server_that_is_away_for_a_while(server, tmp_path):
    """The trial under way goes on, its worker waits, and so does one that has none."""
    workdir = tmp_path / 'sweep'
    workers = [Worker(workdir, *sweep(server, trials=1), log=tmp_path / f'log{i}', environment=SLOW) for i in (0, 1)]
    wait_for((workdir / '0000' / 'saved').exists, *workers)
    server.stop()
    try:
        wait_for(lambda: all("the sweep's database is away, trying again" in worker.log for worker in workers),
                 *workers)
    finally:
        server.start()
    for worker in workers:
        assert worker.wait() == 0, worker.log
    assert trials_of(workdir)[0]['state'] == 'COMPLETE' and len(trials_of(workdir)[0]['reports']) == 9
    assert starts(workdir / '0000') == [0]


@pytest.mark.parametrize('form', ['postgresql://{user}:{quoted}@{host}', 'postgresql://{user}@{host}?password={quoted}'])
def test_a_password_is_neither_kept_nor_printed(server, tmp_path, monkeypatch, form):
    workdir = tmp_path / 'sweep'
    user, host = server.url.removeprefix('postgresql://').split('@')
    url = form.format(user=user, host=host, quoted=quote(server.password, safe=''))
    monkeypatch.delenv('PGPASSWORD')
    worker = Worker(workdir, *sweep(server, storage=url, trials=1))
    assert worker.wait() == 0, worker.log
    assert 'the password of --storage is not kept: for the other workers export PGPASSWORD' in worker.log
    without = Worker(workdir, log=tmp_path / 'log')
    assert without.wait() == 2
    assert without.log.count('\n') == 1 and without.log.startswith('error: --storage postgresql'), without.log
    secrets = (server.password.encode(), quote(server.password, safe='').encode(), server.password[4:].encode())
    for file in (worker.log_file, without.log_file, *workdir.rglob('*')):
        assert file.is_dir() or not any(secret in file.read_bytes() for secret in secrets), file
    again = Worker(workdir, *sweep(server, storage=url, trials=1))
    assert again.wait() == 0, again.log  # the same sweep, with the password


@pytest.mark.parametrize('url, words', [
    ('postgresql://{user}:wrong-secret@{host}', ('password authentication failed',)),
    ('postgresql://{user}:wrong-secret@127.0.0.1:1/postgres', ('127.0.0.1', 'Connection refused')),
    ('postgresql://{user}:wrong-secret@127.0.0.1:port/postgres', ('it is a URL such as postgresql://user@host/database',)),
    ('postgresql+nothing://{user}:wrong-secret@{host}', ('postgresql',)),
    ('mysql://{user}:wrong-secret@{host}', ('mysql', 'postgresql://user@host/database')),
    ('nonsense', ('nonsense', 'postgresql://user@host/database')),
])
def test_a_server_that_cannot_be_reached(server, tmp_path, monkeypatch, url, words):
    user, host = server.url.removeprefix('postgresql://').split('@')
    monkeypatch.delenv('PGPASSWORD')
    worker = Worker(tmp_path / 'sweep', *sweep(server, storage=url.format(user=user, host=host)))
    assert worker.wait() == 2, worker.log
    last = worker.log.splitlines()[-1]
    assert last.startswith('error: --storage') and all(word in last for word in words), worker.log
    assert 'Traceback' not in worker.log and 'wrong-secret' not in worker.log
    assert not (tmp_path / 'sweep').exists()


def test_nothing_is_left_of_a_server_whose_owner_is_killed():
    command = [sys.executable, ROOT / 'tests' / 'postgres_server.py', 'sh', '-c',
               "psql -Atc 'show data_directory'; sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        folder = Path(owner.stdout.readline().strip()).parent
        assert processes_of(folder)
        owner.kill()
    deadline = time.monotonic() + 20
    while folder.exists() or processes_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
