"""The training loop."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.files import digest
from ..common.vocabulary import Vocabulary
from ..input_pipeline.batches import stream
from . import components, feature_cache, results
from . import config as config_lib
from .checkpoints import NonFiniteError, unflatten
from .evaluation import evaluate
from .outputs import Outputs
from .preemption import Interrupted, StopRequest
from .profiler import Profiler
from .progress import Progress
from .state import TrainState, evaluated_variables
from .transfer import init_from
from .window import MetricWindow


def train(config: ConfigDict, workdir: Path) -> int:
    """Trains, or resumes, a run and writes its results.

    Args:
      config: a locked config, see experiments/base.py.
      workdir: the run's folder; made if it is not there.

    Returns:
      Exit code: 0, or 128 + signal if the process was asked to stop and saved.

    Raises:
      UserError: config, data or workdir do not fit, or the loss is not finite any more.
    """
    training = components.build_training(config)
    training.parallel.check_same(digest(config_lib.to_dict(config)), 'configs')
    names = tuple(dict.fromkeys((*config.evaluation.periodic, *config.evaluation.final)))
    evaluations = components.Evaluations(config, training.parallel, training.task, training.info, names)
    logging.info('%s: %s steps of %d on %s; %s training examples', config.experiment, f'{training.total:,}',
                 config.batch_size, training.parallel, f'{training.batches.examples:,}')
    state = training.initial_state()  # before anything is written: it raises whatever in the config does not fit
    feature_cache.check(training, state)
    with StopRequest() as stop, Outputs(config, training.parallel, workdir) as outputs:
        state, resumed = start(training, state, outputs, workdir)
        if config.cached_features.endpoint:
            began = time.monotonic()
            try:
                feature_cache.install(training, evaluations, state, stop)
            except Interrupted:
                logging.info('asked to stop: the features so far are cached; the same command goes on from there')
                return stop.exit_code
            resumed['wall_seconds'] = resumed.get('wall_seconds', 0.0) + time.monotonic() - began
        return run(training, evaluations, state, resumed, stop, outputs, workdir)


def start(training: components.Training, state: TrainState, outputs: Outputs,
          workdir: Path) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state to begin with, on the devices, and the meta data of the checkpoint it came from, or {}."""
    config, parallel = training.config, training.parallel
    if parallel.is_writer:
        logging.info('%s', training.parameter_table(state))
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
        state = state.replace(**init_from(config.init_from, state.variables, training.info))
    # 3. From scratch: the state as it was initialised.
    return parallel.replicate(state), json.loads(meta) if meta is not None else {}


def _check_same_data(meta: dict[str, Any], training: components.Training, workdir: Path) -> None:
    """Raises UserError if a run would go on with other words, in the middle of another text, or with other batches."""
    found, now = DatasetInfo.from_json(meta['data']), training.info
    if found.vocabulary != now.vocabulary:
        parts = [Vocabulary.from_meta(info.vocabulary) for info in (now, found) if info.vocabulary is not None]
        difference = parts[0].difference(parts[1]) if len(parts) == 2 else 'one of them has none'
        raise UserError(f'the vocabulary is not the one that the run in {workdir} began with (now and then: '
                        f'{difference}): the training texts or config.text have changed; take another --workdir')
    if found.stream != now.stream:
        raise UserError(f'the training text is not the one that the run in {workdir} is in the middle of: it, '
                        'config.data.train or config.text.num_steps has changed; take another --workdir')
    if meta['config']['batch_size'] != training.config.batch_size:
        raise UserError(f"config.batch_size = {training.config.batch_size}: the run in {workdir} counts its steps in "
                        f"batches of {meta['config']['batch_size']}: keep that, or begin in another --workdir with "
                        f'--config.init_from.workdir={workdir}')


def run(training: components.Training, evaluations: components.Evaluations, state: TrainState,
        resumed: dict[str, Any], stop: StopRequest, outputs: Outputs, workdir: Path) -> int:
    """Takes the steps that are left; between them logs, evaluates and saves. Returns the exit code."""
    config, parallel, task, total = training.config, training.parallel, training.task, training.total
    train_step, shard, schedule = training.train_step, parallel.shard, training.schedule
    step = resumed.get('step', 0)
    metrics: dict[str, float] = dict(resumed.get('metrics', {}))  # the latest of every evaluation set
    window = MetricWindow(training.layout, step, resumed.get('window'))
    progress = Progress(total, step, config.batch_size, resumed.get('wall_seconds', 0.0))
    profiler = Profiler(config.profile.start_step, config.profile.steps, workdir / 'profile')
    unlogged = 0  # the end of a window whose log line waits for the next step to be under way

    def examples_per_second() -> float:
        return progress.examples_per_second or resumed.get('examples_per_second', 0.0)

    def due(step: int, every: int) -> bool:
        return bool(every and step) and (step % every == 0 or step == total)

    def log(step: int) -> None:
        values = window.close(step)
        values['learning_rate'] = float(schedule(step - 1))
        timings = progress.window(step)
        outputs.scalars(step, {f'train/{name}': value for name, value in values.items()}, timings)
        shown = {name: values[name] for name in dict.fromkeys(('loss', task.primary_metric)) if name in values}
        logging.info('%s', progress.line(step, shown, timings))

    def log_pending() -> None:
        nonlocal unlogged
        if unlogged:
            log(unlogged)
            unlogged = 0

    def evaluate_sets(step: int, names: tuple[str, ...]) -> None:
        variables = evaluated_variables(state.variables)
        row = {}
        for name in names:
            found = evaluate(evaluations, name, variables, stop)
            outputs.figures(step, name, task, found, last=step == total)
            outputs.samples(step, name, found.samples)
            row |= found.scalars(f'{name}/')
        if row:
            metrics.update(row)
            outputs.scalars(step, row, {'wall_seconds': progress.wall_seconds})
            logging.info('evaluation at step %s: %s', f'{step:,}', results.metric_line(row, task.primary_metric))

    def save(step: int, *, boundary_done: bool) -> None:
        log_pending()
        window.fetch(step)  # so that a step that is saved is known to be finite
        # A step saved only because the run was asked to stop does not rank: without the stop it would not exist.
        saving = due(step, training.save_every) or step == total
        ranks = boundary_done and saving and due(step, training.evaluate_every)
        best = metrics.get(config.checkpoint.best_metric) if ranks else None
        if ranks and best is None and config.checkpoint.best_metric:
            logging.warning('the evaluation gave no %s: this step ranks as no best one', config.checkpoint.best_metric)
        meta = {'config': config_lib.to_dict(config), 'data': training.info.to_json(), 'metrics': metrics,
                'window': window.sums, 'boundary_done': boundary_done, 'wall_seconds': progress.wall_seconds,
                'examples_per_second': examples_per_second()}
        outputs.save(step, state, meta, best)

    def boundary(step: int) -> None:
        """What happens between two steps, in this order: log, evaluate, save."""
        nonlocal unlogged
        evaluating, saving = due(step, training.evaluate_every), due(step, training.save_every) or step == total
        log_pending()
        unlogged = step if due(step, training.log_every) and not window.empty else 0
        if not (evaluating or saving):
            return
        log_pending()
        with progress.pause():
            if evaluating:
                evaluate_sets(step, config.evaluation.periodic)
            if step == total:
                done = config.evaluation.periodic if evaluating else ()
                evaluate_sets(step, tuple(name for name in config.evaluation.final if name not in done))
            if saving:
                save(step, boundary_done=True)

    def next_boundary(step: int) -> int:
        """The next step after which there is something to do, so that all others need one comparison."""
        if unlogged:
            return step + 1
        everys = (training.log_every, training.evaluate_every, training.save_every)
        return min([total, *((step // every + 1) * every for every in everys if every)])

    if step >= total and resumed.get('boundary_done') and outputs.is_finished(step, task.primary_metric):
        logging.info('this run is finished at step %s: train on with a longer --config.total, or begin again in '
                     'another --workdir', f'{step:,}')
        return 0
    outputs.open(step, redo_evaluation=not resumed.get('boundary_done', True))
    boundary_done = resumed.get('boundary_done', True)
    try:
        if not boundary_done:
            boundary(step)
        boundary_done = True
        upcoming = next_boundary(step)
        batches = stream(training.batches, range(step, total), source=training.source, workers=config.data.workers)
        while step < total:
            if stop():
                raise Interrupted
            began = time.perf_counter()
            batch = shard(next(batches))
            progress.waited += time.perf_counter() - began
            profiler.before(step)
            state, step_metrics = train_step(state, batch)
            step += 1
            window.add(step_metrics)
            profiler.after(step, step_metrics)
            if step == upcoming:
                boundary_done = False
                boundary(step)
                boundary_done = True
                upcoming = next_boundary(step)
                training.warn_of_retraces()
    except Interrupted:
        save(step, boundary_done=boundary_done)
        logging.info('asked to stop: saved step %s; the same command goes on from there', f'{step:,}')
        return stop.exit_code
    except NonFiniteError as error:
        raise UserError(f'{error} is not finite (learning rate {float(schedule(max(0, step - 1))):.3g}); '
                        f'the last good checkpoint is {outputs.last_saved()}') from error
    finally:
        profiler.close()
    outputs.finish(metrics, step=step, wall_seconds=progress.wall_seconds, examples_per_second=examples_per_second(),
                   primary_metric=task.primary_metric)
    return 0
