"""Reading images the way a model wants them: its channels, its bits, its size."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError
from ..input_pipeline import images
from ..input_pipeline.views import Views


class ImageReader:
    """Reads image files, or frames of videos, and brings them to the size of a model.

    Args:
      image: config.image of the model.
      frames: of the videos that it takes; 1 for images.
      views: how often it looks at each image; once by default.

    Attributes:
      size, channels, bits: of the images it takes.
      frames: of the videos that it takes instead; 1 for images.
    """

    def __init__(self, image: Mapping[str, Any], frames: int = 1, views: Views | None = None):
        views = views or Views('none', image['size'])
        self.size, self.channels, self.frames = tuple(views.read_size), image['channels'], frames
        self.bits = image['bits']
        self._resize = views.resize(image['resize'])

    def fit(self, example: np.ndarray) -> np.ndarray:
        """Returns an image of any size, [(frames,) height, width, channels], in the size the model takes."""
        if example.ndim == 4:
            return np.stack([self.fit(frame) for frame in example])
        return images.fit(example, self.size, self._resize)

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
