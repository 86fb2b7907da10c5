"""Reading images the way a model wants them: its channels, its bits, its size."""

import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError, printable
from ..input_pipeline import image_search, images
from ..input_pipeline.sounds import SUFFIXES as SOUND_SUFFIXES
from ..input_pipeline.sounds import read_wave, to_image, to_row
from ..input_pipeline.views import Views


class ImageReader:
    """Reads image files, or frames of videos, and brings them to the size of a model.

    Args:
      image: config.image of the model.
      frames: of the videos that it takes; 1 for images.
      views: how often it looks at each image; once by default.
      sounds: whether its files are sounds, and its images spectrograms of them.

    Attributes:
      size, channels, bits: of the images it takes.
      frames: of the videos that it takes instead; 1 for images.
      suffixes: of the files that it takes.
    """

    def __init__(self, image: Mapping[str, Any], frames: int = 1, views: Views | None = None, *,
                 sounds: bool = False):
        views = views or Views('none', image['size'])
        self.size, self.channels, self.frames = tuple(views.read_size), image['channels'], frames
        self.bits = image['bits']
        self._resize = views.resize(image['resize'])
        self._sounds, self._image = sounds, image
        self.suffixes = SOUND_SUFFIXES if sounds else image_search.IMAGE_SUFFIXES

    def fit(self, example: np.ndarray) -> np.ndarray:
        """Returns an image of any size, [(frames,) height, width, channels], in the size the model takes."""
        if example.ndim == 4:
            return np.stack([self.fit(frame) for frame in example])
        return images.fit(example, self.size, self._resize)

    def read_file(self, file: Path) -> np.ndarray:
        """Returns an image in its own size, the frames of a video, a spectrogram, or, where config.image.sound.window
        is 0, a wave, float32 [samples]; UserError if it cannot be read."""
        if self._sounds:
            sound = self._image['sound']
            wave = read_wave(file, sound)
            if not np.ptp(wave):
                logging.warning('warning: nothing is to be heard in the first %g s of %s: the answer means nothing',
                                sound['seconds'], printable(str(file)))
            return to_image(wave, {**self._image, 'size': self.size}) if sound['window'] else to_row(wave)
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
