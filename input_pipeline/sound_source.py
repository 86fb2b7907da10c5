"""Sounds with one class each: WAV files in folders, <folder>/<class>/*.wav or <folder>/<split>/<class>/*.wav, or those
that are drawn, config.data.name = 'chirps' (a folder of that name is './chirps').

With config.image.sound.window examples are pictures, spectrograms of config.image.size; with window = 0 they are the
waves themselves, 'x', over their own loudest sample.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import warn_once
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest, printable
from . import folder_source, image_search, memory, sounds
from .datasets import chirps
from .source import Examples, Source

_VERSION = 2  # of what is made of a sound, and of which are unreadable


class SoundSource(Source):
    """Sounds of one split; what a subclass adds is where they come from.

    Args:
      name: for messages.
      labels: int32 [n].
      class_names: in their order.
      image: config.image.
    """
    unit = 'sounds'

    def __init__(self, name: str, labels: np.ndarray, class_names: Sequence[str], image: Mapping[str, Any]):
        self.name, self._labels, self.info = name, labels, DatasetInfo(class_names=tuple(class_names))
        self._image, self._sound = image, image['sound']
        self.identity: Any = ['sounds', _VERSION, dict(self._sound), tuple(image['size']), image['channels']]

    @property
    def labels(self) -> np.ndarray:
        """See `Source`."""
        return self._labels

    def __len__(self) -> int:
        return len(self._labels)

    def wave(self, index: int) -> np.ndarray:
        """Returns a sound, float32 [samples]."""
        raise NotImplementedError

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """Returns 'image' uint8 [n, height, width, channels] or 'x' float32 [n, samples], and 'label'.

        Raises:
          UserError: a file cannot be read.
        """
        del uniforms
        examples = self.blank(indices)
        for row, index in enumerate(indices):
            wave = self.wave(int(index))
            if 'image' in examples:
                examples['image'][row] = sounds.to_image(wave, self._image)
            else:
                examples['x'][row] = sounds.to_row(wave)
        return examples

    def blank(self, indices: np.ndarray) -> Examples:
        """Returns what `read` does, of silence."""
        n, labels = len(indices), {'label': self._labels[indices]}
        if not self._sound['window']:
            return {'x': np.zeros((n, sounds.length_of(self._sound)), np.float32), **labels}
        return {'image': np.zeros((n, *self._image['size'], self._image['channels']), np.uint8), **labels}


class WaveFolder(SoundSource):
    """WAV files in a folder for each class."""
    can_be_unreadable = True

    def __init__(self, root: Path, image: Mapping[str, Any]):
        classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith('.'))
        if len(classes) < 2:
            raise UserError(f'{root}: sounds need a folder for each of at least 2 classes, <class>/*.wav; there '
                            f'{"is" if len(classes) == 1 else "are"} {len(classes)}')
        found = []
        for label, name in enumerate(classes):
            files, skipped = [], []
            for parent, names, links in image_search.walk_images(root / name, sounds.SUFFIXES):
                files += [Path(parent, file) for file in names]
                skipped += links
            if not files:
                raise image_search.no_images(root / name, image_search.skipped_links(skipped), sounds.SUFFIXES)
            if skipped:
                warn_once(printable(f'{root / name}: {image_search.skipped_links(skipped)}'))
            found += [(file, label) for file in files]
        found.sort(key=lambda pair: folder_source.order(pair[0], root))  # every part is a fair sample of all classes
        self._files, self._root = [file for file, _ in found], root
        super().__init__(str(root), np.asarray([label for _, label in found], np.int32), list(map(printable, classes)),
                         image)
        self.identity = [*self.identity, str(root.absolute()), self.info.to_json(), *self.files_identity]

    @property
    def files_identity(self) -> list:
        """See `Source`."""
        return [_VERSION, [str(file) for file in self._files], memory.fingerprint(self._files)]

    def wave(self, index: int) -> np.ndarray:
        """See `SoundSource`."""
        return sounds.read_wave(self._files[index], self._sound)

    def check(self, index: int, *, pixels: bool) -> None:
        """See `Source`."""
        del pixels
        self.wave(index)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'file', its path below the folder."""
        return [{'file': printable(self._files[i].relative_to(self._root).as_posix())} for i in indices]


class DrawnChirps(SoundSource):
    """What datasets/chirps.py draws."""

    def __init__(self, split: str, image: Mapping[str, Any]):
        if split not in chirps.EXAMPLES:
            raise UserError(f'chirps has no split {split!r}; {nearest(split, list(chirps.EXAMPLES))}')
        self._split = split
        labels = np.arange(chirps.EXAMPLES[split], dtype=np.int32) % len(chirps.CLASSES)
        super().__init__(f'chirps/{split}', labels, chirps.CLASSES, image)
        self.identity = [*self.identity, self.name, chirps.NOISE]

    def wave(self, index: int) -> np.ndarray:
        """See `SoundSource`."""
        wave, _, _ = chirps.example(self._split, index)
        return sounds.fitted(wave / 32768, chirps.RATE, self._sound)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'noise', as a multiple of the tone's amplitude."""
        return [{'noise': round(chirps.example(self._split, int(i))[2], 3)} for i in indices]


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> SoundSource:
    """Opens a split, see the top of this file.

    Raises:
      UserError: no such folder or split, or a field of config.image.sound out of its range.
    """
    del crop_area
    sounds.check(image['sound'])
    if image['bits'] != 8:
        raise UserError(f"config.image.bits = {image['bits']}: spectrograms have 8")
    if image['resize'] != 'stretch':
        raise UserError(f"config.image.resize = {image['resize']!r} would cut off pitches and times: use 'stretch'")
    if data['name'] == 'chirps':
        return DrawnChirps(split, image)
    return WaveFolder(folder_source.split_folder(data, split), image)
