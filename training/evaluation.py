"""Scores a model on whole evaluation sets: each example exactly once."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from input_pipeline.batches import stream
from training.components import Evaluations
from training.preemption import Interrupted
from training.progress import Ticker


def evaluate(evaluations: Evaluations, name: str, variables: dict[str, Any],
             stop_requested: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Scores one evaluation set.

    Args:
      evaluations: the sets and the compiled step.
      name: which set.
      variables: {'params', 'batch_stats'} on the devices.
      stop_requested: polled after every batch.

    Returns:
      {metric: float, or array for metrics such as a confusion matrix}, without the set's name.

    Raises:
      Interrupted: the process was asked to stop.
    """
    parallel = evaluations.parallel
    source, batches = evaluations.batches(name)
    tick = Ticker(f'evaluating {name}', len(batches))
    total, previous = None, None
    for number, batch in enumerate(stream(batches, range(len(batches)), source=source, workers=evaluations.workers)):
        metrics = evaluations.step(variables, parallel.shard(batch))
        if previous is not None:  # one batch late, so that the device never waits for the host
            total = merge(total, parallel.fetch(previous))
        previous = metrics
        tick(number)
        if stop_requested():
            raise Interrupted
    return merge(total, parallel.fetch(previous)).compute()


def merge(total, metrics):
    """Adds a clu Collection on the host to a running one, sums in float64."""
    metrics = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x.astype(np.int64), metrics)
    return metrics if total is None else total.merge(metrics)


def scalars(name: str, metrics: dict[str, Any]) -> dict[str, float]:
    """Returns the scalar metrics under flat names, 'test/accuracy'."""
    return {f'{name}/{key}': float(value) for key, value in metrics.items() if np.ndim(value) == 0}
