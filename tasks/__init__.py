"""Tasks: what a model is trained for. Add one: a file here with a subclass of `Task`, and a line in TASKS."""

from collections.abc import Mapping
from typing import Any

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from .adversarial import Adversarial
from .animation import Animation, Frame
from .captioning import Captioning
from .classification import Classification
from .contrastive_divergence import ContrastiveDivergence
from .detection import Detection
from .language_model import LanguageModel
from .multi_label import MultiLabel
from .q_learning import QLearning
from .question_answering import QuestionAnswering
from .reconstruction import Reconstruction
from .region_detection import RegionDetection
from .regression import Regression
from .segmentation import Segmentation
from .skip_gram import SkipGramTask
from .task import PerExample, Task
from .translation import Translation
from .variational import Variational

__all__ = ['Animation', 'Frame', 'PerExample', 'RegionDetection', 'TASKS', 'Task', 'build']

TASKS: dict[str, type[Task]] = {
    'adversarial': Adversarial,
    'captioning': Captioning,
    'classification': Classification,
    'contrastive_divergence': ContrastiveDivergence,
    'detection': Detection,
    'language_model': LanguageModel,
    'multi_label': MultiLabel,
    'q_learning': QLearning,
    'question_answering': QuestionAnswering,
    'reconstruction': Reconstruction,
    'region_detection': RegionDetection,
    'regression': Regression,
    'segmentation': Segmentation,
    'skip_gram': SkipGramTask,
    'translation': Translation,
    'variational': Variational,
}


def build(config: Mapping[str, Any], info: DatasetInfo) -> Task:
    """Builds the task that config.task names.

    Args:
      config: mapping with 'name' and fields of that task.
      info: what is known of the data set.

    Raises:
      UserError: unknown task, or data that do not fit it.
    """
    name = config['name']
    if name not in TASKS:
        raise UserError(f'config.task.name = {name!r}; {nearest(name, list(TASKS))}')
    fields = ('inputs', *TASKS[name].fields)
    for key in config:
        if key not in ('name', *fields):
            raise UserError(f'config.task.{key}: {name} has no such field; {nearest(key, fields)}')
    return TASKS[name](config, info)
