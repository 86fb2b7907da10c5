"""Boxes in COCO's form: a JSON file per split.

<folder>/annotations/instances_<split>.json, annotations/<split>.json, instances_<split>.json, <split>.json or
<split>/_annotations.coco.json; or one file, annotations.json, annotations/instances_default.json, result.json or
another of the names that tools write, then all of it is 'train'. Images lie where `file_name` says, below the first of
images/<split>, <split>/images, <split>, images, the JSON file's folder and the folder itself that has them.

A box is x, y, width, height, from 0 at the left edge of the first pixel. The classes are the categories in the order of
their ids, or those of classes.txt in its order.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError, file_error, nearest, printable
from . import box_files, folder_source
from .box_source import Annotated, Annotations, Box, BoxSource, are_many, reaching_out

_SPLIT = ('annotations/instances_{}.json', 'annotations/{}.json', 'instances_{}.json', '{}.json',
          '{}/_annotations.coco.json', '{}/annotations.json', '{}/labels.json')
_WHOLE = ('annotations.json', 'instances.json', 'annotations/instances_default.json', 'annotations/annotations.json',
          'annotations/instances.json', 'result.json', 'labels.json', '_annotations.coco.json')
_Id = int | str


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> BoxSource:
    """Opens a split of the folder data['name']; an image without annotations is known to have no objects.

    Raises:
      UserError: there is no such folder or split, a file that is not understood, and what `BoxSource` raises.
    """
    del crop_area
    root = folder_source.find_folder(data)
    file = _find(root, split)
    content = _load(file)
    classes, names = _categories(file, content, root / 'classes.txt')
    images, missing = _images(file, content, root, split)
    labels = {name: label for label, name in enumerate(classes)}
    seen: set[_Id] = set()
    for i, entry in _entries(file, content, 'annotations'):
        place = f'annotations[{i}]'
        number = _id(file, place, entry, 'image_id')
        if number not in images:
            raise file_error(file, f'{place} is of the image_id {number}, which no image has')
        if 'id' in entry:
            own = _id(file, place, entry, 'id')
            if own in seen:
                raise file_error(file, f'{place} has the id {own} of another annotation')
            seen.add(own)
        category = _id(file, place, entry, 'category_id')
        if category not in names:
            raise file_error(file, f'{place} is of the category_id {category}, which no category has')
        label = box_files.class_number(names[category], labels, file, place)
        box = Box(i, label, _corners(file, place, entry), _is_crowd(file, place, entry))
        if images[number] is not None:
            images[number].boxes.append(box)
    name = str(root) if file in [root / path for path in _WHOLE] else f'{root}/{split}'
    found = [one for one in images.values() if one is not None]
    return BoxSource(Annotations('coco', name, found, classes, missing, 'annotations[{}]', mistake=_mistake),
                     data['max_boxes'], image, data['max_unreadable'])


def _images(file: Path, content: Any, root: Path, split: str) -> tuple[dict[_Id, Annotated | None], list[str]]:
    """Returns the images by id, without boxes yet, None for those that are not there, and what is said of these."""
    folders = [folder for folder in (root / 'images' / split, root / split / 'images', root / split, root / 'images',
                                     root / 'data', file.parent, root) if folder.is_dir()]
    where = printable(str(file.relative_to(root)))
    found: dict[_Id, Annotated | None] = {}
    missing, names = [], {}
    for i, entry in _entries(file, content, 'images'):
        place = f'images[{i}]'
        number = _id(file, place, entry, 'id')
        if number in found:
            raise file_error(file, f'{place} has the id {number} of another image')
        if not isinstance(entry.get('file_name'), str):
            raise file_error(file, f'{place} has no file_name')
        name = box_files.check_name(entry['file_name'], file, place)
        if names.setdefault(name, i) != i:
            raise file_error(file, f'images[{names[name]}] and {place} are both {name!r}')
        size = _size(file, place, entry)
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        found[number] = None if path is None else Annotated(name, path, where, size=size, entry=place)
        if path is None:
            missing.append(f'{where}: there is no image {printable(name)} ({place})')
    return found, missing


def _find(root: Path, split: str) -> Path:
    """Returns the file of a split."""
    found = [root / form.format(split) for form in _SPLIT if (root / form.format(split)).is_file()]
    if not found and split == 'train':
        found = [root / name for name in _WHOLE if (root / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f'{root} has both {found[0].relative_to(root)} and {found[1].relative_to(root)}: remove one')
    splits = {path.stem.removeprefix('instances_') for pattern in ('annotations/*.json', '*.json')
              for path in root.glob(pattern) if path.relative_to(root).as_posix() not in _WHOLE}
    splits |= {path.parent.name for form in _SPLIT[4:] for path in root.glob(form.format('*'))}
    if splits:
        raise UserError(f'{root} has no annotations/instances_{split}.json; {nearest(split, sorted(splits))}')
    if any((root / name).is_file() for name in _WHOLE):
        raise box_files.undivided(root, f'annotations/instances_{split}.json', split)
    raise UserError(f'{root} should hold images/* and annotations/instances_{split}.json, or annotations.json')


def _load(file: Path) -> Any:
    text = box_files.read_text(file)
    if not text.strip():
        raise file_error(file, 'is empty')
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise file_error(file, f'is no JSON, or cut short: {error}') from None


def _categories(file: Path, content: Any, listed: Path) -> tuple[tuple[str, ...], dict[_Id, str]]:
    """Returns the names of the classes in their order, and id of a category -> its name.

    Args:
      listed: classes.txt, which need not be there.
    """
    names: dict[_Id, str] = {}
    for i, entry in _entries(file, content, 'categories'):
        number, name = _id(file, f'categories[{i}]', entry, 'id'), entry.get('name')
        if number in names:
            raise file_error(file, f'categories[{i}] has the id {number} of another category')
        if not isinstance(name, str):
            raise file_error(file, f'categories[{i}] has no name')
        names[number] = ' '.join(name.split())
    order = sorted(names, key=lambda number: (isinstance(number, str), number))
    classes = box_files.check_classes([names[number] for number in order], file,
                                      [f'category {number}' for number in order])
    names = dict(zip(order, classes))
    return box_files.read_classes(listed) if listed.is_file() else classes, names


def _corners(file: Path, place: str, entry: Mapping[str, Any]) -> tuple[float, float, float, float]:
    box = entry.get('bbox')
    if not isinstance(box, list) or len(box) != 4:
        said = f'a bbox of {len(box)} numbers' if isinstance(box, list) else 'no bbox'
        raise file_error(file, f'{place} has {said}: it is [x, y, width, height]')
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in box):
        raise file_error(file, f'{place}: its bbox {str(box)[:80]} is not of numbers')
    try:
        x, y, width, height = map(float, box)
    except OverflowError:
        raise file_error(file, f'{place}: its bbox has a number beyond all bounds') from None
    return x, y, x + width, y + height


def _is_crowd(file: Path, place: str, entry: Mapping[str, Any]) -> bool:
    value = entry.get('iscrowd', 0)
    if value not in (0, 1):
        raise file_error(file, f'{place}: iscrowd is {str(value)[:40]!r}, not 0 or 1')
    return bool(value)


def _size(file: Path, place: str, entry: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = entry.get('width'), entry.get('height')
    if not all(sides):
        return None
    if not all(isinstance(side, (int, float)) and 0 < side < 2**31 for side in sides):
        raise file_error(file, f'{place} has the width {str(sides[0])[:20]!r} and the height {str(sides[1])[:20]!r}')
    return int(sides[0]), int(sides[1])


def _entries(file: Path, content: Any, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise file_error(file, "should be {'images': [...], 'annotations': [...], 'categories': [...]}, as COCO's; "
                               f'there is no list of objects {key!r}')
    return enumerate(entries)


def _id(file: Path, place: str, entry: Mapping[str, Any], key: str) -> _Id:
    value = entry.get(key)
    if not isinstance(value, (int, str)) or isinstance(value, bool):
        raise file_error(file, f'{place} has no {key}, a number')
    return value


def _mistake(corners: np.ndarray, own: np.ndarray) -> str:
    if (corners[:, 2:] - corners[:, :2] > corners[:, :2]).all() and are_many(reaching_out(corners, own)):
        return ('most boxes reach out of their images: they look like x1, y1, x2, y2; the bbox of COCO is x, y, width, '
                'height')
    return ''
