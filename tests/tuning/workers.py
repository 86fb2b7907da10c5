"""Workers of sweeps for the tests: launch.py in processes that are made quickly, some of which kill themselves."""

import importlib
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

TINY = ROOT / 'tests' / 'tiny.py'
STUB = Path(__file__).with_name('stub_trial.py')
LEARNING_RATE = ('--search', 'optimizer.learning_rate=log:1e-4:1')
FILE_EVENTS = ('open', 'os.mkdir', 'os.rename', 'os.remove')

_server = multiprocessing.get_context('forkserver')  # a worker is a fork of a process that has imported everything
_server.set_forkserver_preload(['tests.tuning.workers', 'practicum.tuning.sweep', 'practicum.commands.sweep'])


class Worker:
    """A process that runs `launch.py sweep`.

    Args:
      workdir: of the sweep.
      arguments: further ones.
      log: takes what it prints, after what is there; beside the workdir by default.
      kill: when it kills itself: 'commit:N', before its N-th commit to the database; 'file:N', before the N-th time
        that a file of the workdir is opened to be written, renamed or removed; 'call:MODULE:NAME:N', before the N-th
        call of a function, 'after:...', after it.
      stub: whether trials are those of stub_trial.py.
      host: the name of the machine that it believes to be on.
      environment: on top of this process's.
    """

    def __init__(self, workdir: Path, *arguments, log: Path | None = None, kill: str = '', stub: bool = True,
                 host: str = '', environment: Mapping[str, str] | None = None):
        self.log_file = log or workdir.with_name(f'{workdir.name}.log')
        words = ['sweep', '--workdir', str(workdir), *map(str, arguments)]
        self._process = _server.Process(target=_work, args=(words, str(self.log_file), kill, stub, host,
                                                            {**os.environ, **(environment or {})}))
        self._process.start()
        self.pid = self._process.pid

    def wait(self, seconds: float = 300) -> int:
        """Returns the exit code, negative for a signal."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f'it goes on after {seconds} s:\n{self.log}'
        return self._process.exitcode

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    @property
    def log(self) -> str:
        """What it has printed."""
        return self.log_file.read_text() if self.log_file.exists() else ''


def begin(*, trials: int = 12, **more: Any) -> tuple[str, ...]:
    """Returns the arguments of a worker that begins a sweep of tests/tiny.py, by their names."""
    words = ['--config', str(TINY), *LEARNING_RATE, '--trials', str(trials)]
    for name, value in more.items():
        words += [f'--{name}', str(value)]
    return tuple(words)


def _work(words: list[str], log: str, kill: str, stub: bool, host: str, environment: dict[str, str]) -> None:
    import launch
    from practicum.tuning import trial
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = os.fdopen(1, 'w', buffering=1), os.fdopen(2, 'w', buffering=1)
    if stub:
        trial._CHILD = STUB
    if host:
        socket.gethostname = lambda: host
    if kill:
        _kill_at(kill, words[words.index('--workdir') + 1])
    code = launch.main(words)
    sys.stdout.flush()
    os._exit(code)


def _kill_at(kill: str, workdir: str) -> None:
    """Has this process kill itself, see `Worker`."""
    kind, *where, number = kill.split(':')
    count_down = _count_down(int(number))
    if kind == 'commit':
        import sqlalchemy
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, 'commit', lambda _: count_down())
    elif kind == 'file':
        def hook(event: str, args: tuple) -> None:
            changes = event in FILE_EVENTS and (event != 'open' or args[2] & (os.O_WRONLY | os.O_RDWR))
            if changes and workdir in str(args[0]):
                count_down()
        sys.addaudithook(hook)
    else:
        owner: Any = importlib.import_module(where[0])
        *path, name = where[1].split('.')
        for part in path:
            owner = getattr(owner, part)
        function = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if kind == 'call':
                count_down()
            found = function(*args, **kwargs)
            if kind == 'after':
                count_down()
            return found
        setattr(owner, name, wrapped)


def _count_down(number: int) -> Callable[[], None]:
    left = [number]

    def count_down() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return count_down


def trials_of(workdir: Path) -> list[dict[str, Any]]:
    """Returns all trials in the database of a sweep, by number, with everything that must not depend on kills.

    It asks Optuna, not the code that is tested.
    """
    import optuna
    sweep = json.loads((workdir / 'sweep.json').read_text())
    url = sweep['storage'].replace('postgresql:', 'postgresql+psycopg2:') or f'sqlite:///{workdir}/study.db'
    found = []
    for study in optuna.load_study(study_name=sweep['study'], storage=url).get_trials():
        result = workdir / f'{study.number:04}' / 'result.json'
        found.append({
            'number': study.number, 'params': study.params, 'state': study.state.name,
            'value': study.value, 'reports': study.intermediate_values,
            'metrics': json.loads(result.read_text())['metrics'] if study.state.name == 'COMPLETE' else None})
    return found


def check_whole(workdir: Path, trials: int) -> list[dict[str, Any]]:
    """Asserts that no trial is lost or doubled, in the study and as folders, and returns `trials_of`."""
    found = trials_of(workdir)
    assert [trial['number'] for trial in found] == list(range(trials))
    assert {trial['state'] for trial in found} <= {'COMPLETE', 'PRUNED'}, found
    folders = sorted(path.name for path in workdir.iterdir() if path.name.isdigit())
    assert folders == [f'{number:04}' for number in range(trials)]
    for trial in found:
        noted = json.loads((workdir / f"{trial['number']:04}" / 'trial.json').read_text())
        assert (noted['number'], noted['state']) == (trial['number'], trial['state'].lower())
    return found


def best_of(workdir: Path) -> dict[str, Any]:
    """Returns best.json."""
    return json.loads((workdir / 'best.json').read_text())
