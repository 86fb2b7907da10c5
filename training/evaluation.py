"""Scores a model on whole evaluation sets: each example exactly once."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ..common.console import ProgressLog
from ..input_pipeline.batches import stream
from .components import Evaluations
from .per_example import ExampleCollector
from .preemption import Interrupted


@dataclasses.dataclass
class Evaluation:
    """What was found on one evaluation set.

    Attributes:
      metrics: name -> float, or array for metrics such as a confusion matrix; without the set's name.
      examples: scores of every example, where the task looks at single ones; in process 0 only.
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
    parallel, scorer = evaluations.parallel, evaluations.task.per_example
    source, batches = evaluations.batches(name)
    collector = ExampleCollector(scorer, source, evaluations.batch_size) if scorer and parallel.is_writer else None
    tick = ProgressLog(f'evaluating {name}', len(batches))
    total, previous = None, None
    carry = evaluations.carry(name, variables)

    def finish(metrics, outputs, batch):
        nonlocal total
        total = merge(total, parallel.fetch(metrics))
        if collector:
            collector.add(parallel.fetch(outputs), batch if parallel.processes == 1 else None)

    for number, batch in enumerate(stream(batches, range(len(batches)), source=source, workers=evaluations.workers)):
        metrics, outputs, carry = evaluations.step({**variables, 'carry': carry}, parallel.shard(batch))
        if previous is not None:  # one batch late, so that the device never waits for the host
            finish(*previous)
        previous = metrics, outputs, batch
        tick(number)
        if stop_requested():
            raise Interrupted
    finish(*previous)
    found = Evaluation(total.compute())
    if collector:
        found = Evaluation(found.metrics | collector.summary(), collector.rows, collector.worst(), collector.first)
    if parallel.is_writer:
        found.samples = evaluations.task.samples(evaluations.model, parallel.fetch(variables), found.first)
    return found


def merge(total, metrics):
    """Adds a clu Collection on the host to a running one, sums in float64."""
    metrics = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x.astype(np.int64), metrics)
    return metrics if total is None else total.merge(metrics)
