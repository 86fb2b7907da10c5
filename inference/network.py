"""A run's network behind one compiled function."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ..input_pipeline import preprocessing
from ..input_pipeline.views import Views
from .image_reader import ImageReader

_LARGEST_BATCH = 64
_BATCH_PIXELS = 2**19  # a network's intermediate results may take a thousand bytes for each


class Network(ImageReader):
    """Applies a function of a run's variables to a fixed number of examples, compiled once.

    Args:
      run: whose config, info and variables are used, see inference/run.py.
      apply: apply(variables, batch) -> pytree of [batch, ...], of what preprocessing makes of a batch.
      variables: what `apply` needs of the run's; all by default.
      feature: name of the feature in a batch: 'image', or one of a table.
      views: how often `apply` looks at each image; once by default.

    Attributes:
      feature: as given.
      variables: on the device.
      function: function(variables, batch) -> what `apply` returns, preprocessing included; not compiled.
      batch_size: how many examples it looks at together.
    """

    def __init__(self, run: Any, apply: Callable, *, variables: Any = None, feature: str = 'image',
                 views: Views | None = None):
        views = views or Views('none', run.config.image.size)
        super().__init__(run.config.image, run.info.frames, views, sounds=run.config.data.source == 'sounds')
        self.feature = feature
        self.variables = jax.device_put(run.variables if variables is None else variables)
        pixels = views.count * self.frames * self.size[0] * self.size[1]
        self.batch_size = max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // pixels))
        prepare = preprocessing.build(run.config.image, info=run.info)
        self.function = lambda variables, batch: apply(variables, prepare(batch, None))
        self._compiled = jax.jit(self.function)

    def fit(self, example: np.ndarray) -> np.ndarray:
        """Returns an image of any size in the size it takes, see `ImageReader`; rows of tables as they are."""
        return super().fit(example) if self.feature == 'image' else example

    def start(self, examples: np.ndarray) -> Any:
        """Starts what `outputs` returns, without waiting for it; rows after the first n mean nothing."""
        n = len(examples)
        padded = np.concatenate([examples, np.zeros((self.batch_size - n, *examples.shape[1:]), examples.dtype)])
        return self._compiled(self.variables, {self.feature: padded})

    def outputs(self, examples: np.ndarray) -> list[Any]:
        """Returns the outputs for each of at most `batch_size` examples, uint8 [n, *size, channels] for images."""
        outputs = jax.tree.map(np.asarray, self.start(examples))
        return [jax.tree.map(lambda values: values[row], outputs) for row in range(len(examples))]
