"""A run's network behind one compiled function, and the reading of images for it."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError
from ..input_pipeline import images, preprocessing
from ..input_pipeline.views import Views

_LARGEST_BATCH = 64
_BATCH_PIXELS = 2**19  # a network's intermediate results may take a thousand bytes for each


class Network:
    """Applies a function of a run's variables to a fixed number of examples, compiled once.

    Args:
      run: whose config, info and variables are used, see inference/run.py.
      apply: apply(variables, batch) -> pytree of [batch, ...], of what preprocessing makes of a batch.
      variables: what `apply` needs of the run's; all by default.
      feature: name of the feature in a batch: 'image', or one of a table.
      views: how often `apply` looks at each image; once by default.

    Attributes:
      size, channels, bits: of the images it takes.
      frames: of the videos that it takes instead; 1 for images.
      batch_size: how many of them it looks at together.
    """

    def __init__(self, run: Any, apply: Callable, *, variables: Any = None, feature: str = 'image',
                 views: Views | None = None):
        image = run.config.image
        views = views or Views('none', image.size)
        self.size, self.channels, self.frames = tuple(views.read_size), image.channels, run.info.frames
        self.bits = image.bits
        self._resize, self._feature = views.resize(image.resize), feature
        self._variables = jax.device_put(run.variables if variables is None else variables)
        pixels = views.count * self.frames * self.size[0] * self.size[1]
        self.batch_size = max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // pixels))
        prepare = preprocessing.build(image)
        self._apply = jax.jit(lambda variables, batch: apply(variables, prepare(batch, None)))

    def fit(self, example: np.ndarray) -> np.ndarray:
        """Returns an image of any size, uint8 [(frames,) height, width, channels], in the size it takes."""
        if self._feature != 'image':
            return example
        if example.ndim == 4:
            return np.stack([self.fit(frame) for frame in example])
        return images.fit(example, self.size, self._resize)

    def start(self, examples: np.ndarray) -> Any:
        """Starts what `outputs` returns, without waiting for it; rows after the first n mean nothing."""
        n = len(examples)
        padded = np.concatenate([examples, np.zeros((self.batch_size - n, *examples.shape[1:]), examples.dtype)])
        return self._apply(self._variables, {self._feature: padded})

    def outputs(self, examples: np.ndarray) -> list[Any]:
        """Returns the outputs for each of at most `batch_size` examples, uint8 [n, *size, channels] for images."""
        outputs = jax.tree.map(np.asarray, self.start(examples))
        return [jax.tree.map(lambda values: values[row], outputs) for row in range(len(examples))]

    def read_file(self, file: Path) -> np.ndarray:
        """Returns an image in its own size, or the frames of a video; UserError if it cannot be read."""
        if self.frames > 1:
            return images.read_video(file, frames=self.frames, channels=self.channels)
        return images.read_image(file, channels=self.channels, bits=self.bits)

    def read_files(self, files: Collection[Path], what: str, unreadable: list[str]
                   ) -> Iterator[tuple[Path, np.ndarray]]:
        """Yields (file, image) with progress on `what` is being done; errors of what cannot be read are collected."""
        tick = ProgressLog(what, len(files))
        for number, file in enumerate(files):
            try:
                yield file, self.read_file(file)
            except UserError as error:
                unreadable.append(str(error))
            tick(number)
