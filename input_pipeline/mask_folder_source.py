"""Images with a mask each: <folder>/images/* and <folder>/masks/*, or <folder>/<split>/images/* and so on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import warn_once
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, printable
from . import dicom, folder_source, images, memory
from .image_files import by_stem, stem
from .source import Examples, Source

# Compression with loss changes the class of pixels along every border.
_MASK_FORMATS = ('BMP', 'GIF', 'PNG', 'TIFF')
_LOSSY_TIFF = ('jpeg', 'tiff_jpeg', 'webp')
_DEFAULT_CLASSES = ('background', 'foreground')
_NAMED = 3  # so many files are named in a message


class MaskFolderSource(Source):
    """One split of a folder of images and their masks.

    An image and its mask have the same path below images/ and masks/, but for the suffix. Those without a partner are
    left out, with a line in the log, because unlabelled images are common beside labelled ones. The order is the
    fixed pseudo-random one of `folder_source`. Masks are checked when they are read.

    Args:
      root: folder that holds images/ and masks/.
      class_names: of mask values 0, 1, ...; the first is the background. With two classes, masks of 0 and 255 are taken
        as 0 and 1.
      size: (height, width) that images and masks are resized to, masks to the nearest pixel's class.
      channels: of the images, see `images.read_image`.
      bits: 8 or 16, of the images, see `images.read_image`.

    Raises:
      UserError: a missing or empty folder, two images of one name, or not one pair.
    """

    has_masks = True

    def __init__(self, root: Path, class_names: Sequence[str], size: tuple[int, int], channels: int,
                 bits: int = 8):
        for part in ('images', 'masks'):
            if not (root / part).is_dir():
                raise UserError(f'{root} has no folder {part}: it should hold images/<name>.<any> and masks/<name>.png')
        pictures, masks = by_stem(root / 'images'), by_stem(root / 'masks')
        paired = pictures.keys() & masks.keys()
        if not paired:
            raise UserError(f'no image in {root / "images"} has a mask of the same name in {root / "masks"}: '
                            f'there are {_some(pictures)} and {_some(masks)}')
        for kind, names, partners in (('image', pictures, 'a mask'), ('mask', masks, 'an image')):
            if alone := names.keys() - paired:
                plural = 's' if len(alone) > 1 else ''
                warn_once(f'{root}: left out {len(alone):,} {kind}{plural} without {partners}: {_some(alone)}')
        self.name, self._root, self._size, self._channels = str(root), root, tuple(size), channels
        self.info, self._bits = DatasetInfo(class_names=tuple(class_names)), bits
        self.files = sorted((pictures[name] for name in paired), key=lambda file: folder_source.order(file, root))
        self.masks = [masks[stem(file, root / 'images')] for file in self.files]

    @property
    def identity(self) -> list:
        """See `Source`."""
        files = self.files + self.masks
        return ['mask_folder', str(self._root.absolute()), self._size, self._channels, self.info.to_json(),
                [str(file) for file in files], memory.fingerprint(files),
                *images.more_identity('stretch', self._bits)]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """Returns 'image', uint8 or uint16 [n, height, width, channels], and 'segmentation_mask', uint8
        [n, height, width].

        Raises:
          UserError: a file that cannot be read, see `read_mask`, or a mask of another size than its image.
        """
        del uniforms
        examples = [self._read_one(self.files[i], self.masks[i]) for i in indices]
        return {'image': np.stack([picture for picture, _ in examples]),
                'segmentation_mask': np.stack([mask for _, mask in examples])}

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'file', its path below the split, and for DICOM 'spacing_mm' at the model's size."""
        return [self._describe_one(self.files[i]) for i in indices]

    def _read_one(self, file: Path, mask_file: Path) -> tuple[np.ndarray, np.ndarray]:
        picture = images.read_image(file, channels=self._channels, bits=self._bits)
        mask = read_mask(mask_file, self.info.class_names)
        if mask.shape != picture.shape[:2]:
            raise UserError(f'{mask_file}: {mask.shape[1]}x{mask.shape[0]} pixels, but its image {file} has '
                            f'{picture.shape[1]}x{picture.shape[0]}')
        return images.resize(picture, self._size), images.resize_mask(mask, self._size)

    def _describe_one(self, file: Path) -> dict[str, Any]:
        facts = {'file': printable(file.relative_to(self._root).as_posix())}
        if dicom.is_dicom(file):
            slice_ = dicom.read_dicom(file)
            spacing = images.resized_spacing(slice_.spacing_mm, slice_.pixels.shape, self._size)
            facts |= {'spacing_mm': spacing} if spacing else {}
        return facts


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> MaskFolderSource:
    """Opens <config.data.name>/<split>, or the folder itself as 'train' if it holds images/ directly.

    The classes' names are the lines of <config.data.name>/classes.txt, or background and foreground.
    """
    del crop_area
    root, top = folder_source.split_folder(data, split), folder_source.find_folder(data)
    return MaskFolderSource(root, _read_classes(top / 'classes.txt'), image['size'], image['channels'],
                            image.get('bits', 8))


def read_mask(path: Path, class_names: Sequence[str]) -> np.ndarray:
    """Reads the class of every pixel: grey values, indices of a palette, or colours that are all grey.

    Args:
      path: PNG, TIFF, BMP or GIF, decided by content.
      class_names: with two of them, a mask that holds 0 and 255 only is taken as 0 and 1.

    Returns:
      uint8 [height, width], below the number of classes.

    Raises:
      UserError: one line naming the file: unreadable, compressed with loss, in colour, or a value that is no class.
    """
    image = images.decode(path)
    if image.format not in _MASK_FORMATS or image.info.get('compression') in _LOSSY_TIFF:
        raise UserError(f'{path}: a mask cannot be {image.format} with lossy compression, which changes classes along '
                        'borders; write masks as PNG')
    values = np.asarray(image)
    if image.mode in ('LA', 'PA', 'RGBA'):
        if not (values[..., -1] == 255).all():
            raise UserError(f'{path}: is partly transparent; write a grey or palette PNG whose values are classes')
        values = values[..., :-1]
    if values.ndim == 3:
        if image.mode not in ('LA', 'PA', 'RGB', 'RGBA') or (values != values[..., :1]).any():
            raise UserError(f'{path}: is in colour ({image.mode}); write a grey or palette PNG whose values are '
                            'classes')
        values = values[..., 0]
    if len(class_names) == 2 and values.dtype != bool and np.isin(values, (0, 255)).all():
        values = values == 255
    wrong = ~np.isin(values, np.arange(len(class_names)))
    if wrong.any():
        raise UserError(f'{path}: value {values[wrong].max()} is no class: there are {len(class_names)}, 0 to '
                        f'{len(class_names) - 1} ({_some(class_names, by_name=False)})')
    return values.astype(np.uint8)


def _read_classes(file: Path) -> Sequence[str]:
    if not file.exists():
        return _DEFAULT_CLASSES
    try:
        names = [line.strip() for line in file.read_text(encoding='utf-8-sig').rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{file}: cannot be read as UTF-8 text ({error})') from error
    if not 2 <= len(names) <= 256:
        raise UserError(f'{file}: has {len(names)} classes; write 2 to 256, one a line, the background first')
    for line, name in enumerate(names, start=1):
        if not name or '/' in name or '\\' in name:  # names become parts of file names
            raise UserError(f'{file}: line {line} is {name!r}; write a name without slashes')
        if names.index(name) != line - 1:
            raise UserError(f'{file}: line {line} repeats {name!r}')
    return names


def _some(names, by_name: bool = True) -> str:
    names = sorted(names) if by_name else list(names)
    return ', '.join(names[:_NAMED]) + (f' and {len(names) - _NAMED:,} more' if len(names) > _NAMED else '')
