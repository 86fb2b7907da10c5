"""Runs that were never trained, with random weights, for tests and timings of what comes after training."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.inference.run import Run
from practicum.training import forward
from practicum.training.defaults import base

MASKS = {'name': 'segmentation', 'loss': 'cross_entropy_dice', 'class_weights': ()}


class UntrainedRun(Run):
    """A run that comes from no checkpoint.

    Args:
      config: of an experiment, not locked.
      classes: how many there are, '0', '1', ...
    """

    def __init__(self, config: ConfigDict, classes: int):  # not Run's: nothing is read
        self.workdir, self._asked, self._overrides, self.step = Path('runs/untrained'), 'last', (), 1
        config.experiment = 'untrained'
        self.config, self.meta, self.metrics = config.lock(), {'score': None}, {}
        self.class_names = tuple(map(str, range(classes)))
        size = tuple(config.image.size)
        boxes = {'input_size': size} if config.task.name == 'detection' else {}
        self.info = DatasetInfo(('image', 'label'), self.class_names, **boxes)
        self.task = tasks.build(config.task, self.info)
        self.model = forward.build_model(config, self.task)
        images = jnp.zeros((1, *size, config.image.channels))
        keys = {'params': jax.random.key(0), 'dropout': jax.random.key(0)}
        shapes = jax.eval_shape(lambda: self.model.init(keys, images, train=False))
        random = np.random.default_rng(0)
        self.variables = jax.tree_util.tree_map_with_path(
            lambda path, of: _draw(random, path[-1].key, of.shape), shapes)
        self._networks, self._heat_maps = {}, {}


def untrained(model: dict[str, Any], size: tuple[int, int], channels: int = 3, *, classes: int = 5,
              task: dict[str, Any] | None = None, **image: Any) -> UntrainedRun:
    """Returns a run with a model; image: further fields of config.image."""
    config = base()
    config.data.name = 'none'
    config.model = model
    config.image.update(size=size, channels=channels, **image)
    if task:
        config.task = task
    return UntrainedRun(config, classes)


def _draw(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> jax.Array:
    """Weights of a layer whose outputs stay about as large as its inputs, and a BatchNorm that does something."""
    if name in ('var', 'scale'):
        return jnp.asarray(random.uniform(0.5, 1.5, shape), jnp.float32)
    deviation = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
    return jnp.asarray(random.normal(0, deviation, shape), jnp.float32)
