"""Tasks: what a model is trained for. Add one: a file here and a line in TASKS.

A task knows losses, metrics, predictions and images, and nothing of devices, data sets or files. Its parts:

  inputs(batch) -> tuple                 the model's positional inputs
  model_facts() -> dict                  fields of the model that follow from the data, such as num_classes
  score(outputs, batch) -> dict          per-example arrays [batch]; 'loss' is what training minimises
  train_metrics, eval_metrics            clu.metrics Collections over what `score` returns and 'mask'
  fields                                 names of its fields in config.task
  headline                               the metric to print first
  predict(outputs, image, facts, top_k) -> Prediction   of one example, for `launch.py predict`
  flatten(row) -> dict, describe(row) -> str              a prediction as columns of a table, as one line
  writes_files                           whether predictions come with files, such as masks
  images(metrics, worst, first=()) -> dict   name -> matplotlib figure, from an evaluation; `worst` and, where a task
                                         takes it, `first` (of the set): lists of {'example', 'outputs', 'case'}
  tables(metrics) -> dict                name -> rows, dicts of equal keys, for a csv file
  carried(outputs) -> pytree             optional: [batch, ...], what the next batch's rows find as batch['carry']
  generate(model, variables, batch, begin=None) -> dict   optional: arrays [batch, ...] that evaluations add to the
                                         model's outputs, and predictions use as them, such as a text
  samples(model, variables, first) -> list   optional: texts written now, dicts with 'text', to compare over time;
                                         first: the first examples of an evaluation with their cases
  combine_views(outputs) -> outputs      optional: of [views, batch, ...], for test-time augmentation
  cases                                  None, or what looks at every evaluated example on the host:
    outputs(outputs) -> dict             arrays [batch, ...] it needs of the model's outputs, computed on the device
    measure(outputs, example, facts) -> dict   one example's scores, which JSON can hold
    badness(case) -> float               what cases are ranked by; the worst are shown
    summarize(cases) -> dict             metrics over all of them; their names are in `metrics`
"""

from collections.abc import Mapping
from typing import Any

from ..common.errors import UserError, nearest
from .captioning import Captioning
from .classification import Classification
from .language_model import LanguageModel
from .regression import Regression
from .segmentation import Segmentation

TASKS = {
    'captioning': Captioning,
    'classification': Classification,
    'language_model': LanguageModel,
    'regression': Regression,
    'segmentation': Segmentation,
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
