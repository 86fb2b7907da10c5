"""A worker of a sweep: takes a trial, trains it as a child process, says how it ended, takes the next."""

import contextlib
import logging
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..common.console import format_seconds
from ..common.errors import UserError
from ..common.files import write_json
from ..training.results import RESULT_FILE
from . import trial as trials
from .definition import Sweep
from .held_trial import HeldTrial, Job
from .study import Record, Study, TakenOver
from .trial import CONSOLE_FILE, Child

_MEMBERS_FILE = 'members.json'  # in the folder of the first trial of a population
_STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
_MOST_LOSSES = 3  # of a trial's process in a row, without an evaluation in between
_ALL_FAILED = 3  # first trials that fail: then the mistake is not theirs
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
            held = self._take(study, wanted, job_of)
            if held:
                waiting = False
                try:
                    self._train(held)
                except Stopped:
                    for trial in held:
                        trial.put_back()
                    raise
                except TakenOver:
                    for trial in held:
                        trial.lose()
                _check_not_all_failed(study.trials())
                continue
            records = study.trials()
            if not any(record.state in ('running', 'waiting') for record in records):
                return
            if not waiting:
                logging.info('no trial is left; waiting for those of the other workers')
                waiting = True
            self._pause()

    def _take(self, study: Study, wanted: int, job_of: Callable[[int, Mapping[str, str]], Job]) -> list[HeldTrial]:
        """Returns trials that are trained as one process; usually one, [] if there is none now."""
        held: list[HeldTrial] = []
        while len(held) < self._sweep.population and (claim := study.claim(wanted)) is not None:
            trial = HeldTrial(self._sweep, study, claim, job_of(claim.number, claim.params))
            logging.info('%s (of %d%s)%s', trial.job.title, wanted, _remaining(study.trials(), wanted), trial)
            held.append(trial)
        return held

    def _pause(self) -> None:
        end = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < end and not self._stop():
            time.sleep(0.1)

    def _train(self, held: Sequence[HeldTrial]) -> None:
        """Trains trials to their ends, several as one process. Raises Stopped if the worker was asked to stop."""
        for trial in held:
            trial.begin()
        losses, last = 0, -1
        while True:
            for trial in held:
                trials.wait_until_free(trial.job.folder, lambda trial=trial: trial.beat() or self._stop())
            code, lines = self._run(held)
            if self._stop() and code != 0 and not held[0].pruned:
                raise Stopped
            progress = sum(trial.evaluated for trial in held)
            losses = 1 if progress > last else losses + 1
            last = progress
            lost = not held[0].pruned and (code < 0 or code in _STOPPED)
            if not lost or losses > _MOST_LOSSES:
                break
            logging.info('%s: its process was %s; it goes on from its last checkpoint', held[0].job.title,
                         'stopped' if code > 0 else f'ended by {signal.Signals(-code).name}')
        for trial, line in zip(held, lines):
            if trial.pruned:
                trial.prune()
            elif code == 0 or len(held) > 1 and (trial.job.folder / RESULT_FILE).is_file():
                metrics = trials.metrics_of(trial.job.folder / RESULT_FILE)
                trial.complete(metrics | (self._score(trial) if trial.job.final else {}))
            elif code < 0:
                trial.fail(f'its process was ended by {signal.Signals(-code).name} {losses} times without an '
                           'evaluation')
            else:
                trial.fail(line)

    def _run(self, held: Sequence[HeldTrial]) -> tuple[int, list[str]]:
        """Runs the process of trials once; returns its exit code, and the last line about each."""
        folder = held[0].job.folder
        arguments = ['train', '--config', self._sweep.experiment]
        if len(held) == 1:
            arguments += ['--workdir', str(folder), *(f'--config.{override}' for override in held[0].job.overrides)]
        else:
            members = folder / _MEMBERS_FILE
            write_json(members, {trial.job.folder.name: trial.job.overrides for trial in held})
            arguments += ['--workdir', str(folder.parent), '--members', str(members)]
        with contextlib.ExitStack() as stack:
            for trial in held:
                stack.enter_context(trial.followed())
            child = stack.enter_context(Child(arguments, folder / CONSOLE_FILE))
            while True:
                code = child.wait()
                for trial in held:
                    trial.follow()
                if code is not None:
                    return code, [child.last_line(trial.job.folder.name) for trial in held]
                if held[0].pruned or self._stop():
                    child.stop()

    def _score(self, trial: HeldTrial) -> dict[str, Any]:
        """Scores the last step of a run on the final sets, once, and returns the metrics."""
        job = trial.job
        arguments = ['evaluate', '--workdir', str(job.folder), '--step', 'last', '--sets', *job.final]
        with Child(arguments, job.folder / CONSOLE_FILE) as child:
            while (code := child.wait()) is None:
                trial.beat()
                if self._stop():
                    raise Stopped
            if code:
                raise UserError(f'{job.title} cannot be scored on {", ".join(job.final)}: {child.last_line()}')
        return trials.metrics_of(job.folder / 'evaluation.json')


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
