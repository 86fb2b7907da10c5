"""A real PostgreSQL on this machine, as long as a block of Python or a command lasts.

It needs Debian's package postgresql, and no configuration. Data and log are in a temporary folder, and it listens to
this machine alone. PostgreSQL does not run as root: then it is the user postgres, or nobody.

  .venv/bin/python tests/postgres_server.py                        # a shell in which psql finds it
  .venv/bin/python tests/postgres_server.py sh -c 'python launch.py sweep --storage $SWEEP_STORAGE ...'
"""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

USER = 'practicum'
_GUARD = '--guard'


class PostgresServer:
    """A context manager; inside, `url` reaches the server, and afterwards nothing of it is left.

    Attributes:
      url: of its one database, without the password.
      password: that it asks for.
      environment: in which psql and launch.py find it and its password.
      folder: of its data and log, removed at the end.

    Raises:
      RuntimeError: it is not installed, or does not come up; the message has the end of its log.
    """

    def __init__(self):
        programs = self.programs()
        if programs is None:
            raise RuntimeError('PostgreSQL is not found: apt-get install postgresql')
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix='postgres-'))
        self.password = f'p:/@{secrets.token_hex(8)}'  # what a URL must quote
        with socket.create_server(('127.0.0.1', 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f'postgresql://{USER}@127.0.0.1:{self._port}/postgres'
        self.environment = {**os.environ, 'PGHOST': '127.0.0.1', 'PGPORT': str(self._port), 'PGUSER': USER,
                            'PGDATABASE': 'postgres', 'PGPASSWORD': self.password, 'SWEEP_STORAGE': self.url}
        self._server: subprocess.Popen | None = None
        # It ends everything when its pipe is closed: here, or by the kernel if this process is killed.
        self._guard = subprocess.Popen([sys.executable, __file__, _GUARD, self.folder], stdin=subprocess.PIPE,
                                       start_new_session=True)

    @staticmethod
    def programs() -> Path | None:
        """Returns the folder of initdb and postgres, the newest of several; None where there is none."""
        found = [Path(path).parent for path in (shutil.which('initdb'),) if path]
        found += sorted(Path('/usr/lib/postgresql').glob('*/bin'), key=lambda path: float(path.parent.name))
        return found[-1] if found else None

    def __enter__(self) -> 'PostgresServer':
        try:
            secret = self.folder / 'password'
            secret.write_text(self.password)
            if os.geteuid() == 0:
                for path in (self.folder, secret):
                    shutil.chown(path, self._as_user()['user'])
            done = subprocess.run(
                [self._programs / 'initdb', '--no-sync', '--auth=scram-sha-256', f'--username={USER}',
                 f'--pwfile={secret}', '--encoding=UTF8', '--locale=C', self.folder / 'data'],
                capture_output=True, text=True, cwd='/', **self._as_user())
            if done.returncode:
                raise RuntimeError(f'initdb: {done.stderr[-3000:]}')
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc) -> None:
        self._guard.communicate()
        if self._server is not None:
            self._server.wait()

    def start(self) -> None:
        """Starts it, again if it was stopped, and waits until it answers."""
        with (self.folder / 'log').open('ab') as log:
            self._server = subprocess.Popen(
                [self._programs / 'postgres', '-D', self.folder / 'data', '-p', str(self._port), '-h', '127.0.0.1',
                 '-c', 'unix_socket_directories=', '-c', 'fsync=off'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd='/', **self._as_user())
        deadline = time.monotonic() + 30
        while subprocess.run([self._programs / 'pg_isready', '--quiet'], env=self.environment).returncode:
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it did not come up:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stops it as a machine that goes down does: connections are cut, data stay."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait()

    def query(self, statement: str) -> list[list[str]]:
        """Runs a statement and returns its rows."""
        done = subprocess.run([self._programs / 'psql', '--no-align', '--tuples-only', '--command', statement],
                              capture_output=True, text=True, check=True, env=self.environment)
        return [line.split('|') for line in done.stdout.splitlines()]

    @staticmethod
    def _as_user() -> dict[str, Any]:
        """Returns the arguments of subprocess by which root becomes somebody else."""
        if os.geteuid() != 0:
            return {}
        for name in ('postgres', 'nobody'):
            with contextlib.suppress(KeyError):
                found = pwd.getpwnam(name)
                return {'user': found.pw_uid, 'group': found.pw_gid, 'extra_groups': []}
        raise RuntimeError('PostgreSQL does not run as root, and there is no user postgres or nobody')


def processes_of(folder: str | Path) -> list[int]:
    """Returns the server of a folder; the processes that serve its connections end with it."""
    found = []
    for entry in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            words = (entry / 'cmdline').read_bytes().split(b'\0')
            if re.search(rb'(postgres|initdb)$', words[0]) and f'{folder}/data'.encode() in words:
                found.append(int(entry.name))
    return found


def _guard(folder: str) -> None:
    """Waits until standard input is closed, and then ends a server and removes its folder."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    while left := processes_of(folder):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGQUIT)  # at once, its own processes too
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int | None:
    """Runs the command that is given, or a shell, beside a new server."""
    if sys.argv[1:2] == [_GUARD]:
        return _guard(sys.argv[2])
    command = sys.argv[1:] or [os.environ.get('SHELL', '/bin/sh')]
    with PostgresServer() as server:
        return subprocess.run(command, env=server.environment).returncode


if __name__ == '__main__':
    sys.exit(main())
