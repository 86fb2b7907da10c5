"""Config -> the parts of a run: devices, data, task, model, optimizer, compiled steps. Writes nothing."""

import dataclasses
import logging
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from .. import models, tasks
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest, some
from ..common.vocabulary import SPECIAL, Vocabulary
from ..input_pipeline import augmentation, preprocessing, sources
from ..input_pipeline.batches import eval_batches, train_batches
from ..input_pipeline.views import Views
from ..tasks import Task
from . import checkpoints, durations, forward
from .optimizer import Optimizer, build_schedule
from .parallel import AXIS, Parallel
from .state import TrainState, init_state, initial_carry
from .step import make_eval_step, make_train_step
from .window import MetricLayout

_EVALUATION_PIXELS = 2 ** 22  # of all images that a device evaluates together: 83 of 224x224


@dataclasses.dataclass
class Training:
    """The parts of a training run.

    Attributes:
      parallel: devices and hosts.
      source, batches: training examples, and step -> this process's rows of the global batch.
      info: what is known of the data; it travels in checkpoints.
      task, model, schedule, optimizer: see their packages.
      total, log_every, evaluate_every, save_every: in steps; 0 for never.
      train_step: compiled (state, sharded batch) -> (state, metrics packed by `layout`).
      traces: how often the train step has been traced so far, a list of one int.
    """
    config: ConfigDict
    parallel: Parallel
    source: Any
    batches: Callable
    info: DatasetInfo
    task: Task
    model: Any
    schedule: Callable
    optimizer: Optimizer
    total: int
    log_every: int
    evaluate_every: int
    save_every: int
    train_step: Callable
    layout: MetricLayout
    traces: list[int]

    def warn_of_retraces(self) -> None:
        """Warns, once for each, of compilations of the train step after the first."""
        if self.traces[0] > 1:
            logging.warning('the train step was compiled again: some input changed its shape or type')
            self.traces[0] = 1

    def example(self) -> tuple:
        """Returns the model's inputs for one example."""
        return self._example()[0]

    def _example(self) -> tuple[tuple, dict[str, Any]]:
        """Returns the model's inputs for one example, and the prepared batch that they come from."""
        batch = preprocessing.build(self.config.image)(self.source.read(np.zeros(1, np.int64)), None)
        try:
            return self.task.inputs(batch), batch
        except KeyError as error:
            raise UserError(f'config.task.name = {self.config.task.name!r} needs {error} in the examples; '
                            f'they have: {", ".join(batch)}') from error

    def initial_state(self) -> TrainState:
        """Returns the state of step 0, on the default device.

        Raises:
          UserError: the model does not fit the images, or the task the model.
        """
        inputs, batch = self._example()
        state = init_state(self.model, inputs, self.optimizer, seed=self.config.seed, ema=bool(self.config.ema_decay))
        # A device that has not so much memory says so only later, when files are written.
        _check_fits('config.model and its optimizer', sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        apply = forward.whole(self.model, self.task)
        jax.eval_shape(lambda: self.task.score(apply(variables, batch, train=False), batch))
        return state.replace(carry=initial_carry(apply, self.task, variables, batch, self.config.batch_size))

    def parameter_table(self, state: TrainState) -> str:
        """Returns a table of parameters with their counts, and the forward FLOPs of one example as XLA counts them."""
        from clu import parameter_overview
        table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        apply = jax.jit(lambda variables, inputs: self.model.apply(variables, *inputs, train=False))
        flops = (apply.lower(variables, self.example()).cost_analysis() or {}).get('flops', 0.0)
        return f'{table}\nForward pass of one example: {flops / 1e6:,.3f} MFLOP'


def build_training(config: ConfigDict) -> Training:
    """Builds everything a training run needs.

    Raises:
      UserError: whatever in the config does not fit, before anything is written.
    """
    _check(config)
    parallel = Parallel(config.parallel.mode, config.parallel.devices)
    parallel.check_batch(config.batch_size, 'batch_size')
    accumulate = config.optimizer.accumulate
    if config.batch_size % (parallel.count * max(1, accumulate)):
        raise UserError(f'config.batch_size = {config.batch_size} cannot be split into {accumulate} micro-batches '
                        f'on {parallel.count} device(s)')
    endpoint = config.cached_features.endpoint
    prepare = forward.select_view if endpoint else preprocessing.build(config.image, config.augment)
    source = sources.open_split(config.data, config.image, config.data.train, training=True, text=config.text,
                                vocabulary=_given_vocabulary(config.text))
    _check_memory(config.batch_size, source)
    batches = train_batches(source, config.batch_size, config.seed, parallel.local_slice(config.batch_size))
    # What data sets of our own do not say of themselves, the first example does.
    info = source.info.replace(features=tuple(source.read(np.zeros(1, np.int64))))
    task = tasks.build(config.task, info)
    _check_best_metric(config, task)
    model = build_model(config, task, axis_name=AXIS)

    def to_steps(duration: str, field: str) -> int:
        return durations.to_steps(duration, batch_size=config.batch_size, num_examples=batches.examples, field=field)

    total = to_steps(config.total, 'total')
    if total < 1:
        raise UserError('config.total is 0: there is nothing to train')
    schedule = build_schedule(config.schedule, config.optimizer.learning_rate, total, to_steps)
    optimizer = Optimizer(config.optimizer, schedule)

    traces = [0]

    def count_trace() -> None:
        traces[0] += 1

    apply = build_forward(config, model, task)
    train_step = make_train_step(apply, task, optimizer, prepare, seed=config.seed, ema_decay=config.ema_decay,
                                 accumulate=accumulate, on_trace=count_trace)
    return Training(
        config=config, parallel=parallel, source=source, batches=batches, info=info, task=task, model=model,
        schedule=schedule, optimizer=optimizer, total=total, log_every=to_steps(config.log_every, 'log_every'),
        evaluate_every=to_steps(config.evaluation.every, 'evaluation.every'),
        save_every=to_steps(config.checkpoint.every, 'checkpoint.every'),
        train_step=parallel.compile(train_step, donate=True), layout=MetricLayout(task.train_metrics), traces=traces)


def _check_memory(batch_size: int, source) -> None:
    """Raises UserError if a batch alone, as float32, is more than this machine has."""
    example = sum(4 * values[0].size for values in source.read(np.zeros(1, np.int64)).values())
    _check_fits(f'config.batch_size = {batch_size}', batch_size * example)


def _check_fits(what: str, size: int) -> None:
    """Raises UserError if something is more bytes than this machine's memory."""
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if size > memory:
        raise UserError(f'{what}: that takes {size // 2**30:,} GiB of the {memory / 2**30:,.0f} this machine has')


def _given_vocabulary(text: ConfigDict) -> Vocabulary | None:
    """Returns the vocabulary of another run; None to build one."""
    workdir = text.vocabulary_from
    if not workdir:
        return None
    info = checkpoints.read(workdir, 'last').info
    if info.vocabulary is None:
        raise UserError(f'config.text.vocabulary_from = {workdir!r}: that run has no vocabulary')
    vocabulary = Vocabulary.from_meta(info.vocabulary)
    split = Vocabulary(text.tokens, SPECIAL, lowercase=text.lowercase)
    if (vocabulary.kind, vocabulary.lowercase) != (split.kind, split.lowercase):
        raise UserError(f'config.text.vocabulary_from = {workdir!r}: its texts are split into other tokens: set '
                        f'config.text.tokens={vocabulary.kind} and config.text.lowercase={vocabulary.lowercase}')
    return vocabulary


def build_model(config: ConfigDict, task, axis_name: str | None = None):
    """Builds the model of a config for a task."""
    return models.build(config.model, precision=config.precision, axis_name=axis_name, **task.model_fields())


def build_forward(config: ConfigDict, model, task) -> Callable:
    """Returns how batches go through the model in this config's training; see training/forward.py."""
    endpoint = config.cached_features.endpoint
    if not endpoint:
        return forward.whole(model, task)
    forward.check_endpoints(model, 'cached_features.endpoint')
    if any(config.augment[name] != off for name, off in augmentation.DEFAULTS.items()):
        raise UserError('config.cached_features: images are seen once, so augmentation would change nothing: switch '
                        'config.augment off (config.cached_features.flip adds mirrored images)')
    if config.data.random_resized_crop:
        raise UserError('config.cached_features: images are seen once: switch config.data.random_resized_crop off')
    return forward.head(model, task, endpoint)


class Evaluations:
    """The evaluation sets of a config and the compiled step that scores them.

    Args:
      config, parallel, task: as in training.
      info: what is known of the data the model was trained on; every set must agree on the classes.
      names: which of config.evaluation.sets to open.

    Attributes:
      task: as given.
      model: the network for one device.
      sources: set -> its examples.
      batch_size: examples per step over all devices.

    Raises:
      UserError: an unknown set, or one whose classes are not those of the training data.
    """

    def __init__(self, config: ConfigDict, parallel: Parallel, task: Task, info: DatasetInfo, names: tuple[str, ...]):
        self.parallel, self.workers = parallel, config.data.workers
        views = Views(config.evaluation.tta, config.image.size)
        model = build_model(config, task, axis_name=AXIS)
        if views.count > 1:
            if config.cached_features.endpoint:
                raise UserError("config.evaluation.tta: cached features are of one view; evaluate the run afterwards: "
                                f"launch.py evaluate --tta {views.name}")
            apply, prepare = forward.in_views(model, task, views), preprocessing.build(config.image)
        elif config.cached_features.endpoint:
            apply, prepare = build_forward(config, model, task), forward.unchanged
            apply = forward.generating(apply, model, task, begin=config.cached_features.endpoint)
        else:
            apply = forward.generating(forward.whole(model, task), model, task)
            prepare = preprocessing.build(config.image)
        self.task, self._apply, self._prepare = task, apply, prepare
        self.model = build_model(config, task)  # for one device
        self.step = parallel.compile(make_eval_step(apply, task, prepare), donate=False)
        image = config.image.copy_and_resolve_references()
        image.size, image.resize = views.read_size, views.resize(image.resize)
        vocabulary = Vocabulary.from_meta(info.vocabulary) if info.vocabulary is not None else None
        self.sources: dict[str, Any] = {}
        for name in names:
            if name not in config.evaluation.sets:
                raise UserError(f'config.evaluation.sets has no {name!r}; there are: '
                                f'{", ".join(config.evaluation.sets) or "none"}')
            chosen = config.evaluation.sets[name]
            source = sources.open_split(config.data, image, chosen.split, invert=chosen.invert, text=config.text,
                                        vocabulary=vocabulary)
            _check_same_classes(name, source.info, info)
            self.sources[name] = source
        # Images larger than those of small data sets come in smaller batches, and none is larger than its set.
        fitting = max(1, _EVALUATION_PIXELS // (views.count * math.prod(image.size))) * parallel.count
        longest = max(map(len, self.sources.values()), default=1)
        self.batch_size = min(config.evaluation.batch_size // views.count, fitting, longest)
        # Padding is masked, so any size can be rounded up to what the devices share evenly.
        self.batch_size = parallel.round_up(max(1, self.batch_size))

    def batches(self, name: str) -> tuple[Any, Any]:
        """Returns a set's source and its batches."""
        source = self.sources[name]
        rows = self._rows(source)
        return source, eval_batches(source, rows, self.parallel.local_slice(rows))

    def carry(self, name: str, variables: dict[str, Any]) -> Any:
        """Returns what the first batch of a set begins with, see `TrainState`."""
        source = self.sources[name]
        batch = self._prepare(source.read(np.zeros(1, np.int64)), None)
        return self.parallel.replicate(initial_carry(self._apply, self.task, variables, batch, self._rows(source)))

    def _rows(self, source: Any) -> int:
        """Returns rows of a batch: all streams of a text, else `batch_size`."""
        streams = getattr(source, 'streams', 0)
        return self.parallel.round_up(streams) if streams else self.batch_size


def _check_same_classes(name: str, found: DatasetInfo, trained: DatasetInfo) -> None:
    if found.class_names == trained.class_names:
        return
    ours, theirs = trained.class_names or (), found.class_names or ()
    if len(ours) == len(theirs):
        first = next(i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b)
        raise UserError(f'class {first} of evaluation set {name!r} is {theirs[first]!r}, the model was trained with '
                        f'{ours[first]!r} there')
    raise UserError(f'evaluation set {name!r} has {len(theirs)} classes ({some(theirs)}), the model was trained on '
                    f'{len(ours)} ({some(ours)})')


def _check(config: ConfigDict) -> None:
    if not 0 <= config.seed < 2 ** 32:
        raise UserError(f'config.seed = {config.seed}: it must be in [0, 2**32)')
    if not 0 <= config.ema_decay < 1:
        raise UserError(f'config.ema_decay = {config.ema_decay}: it must be in [0, 1)')
    if config.checkpoint.best_mode not in ('max', 'min'):
        raise UserError(f"config.checkpoint.best_mode = {config.checkpoint.best_mode!r}: it is 'max' or 'min'")
    if config.image.channels not in (1, 3):
        raise UserError(f'config.image.channels = {config.image.channels}: it must be 1 (grey) or 3 (colour)')
    size = tuple(config.image.size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(f'config.image.size = {size}: it is (height, width) in pixels')
    _check_fits(f'config.image.size = {size}', 4 * config.image.channels * math.prod(size))
    known = set(config.evaluation.sets)
    for name in (*config.evaluation.periodic, *config.evaluation.final):
        if name not in known:
            raise UserError(f'config.evaluation names the set {name!r}; there are: {", ".join(sorted(known))}')
    for name, chosen in config.evaluation.sets.items():
        if set(chosen) != {'split', 'invert'}:
            raise UserError(f"config.evaluation.sets.{name} has the fields {', '.join(chosen)}; it needs 'split' and "
                            "'invert'")
    for field, low in (('evaluation.batch_size', 1), ('cached_features.batch_size', 1), ('checkpoint.keep', 1),
                       ('data.workers', 0), ('profile.start_step', 0), ('profile.steps', 0)):
        section, name = field.split('.')
        if config[section][name] < low:
            raise UserError(f'config.{field} = {config[section][name]}: it must be at least {low}')


def _check_best_metric(config: ConfigDict, task) -> None:
    best = config.checkpoint.best_metric
    metrics = [name for name, value in task.eval_metrics.empty().compute().items() if np.ndim(value) == 0]
    metrics += task.per_example.metrics if task.per_example else ()
    known = [f'{name}/{metric}' for name in config.evaluation.periodic for metric in metrics]
    if best and best not in known:
        raise UserError(f'config.checkpoint.best_metric = {best!r} is not a metric of a periodic evaluation set; '
                        f"{nearest(best, known)} ('' keeps no best)")
