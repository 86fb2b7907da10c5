"""Evaluation sets, and how a model is scored on them: each example exactly once."""

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ..common.console import ProgressLog
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, some
from ..common.vocabulary import Vocabulary
from ..input_pipeline import alteration, checks, preprocessing, sources
from ..input_pipeline.batches import eval_batches, stream
from ..input_pipeline.views import Views
from ..tasks import Task
from . import evaluation_sets, forward
from .parallel import Parallel, Place, one_late
from .per_example import ExampleCollector
from .preemption import Interrupted
from .state import initial_carry
from .step import EVALUATE, apply_model, make_eval_step

# Bytes of memory for every pixel of the images that a device evaluates together, and room for more: VGG, the largest
# network here, holds three arrays of 64 float32 channels at full resolution at once, which are 768.
_BYTES_PER_PIXEL = 1024
# For a CPU, whose memory is everybody's and where Linux ends who takes too much without a word: 83 images of 224x224.
_CPU_BYTES = 2 ** 32


class Evaluations:
    """The evaluation sets of a config and the compiled step that scores them.

    Args:
      config, parallel, task: as in training.
      info: what is known of the data the model was trained on; every set must agree on the classes.
      names: which of config.evaluation.sets to open.
      seeds: of several runs that are evaluated together: then the step takes the variables of all, stacked along a
        first dimension, and a batch that they share.

    Attributes:
      task: as given.
      model: the network.
      sources: set -> its examples.
      batch_size: examples per step over all devices.
      count: of the runs that are evaluated together.
      seed: of the run, or [runs], on the devices.

    Raises:
      UserError: an unknown set, or one whose classes are not those of the training data.
    """

    def __init__(self, config: ConfigDict, parallel: Parallel, task: Task, info: DatasetInfo, names: tuple[str, ...],
                 seeds: Sequence[int] | None = None):
        self.parallel, self.workers = parallel, config.data.workers
        views = Views(config.evaluation.tta, config.image.size)
        model = self.model = forward.build_model(config, task)
        if views.count > 1:
            if config.data.source == 'sounds':
                raise UserError(f"config.evaluation.tta = {views.name!r}: sounds mean something else backwards, they "
                                "take 'none' alone")
            if config.cached_features.endpoint:
                raise UserError("config.evaluation.tta: cached features are of one view; evaluate the run afterwards: "
                                f"launch.py evaluate --tta {views.name}")
            apply, prepare = forward.in_views(model, task, views), preprocessing.build(config.image, info=info)
        elif config.cached_features.endpoint:
            apply, prepare = forward.build_forward(config, model, task), forward.unchanged
            apply = forward.generating(apply, model, task, begin=config.cached_features.endpoint)
        else:
            apply = forward.generating(apply_model(model, task), model, task)
            prepare = preprocessing.build(config.image, info=info)
        self.task, self._apply, self._prepare = task, apply, prepare
        self._several = seeds is not None
        self.count = len(seeds) if self._several else 1
        self.seed = parallel.place(np.asarray(seeds if self._several else config.seed, np.uint32))
        step = make_eval_step(apply, task, prepare)
        self.step = parallel.compile(jax.vmap(step, in_axes=(0, None)) if self._several else step, **EVALUATE)
        self.sources = {name: open_set(name, config, views, info) for name in names}
        longest = max(map(len, self.sources.values()), default=1)
        self.batch_size = min(max(1, config.evaluation.batch_size // views.count), longest)
        if 'image' in task.input_features:
            self.batch_size = _fitting(self.batch_size, self.count * views.count * math.prod(views.read_size), views,
                                       parallel)
        # Padding is masked, so any size can be rounded up to what the devices share evenly.
        self.batch_size = parallel.round_up(self.batch_size)

    def __call__(self, name: str, variables: dict[str, Any], stop_requested: Callable[[], bool]) -> 'Evaluation':
        """Returns what `evaluate` does."""
        return evaluate(self, name, variables, stop_requested)

    def split(self, tree: Any) -> list[Any]:
        """Returns the part of each run of host arrays that come from the step."""
        if not self._several:
            return [tree]
        return [jax.tree.map(lambda leaf, index=index: leaf[index], tree) for index in range(self.count)]

    def batches(self, name: str) -> tuple[Any, Any]:
        """Returns a set's source and its batches."""
        source = self.sources[name]
        rows = self._rows(source)
        return source, eval_batches(source, rows, self.parallel.local_slice(rows), positions=self.task.needs_rng)

    def carry(self, name: str, variables: dict[str, Any]) -> Any:
        """Returns what the first batch of a set begins with, see `TrainState`."""
        source = self.sources[name]
        batch = self._prepare(source.read(np.zeros(1, np.int64)), None)
        if self.task.needs_rng:
            batch |= {'rng': jax.random.split(jax.random.key(0), 1)}
        if self._several:  # of the first run, whose shapes are those of all
            variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), variables)
        carry = initial_carry(self._apply, self.task, variables, batch, self._rows(source))
        if self._several:
            carry = jax.tree.map(lambda leaf: np.zeros((self.count, *leaf.shape), leaf.dtype), carry)
        return self.parallel.place(carry, Place.ROWS)

    def _rows(self, source: Any) -> int:
        """Returns rows of a batch: all streams of a text, else `batch_size`."""
        return self.parallel.round_up(source.streams) if source.streams else self.batch_size


def open_set(name: str, config: ConfigDict, views: Views, info: DatasetInfo) -> Any:
    """Opens an evaluation set, checks it, and alters its images as the config says.

    Args:
      name: of config.evaluation.sets.
      config: of the run.
      views: which its images are read for.
      info: of the data the model was trained on.

    Raises:
      UserError: see `Evaluations`.
    """
    chosen = evaluation_sets.resolve(config, name)
    chosen.image.size, chosen.image.resize = views.read_size, views.resize(chosen.image.resize)
    vocabulary = Vocabulary.from_meta(info.vocabulary) if info.vocabulary is not None else None
    source = sources.open_split(chosen.data, chosen.image, chosen.split, invert=chosen.invert, text=config.text,
                                vocabulary=vocabulary)
    _check_same_classes(name, source.info, info, chosen.data)
    checks.check_source(source, config.image, f'evaluation set {name!r}')
    altered = alteration.altered(source, chosen.augment, chosen.corrupt, f'evaluation set {name!r}')
    altered.taken, altered.left_out = source.taken, source.left_out
    return altered


def _fitting(batch_size: int, pixels: int, views: Views, parallel: Parallel) -> int:
    """Returns how many images are evaluated together: fewer than wanted where they may not fit into memory.

    Args:
      batch_size: the number wanted.
      pixels: that the model looks at for each of them, in all views and models.
      views: of an image.
      parallel: the devices.
    """
    device = parallel.local[0]
    memory = _CPU_BYTES if device.platform == 'cpu' else (device.memory_stats() or {}).get('bytes_limit')
    room = batch_size if memory is None else max(1, memory // (_BYTES_PER_PIXEL * pixels))  # None: it does not say
    # What fits in process 0 counts for all: their batches must be of one size.
    fitting = parallel.count * int(parallel.broadcast(np.int32(min(room, batch_size))))
    if fitting >= batch_size:
        return batch_size
    logging.info('evaluating %s images at a time, not %s: of %s pixels each, a device has room for %s',
                 f'{fitting:,}', f'{batch_size:,}', 'x'.join(map(str, views.read_size)),
                 f'{fitting // parallel.count:,}')
    return fitting


def _check_same_classes(name: str, found: DatasetInfo, trained: DatasetInfo, data: ConfigDict) -> None:
    if found.class_names == trained.class_names:
        return
    ours, theirs = trained.class_names or (), found.class_names or ()
    cure = ''
    if data.source == 'mask_folder':
        cure = f': name them in {data.name}/classes.txt, one a line, the background first'
    elif data.source in ('voc_folder', 'coco'):
        cure = f': name them in {data.name}/classes.txt, one a line'
    if len(ours) == len(theirs):
        first = next(i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b)
        raise UserError(f'class {first} of evaluation set {name!r} is {theirs[first]!r}, the model was trained with '
                        f'{ours[first]!r} there{cure}')
    raise UserError(f'evaluation set {name!r} has {len(theirs)} classes ({some(theirs)}), the model was trained on '
                    f'{len(ours)} ({some(ours)}){cure}')


@dataclasses.dataclass
class Evaluation:
    """What was found on one evaluation set.

    Attributes:
      metrics: name -> float, or array for metrics such as a confusion matrix; without the set's name.
      examples: scores of every example, where the task looks at single ones.
      worst: the worst examples with the model's outputs, see `ExampleCollector.worst`.
      first: the first examples, likewise.
      samples: texts that were written, where a task writes any; in process 0 only.
    """
    metrics: dict[str, Any]
    examples: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    worst: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    first: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def scalars(self, prefix: str = '') -> dict[str, float]:
        """Returns the scalar metrics, under flat names such as 'test/accuracy' for the prefix 'test/'."""
        return {prefix + key: float(value) for key, value in self.metrics.items() if np.ndim(value) == 0}


def evaluate(evaluations: Evaluations, name: str, variables: dict[str, Any],
             stop_requested: Callable[[], bool] = lambda: False) -> Evaluation:
    """Scores one evaluation set.

    Args:
      evaluations: the sets and the compiled step.
      name: which set.
      variables: {'params', 'batch_stats'} on the devices.
      stop_requested: polled after every batch.

    Raises:
      Interrupted: the process was asked to stop.
    """
    return evaluate_all(evaluations, name, variables, stop_requested)[0]


def evaluate_all(evaluations: Evaluations, name: str, variables: dict[str, Any],
                 stop_requested: Callable[[], bool] = lambda: False) -> list[Evaluation]:
    """Scores one evaluation set with every run that is evaluated together; arguments as for `evaluate`."""
    parallel, task = evaluations.parallel, evaluations.task
    source, batches = evaluations.batches(name)
    collectors = [ExampleCollector(task.per_example, source) for _ in range(evaluations.count)
                  ] if task.per_example else []
    progress = ProgressLog(f'evaluating {name}', len(batches))
    inherited = {**variables, 'seed': evaluations.seed}
    carry = evaluations.carry(name, variables)
    first = parallel.local_slice(evaluations.batch_size).start

    def steps():
        nonlocal carry
        read = stream(batches, range(len(batches)), source=source, workers=evaluations.workers)
        for number, batch in enumerate(read):
            metrics, outputs, carry = evaluations.step({**inherited, 'carry': carry}, parallel.shard(batch))
            yield metrics, outputs, batch, first + number * evaluations.batch_size
            progress(number)
            if stop_requested():
                raise Interrupted

    totals = [None] * evaluations.count
    for metrics, outputs, batch, begin in one_late(steps()):
        totals = list(map(merge, totals, evaluations.split(parallel.fetch(metrics))))
        if collectors:
            places = begin + np.arange(len(batch['mask']))
            for collector, rows in zip(collectors, evaluations.split(parallel.fetch_rows(outputs))):
                collector.add(places, rows, batch)
    found = [Evaluation(total.compute()) for total in totals]
    for number, collector in enumerate(collectors):
        collector.join(parallel)
        found[number] = Evaluation(found[number].metrics | collector.summary(), collector.rows, collector.worst(),
                                   collector.first)
    if type(task).samples is not Task.samples:
        for one, host in zip(found, evaluations.split(parallel.fetch(variables))):
            one.samples = task.samples(evaluations.model, host, one.first) if parallel.is_writer else []
    return found


def merge(total, metrics):
    """Adds a clu Collection on the host to a running one, sums in float64."""
    metrics = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x.astype(np.int64), metrics)
    return metrics if total is None else total.merge(metrics)
