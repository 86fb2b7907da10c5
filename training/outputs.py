"""Everything a training run writes. Process 0 writes; in the others the same calls do nothing, but for checkpoints of a
state that spans processes, of which each writes its part."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ..common.errors import UserError
from ..common.files import write_json, write_text
from ..common.threads import import_lock
from . import results, snapshot, writers
from .checkpoints import FOLDER, Checkpoint, Checkpoints
from .evaluation import Evaluation
from .histograms import Histogram
from .parallel import Parallel
from .program_summary import Program
from .rows import to_json
from .shards import BlockWriter
from .step import TrainState

_IMAGE_SECONDS = 60  # between two drawings of the same evaluation set


class Outputs:
    """The workdir of a run: lock, checkpoints, snapshot, metrics, images, result. A context manager.

    Args:
      config: the run's config.
      parallel: to know who writes.
      workdir: the run's folder; where the state spans processes, all of them must see it.

    Raises:
      UserError: the workdir cannot be written or another process writes there, or config.writers does not fit.
    """

    def __init__(self, config: ConfigDict, parallel: Parallel, workdir: Path):
        self._writers = writers.chosen(config)
        self._config, self._workdir = config, workdir
        self._metrics: writers.MetricWriters | None = None
        self._drawn = dict.fromkeys(('', *config.evaluation.periodic), time.monotonic())  # set -> when last drawn
        self._about: dict[str, Any] | None = None
        self._films: dict[str, int] = {}  # figure -> step of its latest frame
        everyone = parallel.shards_over_processes
        self._checkpoints = self._block_writer = None
        if parallel.is_writer:
            self._checkpoints = Checkpoints(workdir, writable=True, keep=config.checkpoint.keep,
                                            best_mode=config.checkpoint.best_mode, everyone=everyone)
        elif everyone:
            self._block_writer = BlockWriter(workdir.absolute() / FOLDER)

    def __enter__(self) -> 'Outputs':
        return self

    def __exit__(self, exc_type, exc, traceback) -> None:
        if self._block_writer:
            self._block_writer.__exit__(exc_type, exc, traceback)
        if self._checkpoints is None:
            return
        try:
            if self._metrics:
                with self._writing():
                    self._metrics.close()
        except UserError:
            if exc is None:
                raise  # otherwise the first error is the one to show
        finally:
            self._checkpoints.__exit__(exc_type, exc, traceback)

    def restore(self) -> Checkpoint | None:
        """Returns the newest good checkpoint of this run, or None."""
        return self._checkpoints.restore('last') if self._checkpoints else None

    def open(self, step: int, *, redo_evaluation: bool, about: dict[str, Any] | None = None) -> None:
        """Writes the snapshot and opens the metrics, forgetting rows of steps that will be done again.

        Args:
          step: the step to begin with.
          redo_evaluation: whether the evaluations of this step are done again too.
          about: see `snapshot.write`; result.json gets it too.
        """
        if self._checkpoints is None:
            return
        self._about = about
        with self._writing():
            changed = snapshot.write(self._workdir, self._config, about)
            self._metrics = writers.MetricWriters(self._workdir, self._writers, resumed_step=step,
                                                  redo_evaluation=redo_evaluation)
        self._metrics.hparams(writers.flat_fields(self._config))
        if not step and self._metrics.dropped:
            logging.warning('%s has metrics but no checkpoint: training begins from scratch and writes them anew',
                            self._workdir)
        if step:
            _warn_of_changes(changed)

    def scalars(self, step: int, values: dict[str, float], timings: dict[str, float] | None = None) -> None:
        """Writes a row of metrics. Raises what `wait` raises if a save has failed meanwhile."""
        if self._metrics:
            self._checkpoints.check()
            with self._writing():
                self._metrics.scalars(step, values, timings)

    def figures(self, step: int, name: str, task: Any, found: Evaluation, *, last: bool) -> None:
        """Writes what an evaluation found: <workdir>/<set>_<image>.png, TensorBoard images, <set>_examples.json.

        Drawing takes a third of a second, so this is done for the last evaluation and otherwise now and then.
        """
        now = time.monotonic()
        if self._metrics and (last or now - self._drawn.get(name, now) > _IMAGE_SECONDS):
            self._drawn[name] = now
            with self._writing(), import_lock:
                self._metrics.images(step, results.write_evaluation(self._workdir, name, step, task, found,
                                                                    figures=self._config.figures))

    def model_figures(self, step: int, draw: Callable[[], dict[str, Any]], *, always: bool) -> None:
        """Writes what is drawn from the model alone, see `results.write_model_figures`.

        Args:
          draw: returns name -> matplotlib figure, `Animation` or `Frame`.
          always: whether to draw now; otherwise as often as `figures`.
        """
        now = time.monotonic()
        if self._metrics and self._config.figures and (always or now - self._drawn.get('', now) > _IMAGE_SECONDS):
            self._drawn[''] = now
            with self._writing(), import_lock:
                self._metrics.images(step, results.write_model_figures(self._workdir, step, draw()))

    def fit_figures(self, step: int, draw: Callable[[], dict[str, Any]]) -> None:
        """Writes pictures of what the model makes of few numbers: <workdir>/<figure>.png, and frames of a film.

        Args:
          step: of the parameters.
          draw: returns name -> matplotlib figure.
        """
        if not self._metrics or not self._config.figures:
            return
        with self._writing(), import_lock:
            for key, figure in draw().items():
                figure.axes[0].set_title(f'{self._config.experiment}, step {step:,}', fontsize=10)
                pixels = results.write_image(self._workdir / f'{key}.png', figure)
                self._metrics.images(step, {f'model/{key}': pixels})
                if self._config.evaluation.every:  # otherwise there is one picture, at the end
                    results.keep_frame(self._workdir / f'{key}_film', step, pixels)
                    self._films[key] = step

    def picture(self, step: int, name: str, draw: Callable[[Path], Any]) -> None:
        """Writes a matplotlib figure, which draw(workdir) returns: <workdir>/<name>.png."""
        if self._metrics and self._config.figures:
            with self._writing(), import_lock:
                pixels = results.write_image(self._workdir / f'{name}.png', draw(self._workdir))
                self._metrics.images(step, {f'model/{name}': pixels})

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """Writes histograms of weights and gradients, see `Writer.histograms`."""
        if self._metrics:
            with self._writing():
                self._metrics.histograms(step, histograms)

    def parameters(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the parameters of a model of a few numbers."""
        if self._metrics:
            with self._writing():
                self._metrics.parameters(step, values)

    def program(self, step: int, program: Program) -> None:
        """Writes the summary of the compiled train step, for people and as JSON."""
        if self._metrics:
            with self._writing():
                write_text(self._workdir / 'program.txt', program.text)
                write_json(self._workdir / 'program.json', to_json(program.facts))
                results.write_table(self._workdir / 'program_operations.csv', [
                    {'operation': kind, 'launched': launched, 'in_fusions': within}
                    for kind, (launched, within) in program.facts['operations'].items()])
                self._metrics.program(step, program)

    def samples(self, step: int, name: str, samples: Sequence[dict[str, Any]]) -> None:
        """Writes texts that were written at this step, see `Writer.samples`."""
        if self._metrics and samples:
            with self._writing():
                self._metrics.samples(step, name, samples)

    def save(self, step: int, state: TrainState, meta: dict[str, Any], best: float | None) -> None:
        """Starts saving a checkpoint. Raises what `wait` raises if the save before failed."""
        if self._checkpoints:
            self._checkpoints.save(step, state.variables, state.training, meta, best=best, replace=True)
        elif self._block_writer:
            self._block_writer.save(step, {'variables': state.variables, 'training': state.training})

    def wait(self) -> None:
        """Blocks until the last checkpoint is on disk.

        Raises:
          NonFiniteError: it would have held a NaN or an infinity.
          UserError: it could not be written.
        """
        if saver := self._checkpoints or self._block_writer:
            saver.wait()

    def last_saved(self) -> str:
        """Says which checkpoint is the newest, for an error message."""
        if self._checkpoints is None:
            return 'process 0 says which checkpoint is the last good one'
        steps = self._checkpoints.steps()
        return f'the last good checkpoint is step {steps[-1]:,} in {self._workdir}' if steps else (
            'there is no checkpoint yet')

    def is_finished(self, step: int, primary_metric: str) -> bool:
        """Whether the result of this step is written; then prints it."""
        if self._checkpoints is None or not results.print_result(self._workdir, step, primary_metric):
            return False
        _warn_of_changes(snapshot.changes(self._workdir, self._config))
        return True

    def finish(self, metrics: dict[str, float], **facts: Any) -> None:
        """Waits for the last save, writes result.json and the learning curves, and prints the result table."""
        self.wait()
        if self._checkpoints is None:
            return
        best = None
        if self._config.checkpoint.best_metric and (step := self._checkpoints.best_step()) is not None:
            best = {'step': step, 'metric': self._config.checkpoint.best_metric}
        with self._writing(), import_lock:
            for key, latest in self._films.items():
                results.write_film(self._workdir / f'{key}_film', latest)
            results.write_result(self._workdir, self._config, metrics, best=best, about=self._about, **facts)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a full disk and its like into the user's error."""
        try:
            yield
        except OSError as error:
            raise UserError(f'cannot write to {error.filename or self._workdir}: {error.strerror}; '
                            'finished checkpoints are intact') from error


def _warn_of_changes(changed: list[str]) -> None:
    if changed:
        logging.warning('the config differs from the one of the last start:\n  %s', '\n  '.join(changed))
    if any(line.startswith('init_from.') for line in changed):
        logging.warning('warning: no effect of config.init_from: this run goes on with its own weights; to begin with '
                        'others take another --workdir')
