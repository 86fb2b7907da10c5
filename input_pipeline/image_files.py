"""Examples that are image files, each with what belongs to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, printable
from . import image_search, images, memory, plain_jpeg
from .file_list import FileList
from .source import Examples, Source


class ImageFilesSource(Source):
    """Image files with other features beside them; those of labels, captions and tables build on it.

    Args:
      name: for messages.
      root: what the names of files in metadata begin below.
      files: of the images.
      features: feature name -> array [files, ...].
      info: of the data set.
      image: config.image: 'size', 'channels', 'resize' and 'bits' say how images come.
      crop_area: smallest and largest share of an image's area that `read` crops, given random numbers; () for whole
        images.

    Attributes:
      files: as given.
    """
    can_be_unreadable = True

    def __init__(self, name: str, root: Path, files: Sequence[Path], features: Mapping[str, np.ndarray],
                 info: DatasetInfo, image: Mapping[str, Any], crop_area: Sequence[float] = ()):
        self.name, self.info, self.files, self._root, self._features = name, info, files, root, dict(features)
        self._size, self._channels = tuple(image['size']), image['channels']
        self._resize, self._bits = image.get('resize', 'stretch'), image.get('bits', 8)
        self._crop_area = tuple(crop_area)
        self.needs_rng = bool(self._crop_area)

    @property
    def labels(self) -> np.ndarray | None:
        """See `Source`."""
        return self._features.get('label')

    @property
    def files_identity(self) -> list:
        """See `Source`."""
        return [[str(file) for file in self.files], memory.fingerprint(self.files)]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """Returns 'image' uint8 or uint16 [n, height, width, channels] and the features beside it.

        Args:
          indices: int [n].
          uniforms: in [0, 1), [n, 4]: read a random part of each image, see `jpeg.crop_window`. None: all of it.

        Raises:
          UserError: an image cannot be read.
        """
        examples = self.blank(indices)
        for row, (out, i) in enumerate(zip(examples['image'], indices)):
            if uniforms is None or not self.needs_rng:
                image = images.read_image(self._path(i), channels=self._channels, bits=self._bits)
                out[...] = images.fit(image, self._size, self._resize)
            else:
                from . import jpeg
                jpeg.read_crop(self._path(i), uniforms[row], self._crop_area, out)
        return examples

    def blank(self, indices: np.ndarray) -> Examples:
        """See `Source`."""
        dtype = images.depth(self._bits)
        return {'image': np.zeros((len(indices), *self._size, self._channels), dtype),
                **{name: values[indices] for name, values in self._features.items()}}

    def check(self, index: int, *, pixels: bool) -> None:
        """See `Source`."""
        images.check(self._path(index), channels=self._channels, bits=self._bits, pixels=pixels)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'file', its path below the root."""
        return [{'file': printable(self.files[i].relative_to(self._root).as_posix())} for i in indices]

    def encoded(self, index: int) -> bytes:
        """Returns the file of an image if it is a plain JPEG, else a PNG of what `images.read_image` returns for it.

        Raises:
          UserError: it cannot be read, or its pixels do not have 8 bits.
        """
        if self._bits != 8 or self._channels not in (1, 3):
            raise UserError(f'{self.name}: only images of 1 or 3 channels of 8 bits are encoded')
        data = plain_jpeg.bytes_of(self._path(index))
        if plain_jpeg.decode(data, self._channels) is not None:
            return data
        return images.to_png(images.read_image(self._path(index), channels=self._channels))

    def _path(self, index: int) -> str | Path:
        return self.files.path(index) if isinstance(self.files, FileList) else self.files[index]


def by_stem(folder: Path) -> dict[str, Path]:
    """Returns the image files of a folder by their paths below it without suffix, with '/' between folders.

    Raises:
      UserError: there are none, or two of one name, such as a.jpg and a.png.
    """
    files: dict[str, Path] = {}
    for file in image_search.find_images(folder):
        other = files.setdefault(stem(file, folder), file)
        if other != file:
            raise UserError(f'{folder} has both {other.relative_to(folder)} and {file.relative_to(folder)}: remove one')
    return files


def stem(file: Path, folder: Path) -> str:
    """Returns the path of a file below a folder without suffix."""
    return file.relative_to(folder).with_suffix('').as_posix()
