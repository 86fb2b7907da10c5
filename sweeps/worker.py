"""A worker of a sweep: takes a trial, trains it as a child process, says how it ended, takes the next."""

import contextlib
import dataclasses
import logging
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..common.console import format_metric, format_seconds
from ..common.errors import UserError
from ..common.files import write_json
from ..training.results import RESULT_FILE
from ..training.rows import to_json
from ..training.workdir import make_folder
from . import trial as trials
from .definition import Sweep
from .study import Claim, Record, Study, TakenOver
from .trial import CONSOLE_FILE, Child

TRIAL_FILE = 'trial.json'
_STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
_MOST_LOSSES = 3  # of a trial's process in a row, without an evaluation in between
_ALL_FAILED = 3  # first trials that fail: then the mistake is not theirs
_SAY_SECONDS = 60.0  # between two lines about a trial under way
_WAIT_SECONDS = 1.0  # before asking again whether there is a trial


class Stopped(Exception):
    """The worker was asked to stop."""


class StopRequest:
    """Whether this worker was asked to stop. A context manager that holds the handlers of SIGTERM and Ctrl-C.

    Attributes:
      exit_code: 128 + the signal's number.
    """

    def __init__(self):
        self.exit_code = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> 'StopRequest':
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        del frame
        if self.exit_code and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self.exit_code = 128 + number

    def __call__(self) -> bool:
        return bool(self.exit_code)


class _Pulse:
    """Says from time to time that this worker is alive, whatever it waits for.

    Args:
      study: of the trial.
      claim: the trial.
      seconds: from one time to the next.
    """

    def __init__(self, study: Study, claim: Claim, seconds: float):
        self._study, self._claim, self._seconds = study, claim, seconds
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Call it every now and then. Raises TakenOver if another worker has the trial."""
        if time.monotonic() - self._last > self._seconds:
            self._study.beat(self._claim)
            self._last = time.monotonic()


@dataclasses.dataclass(frozen=True)
class Job:
    """What a trial runs.

    Attributes:
      title: what it is called in messages.
      folder: of the run.
      overrides: of the sweep's experiment.
      final: sets that the run is scored on when it is over, () for a trial of the search.
      noted: whether trial.json in its folder says how it does; for a trial of the search.
    """
    title: str
    folder: Path
    overrides: list[str]
    final: tuple[str, ...] = ()
    noted: bool = True


class Worker:
    """Works through a queue of trials, as long as there are any or others may put some back.

    Args:
      sweep: what it is.
      stop: whether to stop.
    """

    def __init__(self, sweep: Sweep, stop: StopRequest):
        self._sweep, self._stop = sweep, stop

    def __call__(self, study: Study, total: Callable[[], int], job_of: Callable[[int, Mapping[str, str]], Job]) -> None:
        """Returns when all trials are over.

        Args:
          study: the queue.
          total: returns how many trials there will be in it; others may ask for more meanwhile.
          job_of: number and parameters of a trial -> what it runs.

        Raises:
          Stopped: the worker was asked to stop; its trial waits for the next.
          UserError: the first trials have all failed.
        """
        waiting = False
        while True:
            if self._stop():
                raise Stopped
            self._sweep.check_unchanged()
            wanted = total()
            claim = study.claim(wanted)
            records = study.trials()
            if claim is not None:
                waiting = False
                job = job_of(claim.number, claim.params)
                logging.info('%s (of %d%s)%s: %s', job.title, wanted, _remaining(records, wanted),
                             ' goes on' if claim.again else '',
                             '  '.join(f'{field}={value}' for field, value in claim.params.items()))
                try:
                    self._run(study, claim, job)
                except Stopped:
                    with contextlib.suppress(TakenOver):
                        study.finish(claim, 'waiting')
                    raise
                except TakenOver:
                    study.let_go(claim)
                    logging.warning('%s: another worker has taken it over, since this one was silent for too long',
                                    job.title)
                _check_not_all_failed(study.trials())
                continue
            if not any(record.state in ('running', 'waiting') for record in records):
                return
            if not waiting:
                logging.info('no trial is left; waiting for those of the other workers')
                waiting = True
            self._pause()

    def _pause(self) -> None:
        end = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < end and not self._stop():
            time.sleep(0.1)

    def _run(self, study: Study, claim: Claim, job: Job) -> None:
        """Trains a trial and says how it ended. Raises Stopped if the worker was asked to stop."""
        make_folder(job.folder)
        self._write(job, claim, 'running')
        losses, last = 0, -1
        pulse = _Pulse(study, claim, self._sweep.heartbeat)
        while True:
            trials.wait_until_free(job.folder, lambda: pulse() or self._stop())
            code, pruned, line = self._train(study, claim, job, pulse)
            if code == 0 or pruned or code == 2 or self._stop():
                break
            progress = max(claim.values, default=0)
            losses = 1 if progress > last else losses + 1
            last = progress
            if code > 0 and code not in _STOPPED or losses > _MOST_LOSSES:
                break
            logging.info('%s: its process was %s; it goes on from its last checkpoint', job.title,
                         'stopped' if code > 0 else f'ended by {signal.Signals(-code).name}')
        if self._stop() and code != 0 and not pruned:
            self._write(job, claim, 'waiting')
            raise Stopped
        if pruned:
            self._finish(study, claim, job, 'pruned', claim.values[max(claim.values)])
        elif code == 0:
            self._complete(study, claim, job, pulse)
        else:
            if code < 0:
                line = f'its process was ended by {signal.Signals(-code).name} {losses} times without an evaluation'
            self._finish(study, claim, job, 'failed', None, line)

    def _train(self, study: Study, claim: Claim, job: Job, pulse: _Pulse) -> tuple[int, bool, str]:
        """Runs a trial's process once; returns its exit code, whether it is pruned, and its last line."""
        sweep = self._sweep
        evaluations = trials.Evaluations(job.folder, sweep.metric)
        pruned, spoken = False, time.monotonic()
        decided = max(claim.values, default=1) - 1  # a worker that is lost may not have acted on the last one
        said = decided
        arguments = ['train', '--config', sweep.experiment, '--workdir', str(job.folder),
                     *(f'--config.{override}' for override in job.overrides)]
        with contextlib.closing(evaluations), Child(arguments, job.folder / CONSOLE_FILE) as child:
            while True:
                code = child.wait()
                for number, value in evaluations()[decided:]:
                    if not pruned:
                        pruned, decided = study.report(claim, number, value), number
                if code is not None:
                    return code, pruned, child.last_line()
                if pruned or self._stop():
                    child.stop()
                if decided > said and time.monotonic() - spoken > _SAY_SECONDS:
                    said, spoken = decided, time.monotonic()
                    logging.info('%s: %s %s at evaluation %d', job.title, sweep.metric,
                                 format_metric(sweep.metric, claim.values[said]), said)
                pulse()

    def _complete(self, study: Study, claim: Claim, job: Job, pulse: _Pulse) -> None:
        metrics = trials.metrics_of(job.folder / RESULT_FILE)
        if job.final:
            metrics |= self._score(job, pulse)
        value = trials.finite(metrics.get(self._sweep.metric))
        if value is None:
            self._finish(study, claim, job, 'failed', None, f'its {self._sweep.metric} is not finite')
        else:
            self._finish(study, claim, job, 'complete', value, metrics=to_json(metrics))

    def _score(self, job: Job, pulse: _Pulse) -> dict[str, Any]:
        """Scores the last step of a run on the final sets, once, and returns the metrics."""
        arguments = ['evaluate', '--workdir', str(job.folder), '--step', 'last', '--sets', *job.final]
        with Child(arguments, job.folder / CONSOLE_FILE) as child:
            while (code := child.wait()) is None:
                pulse()
                if self._stop():
                    raise Stopped
            if code:
                raise UserError(f'{job.title} cannot be scored on {", ".join(job.final)}: {child.last_line()}')
        return trials.metrics_of(job.folder / 'evaluation.json')

    def _finish(self, study: Study, claim: Claim, job: Job, state: str, value: float | None, error: str = '',
                **facts: Any) -> None:
        self._write(job, claim, state, value, error)
        study.finish(claim, state, value if state == 'complete' else None, error, **facts)
        name = self._sweep.metric
        shown = f'{name} {format_metric(name, value)}' if value is not None else error
        logging.info('%s %s: %s%s', job.title, 'done' if state == 'complete' else state, shown,
                     f' at evaluation {max(claim.values)}' if state == 'pruned' else '')

    def _write(self, job: Job, claim: Claim, state: str, value: float | None = None, error: str = '') -> None:
        """Writes trial.json, which tells those who look at folders alone."""
        if job.noted:
            write_json(job.folder / TRIAL_FILE, to_json({
                'number': claim.number, 'state': state, 'params': claim.params, 'value': value, 'error': error}))


def _check_not_all_failed(records: list[Record]) -> None:
    """Raises UserError if the first trials have failed, and none has done better."""
    over = [record for record in records if record.state not in ('running', 'waiting')]
    if len(over) >= _ALL_FAILED and all(record.state == 'failed' for record in over):
        raise UserError(f'the first {len(over)} trials have all failed: {over[-1].error}')


def _remaining(records: list[Record], total: int) -> str:
    """Returns ', about 12 min left', if there is anything to judge by."""
    seconds = [record.seconds for record in records if record.seconds]
    workers = sum(record.state == 'running' for record in records)
    left = total - sum(record.state in ('complete', 'pruned', 'failed') for record in records)
    if not seconds or not workers:
        return ''
    return f', about {format_seconds(statistics.fmean(seconds) * left / workers)} left'
