"""Images with captions: <folder>/images/* and <folder>/captions.txt, Flickr8k's form, or captions.json, COCO's.

captions.txt is CSV with the header image,caption and a line for each caption; a caption need not be quoted to hold
commas. captions.json is {'images': [{'id', 'file_name'}, ...], 'annotations': [{'image_id', 'caption'}, ...]}.
captions_<split>.txt or .json are those of given splits.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..common.console import warn_once
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, file_error, nearest
from . import folder_source, image_search, memory
from .image_files import ImageFilesSource

_SUFFIXES = ('.txt', '.json')
_NAMED = 3  # so many files are named in a message


class CaptionSource(ImageFilesSource):
    """One split of a folder of images with captions; one example is an image with all of its captions.

    The order is the fixed pseudo-random one of `folder_source`, so that a part of a split divides images, not
    captions. Left out, with one line in the log, are captions without words, repeated ones, those of images that are
    not there and, if the folder has no given splits, images without captions.

    Args:
      file: captions.txt, captions.json or those of a split; images/ lies beside it.
      image: see `ImageFilesSource`.
      limit: config.data.max_unreadable, what share of the captions and of the images may be left out.

    Attributes:
      captions: a list of str for each image.

    Raises:
      UserError: no images or captions, a file that is not understood, or more left out than the limit.
    """
    has_captions = True

    def __init__(self, file: Path, image: Mapping[str, Any], limit: float = 0.01):
        root = file.parent / 'images'
        if not root.is_dir():
            raise UserError(f'{file.parent} has no folder images: it should hold images/<name>.jpg and captions.txt')
        found = {path.relative_to(root).as_posix(): path for path in image_search.find_images(root)}
        captions = _captions_of(file, found, limit, whole=file.stem == 'captions')
        files = sorted((found[name] for name in captions), key=lambda path: folder_source.order(path, root))
        super().__init__(str(file), root, files, {}, DatasetInfo(), image)
        self.captions = [captions[path.relative_to(root).as_posix()] for path in files]
        self._file = file

    @property
    def identity(self) -> list:
        """See `Source`."""
        return ['captions', str(self._file.absolute()), self._size, self._channels, self._resize, self._bits,
                *self.files_identity]

    @property
    def files_identity(self) -> list:
        """See `Source`."""
        return [[str(path) for path in self.files], memory.fingerprint([self._file, *self.files])]

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'file', its path below images/, and 'captions', a list of str in the file's order."""
        return [metadata | {'captions': list(self.captions[i])}
                for i, metadata in zip(indices, super().describe(indices))]


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> CaptionSource:
    """Opens captions_<split>.txt or .json of the folder data['name'], or captions.txt or .json for 'train'.

    Raises:
      UserError: there is no such folder, file or split, and what `CaptionSource` raises.
    """
    del crop_area
    folder = folder_source.find_folder(data)
    splits = sorted(path.stem.removeprefix('captions_') for path in folder.glob('captions_*')
                    if path.suffix in _SUFFIXES)
    if splits and split not in splits:
        raise UserError(f'{folder} has no captions_{split}.txt or .json; {nearest(split, splits)}')
    if not splits and split != 'train':
        raise UserError(f"{folder} has no captions_{split}.txt: all of it is 'train'; take parts of that instead of "
                        f"{split!r}, such as --config.data.train='train[:-800]' "
                        "--config.evaluation.sets.test.split='train[-800:]'")
    stem = f'captions_{split}' if splits else 'captions'
    found = [folder / (stem + suffix) for suffix in _SUFFIXES if (folder / (stem + suffix)).is_file()]
    if len(found) != 1:
        what = f'both {stem}.txt and {stem}.json: remove one' if found else f'no {stem}.txt and no {stem}.json'
        raise UserError(f'{folder} has {what}')
    return CaptionSource(found[0], image, data['max_unreadable'])


def _captions_of(file: Path, pictures: Mapping[str, Path], limit: float, whole: bool) -> dict[str, list[str]]:
    """Returns name of the image -> its captions; says what was left out, or refuses to leave out so much.

    Args:
      file: see `CaptionSource`.
      images: the names that there are, below images/.
      limit: config.data.max_unreadable.
      whole: images that the file does not name are missing there, rather than of another split.
    """
    known: dict[str, list[str]] = {}
    empty, repeated, missing, total = 0, 0, [], 0
    for name, caption in _read(file):
        total += 1
        if not caption:
            empty += 1
        elif name not in pictures:
            missing.append(name)
        elif caption in known.setdefault(name, []):
            repeated += 1
        else:
            known[name].append(caption)
    if not total:
        raise file_error(file, 'holds no captions')
    if not known:
        raise file_error(file, f'none of its {total:,} captions is of an image in images/ (the first is of '
                               f'{missing[0]})' if missing else f'all of its {total:,} captions are empty')
    without = sorted(set(pictures) - set(known)) if whole else []
    left_out = [_count(empty, 'empty caption'), _count(repeated, 'repeated caption'),
                _count(len(missing), 'caption') + f' of missing images ({_some(missing)})' if missing else '',
                _count(len(without), 'image') + f' without captions ({_some(without)})' if without else '']
    said = ', '.join(part for part in left_out if part)
    captions_lost = empty + len(missing)  # a repeated caption loses nothing
    if captions_lost > limit * total or len(without) > limit * len(pictures):
        raise file_error(file, f'{said}, of {total:,} captions and {len(pictures):,} images: more than '
                               f'config.data.max_unreadable = {limit} allows to leave out')
    if said:
        warn_once(f'{file}: left out {said}')
    return known


def _read(file: Path) -> Iterator[tuple[str, str]]:
    """Yields the name of an image and a caption, without line breaks and blanks around it."""
    try:
        text = file.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = error.object.count(b'\n', 0, error.start) + 1
        raise file_error(file, f'line {line} (byte {error.start}) is not UTF-8: save the file in that encoding'
                         ) from error
    except OSError as error:
        raise file_error(file, f'cannot be read: {error.strerror}') from error
    if not text.strip():
        raise file_error(file, 'is empty')
    rows = _rows_of_json(file, text) if file.suffix == '.json' else _rows_of_csv(file, text)
    for where, name, caption in rows:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or '..' in path.parts or '\\' in name or '\0' in name:
            raise file_error(file, f'{where} names the image {name!r}: it should be a file in images/')
        yield path.as_posix(), ' '.join(caption.split())


def _rows_of_csv(file: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """Yields where it is, name and caption. Line by line: a stray quotation mark cannot swallow what follows."""
    lines = text.replace('\r\n', '\n').replace('\r', '\n').split('\n')
    if [field.strip().lower() for field in lines[0].split(',')] != ['image', 'caption']:
        raise file_error(file, f"begins with {lines[0][:40]!r}: its first line should be 'image,caption'")
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            fields = next(csv.reader([line.strip()], strict=True))
        except csv.Error:
            fields = []  # a caption such as '"Stop" sign', which is not quoted as a whole
        # Without quotation marks a caption with commas would be several fields.
        name, comma, caption = (fields[0], ',', fields[1]) if len(fields) == 2 else line.partition(',')
        if not comma:
            raise file_error(file, f'line {number} has no comma: {line[:40]!r}; it should be <image>,<caption>')
        yield f'line {number}', name.strip(), caption


def _rows_of_json(file: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """Yields where it is, name and caption."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise file_error(file, f'is no JSON: {error}') from error
    names = {}
    for i, entry in enumerate(_entries(file, content, 'images')):
        number, name = entry.get('id'), entry.get('file_name')
        if not isinstance(number, (int, str)) or not isinstance(name, str):
            raise file_error(file, f"images[{i}] should have 'id' and 'file_name', a text")
        if names.setdefault(number, name) != name:
            raise file_error(file, f'images[{i}]: {name} and {names[number]} have the same id {number}')
    for i, entry in enumerate(_entries(file, content, 'annotations')):
        number, caption = entry.get('image_id'), entry.get('caption')
        if not isinstance(number, (int, str)) or not isinstance(caption, str):
            raise file_error(file, f"annotations[{i}] should have 'image_id' and 'caption', a text")
        yield f'annotations[{i}]', names.get(number, f'id {number}'), caption


def _entries(file: Path, content: Any, key: str) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise file_error(file, f"should be {{'images': [...], 'annotations': [...]}}, as COCO's; there is no list of "
                               f'objects {key!r}')
    return entries


def _count(count: int, noun: str) -> str:
    return f'{count:,} {noun}{"s" * (count != 1)}' if count else ''


def _some(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    return ', '.join(names[:_NAMED]) + (', ...' if len(names) > _NAMED else '')
