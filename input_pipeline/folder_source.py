"""Images in folders: <folder>/<class>/*.jpg, or <folder>/<split>/<class>/*.jpg."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from . import images, memory


class FolderSource:
    """One split of a folder of images.

    The order is a fixed pseudo-random one, by a hash of the path below the split, so that 'train[:10%]' is a fair
    sample of all classes.

    Args:
      root: folder with one folder per class.
      size: (height, width) that images come in.
      channels: 1 or 3.
      resize: how they get there, see `images.fit`.

    Attributes:
      labels: int32 [n].
      crop_area: smallest and largest share of an image's area that `read` crops, given random numbers. May be set; ()
        by default, for whole images.

    Raises:
      UserError: there are no images, or fewer than two classes.
    """

    def __init__(self, root: Path, size: tuple[int, int], channels: int, resize: str = 'stretch'):
        classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
        if not classes:
            raise UserError(f'{root} has no class folders: it should hold <class>/<image> files')
        self.name, self._root, self._size, self._channels = str(root), root, tuple(size), channels
        self._resize, self.crop_area = resize, ()
        self.info = DatasetInfo(class_names=tuple(classes))
        labelled = [(file, label) for label, name in enumerate(classes) for file in images.find_images(root / name)]
        if len(classes) < 2:
            raise UserError(f'{root}: at least 2 classes are needed, there is 1 folder ({classes[0]}); expected are '
                            f'{root}/<class>/*.jpg')
        labelled.sort(key=lambda pair: order(pair[0], root))
        self.files = [file for file, _ in labelled]
        self.labels = np.asarray([label for _, label in labelled], np.int32)

    @property
    def needs_rng(self) -> bool:
        """Whether `read` wants random numbers."""
        return bool(self.crop_area)

    @property
    def identity(self) -> list:
        """See `memory.load`."""
        identity = ['folder', str(Path(self.name).absolute()), self._size, self._channels, self.info.to_json(),
                    *self.files_identity]
        return identity if self._resize == 'stretch' else [*identity, self._resize]

    @property
    def files_identity(self) -> list:
        """Returns what changes whenever a file does."""
        return [[str(file) for file in self.files], _fingerprint(self.files)]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: np.ndarray, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Returns 'image' uint8 [n, height, width, channels] and 'label' int32 [n].

        Args:
          indices: int [n].
          draws: uniform in [0, 1), [n, 4]: read a random part of each image, see `jpeg.crop_window`. None: all of it.

        Raises:
          UserError: an image cannot be read.
        """
        examples = self.blank(indices)
        if draws is None:
            for out, i in zip(examples['image'], indices):
                out[...] = images.fit(images.read_image(self.files[i], channels=self._channels), self._size,
                                      self._resize)
        else:
            from . import jpeg
            for out, i, numbers in zip(examples['image'], indices, draws):
                jpeg.read_crop(self.files[i], numbers, self.crop_area, out)
        return examples

    def blank(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what `read` does, of black images."""
        return {'image': np.zeros((len(indices), *self._size, self._channels), np.uint8),
                'label': self.labels[indices]}

    def check(self, index: int, *, pixels: bool) -> None:
        """Raises UserError if an image cannot be read; without `pixels` only its header is."""
        images.check(self.files[index], channels=self._channels, pixels=pixels)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'file', its path below the split."""
        return [{'file': self.files[i].relative_to(self._root).as_posix()} for i in indices]


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str) -> FolderSource:
    """Opens a split, see `split_folder`."""
    return FolderSource(split_folder(data, split), image['size'], image['channels'], image.get('resize', 'stretch'))


def _fingerprint(files: list[Path]) -> list[list]:
    try:
        return memory.fingerprint(files)
    except OSError:  # a link to nothing: one of the unreadable ones
        return [memory.fingerprint([file])[0] if file.exists() else [file.name] for file in files]


def order(file: Path, root: Path) -> bytes:
    """What files below root are sorted by: the same wherever root lies, and no file's place depends on the others."""
    return hashlib.md5(file.relative_to(root).as_posix().encode()).digest()


def split_folder(data: Mapping[str, Any], split: str) -> Path:
    """Returns <config.data.name>/<split>, or the folder itself for 'train' if it is not divided into splits.

    Raises:
      UserError: there is no such folder or split.
    """
    root = Path(data['name']).expanduser()
    if not data['name'] or not root.is_dir():
        raise UserError(f"config.data.name = {data['name']!r} is not a folder")
    if (root / split).is_dir():
        return root / split
    if (root / 'train').is_dir():
        folders = [p.name for p in root.iterdir() if p.is_dir()]
        raise UserError(f'{root} has no split {split!r}; {nearest(split, folders)}')
    if split != 'train':
        raise UserError(f"{root} has no folder {split}: all of it is 'train'; take parts of that instead of {split!r}, "
                        "such as --config.data.train='train[:80%]' --config.evaluation.sets.test.split='train[80%:]'")
    return root
