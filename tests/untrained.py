"""Runs that were never trained, with random weights, for tests and timings of what comes after training."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.vocabulary import Vocabulary
from practicum.inference.run import Run
from practicum.training import forward
from practicum.training.defaults import base

MASKS = {'name': 'segmentation', 'loss': 'cross_entropy_dice', 'class_weights': ()}
WORDS = ('ant', 'bee', 'cat', 'dog', 'eel', 'fox', 'gnu', 'hen')


class UntrainedRun(Run):
    """A run that comes from no checkpoint.

    Args:
      config: of an experiment, not locked.
      info: what is known of its data.
      workdir: its folder, which need not exist.
    """

    def __init__(self, config: ConfigDict, info: DatasetInfo, workdir: Path):  # not Run's: nothing is read
        self.workdir, self._asked, self._overrides, self.step = workdir, 'last', (), 1
        config.experiment = 'untrained'
        self.config, self.meta, self.metrics = config.lock(), {'score': None}, {}
        self.info, self.class_names = info, tuple(info.class_names or ())
        self.task = tasks.build(config.task, info)
        self.model = forward.build_model(config, self.task)
        frames = (info.frames,) * (info.frames > 1)
        inputs = {'image': jnp.zeros((1, *frames, *config.image.size, config.image.channels)),
                  'captions': jnp.zeros((1, 1, 5), jnp.int32), 'tokens': jnp.zeros((1, 3), jnp.int32),
                  **{name: jnp.asarray(values[:1]) for name, values in config.data.arrays.items()}}
        keys = {'params': jax.random.key(0), 'dropout': jax.random.key(0)}
        shapes = jax.eval_shape(lambda: self.model.init(
            keys, *(inputs[name] for name in self.task.input_features), train=False))
        random = np.random.default_rng(0)
        self.variables = jax.tree_util.tree_map_with_path(
            lambda path, of: _draw(random, path[-1].key, of.shape), dict(shapes))
        self._networks, self._heat_maps = {}, {}


def untrained(model: dict[str, Any], size: tuple[int, int] = (16, 16), channels: int = 3, *, classes: int = 5,
              task: str | dict[str, Any] = 'classification', info: DatasetInfo | None = None,
              arrays: dict[str, Any] | None = None, workdir: Path = Path('runs/untrained'), **image: Any
              ) -> UntrainedRun:
    """Returns a run with a model; nothing is compiled.

    Args:
      model: of the config.
      size, channels, image: of config.image.
      classes: how many there are, '0', '1', ...
      task: of the config, or its name.
      info: what is known of the data, in place of `classes`.
      arrays: config.data.arrays, of tables.
      workdir: of the run.
    """
    config = base()
    config.data.name = 'none'
    config.model = model
    config.image.update(size=size, channels=channels, **image)
    config.task = {'name': task} if isinstance(task, str) else task
    config.data.arrays.update(arrays or {})
    boxes = {'input_size': size} if config.task.name == 'detection' else {}
    info = info or DatasetInfo(('image', 'label'), tuple(map(str, range(classes))), **boxes)
    return UntrainedRun(config, info, workdir)


def of_texts(**facts: Any) -> DatasetInfo:
    """Facts about texts of eight words."""
    return DatasetInfo(vocabulary=Vocabulary.build([' '.join(WORDS)], 'words').to_meta(), **facts)


def _draw(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> jax.Array:
    """Weights of a layer whose outputs stay about as large as its inputs, and a BatchNorm that does something."""
    if name in ('var', 'scale'):
        return jnp.asarray(random.uniform(0.5, 1.5, shape), jnp.float32)
    deviation = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
    return jnp.asarray(random.normal(0, deviation, shape), jnp.float32)
