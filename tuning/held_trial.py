"""A trial in the hands of a worker: followed while it trains, and ended."""

import contextlib
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

from ..common.console import format_metric
from ..common.files import write_json
from ..training.rows import to_json
from ..training.workdir import make_folder
from . import trial as trials
from .definition import Sweep
from .study import Claim, Study, TakenOver

TRIAL_FILE = 'trial.json'
_SAY_SECONDS = 60.0  # between two lines about a trial under way


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


class HeldTrial:
    """A trial that this worker has.

    Args:
      sweep: it is part of.
      study: its queue.
      claim: the trial.
      job: what it runs.

    Attributes:
      job: as given.
      pruned: whether it is to end here.
      over: whether it is no longer this worker's.
    """

    def __init__(self, sweep: Sweep, study: Study, claim: Claim, job: Job):
        self._sweep, self._study, self._claim, self.job = sweep, study, claim, job
        self.pruned = self.over = False
        # A worker that is lost may not have acted on the last evaluation.
        self._decided = self._said = max(claim.values, default=1) - 1
        self._beaten = self._spoken = time.monotonic()
        self._evaluations: trials.Evaluations | None = None

    def __str__(self) -> str:
        values = '  '.join(f'{field}={value}' for field, value in self._claim.params.items())
        return f"{' goes on' if self._claim.again else ''}: {values}"

    @property
    def evaluated(self) -> int:
        """How many evaluations there were."""
        return max(self._claim.values, default=0)

    def begin(self) -> None:
        """Makes its folder."""
        make_folder(self.job.folder)
        self._write('running')

    @contextlib.contextmanager
    def followed(self):
        """Within it `follow` reads the metrics of a process that trains it."""
        with contextlib.closing(trials.Evaluations(self.job.folder, self._sweep.metric)) as self._evaluations:
            yield

    def follow(self) -> None:
        """Reports what was evaluated meanwhile. Raises TakenOver if another worker has the trial."""
        metric = self._sweep.metric
        for number, value in self._evaluations()[self._decided:]:
            if not self.pruned:
                self.pruned, self._decided = self._study.report(self._claim, number, value), number
        if self._decided > self._said and time.monotonic() - self._spoken > _SAY_SECONDS:
            self._said, self._spoken = self._decided, time.monotonic()
            logging.info('%s: %s %s at evaluation %d', self.job.title, metric,
                         format_metric(metric, self._claim.values[self._said]), self._said)
        self.beat()

    def beat(self) -> None:
        """Says, if it is time, that this worker is alive. Raises TakenOver if another worker has the trial."""
        if time.monotonic() - self._beaten > self._sweep.heartbeat:
            self._study.beat(self._claim)
            self._beaten = time.monotonic()

    def complete(self, metrics: dict[str, Any]) -> None:
        """Ends it with its metrics."""
        value = trials.finite(metrics.get(self._sweep.metric))
        if value is None:
            self.fail(f'its {self._sweep.metric} is not finite')
        else:
            self._end('complete', value, metrics=to_json(metrics))

    def prune(self) -> None:
        """Ends it at its last evaluation."""
        self._end('pruned', self._claim.values[self.evaluated])

    def fail(self, why: str) -> None:
        """Ends it without a value."""
        self._end('failed', None, why)

    def put_back(self) -> None:
        """Leaves it to whoever takes it next."""
        if not self.over:
            self._write('waiting')
            self.over = True
            with contextlib.suppress(TakenOver):
                self._study.finish(self._claim, 'waiting')

    def lose(self) -> None:
        """Lets go of it: another worker has it."""
        if not self.over:
            self.over = True
            self._study.let_go(self._claim)
            logging.warning('%s: another worker has taken it over, since this one was silent for too long',
                            self.job.title)

    def _end(self, state: str, value: float | None, error: str = '', **facts: Any) -> None:
        self._write(state, value, error)
        self._study.finish(self._claim, state, value if state == 'complete' else None, error, **facts)
        self.over = True
        metric = self._sweep.metric
        logging.info('%s %s: %s%s', self.job.title, 'done' if state == 'complete' else state,
                     f'{metric} {format_metric(metric, value)}' if value is not None else error,
                     f' at evaluation {self.evaluated}' if state == 'pruned' else '')

    def _write(self, state: str, value: float | None = None, error: str = '') -> None:
        """Writes trial.json, which tells those who look at folders alone."""
        if self.job.noted:
            write_json(self.job.folder / TRIAL_FILE, to_json({
                'number': self._claim.number, 'state': state, 'params': self._claim.params, 'value': value,
                'error': error}))
