"""Everything a training run writes. Process 0 writes; in the others the same calls do nothing."""

import logging
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from training import report, snapshot
from training.checkpoints import Checkpoint, Checkpoints
from training.parallel import Parallel
from training.state import TrainState
from training.writers import MetricWriters


class Outputs:
    """The workdir of a run: lock, checkpoints, snapshot, metrics, pictures, result. A context manager.

    Args:
      config: the run's config.
      parallel: to know who writes.
      workdir: the run's folder.

    Raises:
      UserError: the workdir cannot be written or another process writes there.
    """

    def __init__(self, config: ConfigDict, parallel: Parallel, workdir: Path):
        self._config, self._workdir = config, workdir
        self._metrics: MetricWriters | None = None
        self._checkpoints = None
        if parallel.is_writer:
            self._checkpoints = Checkpoints(workdir, writable=True, keep=config.checkpoint.keep,
                                            best_mode=config.checkpoint.best_mode)

    def __enter__(self) -> 'Outputs':
        return self

    def __exit__(self, exc_type, exc, traceback) -> None:
        if self._checkpoints is None:
            return
        try:
            if self._metrics:
                self._metrics.close()
        finally:
            self._checkpoints.__exit__(exc_type, exc, traceback)

    def restore(self) -> Checkpoint | None:
        """Returns the newest good checkpoint of this run, or None."""
        return self._checkpoints.restore('last') if self._checkpoints else None

    def open(self, step: int, *, redo_evaluation: bool) -> None:
        """Writes the snapshot and opens the metrics, forgetting rows of steps that will be done again."""
        if self._checkpoints is None:
            return
        changed = snapshot.write(self._workdir, self._config)
        if changed and step:
            logging.warning('the config differs from the one this run began with:\n  %s', '\n  '.join(changed))
        self._metrics = MetricWriters(self._workdir, resumed_step=step, redo_evaluation=redo_evaluation,
                                      tensorboard=self._config.tensorboard)

    def scalars(self, step: int, values: dict[str, float], timings: dict[str, float] | None = None) -> None:
        """Writes a row of metrics."""
        if self._metrics:
            self._metrics.scalars(step, values, timings)

    def pictures(self, step: int, name: str, task: Any, metrics: dict[str, Any]) -> None:
        """Draws what the task shows of an evaluation: <workdir>/<set>_<picture>.png, and TensorBoard images."""
        if self._metrics:
            self._metrics.images(step, report.write_pictures(self._workdir, name, task.pictures(metrics)))

    def save(self, step: int, state: TrainState, meta: dict[str, Any], best: float | None) -> None:
        """Starts saving a checkpoint."""
        if self._checkpoints:
            self._checkpoints.save(step, state.variables, state.training, meta, best=best, replace=True)

    def last_saved(self) -> str:
        """Says which checkpoint is the newest, for an error message."""
        steps = self._checkpoints.steps() if self._checkpoints else []
        return f'step {steps[-1]:,} in {self._workdir}' if steps else 'none: there was not one yet'

    def finish(self, metrics: dict[str, float], **facts: Any) -> None:
        """Waits for the last save, writes result.json and the learning curves, and prints the result table."""
        if self._checkpoints is None:
            return
        self._checkpoints.wait()
        best = None
        if self._config.checkpoint.best_metric and (step := self._checkpoints.best_step()) is not None:
            best = {'step': step, 'metric': self._config.checkpoint.best_metric}
        report.write_result(self._workdir, self._config, metrics, best=best, **facts)
