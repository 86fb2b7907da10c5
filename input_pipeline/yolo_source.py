"""Boxes in YOLO's form: a text file per image with a line '<class> <x> <y> <width> <height>' for each object.

x and y are of the box's centre, and all four are shares of the image's width and height, from 0 to 1. A label file has
the image's name: <folder>/images/<split>/a.jpg and labels/<split>/a.txt, or <split>/images/a.jpg and
<split>/labels/a.txt, or without splits, then all of it is 'train'; label files may also lie beside the images. The
names of the classes are the lines of classes.txt, in the folder or among the labels, or the `names` of data.yaml.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..common.console import warn_once
from ..common.errors import UserError, file_error, printable
from . import box_files, folder_source
from .box_source import Annotated, Annotations, Box, BoxSource, are_many, reaching_out
from .image_files import by_stem, stem

_PICTURES, _LABELS = ('images',), ('labels',)
_CLASSES = 'classes.txt'
_FIELDS = 5
_ABOVE_ONE = 0.01  # by which sloppy rounding may exceed the image; pixels exceed it by far
_LARGEST_YAML = 2**20  # bytes


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> BoxSource:
    """Opens a split of the folder data['name']; an image with an empty label file, or without one, has no objects.

    Raises:
      UserError: there is no such folder or split, a file that is not understood, and what `BoxSource` raises.
    """
    del crop_area
    root = folder_source.find_folder(data)
    folders = box_files.find_folders(root, split, _PICTURES, _LABELS, '.txt')
    if folders is None:
        raise (box_files.no_split(root, split, _PICTURES, _LABELS, '.txt', f'images/{split}')
               or UserError(f'{root} should hold images/* and labels/*.txt, or images/train and labels/train'))
    pictures = by_stem(folders[0])
    files = {stem(file, folders[1]): file for file in sorted(folders[1].rglob('*.txt')) if file.name != _CLASSES}
    if not pictures.keys() & files:
        raise UserError(f'no image in {folders[0]} has a label file of the same name in {folders[1]}')
    classes, origin = _class_names(root, folders[1])
    found = []
    for name, picture in pictures.items():
        boxes, where = [], ''
        if name in files:
            where = printable(str(files[name].relative_to(root)))
            boxes = _boxes(files[name], classes, origin)
        found.append(Annotated(picture.relative_to(folders[0]).as_posix(), picture, where, boxes))
    if empty := sum(not one.where for one in found):
        warn_once(f'{folders[0]}: {empty:,} of {len(found):,} images have no label file and are taken to have no '
                  'objects')
    missing = [printable(f'{files[name].relative_to(root)}: there is no image {name} in {folders[0].relative_to(root)}')
               for name in sorted(files.keys() - pictures)]
    return BoxSource(Annotations('yolo_folder', f'{root}/{split}' if folders[0] not in (root, root / 'images') else
                                 str(root), found, classes, missing, 'line {}', shares=True, mistake=_mistake),
                     data['max_boxes'], image, data['max_unreadable'])


def _boxes(file: Path, classes: Sequence[str], origin: Path) -> list[Box]:
    boxes = []
    for number, line in enumerate(box_files.read_text(file).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        place = f'line {number}'
        if len(fields) != _FIELDS:
            raise file_error(file, f'{place} has {_count(len(fields))}, not 5: <class> <x> <y> <width> <height>')
        try:
            label, x, y, width, height = map(float, fields)
        except ValueError:
            raise file_error(file, f'{place} is {line.strip()[:60]!r}, not five numbers') from None
        if not label.is_integer():
            raise file_error(file, f'{place}: the class is {fields[0]!r}, not a whole number')
        if not 0 <= label < len(classes):
            raise file_error(file, f'{place} is of class {int(label)}, but {origin.name} names {len(classes)}, 0 to '
                                   f'{len(classes) - 1}')
        if any(abs(value) > 1 + _ABOVE_ONE for value in (x, y, width, height)):
            raise file_error(file, f'{place} has a number above 1: it looks like pixels; YOLO has shares of width and '
                                   'height')
        boxes.append(Box(number, int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
    return boxes


def _count(count: int) -> str:
    if count == _FIELDS + 1:
        return '6 numbers (the last one a confidence? These are predictions, not labels)'
    if count > _FIELDS + 1 and count % 2:
        return f'{count} numbers (a polygon? Export boxes, not segmentation)'
    return f'{count} number{"s" * (count != 1)}'


def _class_names(root: Path, labels: Path) -> tuple[tuple[str, ...], Path]:
    """Returns the names of the classes, and the file that they are from.

    Raises:
      UserError: there is none, or two say different things.
    """
    texts = [root / _CLASSES, root / 'labels' / _CLASSES, labels / _CLASSES]
    found = {file: box_files.read_classes(file) for file in texts if file.is_file()}
    found |= {file: names for file in (root / 'data.yaml', root / 'data.yml') if file.is_file()
              for names in [_names_of_yaml(file, needed=not found)] if names}
    if not found:
        raise UserError(f'{root} has neither classes.txt, the names of the classes one a line, nor data.yaml with '
                        'names')
    (file, names), *others = found.items()
    for other, said in others:
        if said != names:
            place = next((i for i, (a, b) in enumerate(zip(names, said)) if a != b), min(len(names), len(said)))
            one, two = (repr(part[place]) if place < len(part) else 'none' for part in (names, said))
            raise file_error(other, f'class {place} is {two} here and {one} in {file}: remove one of the two files, or '
                                    'make them equal')
    return names, file


def _names_of_yaml(file: Path, *, needed: bool) -> tuple[str, ...]:
    """Returns `names` of data.yaml, a list, or a dict from 0 on; () if there are none, and none `needed`."""
    text = box_files.read_text(file)
    if len(text) > _LARGEST_YAML:
        raise file_error(file, f'has {len(text):,} characters: it should name the classes, no more')
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise file_error(file, f'is no YAML: {error}') from None
    content = content if isinstance(content, dict) else {}
    names = content.get('names')
    if names is None and not needed:
        return ()
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise file_error(file, f'its names should be numbered from 0 to {len(names) - 1}')
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list):
        raise file_error(file, "has no names, such as names: ['cat', 'dog']")
    for number, name in enumerate(names):
        if not isinstance(name, (str, int)) or isinstance(name, bool):  # no and off are not text to YAML
            raise file_error(file, f'names[{number}] is {str(name)[:40]!r}, not text: put it in quotes')
    names = box_files.check_classes([' '.join(str(name).split()) for name in names], file,
                                    [f'names[{number}]' for number in range(len(names))])
    if content.get('nc', len(names)) != len(names):
        raise file_error(file, f"nc, the number of classes, is {str(content['nc'])[:40]}, but names has {len(names)}")
    return names


def _mistake(corners: np.ndarray, own: np.ndarray) -> str:
    sides, centres = corners[:, 2:] - corners[:, :2], (corners[:, 2:] + corners[:, :2]) / 2
    if (sides > centres).all() and are_many(reaching_out(corners, own)):
        return ('most boxes reach out of their images: they look like left, top, right, bottom; YOLO has x and y of '
                'the centre, width, height')
    return ''
