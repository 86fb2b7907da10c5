"""One training as a child process: started, watched through its metrics.jsonl, stopped, and asked how it ended."""

import contextlib
import json
import logging
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..common.errors import UserError, file_error
from ..training import cluster, workdir
from ..training.writers import METRICS_FILE

CONSOLE_FILE = 'console.log'
_CHILD = Path(__file__).with_name('child.py')
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 300  # for the process of a lost worker to save and end
_TAIL_BYTES = 2 ** 14  # of the console, in which the last line is looked for


class Child:
    """A command of launch.py in a process of its own, which ends when this one does. A context manager.

    Args:
      arguments: of launch.py.
      console: file that takes what it prints, after what is there.
    """

    def __init__(self, arguments: Sequence[str], console: Path):
        self._console, self._asked = console, False
        with console.open('ab') as file:
            self._begin = file.tell()
            self._process = subprocess.Popen(
                [sys.executable, str(_CHILD), str(os.getpid()), *arguments], stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, env={**cluster.without(os.environ), 'PYTHONUNBUFFERED': '1'},
                process_group=0)  # Ctrl-C is for the worker, which then asks the child to stop
        try:
            self._descriptor: int | None = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # Linux before 5.3, or none
            self._descriptor = None

    def __enter__(self) -> 'Child':
        return self

    def __exit__(self, *exc) -> None:
        self.stop()
        self._process.wait()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def wait(self, seconds: float = _POLL_SECONDS) -> int | None:
        """Waits a little; returns the exit code, negative for a signal, of a process that has ended, else None."""
        if self._descriptor is not None:
            select.select([self._descriptor], [], [], seconds)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return self._process.poll()

    def stop(self) -> None:
        """Asks it, once, to save and end: a second request, while it closes its files, would end it at once."""
        if not self._asked and self._process.poll() is None:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def last_line(self, member: str = '') -> str:
        """Returns the last line of this process on the console: of one that failed, why.

        Args:
          member: of a population, whose own failure is what is looked for first.
        """
        with self._console.open('rb') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._begin, size - _TAIL_BYTES))
            lines = file.read().decode(errors='replace').splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        own = [line.removeprefix(f'{member}: ') for line in lines if member and line.startswith(f'{member}: ')]
        errors = [line for line in lines if line.startswith('error: ')]
        return ((own or errors or lines or ['it printed nothing'])[-1]).removeprefix('error: ')[:1000]


class Evaluations:
    """The evaluations of a run that is under way, read from what its metrics.jsonl has grown by.

    Args:
      folder: of the run.
      metric: '<set>/<metric>'.
    """

    def __init__(self, folder: Path, metric: str):
        self._path, self._metric = folder / METRICS_FILE, metric
        self._file: BinaryIO | None = None
        self._values: dict[int, float] = {}  # step -> value
        self._rest = b''

    def __call__(self) -> list[tuple[int, float]]:
        """Returns (number from 1, value) of all evaluations so far, NaN for a value that is not finite."""
        for line in self._new_lines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and self._metric in row and isinstance(row.get('step'), int):
                value = row[self._metric]
                self._values[row['step']] = float('nan') if value is None else float(value)
        return list(enumerate((value for _, value in sorted(self._values.items())), 1))

    def _new_lines(self) -> Iterator[bytes]:
        try:
            inode = self._path.stat().st_ino
            if self._file is None or os.fstat(self._file.fileno()).st_ino != inode:  # a resumed run writes it anew
                self.close()
                self._file, self._rest, self._values = self._path.open('rb'), b'', {}
        except FileNotFoundError:
            return
        *lines, self._rest = (self._rest + self._file.read()).split(b'\n')
        yield from lines

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def wait_until_free(folder: Path, stopping: Callable[[], bool]) -> None:
    """Waits until no process trains in a folder: that of a lost worker saves first.

    Raises:
      UserError: it does not end.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    said = False
    while workdir.is_locked(folder) and not stopping():
        if not said:
            logging.info('%s: waiting for the process of a lost worker to save and end', folder)
            said = True
        if time.monotonic() > deadline:
            raise UserError(f'{folder}: another process trains there and does not end: end it, then start this again')
        time.sleep(_POLL_SECONDS)


def metrics_of(path: Path) -> dict[str, Any]:
    """Returns 'metrics' of a result.json or evaluation.json. Raises UserError if the file cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding='utf-8'))['metrics'])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise file_error(path, 'is not the result of a run') from error


def finite(value: Any) -> float | None:
    """Returns a metric of a result as a number; None for what is none, or not finite."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
