"""Runs that were never trained, without a checkpoint: what is tested is what becomes of their functions."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.vocabulary import Vocabulary
from practicum.inference.run import Run
from practicum.training import config as config_lib
from practicum.training import forward
from practicum.training.defaults import base

WORDS = ('ant', 'bee', 'cat', 'dog', 'eel', 'fox', 'gnu', 'hen')


def untrained(workdir: Path, model: dict[str, Any], task: str = 'classification', *, size=(16, 16), channels: int = 3,
              info: DatasetInfo | None = None, arrays: dict[str, Any] | None = None, **image: Any) -> Run:
    """Returns a Run whose folder, `workdir`, is empty.

    Args:
      model, task: of the config; a task's fields are its defaults.
      size, channels, image: of config.image.
      info: by default of data with the classes 'a', 'b' and 'c'.
      arrays: config.data.arrays, of tables.
    """
    config = base()
    config.experiment = 'untrained'
    config.model, config.task = model, {'name': task}
    config.image.update({'size': size, 'channels': channels, **image})
    config.data.arrays.update(arrays or {})
    run = Run.__new__(Run)
    run.workdir, run.step, run._asked, run._overrides = workdir, 0, 'last', ()
    run.info = info or DatasetInfo(class_names=('a', 'b', 'c'), input_size=size if task == 'detection' else None)
    run.config = config_lib.from_dict(config.to_dict())
    run.class_names, run.metrics, run.meta = tuple(run.info.class_names or ()), {}, {}
    run.task = tasks.build(run.config.task, run.info)
    run.model = forward.build_model(run.config, run.task)
    inputs = {'image': jnp.zeros((1, *((run.info.frames,) * (run.info.frames > 1)), *size, channels)),
              'captions': jnp.zeros((1, 1, 5), jnp.int32), 'tokens': jnp.zeros((1, 3), jnp.int32),
              **{name: jnp.asarray(values[:1]) for name, values in (arrays or {}).items()}}
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: run.model.init({'params': key, 'dropout': key}, *(
        inputs[name] for name in run.task.input_features), train=False))
    random = np.random.default_rng(0)  # nothing is compiled
    run.variables = jax.tree.map(lambda leaf: jnp.asarray(random.uniform(0, 0.5, leaf.shape), leaf.dtype), dict(shapes))
    run._networks, run._heat_maps = {}, {}
    return run


def of_texts(**facts: Any) -> DatasetInfo:
    """Facts about texts of eight words."""
    return DatasetInfo(vocabulary=Vocabulary.build([' '.join(WORDS)], 'words').to_meta(), **facts)
