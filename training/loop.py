"""The training loop."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.files import digest
from ..common.vocabulary import Vocabulary
from ..input_pipeline import checks
from ..input_pipeline.batches import stream
from . import components, feature_cache, inspection
from . import config as config_lib
from .boundary import Boundary
from .checkpoint_meta import NonFiniteError
from .checkpoints import unflatten
from .evaluation import Evaluations
from .outputs import Outputs
from .preemption import Interrupted, StopRequest
from .profiler import Profiler
from .progress import Progress
from .step import TrainState
from .transfer import init_from, init_unless_resuming


def train(config: ConfigDict, workdir: Path) -> int:
    """Trains, or resumes, a run and writes its results.

    Args:
      config: a locked config, see training/defaults.py.
      workdir: the run's folder; made if it is not there.

    Returns:
      Exit code: 0, or 128 + signal if the process was asked to stop and saved.

    Raises:
      UserError: config, data or workdir do not fit, or the loss is not finite any more.
    """
    with StopRequest() as stop:
        try:
            training = components.build_training(config)
            names = tuple(dict.fromkeys((*config.evaluation.periodic, *config.evaluation.final)))
            evaluations = Evaluations(config, training.parallel, training.task, training.info, names)
        except Interrupted:
            logging.info('asked to stop before the first step: the same command begins again')
            return stop.exit_code
        _check_one_run(training, evaluations, workdir)
        logging.info('%s: %s steps of %d on %s; %s training examples', config.experiment, f'{training.total:,}',
                     config.batch_size, training.parallel, f'{training.batches.examples:,}')
        checks.say_what_is_learned(training.source, evaluations.sources)
        # Before anything is written: these raise whatever in the config does not fit.
        state = training.initial_state()
        feature_cache.check(training, state)
        looking = inspection.build(training, state)
        taken = None
        if training.parallel.is_writer:  # the others may not have this run's workdir
            taken = init_unless_resuming(config.init_from, state.variables, training.info, workdir)
        with Outputs(config, training.parallel, workdir) as outputs, explained(training, outputs):
            if training.parallel.is_writer:
                logging.info('%s', training.parameter_table(state))
            state, resumed = start(training, state, taken, outputs, workdir)
            state = training.place(state)
            if training.parallel.is_writer and not training.parallel.sharding.is_replicated:
                training.say_what_is_divided(state)
            if config.cached_features.endpoint:
                began = time.monotonic()
                try:
                    feature_cache.install(training, evaluations, state, stop)
                except Interrupted:
                    logging.info('asked to stop: the features so far are cached; the same command goes on from there')
                    return stop.exit_code
                resumed['wall_seconds'] = resumed.get('wall_seconds', 0.0) + time.monotonic() - began
            return run(training, evaluations, state, resumed, stop, outputs, workdir, looking)


@contextlib.contextmanager
def explained(training: components.Training, outputs: Outputs) -> Iterator[None]:
    """Turns a loss, gradient or parameter that is not finite into the user's error."""
    try:
        yield
    except NonFiniteError as error:
        rate = training.learning_rate(max(0, error.step - 1))
        raise UserError(f'{error} is not finite (learning rate {rate:.3g}); {outputs.last_saved()}') from error


def _check_one_run(training: components.Training, evaluations: Evaluations, workdir: Path) -> None:
    """Raises UserError in every process unless all of them have the same config, workdir and data."""
    check_same = training.parallel.check_same
    check_same(digest(config_lib.to_dict(training.config)), 'configs')
    check_same(workdir.absolute().name, f'names of --workdir ({workdir} here)',  # where it lies may differ
               'give all of them the same; several runs are several jobs, or one srun --ntasks=1 each')
    for name, source in {'training': training.source, **evaluations.sources}.items():
        check_same(checks.summary(source), f'{name} data ({len(source):,} examples here)',
                   'give all machines the same files')


def start(training: components.Training, state: TrainState, taken: dict[str, Any] | None, outputs: Outputs,
          workdir: Path) -> tuple[TrainState, dict[str, Any]]:
    """Returns the whole state to begin with, and the meta data of the checkpoint it came from, or {}.

    Args:
      training: the parts of the run.
      state: as it was initialised.
      taken: the variables with what config.init_from took over already; None where that is still to be done.
      outputs: of the run.
      workdir: its folder.
    """
    config, parallel = training.config, training.parallel
    checkpoint = outputs.restore()
    meta = parallel.broadcast_text(json.dumps(checkpoint.meta) if checkpoint else None)
    # 1. This run's own checkpoint.
    if meta is not None:
        parts = state.variables | state.training
        if checkpoint:
            _check_same_data(checkpoint.meta, training, workdir)
            parts = unflatten(parts, checkpoint.arrays, what=f'the checkpoint in {workdir}')
        state = state.replace(**parallel.broadcast(parts))
        logging.info('resuming at step %s', f"{json.loads(meta)['step']:,}")
    # 2. Another run's weights.
    elif config.init_from.workdir:
        state = state.replace(**(taken or init_from(config.init_from, state.variables, training.info)))
    # 3. From scratch: the state as it was initialised.
    return state, json.loads(meta) if meta is not None else {}


def _check_same_data(meta: dict[str, Any], training: components.Training, workdir: Path) -> None:
    """Raises UserError if a run would go on with other words, classes or batches, or in the middle of another text."""
    found, now = DatasetInfo.from_json(meta['data']), training.info
    if found.vocabulary != now.vocabulary:
        parts = [Vocabulary.from_meta(info.vocabulary) for info in (now, found) if info.vocabulary is not None]
        difference = parts[0].difference(parts[1]) if len(parts) == 2 else 'one of them has none'
        raise UserError(f'the vocabulary is not the one that the run in {workdir} began with (now and then: '
                        f'{difference}): the training texts or config.text have changed; take another --workdir')
    if found.stream != now.stream:
        raise UserError(f'the training text is not the one that the run in {workdir} is in the middle of: it, '
                        'config.data.train or config.text.num_steps has changed; take another --workdir')
    if any((found.whitening or {}).get(name) != (now.whitening or {}).get(name) for name in ('of', 'epsilon')):
        raise UserError(f'the run in {workdir} whitens images as it has learned from others: the training set or '
                        'config.image has changed; take another --workdir')
    names = [list(info.class_names or ()) for info in (now, found)]
    if all(names) and names[0] != names[1]:
        place = next((i for i, (one, other) in enumerate(zip(*names)) if one != other), min(map(len, names)))
        one, other = (repr(part[place]) if place < len(part) else 'none' for part in names)
        raise UserError(f'class {place} of the data is {one}, and was {other} when the run in {workdir} began: the '
                        'classes or their order have changed; take another --workdir')
    if meta['config']['batch_size'] != training.config.batch_size:
        raise UserError(f"config.batch_size = {training.config.batch_size}: the run in {workdir} counts its steps in "
                        f"batches of {meta['config']['batch_size']}: keep that, or begin in another --workdir with "
                        f'--config.init_from.workdir={workdir}')


def run(training: components.Training, evaluations: Evaluations, state: TrainState, resumed: dict[str, Any],
        stop: StopRequest, outputs: Outputs, workdir: Path, looking: inspection.Inspection | None = None) -> int:
    """Takes the steps that are left of a run and writes its result. Returns the exit code."""
    config, step = training.config, resumed.get('step', 0)
    progress = Progress(training.total, step, config.batch_size, resumed.get('wall_seconds', 0.0))
    boundary = Boundary(training, evaluations, resumed, progress, stop, outputs)
    if not begin(training, step, state, boundary, outputs):
        return 0
    if looking:
        looking.begin(step, state, outputs)
    try:
        step, state = take_steps(training, step, state, boundary, progress, stop, workdir, looking)
    except Interrupted:
        return stop.exit_code
    if looking:
        looking.finish(step, state)
    boundary.finish(step, state)
    return 0


def begin(training: components.Training, step: int, state: TrainState, boundary: Boundary, outputs: Outputs) -> bool:
    """Opens a run's outputs; returns whether there is anything left to do."""
    if step >= boundary.end and boundary.done and outputs.is_finished(step, training.task.primary_metric):
        logging.info('this run is finished at step %s: train on with a longer --config.total, or begin again in '
                     'another --workdir', f'{step:,}')
        return False
    outputs.open(step, redo_evaluation=not boundary.done, about=training.about(state))
    return True


def take_steps(training: components.Training, step: int, state: TrainState, boundary: Boundary, progress: Progress,
               stop: StopRequest, workdir: Path, looking: inspection.Inspection | None = None
               ) -> tuple[int, TrainState]:
    """Takes the steps up to `boundary.end`; between them the boundary logs, evaluates and saves.

    Args:
      training: the parts of a run, or of several whose steps are taken together, see training/population.py.
      step: steps done.
      state: after so many steps, on the devices.
      boundary: of the run or of all of them.
      progress: is told how long the loop waited for data.
      stop: whether the process was asked to stop.
      workdir: where a profiler trace goes.
      looking: what looks at the states and batches of a run besides; None for nothing.

    Returns:
      The step it ended with and the state.

    Raises:
      Interrupted: the process was asked to stop, and the boundary has saved.
    """
    config, train_step = training.config, training.train_step

    def next_batch() -> dict[str, Any]:
        """The next batch, on its way to the devices."""
        began = time.perf_counter()
        batch = training.feed(next(batches))
        progress.waited += time.perf_counter() - began
        return batch

    profiler = Profiler(config.profile.start_step, config.profile.steps, workdir / 'profile')
    try:
        if not boundary.done:
            boundary(step, state)
        batches = stream(training.batches, range(step, training.total), source=training.source,
                         workers=config.data.workers)
        upcoming = boundary.next(step)
        batch = next_batch() if step < boundary.end else None
        while step < boundary.end:
            if stop():
                raise Interrupted
            profiler.before(step)
            if looking:
                looking.before(step, state, batch)
            with training.parallel.guard(), jax.profiler.StepTraceAnnotation('train', step_num=step):
                state, metrics = train_step(state, batch)
                step += 1
                batch = next_batch() if step < training.total else None  # while the devices are at work
            boundary.add(metrics)
            profiler.after(step, metrics)
            if looking:
                looking.after(step, state)
            if step == upcoming:
                boundary(step, state)
                upcoming = boundary.next(step)
    except Interrupted:
        boundary.interrupted(step, state)
        logging.info('asked to stop: saved step %s; the same command goes on from there', f'{step:,}')
        raise
    finally:
        profiler.close()
    return step, state
