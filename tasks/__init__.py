"""Tasks: what a model is trained for. Add one: a file here and a line in TASKS.

A task knows losses, metrics, predictions and pictures, and nothing of devices, data sets or files. Its parts:

  inputs(batch) -> tuple                 the model's positional inputs
  model_facts() -> dict                  fields of the model that follow from the data, such as num_classes
  score(outputs, batch) -> dict          per-example arrays [batch]; 'loss' is what training minimises
  train_metrics, eval_metrics            clu.metrics Collections over what `score` returns and 'mask'
  fields                                 names of its fields in config.task
  headline                               the metric to print first
  predict(outputs, top_k) -> list        per example, what `launch.py predict` writes
  pictures(metrics) -> dict              name -> matplotlib figure, from computed evaluation metrics
"""

from collections.abc import Mapping
from typing import Any

from tasks.classification import Classification
from tasks.regression import Regression
from training.config import nearest
from training.errors import UserError

TASKS = {
    'classification': Classification,
    'regression': Regression,
}


def build(config: Mapping[str, Any], meta: Mapping[str, Any]):
    """Builds the task that config.task names.

    Args:
      config: mapping with 'name' and fields of that task.
      meta: facts about the data set, such as 'class_names'; they travel in checkpoints.

    Raises:
      UserError: unknown task, or data that do not fit it.
    """
    name = config['name']
    if name not in TASKS:
        raise UserError(f'config.task.name = {name!r}; {nearest(name, list(TASKS))}')
    for key in config:
        if key not in ('name', *TASKS[name].fields):
            raise UserError(f'config.task.{key}: {name} has no such field; {nearest(key, TASKS[name].fields)}')
    return TASKS[name](config, meta)
