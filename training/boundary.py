"""What happens between two steps: log lines, evaluations, checkpoints, and whether the training is over."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..input_pipeline.source import Examples, Source
from ..tasks import Task
from . import config as config_lib
from . import results
from .components import Training
from .early_stopping import EarlyStopping
from .evaluation import Evaluations
from .outputs import Outputs
from .preemption import StopRequest
from .progress import Progress
from .state import evaluated_variables
from .step import TrainState
from .window import MetricWindow

_MOST_FITTED = 1000  # examples of each set in a picture
_MOST_FRAMES = 30  # of a film


def fitted_sets(source: Source, sources: Mapping[str, Source], names: Sequence[str]) -> dict[str, Examples]:
    """Returns what `Task.fit_figures` takes: examples of the training and of evaluation sets, spread evenly."""
    found = {name: one.read(np.unique(np.linspace(0, len(one) - 1, min(len(one), _MOST_FITTED)).astype(np.int64)))
             for name, one in {'train': source, **{name: sources[name] for name in names}}.items()}
    return {name: examples for name, examples in found.items()
            if name == 'train' or not all(map(np.array_equal, examples.values(), found['train'].values()))}


class Boundary:
    """Logs, evaluates and saves, in this order, after the steps where that is due.

    Args:
      training, evaluations: the parts of the run.
      resumed: meta data of the checkpoint the run goes on from, or {}.
      progress: times the run.
      stop: whether the process was asked to stop.
      outputs: where everything is written.
      window: sums the metrics of steps; by default one of its own.

    Attributes:
      end: the step after which the run is over; early stopping brings it forward.
      metrics: the latest of every evaluation set, by flat name.
      done: whether everything due after the latest step is done; else a resumed run does it first.
    """

    def __init__(self, training: Training, evaluations: Evaluations, resumed: dict[str, Any], progress: Progress,
                 stop: StopRequest, outputs: Outputs, window: MetricWindow | None = None):
        self._training, self._evaluations, self._resumed = training, evaluations, resumed
        self._progress, self._stop, self._outputs = progress, stop, outputs
        self._window = window or MetricWindow(training.layout, resumed.get('step', 0), resumed.get('window'))
        self._unlogged = 0  # the end of a window whose log line waits for the next step to be under way
        self._early_stopping = EarlyStopping(training.config.early_stopping, resumed.get('early_stopping'))
        self.metrics: dict[str, float] = dict(resumed.get('metrics', {}))
        self.done = resumed.get('boundary_done', True)
        self.end = training.total
        if self._early_stopping.is_over and self.done:
            self.end = resumed['step']
        self.add = self._window.add  # the metrics of a step, still on their way

    @property
    def examples_per_second(self) -> float:
        """Training speed, that of the earlier process where this one has not measured any yet."""
        return self._progress.examples_per_second or self._resumed.get('examples_per_second', 0.0)

    def next(self, step: int) -> int:
        """Returns the next step after which there is something to do, so that all others need one comparison."""
        if self._unlogged:
            return step + 1
        everys = (self._training.log_every, self._training.evaluate_every, self._training.save_every)
        return min([self.end, *((step // every + 1) * every for every in everys if every)])

    def reads_state(self, step: int) -> bool:
        """Whether the state after a step is evaluated or saved."""
        return self._is_due(step, self._training.evaluate_every) or self._is_saving(step)

    def __call__(self, step: int, state: TrainState) -> None:
        """Does what is due after a step. Raises Interrupted in an evaluation if the process was asked to stop."""
        training = self._training
        self.done = False
        evaluating = self._is_due(step, training.evaluate_every)
        self._log_pending()
        self._unlogged = step if self._is_due(step, training.log_every) and not self._window.empty else 0
        if self.reads_state(step):
            self._log_pending()
            with self._progress.pause():
                if evaluating:
                    self._evaluate(step, state, training.config.evaluation.periodic)
                    self._stop_early(step)
                if step == self.end:
                    done = training.config.evaluation.periodic if evaluating else ()
                    self._evaluate(step, state, tuple(name for name in training.config.evaluation.final
                                                      if name not in done))
                if self._is_saving(step):
                    self.save(step, state, done=True)
        self.done = True
        training.warn_of_retraces()

    def save(self, step: int, state: TrainState, *, done: bool) -> None:
        """Saves a step; `done` says whether its evaluations are behind it."""
        training, config = self._training, self._training.config
        self._log_pending()
        self._window.fetch(step)  # so that a step that is saved is known to be finite
        # A step saved only because the run was asked to stop does not rank: without the stop it would not exist.
        ranks = done and self._is_saving(step) and self._is_due(step, training.evaluate_every)
        best = self.metrics.get(config.checkpoint.best_metric) if ranks else None
        if ranks and best is None and config.checkpoint.best_metric:
            logging.warning('the evaluation gave no %s: this step ranks as no best one', config.checkpoint.best_metric)
        meta = {'config': config_lib.to_dict(config), 'data': training.info.to_json(), 'metrics': self.metrics,
                'window': self._window.sums, 'boundary_done': done, 'wall_seconds': self._progress.wall_seconds,
                'examples_per_second': self.examples_per_second, 'early_stopping': self._early_stopping.to_json()}
        self._outputs.save(step, training.parallel.assemble(state, TrainState.places()), meta, best)

    def interrupted(self, step: int, state: TrainState) -> None:
        """Saves a step after which the process was asked to stop; returns once it is on disk."""
        self.save(step, state, done=self.done)
        self._outputs.wait()

    def finish(self, step: int, state: TrainState) -> None:
        """Writes the result of a run that is over."""
        self._outputs.finish(self.metrics, step=step, wall_seconds=self._progress.wall_seconds,
                             examples_per_second=self.examples_per_second,
                             primary_metric=self._training.task.primary_metric, learned=self._training.learned(state))

    def _is_due(self, step: int, every: int) -> bool:
        return bool(every and step) and (step % every == 0 or step == self.end)

    def _is_saving(self, step: int) -> bool:
        return self._is_due(step, self._training.save_every) or step == self.end

    def _log_pending(self) -> None:
        step, self._unlogged = self._unlogged, 0
        if not step:
            return
        values = self._window.close(step)
        timings = self._progress.window(step)
        self._outputs.scalars(step, {f'train/{name}': value for name, value in values.items()}, timings)
        shown = dict.fromkeys(('loss', self._training.task.primary_metric))
        logging.info('%s', self._progress.line(step, {name: values[name] for name in shown if name in values}, timings))

    def _evaluate(self, step: int, state: TrainState, names: tuple[str, ...]) -> None:
        variables = evaluated_variables(state.variables)
        row = {}
        for name in names:
            found = self._evaluations(name, variables, self._stop)
            self._outputs.figures(step, name, self._training.task, found, last=step == self.end)
            self._outputs.samples(step, name, found.samples)
            row |= found.scalars(f'{name}/')
        task = self._training.task
        if names and type(task).model_figures is not Task.model_figures:
            host = self._training.parallel.fetch(variables)  # in all processes, each of which may have a part of them
            self._outputs.model_figures(step, lambda: task.model_figures(self._evaluations.model, host),
                                        always=step == self.end or task.figures_over_time)
        if names and task.fits_numbers and self._is_filmed(step, names):
            host = self._training.parallel.fetch(variables)
            self._outputs.fit_figures(step, lambda: task.fit_figures(
                self._evaluations.model, host, fitted_sets(self._training.source, self._evaluations.sources, names)))
        if row:
            self.metrics.update(row)
            self._outputs.scalars(step, row, {'wall_seconds': self._progress.wall_seconds})
            logging.info('evaluation at step %s: %s', f'{step:,}',
                         results.metric_line(row, self._training.task.primary_metric))

    def _is_filmed(self, step: int, names: tuple[str, ...]) -> bool:
        """Whether `Task.fit_figures` are drawn: always of the same sets, at no more than 30 steps, spread evenly."""
        training, fields = self._training, self._training.config.evaluation
        if names != tuple(fields.periodic or fields.final):
            return False
        every = training.evaluate_every or training.total
        return step == self.end or step // every % -(-training.total // (every * _MOST_FRAMES)) == 0

    def _stop_early(self, step: int) -> None:
        if self._early_stopping.update(step, self.metrics) and step < self.end:
            logging.info('%s', self._early_stopping)
            self.end = step
