"""The trials of a sweep in a database, shared by all its workers. With importance.py the only file that knows Optuna.

A trial keeps its number, its parameters and so its folder whatever happens to the worker that has it: a lost worker's
trial waits again and goes on from its own checkpoint. What is proposed depends on the sweep's seed, the trial's number
and the results before it alone, so a sweep of one worker that is killed anywhere proposes what it would have.
"""

import contextlib
import dataclasses
import fcntl
import functools
import logging
import os
import re
import secrets
import socket
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from ..common.errors import UserError, printable
from .pruners import PRUNERS
from .search_space import Choice, Range, Space

DATABASE = 'study.db'
SWEEP_LOCK = '.sweep.lock'
_WORKERS = '.workers'  # files that are locked while a worker of this machine has the trial of their name
_GRACE = 3  # heartbeats that may be missing
_PATIENCE_SECONDS = 600  # for a database that is away
_POLL_SECONDS = 2.0
_TABLES = 0x5eed  # the turn for whoever makes the tables of a database

# All of Optuna's heartbeats are marked experimental, and asking for trials one by one beside them is meant.
warnings.filterwarnings('ignore', category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings('ignore', message='Heartbeat of storage is supposed')
optuna.logging.set_verbosity(optuna.logging.ERROR)


class TakenOver(Exception):
    """This worker was silent for so long that another one has its trial now."""


@dataclasses.dataclass
class Claim:
    """A trial that this worker has.

    Attributes:
      number: of the trial, from 0.
      params: field -> value, as it is written after '--config.field='.
      again: whether some worker had it before.
      values: evaluations that were reported, number from 1 -> value of the metric.
      token: by which this worker's claim is told from a later one of the same trial.
      hold: descriptor of the lock that says that this worker is there.
    """
    number: int
    params: dict[str, str]
    again: bool
    values: dict[int, float]
    _trial: Trial
    token: str
    hold: int | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a trial.

    Attributes:
      number, params: see `Claim`.
      state: 'complete', 'pruned', 'failed', 'running' or 'waiting'.
      value: of the metric, that of the last report of a pruned one; None where there is none.
      error: why it failed.
      seconds: from its latest start to its end; 0 where it has not ended.
      facts: what else was noted of it.
    """
    number: int
    params: dict[str, str]
    state: str
    value: float | None
    error: str
    seconds: float
    facts: dict[str, Any]


_STATES = {TrialState.COMPLETE: 'complete', TrialState.PRUNED: 'pruned', TrialState.FAIL: 'failed',
           TrialState.RUNNING: 'running', TrialState.WAITING: 'waiting'}


def patient(method: Callable) -> Callable:
    """Repeats a call while the database is away: a training under way need not end for that."""
    @functools.wraps(method)
    def repeated(*args: Any, **kwargs: Any) -> Any:
        deadline, said = time.monotonic() + _PATIENCE_SECONDS, False
        while True:
            try:
                return method(*args, **kwargs)
            except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.OperationalError) as error:
                if time.monotonic() > deadline:
                    raise UserError(f"the sweep's database is away: {_reason(error)}; the same command goes on from "
                                    'here') from error
                if not said:
                    logging.warning("the sweep's database is away, trying again for %d minutes: %s",
                                    _PATIENCE_SECONDS // 60, _reason(error))
                    said = True
                time.sleep(_POLL_SECONDS)
    return repeated


class Storage:
    """The database of a sweep: SQLite in its folder, or a PostgreSQL server.

    Args:
      folder: of the sweep.
      url: 'postgresql+psycopg2://user@host/database'; '' for the file in the folder.
      heartbeat: seconds, see `Sweep`.

    Raises:
      UserError: it cannot be reached, or a driver is missing.
    """

    def __init__(self, folder: Path, url: str, heartbeat: float):
        self.folder = folder
        self.url = _checked_url(url) if url else sqlalchemy.URL.create(
            'sqlite', database=str(folder.absolute() / DATABASE)).render_as_string()  # which quotes '?' and the like
        self._server = self._engine() if self.url.startswith('postgresql') else None
        try:
            with self._enter(_TABLES):  # whoever is first makes the tables; Optuna raises if two do
                self.optuna = optuna.storages.RDBStorage(
                    self.url, heartbeat_interval=max(1, round(heartbeat)),
                    grace_period=max(1, round(_GRACE * heartbeat)), engine_kwargs=self._arguments)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            raise UserError(f'--storage {self}: {_reason(error)}') from error

    def scored(self, prefix: str) -> list[str]:
        """Returns the names of the studies in the database that begin so and have completed trials."""
        names = [name for name in patient(optuna.get_all_study_names)(self.optuna) if name.startswith(prefix)]
        return [name for name in names if patient(optuna.load_study)(study_name=name, storage=self.optuna).get_trials(
            deepcopy=False, states=(TrialState.COMPLETE,))]

    def __str__(self) -> str:
        return sqlalchemy.engine.make_url(self.url).render_as_string(hide_password=True)

    @property
    def _arguments(self) -> dict[str, Any]:
        return {'connect_args': {'timeout': 60} if self.url.startswith('sqlite') else {'connect_timeout': 20}}

    def _engine(self) -> sqlalchemy.Engine:
        return sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.pool.NullPool, **self._arguments)

    @contextlib.contextmanager
    def turn(self, key: int) -> Iterator[None]:
        """Lets one worker at a time into the block. The server, or the kernel, ends the turn of one that is killed."""
        with patient(self._enter)(key):
            yield

    def _enter(self, key: int) -> contextlib.AbstractContextManager:
        if self._server is None:
            return file_turn(self.folder)
        connection = self._server.connect()
        try:
            connection.execute(sqlalchemy.text('select pg_advisory_lock(:key)'), {'key': key})
        except BaseException:
            connection.close()
            raise
        return connection


@contextlib.contextmanager
def file_turn(folder: Path, name: str = SWEEP_LOCK, what: str = '') -> Iterator[None]:
    """Lets one process at a time into the block, of all that see a folder whose file system has locks.

    Args:
      folder: of the sweep.
      name: of the file that is locked.
      what: the other process is doing, for a line where that takes long; '' for none.
    """
    try:
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(f'cannot write to {folder}: {error.strerror}') from error
    try:
        with contextlib.suppress(OSError):  # a file system without locks: docs/how-to/sweep.md says what to use there
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if what else 0))
            except BlockingIOError:
                logging.info('another worker is %s: waiting for it', what)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Study:
    """A queue of trials: those that were put in, or those that a sampler proposes.

    Args:
      storage: the database.
      name: of the study in it.
      mode: 'max' or 'min'.
      space: what a sampler searches, or what the trials that are put in have.
      sampler, pruner: see `Sweep`; '' for a sampler that proposes nothing.
      seed: of the sampler.
    """

    def __init__(self, storage: Storage, name: str, *, mode: str, space: Space, sampler: str = '',
                 pruner: str = 'none', seed: int = 0):
        self._storage, self._name, self._sampler, self._seed = storage, name, sampler, seed
        self.space = dict(space)
        self._host = _machine()
        self._key = zlib.crc32(name.encode())
        self._pruner = PRUNERS[pruner]()
        with self.turn():
            self._study = patient(optuna.create_study)(
                storage=storage.optuna, study_name=name, direction='maximize' if mode == 'max' else 'minimize',
                load_if_exists=True)

    def turn(self) -> contextlib.AbstractContextManager:
        """Returns a context that one worker at a time is in."""
        return self._storage.turn(self._key)

    @patient
    def put(self, params: Sequence[Mapping[str, str]]) -> None:
        """Puts trials into the queue, in order, after those that are there already. Call it in a `turn`.

        Args:
          params: of all trials of the queue from its first on.
        """
        distributions = {field: _distribution(parameter) for field, parameter in self.space.items()}
        for values in params[len(self._study.get_trials(deepcopy=False)):]:
            values = {field: int(value) if isinstance(distributions[field], IntDistribution) else value
                      for field, value in values.items()}
            self._study.add_trial(optuna.create_trial(state=TrialState.WAITING, params=values,
                                                      distributions=distributions))

    @patient
    def claim(self, total: int) -> Claim | None:
        """Returns a trial for this worker: one that waits, else a new one; None if there is none now.

        Args:
          total: no new one where there are so many.
        """
        with self.turn():
            self._take_back()
            trials = self._study.get_trials(deepcopy=False)
            waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
            if not waiting and (not self._sampler or len(trials) >= total):
                return None
            number = min(waiting, default=len(trials))
            self._study.sampler = self._new_sampler(number, '')
            trial = self._study.ask()
            again = 'worker' in trial.user_attrs
            hold, _ = self._hold(trial.number)
            try:
                token = secrets.token_hex(8)
                trial.set_user_attr('worker', {'host': self._host, 'pid': os.getpid(), 'token': token,
                                               'holds': hold is not None})
                self._storage.optuna.record_heartbeat(trial._trial_id)
                params = self._propose(trial)
                values = dict(self._storage.optuna.get_trial(trial._trial_id).intermediate_values)
            except BaseException:  # the database is away: the trial is found again as that of a lost worker
                if hold is not None:
                    os.close(hold)
                raise
        return Claim(trial.number, params, again, values, trial, token, hold)

    def _propose(self, trial: Trial) -> dict[str, str]:
        """Returns the trial's parameters; those that are in the database already stay as they are."""
        params = {}
        for field, parameter in self.space.items():
            # Each from random numbers of its own: a worker killed in between changes nothing.
            self._study.sampler = self._new_sampler(trial.number, field)
            params[field] = parameter.text(_suggest(trial, field, _distribution(parameter)))
        return params

    def _new_sampler(self, number: int, field: str) -> optuna.samplers.BaseSampler:
        seed = zlib.crc32(f'{self._seed}/{number}/{field}'.encode())
        if self._sampler == 'random':
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, multivariate=False)

    def _take_back(self) -> None:
        """Puts trials whose worker is lost back into the queue. Call it in a `turn`."""
        # Optuna's own way out, fail_stale_trials, makes another trial of them, under another number.
        silent = set(self._storage.optuna._get_stale_trial_ids(self._study._study_id))
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            alive = self._is_alive(trial)
            if alive is False or alive is None and trial._trial_id in silent:
                self._storage.optuna.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                logging.info('trial %d has lost its worker: it goes on from its last checkpoint', trial.number)

    def _is_alive(self, trial: FrozenTrial) -> bool | None:
        """Whether a trial's worker is there, however silent; None where that cannot be known."""
        worker = trial.user_attrs.get('worker')
        if worker is None:  # it was killed in its turn, which it alone can have
            return False
        if worker.get('host') != self._host or not worker.get('holds'):
            return None
        hold, taken = self._hold(trial.number)
        if hold is None:
            return True if taken else None
        os.close(hold)  # the kernel has given it back
        return False

    def _hold(self, number: int) -> tuple[int | None, bool]:
        """Locks the sign that a worker of this machine has a trial.

        Returns:
          The descriptor; None where files have no locks, or it is taken. And whether it is taken.
        """
        file = self._hold_file(number)
        try:
            file.parent.mkdir(exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError:
            return None, False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            return None, isinstance(error, BlockingIOError)
        return descriptor, False

    def _hold_file(self, number: int) -> Path:
        return self._storage.folder / _WORKERS / f"{self._name.replace('/', '-')}-{number}"

    @patient
    def beat(self, claim: Claim) -> None:
        """Says that this worker is alive. Raises TakenOver if another has its trial."""
        self._mine(claim, TrialState.RUNNING)
        self._storage.optuna.record_heartbeat(claim._trial._trial_id)

    @patient
    def report(self, claim: Claim, number: int, value: float) -> bool:
        """Notes an evaluation of a trial, and returns whether the trial is to be pruned.

        Args:
          claim: the trial.
          number: of the evaluation, from 1; one that was reported before is decided on again.
          value: of the metric.

        Raises:
          TakenOver: another worker has the trial.
        """
        found = self._mine(claim, TrialState.RUNNING)
        if number not in claim.values:
            try:
                claim._trial.report(value, number)
            except optuna.exceptions.UpdateFinishedTrialError as error:  # since the line before
                raise TakenOver from error
            claim.values[number] = value
        found.intermediate_values[number] = value
        return self._pruner.prune(self._study, found)

    def _mine(self, claim: Claim, *states: TrialState) -> FrozenTrial:
        """Returns what the database has of a trial. Raises TakenOver if it is another worker's, or in no such state."""
        found = self._storage.optuna.get_trial(claim._trial._trial_id)
        if found.user_attrs.get('worker', {}).get('token') != claim.token or states and found.state not in states:
            raise TakenOver
        return found

    @patient
    def finish(self, claim: Claim, state: str, value: float | None = None, error: str = '', **facts: Any) -> None:
        """Ends a trial; 'pruned', 'failed', 'complete' with a value, or 'waiting' for whoever takes it next.

        Raises:
          TakenOver: another worker has the trial.
        """
        with self.turn():  # or somebody takes it between this and that
            if self._mine(claim).state == TrialState.RUNNING:  # else it was done before the database went away
                for name, fact in {**facts, **({'error': error} if error else {})}.items():
                    claim._trial.set_user_attr(name, fact)
                if state == 'waiting':
                    self._storage.optuna.set_trial_state_values(claim._trial._trial_id, TrialState.WAITING)
                else:
                    number = next(number for number, name in _STATES.items() if name == state)
                    self._study.tell(claim.number, value, state=number)
            self.let_go(claim)

    def let_go(self, claim: Claim) -> None:
        """Takes back the sign that this worker has a trial."""
        if claim.hold is not None:
            with contextlib.suppress(OSError):
                if os.stat(self._hold_file(claim.number)).st_ino == os.fstat(claim.hold).st_ino:
                    self._hold_file(claim.number).unlink()
            os.close(claim.hold)
            claim.hold = None

    @patient
    def trials(self) -> list[Record]:
        """Returns all trials there are, by number."""
        return [self._record(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _record(self, trial: FrozenTrial) -> Record:
        facts = {name: value for name, value in trial.user_attrs.items() if name not in ('worker', 'error')}
        value = trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        params = {field: self.space[field].text(value) for field, value in trial.params.items()}
        seconds = (trial.datetime_complete - trial.datetime_start).total_seconds() if trial.datetime_complete and (
            trial.datetime_start) else 0.0
        return Record(trial.number, params, _STATES[trial.state], value, trial.user_attrs.get('error', ''), seconds,
                      facts)


def _machine() -> str:
    """Returns a name of this machine: there are many of the name localhost."""
    boot = ''
    with contextlib.suppress(OSError):
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{socket.gethostname()} {boot}'


def _suggest(trial: Trial, field: str, wanted: BaseDistribution) -> Any:
    """Returns the value that a trial has, or else gets from the sampler, for a field."""
    if isinstance(wanted, CategoricalDistribution):
        return trial.suggest_categorical(field, wanted.choices)
    suggest = trial.suggest_int if isinstance(wanted, IntDistribution) else trial.suggest_float
    return suggest(field, wanted.low, wanted.high, log=wanted.log, step=wanted.step)


def _distribution(parameter: Range | Choice) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    if parameter.whole:
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, int(parameter.step or 1))
    high = float(parameter.points[-1]) if parameter.points else parameter.high  # a whole number of steps above `low`
    return FloatDistribution(parameter.low, high, parameter.log, parameter.step)


def without_password(url: str) -> str:
    """Returns a URL that may be kept in a file; this process keeps its password in $PGPASSWORD, where libpq looks.

    Raises:
      UserError: it is no URL.
    """
    if not url:
        return url
    parsed = _parsed(url)
    password = parsed.password or parsed.query.get('password')
    if password:
        os.environ['PGPASSWORD'] = str(password)
        logging.info('the password of --storage is not kept: for the other workers export PGPASSWORD, or write it to '
                     '~/.pgpass')
    kept = parsed.difference_update_query(['password'])
    return sqlalchemy.URL.create(kept.drivername, kept.username, None, kept.host, kept.port, kept.database, kept.query
                                 ).render_as_string()


def _parsed(url: str) -> sqlalchemy.URL:
    try:
        return sqlalchemy.engine.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        shown = printable(re.sub(':[^/].*@', ':***@', url))  # whatever may be a password
        raise UserError(f'--storage {shown}: it is a URL such as postgresql://user@host/database') from error


def _checked_url(url: str) -> str:
    """Returns the URL of a server, with a driver that is there. Raises UserError if it cannot be used."""
    parsed = _parsed(url)
    if parsed.get_backend_name() != 'postgresql':
        raise UserError(f'--storage {parsed.render_as_string(hide_password=True)}: postgresql://user@host/database, or '
                        'none for a file in the folder')
    if parsed.drivername == 'postgresql':
        parsed = parsed.set(drivername='postgresql+psycopg2')
    try:
        parsed.get_dialect().import_dbapi()
    except (ModuleNotFoundError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise UserError('--storage postgresql: pip install psycopg2-binary') from error
    return parsed.render_as_string(hide_password=False)


def _reason(error: Exception) -> str:
    """Returns what went wrong with a database in a line, without SQL and links."""
    cause = getattr(error, 'orig', None) or getattr(error.__cause__, 'orig', None) or error
    return ' '.join(str(cause).split('(Background on')[0].split())[:300]
