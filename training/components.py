"""Config -> the parts of a run: devices, data, task, model, optimizer, compiled steps. Writes nothing."""

import contextlib
import dataclasses
import functools
import inspect
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from .. import tasks
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest, some
from ..common.vocabulary import SPECIAL, Vocabulary
from ..input_pipeline import checks, mixing, preprocessing, relabelling, sources, whitening
from ..input_pipeline.batches import BatchesOfRuns, batches_of_runs, train_batches
from ..tasks import Task
from . import array_paths, checkpoints, durations, early_stopping, evaluation_sets, forward, unused_fields
from .optimizer import Optimizer
from .parallel import Parallel
from .resident import Resident
from .schedules import build_schedule
from .state import hyperparameters, init_states, initial_carry, initial_experience
from .step import TRAIN, MetricLayout, TrainState, apply_model, make_gradients, make_train_step

# Fields of config.augment that make another sound of a spectrogram: backwards, other pitches, times as pitches.
_AGAINST_SOUNDS = ('flip_horizontal', 'flip_vertical', 'transpose', 'homography', 'rotation', 'shear', 'invert',
                   'rand_augment')
FEW_PARAMETERS = 16  # models of so many show them beside the result


@dataclasses.dataclass
class Training:
    """The parts of a training run.

    Attributes:
      parallel: devices and hosts.
      source, batches: training examples, and step -> this process's rows of the global batch.
      feed: puts what `batches` returned on the devices, where `train_step` takes it.
      info: what is known of the data; it travels in checkpoints.
      task, model, optimizer: see their packages.
      schedule: step -> learning rate as a factor of config.optimizer.learning_rate.
      total, log_every, evaluate_every, save_every: in steps; 0 for never.
      train_step: compiled (state, sharded batch) -> (state, metrics packed by `layout`).
      traces: how often the train step has been traced so far, a list of one int.
      gradients: what `step.make_gradients` returns for the same parts; not compiled.
      histograms_every, parameters_every: in steps; 0 for never.
    """
    config: ConfigDict
    parallel: Parallel
    source: Any
    batches: Callable
    feed: Callable
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
    gradients: Callable
    histograms_every: int
    parameters_every: int

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step, on the host."""
        return self.config.optimizer.learning_rate * float(self.schedule(step))

    def warn_of_retraces(self) -> None:
        """Warns, once for each, of compilations of the train step after the first."""
        if self.traces[0] > 1:
            logging.warning('the train step was compiled again: some input changed its shape or type')
            self.traces[0] = 1

    def example(self) -> tuple:
        """Returns the model's inputs for one example."""
        return self._examples(1)[0]

    def _examples(self, count: int) -> tuple[tuple, dict[str, Any]]:
        """Returns the model's inputs for the first examples, and the prepared batch that they come from."""
        first = np.arange(min(count, len(self.source)), dtype=np.int64)
        batch = preprocessing.build(self.config.image, info=self.info)(self.source.read(first), None)
        if self.task.needs_rng:
            batch |= {'rng': jax.random.split(jax.random.key(0), len(first))}
        with self._naming_what_is_missing(batch):
            return self.task.inputs(batch), batch

    @contextlib.contextmanager
    def _naming_what_is_missing(self, batch: dict[str, Any]) -> Iterator[None]:
        """Turns the KeyError of a task whose features the examples lack into the user's error."""
        try:
            yield
        except KeyError as error:
            raise UserError(f'config.task.name = {self.config.task.name!r} needs {error} in the examples; '
                            f'they have: {", ".join(batch)}') from error

    def initial_state(self) -> TrainState:
        """Returns the state of step 0, on the default device. Raises what `initial_states` raises."""
        return self.initial_states([self.config])[0]

    def initial_states(self, configs: Sequence[ConfigDict]) -> list[TrainState]:
        """Returns the states of step 0, on the default device, of runs that differ in `hyperparameters` alone.

        Raises:
          UserError: the model does not fit the images, or the task the model.
        """
        inputs, batch = self._examples(self.task.init_examples)
        _check_inputs(self.config, self.model, inputs)
        try:
            states = init_states(self.model, inputs, self.optimizer, list(map(hyperparameters, configs)),
                                 ema=bool(self.config.ema_decay))
        except (ValueError, TypeError, IndexError) as error:
            refusal = _looks_at_images_alone(self.config, self.model, inputs, batch)
            if refusal is None:
                raise
            raise refusal from error
        state = states[0]
        # A device that has not so much memory says so only later, when files are written.
        _check_fits('config.model and its optimizer', len(states) * sum(leaf.size * leaf.dtype.itemsize
                                                                        for leaf in jax.tree.leaves(state)))
        self.parallel.sharding.check(array_paths.flatten(state.params))
        if self.config.parallel.batch_norm == 'device' and not jax.tree.leaves(state.batch_stats):
            logging.warning("config.parallel.batch_norm = 'device' changes nothing: this model has no BatchNorm")
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        apply = apply_model(self.model, self.task)
        learned = batch
        if self.task.collects:
            size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(
                jax.eval_shape(functools.partial(initial_experience, self.task), state)))
            _check_fits("config.task's experience", len(states) * size)
            states = [state.replace(experience=initial_experience(self.task, state)) for state in states]
            learned, _ = jax.eval_shape(
                lambda experience: self.task.collect(apply, variables, experience, batch, step=state.step,
                                                     key=jax.random.key(0)), states[0].experience)
        outputs = jax.eval_shape(lambda learned: apply(variables, learned, train=False), learned)
        with self._naming_what_is_missing(batch):
            jax.eval_shape(self.task.score, outputs, learned)
        carry = initial_carry(apply, self.task, variables, batch, self.config.batch_size)
        return [state.replace(carry=carry) for state in states]

    def place(self, state: TrainState) -> TrainState:
        """Puts a whole state, the same in all processes, on the devices."""
        return self.parallel.place(state, TrainState.places())

    def say_what_is_divided(self, state: TrainState) -> None:
        """Logs how much of a state each device keeps; warns if that is all of it."""
        leaves = jax.tree.leaves(state)
        whole = sum(leaf.nbytes for leaf in leaves)
        kept = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
        fields = self.config.parallel
        if self.parallel.count > 1 and all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state.params)):
            logging.warning('config.parallel divides no parameter over %d devices: look at its fields sharding = %r, '
                            'sharding_rules (the first that matches decides) and min_shard_mb = %s',
                            self.parallel.count, fields.sharding, fields.min_shard_mb)
        logging.info('a device keeps %.1f MB of the %.1f MB of the state', kept / 1e6, whole / 1e6)

    def fetch(self, state: TrainState) -> TrainState:
        """Returns the whole state on the host, the inverse of `place`; all processes must call it."""
        return self.parallel.fetch(self.parallel.assemble(state, TrainState.places()))

    def about(self, state: TrainState) -> dict[str, Any]:
        """Returns what a run's files say of it beside the config: steps, parameters and data."""
        return {'total_steps': self.total, 'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
                'dataset': {'name': self.config.data.name or self.config.data.source,
                            'train_examples': len(self.source)}}

    def learned(self, state: TrainState) -> dict[str, float]:
        """Returns the parameters of a model of a few numbers by path, 'm' and 'b' of a line; {} of larger ones."""
        if sum(array.size for array in jax.tree.leaves(state.params)) > FEW_PARAMETERS:
            return {}
        arrays = array_paths.flatten(self.parallel.fetch(state.params))
        return {path + ''.join(f'[{i}]' for i in index): float(value) for path, array in arrays.items()
                for index, value in np.ndenumerate(np.asarray(array))}

    def parameter_table(self, state: TrainState) -> str:
        """Returns a table of parameters with their counts, and the forward FLOPs of one example as XLA counts them."""
        from clu import parameter_overview
        table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        apply = jax.jit(lambda variables, inputs: self.model.apply(variables, *inputs, train=False))
        flops = (apply.lower(variables, self.example()).cost_analysis() or {}).get('flops', 0.0)
        return f'{table}\nForward pass of one example: {flops / 1e6:,.3f} MFLOP'


def build_training(config: ConfigDict, seeds: Sequence[int] | None = None) -> Training:
    """Builds everything a training run needs.

    Args:
      config: of the run.
      seeds: of several runs whose steps are taken together: then the step takes and returns the states of all, stacked
        along a first dimension, and the batches are theirs.

    Raises:
      UserError: whatever in the config does not fit, before anything is written.
    """
    check_fields(config)
    parallel = Parallel(config.parallel)
    parallel.check_batch(config.batch_size, 'batch_size')
    accumulate = config.optimizer.accumulate
    if config.batch_size % (parallel.count * max(1, accumulate)):
        raise UserError(f'config.batch_size = {config.batch_size} cannot be split into {accumulate} micro-batches '
                        f'on {parallel.count} device(s)')
    endpoint = config.cached_features.endpoint
    if endpoint:
        prepare = functools.partial(forward.select_view, width=config.image.size[1])
    else:
        prepare = preprocessing.build(preprocessing.unwhitened(config.image), config.augment)
    whitening.check(config.image)
    source = sources.open_split(config.data, config.image, config.data.train, training=True, text=config.text,
                                vocabulary=given_vocabulary(config.text))
    checks.check_source(source, config.image, 'the training set')
    checks.check_objects(source)
    _check_memory(config.batch_size, source)
    resident = _resident(config, parallel, source)
    examples = resident.indices if resident else source
    if seeds is None:
        batches = train_batches(examples, config.batch_size, config.seed, parallel.local_slice(config.batch_size),
                                sampling=config.data.sampling)
    else:
        batches = batches_of_runs(examples, config.batch_size, seeds, sampling=config.data.sampling)
    if config.batch_size > batches.examples:
        logging.warning('config.batch_size = %s: each of the %s training examples is in a batch several times',
                        f'{config.batch_size:,}', f'{batches.examples:,}')
    # What data sets of our own do not say of themselves, the first example does.
    info = source.info.replace(features=tuple(source.read(np.zeros(1, np.int64))))
    if config.task.get('class_weights') == 'balanced':
        info = info.replace(class_counts=relabelling.count_labels(source))
    if config.image.zca_epsilon:
        info = info.replace(whitening=_whitening(config, source, parallel))
        prepare = prepare if endpoint else preprocessing.build(config.image, config.augment, info=info)
    task = tasks.build(config.task, info)
    _check_metrics(config, task)
    _check_pixels(config, task)
    unused_fields.warn(config, info, task)
    _warn_of_sounds(config, task)
    model = forward.build_model(config, task)

    def to_steps(duration: str, field: str) -> int:
        parsed = durations.parse(duration) if isinstance(duration, str) else None
        if config.data.source == 'seeds' and parsed is not None and parsed[1] == 'epochs':
            raise UserError(f'config.{field} = {duration!r}: {config.task.name} makes its own examples, an epoch of '
                            "them means nothing: give steps, such as '1000 steps'")
        return durations.to_steps(duration, batch_size=config.batch_size, num_examples=batches.examples, field=field)

    total = to_steps(config.total, 'total')
    if total < 1:
        raise UserError('config.total is 0: there is nothing to train')
    if config.profile.steps and config.profile.start_step >= total:
        raise UserError(f'config.profile.start_step = {config.profile.start_step}: there is no such step, the training '
                        f'has {total:,}')
    schedule = build_schedule(config.schedule, total, to_steps)
    optimizer = Optimizer(config.optimizer)
    mix = mixing.build(config.augment)
    mixing.check_task(mix, task, config.task.name)

    traces = [0]

    def count_trace() -> None:
        traces[0] += 1

    apply = forward.build_forward(config, model, task)
    how = {'mix': mix, 'accumulate': accumulate, 'remat': config.remat}
    train_step = make_train_step(apply, task, optimizer, schedule, prepare, ema_decay=config.ema_decay,
                                 on_trace=count_trace, **how)
    if seeds is not None:
        train_step = jax.vmap(train_step, in_axes=(0, 0 if isinstance(batches, BatchesOfRuns) else None))
    return Training(
        config=config, parallel=parallel, source=source, batches=batches, feed=resident or parallel.shard, info=info,
        task=task, model=model, schedule=schedule, optimizer=optimizer, total=total,
        log_every=to_steps(config.log_every, 'log_every'),
        evaluate_every=to_steps(config.evaluation.every, 'evaluation.every'),
        save_every=to_steps(config.checkpoint.every, 'checkpoint.every'),
        train_step=parallel.compile(train_step, **TRAIN), layout=MetricLayout(task.train_metrics), traces=traces,
        gradients=make_gradients(apply, task, optimizer, prepare, **how),
        histograms_every=to_steps(config.inspect.histograms_every, 'inspect.histograms_every'),
        parameters_every=to_steps(config.inspect.parameters_every, 'inspect.parameters_every'))


def _resident(config: ConfigDict, parallel: Parallel, source: Any) -> Resident | None:
    """Returns the training set on the devices, if the config wants it there."""
    if not config.data.on_device:
        return None
    if config.cached_features.endpoint:
        raise UserError('config.data.on_device: config.cached_features takes the place of the images; set it to False')
    return Resident(parallel, source)


def _whitening(config: ConfigDict, source: Any, parallel: Parallel) -> dict[str, Any]:
    """Returns what whitens the images of a run: in every process what process 0 has learned."""
    learned = whitening.learn(source, config.image.zca_epsilon,
                              preprocessing.build(preprocessing.unwhitened(config.image)))
    return json.loads(parallel.broadcast_text(json.dumps(learned)))


def _check_memory(batch_size: int, source) -> None:
    """Raises UserError if a batch alone, as float32, is more than this machine has."""
    example = sum(4 * values[0].size for values in source.read(np.zeros(1, np.int64)).values())
    _check_fits(f'config.batch_size = {batch_size}', batch_size * example)


def _check_fits(what: str, size: int) -> None:
    """Raises UserError if something is more bytes than this machine's memory."""
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if size > memory:
        raise UserError(f'{what}: that takes {size // 2**30:,} GiB of the {memory / 2**30:,.0f} this machine has')


def given_vocabulary(text: ConfigDict) -> Vocabulary | None:
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


def check_fields(config: ConfigDict) -> None:
    """Raises UserError where a field has a value that no run can have."""
    if config.population != 1:
        raise UserError(f'config.population = {config.population}: a single run has 1')
    if not 0 <= config.seed < 2 ** 32:
        raise UserError(f'config.seed = {config.seed}: it must be in [0, 2**32)')
    if not 0 <= config.ema_decay < 1:
        raise UserError(f'config.ema_decay = {config.ema_decay}: it must be in [0, 1)')
    if config.checkpoint.best_mode not in ('max', 'min'):
        raise UserError(f"config.checkpoint.best_mode = {config.checkpoint.best_mode!r}: it is 'max' or 'min'")
    if config.image.channels < 1:
        raise UserError(f'config.image.channels = {config.image.channels}: it is 1 (grey), 3 (colour) or more')
    size = tuple(config.image.size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(f'config.image.size = {size}: it is (height, width) in pixels')
    _check_fits(f'config.image.size = {size}', 4 * config.image.channels * math.prod(size))
    if config.augment.transpose and size[0] != size[1] and not config.cached_features.endpoint:
        raise UserError(f'config.augment.transpose = {config.augment.transpose} needs square images, not '
                        f'config.image.size = {size}')
    known = set(config.evaluation.sets)
    for name in (*config.evaluation.periodic, *config.evaluation.final):
        if name not in known:
            raise UserError(f'config.evaluation names the set {name!r}; there are: {", ".join(sorted(known))}')
    for name in config.evaluation.sets:
        evaluation_sets.check(config, name)
    for field, low in (('evaluation.batch_size', 1), ('cached_features.batch_size', 1), ('checkpoint.keep', 1),
                       ('data.workers', 0), ('profile.start_step', 0), ('profile.steps', 0)):
        section, name = field.split('.')
        if config[section][name] < low:
            raise UserError(f'config.{field} = {config[section][name]}: it must be at least {low}')


def _check_pixels(config: ConfigDict, task: Task) -> None:
    """Raises UserError if a task that takes pixels in [0, 1] would not get them."""
    image = config.image
    if task.takes_pixels and (any(image.mean) or any(std != 1 for std in image.std) or image.local_mean):
        raise UserError(f'config.image.mean, std and local_mean: {config.task.name} is about pixels in [0, 1]: leave '
                        'them at (0.0,), (1.0,) and 0')
    for field in ('samplewise_center', 'samplewise_std', 'zca_epsilon') if task.takes_pixels else ():
        if image[field]:
            raise UserError(f'config.image.{field}: {config.task.name} is about pixels in [0, 1]: leave it off')


def _warn_of_sounds(config: ConfigDict, task: Task) -> None:
    """Says which fields make another sound of each."""
    if config.data.source != 'sounds' or 'image' not in task.input_features:
        return
    fields = [f'config.augment.{name}' for name in _AGAINST_SOUNDS if config.augment[name]]
    if config.cached_features.endpoint and config.cached_features.flip:
        fields.append('config.cached_features.flip')
    if fields:
        logging.warning('warning: sounds become other ones, played backwards or at other pitches, with %s',
                        some(fields))


def _looks_at_images_alone(config: ConfigDict, model: Any, inputs: tuple, batch: dict[str, Any]) -> UserError | None:
    """Returns what a user is told where a network for images fails at examples that are none."""
    parameters = list(inspect.signature(type(model).__call__).parameters)
    if parameters[1:2] != ['images'] or inputs[0].ndim > 3:
        return None
    found = next((name for name, values in batch.items() if values is inputs[0]), 'examples')
    waves = ' (config.image.sound.window = 0: waves)' if config.data.source == 'sounds' else ''
    return UserError(f'config.model.name = {config.model.name!r} looks at images, and {found!r} has the shape '
                     f"{list(inputs[0].shape[1:])}{waves}: another config.model, such as 'mlp'")


def _check_inputs(config: ConfigDict, model: Any, inputs: tuple) -> None:
    """Raises UserError if a task has more inputs, such as PRNG keys, than the model takes."""
    kinds = [parameter.kind for parameter in inspect.signature(type(model).__call__).parameters.values()]
    taken = sum(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds) - 1  # self
    if taken < len(inputs) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        inputs_taken = f'{taken} input{"s" if taken != 1 else ""}'
        raise UserError(f'config.model.name = {config.model.name!r} takes {inputs_taken}, and config.task.name = '
                        f'{config.task.name!r} gives it {len(inputs)}: another config.model')


def _check_metrics(config: ConfigDict, task: Task) -> None:
    """Raises UserError if the config names metrics that no periodic evaluation gives."""
    # By their types: to compute a metric of no examples would import what it computes with before the first step.
    metrics = [name for name, kind in task.eval_metrics.__annotations__.items() if getattr(kind, 'is_scalar', True)]
    metrics += task.per_example.metrics if task.per_example else ()
    known = [f'{name}/{metric}' for name in config.evaluation.periodic for metric in metrics]
    best = config.checkpoint.best_metric
    if best and best not in known:
        raise UserError(f'config.checkpoint.best_metric = {best!r} is not a metric of a periodic evaluation set; '
                        f"{nearest(best, known)} ('' keeps no best)")
    early_stopping.check(config.early_stopping, known)
