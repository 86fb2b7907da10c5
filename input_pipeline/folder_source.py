"""Images in folders: <folder>/<class>/*.jpg, or <folder>/<split>/<class>/*.jpg."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest, printable
from . import class_folders, file_list, images, memory
from .image_files import ImageFilesSource

_MOST_LOOKED_AT = 100_000  # files, one by one, to see whether any has changed; of more it is their folders


class FolderSource(ImageFilesSource):
    """One split of a folder of images.

    The order is a fixed pseudo-random one, by a hash of the path below the split, so that 'train[:10%]' is a fair
    sample of all classes.

    Args:
      root: folder with one folder per class.
      image, crop_area: see `ImageFilesSource`.

    Raises:
      UserError: there are no images, or fewer than two classes.
    """

    def __init__(self, root: Path, image: Mapping[str, Any], crop_area: Sequence[float] = ()):
        found = class_folders.find(root)
        super().__init__(str(root), root, found.files, {'label': found.labels},
                         DatasetInfo(class_names=tuple(map(printable, found.classes))), image, crop_area)
        self._folders = found.folders

    @property
    def identity(self) -> list:
        """See `Source`."""
        return ['folder', str(Path(self.name).absolute()), self._size, self._channels, self.info.to_json(),
                *self._each_file(), *images.more_identity(self._resize, self._bits)]

    @property
    def files_identity(self) -> list:
        """See `Source`; of more than 100,000 files it is that of their folders, see `class_folders.ClassFolders`."""
        if len(self.files) <= _MOST_LOOKED_AT:
            return self._each_file()
        return ['folders', str(Path(self.name).absolute()), self.files.digest(), self._folders]

    def _each_file(self) -> list:
        """Returns what changes whenever a file does, also where one is written anew in its place."""
        if len(self.files) <= _MOST_LOOKED_AT:
            return [list(self.files.paths()), memory.fingerprint(self.files.paths())]
        return [self.files.digest(), hashlib.sha256(file_list.sizes_and_times(self.files)).hexdigest()]


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> FolderSource:
    """Opens a split, see `split_folder`."""
    return FolderSource(split_folder(data, split), image, crop_area)


def order(file: Path, root: Path) -> bytes:
    """What files below root are sorted by: the same wherever root lies, and no file's place depends on the others."""
    return file_list.order(os.fsencode(file.relative_to(root).as_posix()))  # names need not be UTF-8


def find_folder(data: Mapping[str, Any]) -> Path:
    """Returns the folder that config.data.name names.

    Raises:
      UserError: there is none.
    """
    root = Path(data['name']).expanduser()
    if data['name'] and root.is_dir():
        return root
    raise UserError(f"config.data.name = {data['name']!r} is not a folder")


def split_folder(data: Mapping[str, Any], split: str) -> Path:
    """Returns <config.data.name>/<split>, or the folder itself for 'train' if it is not divided into splits.

    Raises:
      UserError: there is no such folder or split.
    """
    root = find_folder(data)
    if (root / split).is_dir():
        return root / split
    if (root / 'train').is_dir():
        folders = [p.name for p in root.iterdir() if p.is_dir()]
        raise UserError(f'{root} has no split {split!r}; {nearest(split, folders)}')
    if split != 'train':
        raise UserError(f"{root} has no folder {split}: all of it is 'train'; take parts of that instead of {split!r}, "
                        "such as --config.data.train='train[:80%]' --config.evaluation.sets.test.split='train[80%:]'")
    return root
