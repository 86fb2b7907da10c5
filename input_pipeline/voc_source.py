"""Boxes in Pascal VOC's form: an XML file per image.

<folder>/Annotations/*.xml, JPEGImages/* and ImageSets/Main/<split>.txt, a name a line, as VOC has them; or without
lists, then all of it is 'train'. The folders may also be called annotations and images, lie below <split>/, or have the
splits as folders in them; XML files may also lie beside the images, as LabelImg saves them. classes.txt fixes the order
of the classes; without it they are the names in all XML files of the folder, sorted.

VOC counts pixels from 1 and includes the last one: xmin 1 and xmax 10 are the first ten pixels, 0 to 10 here, so 1 is
taken from xmin and ymin. Boxes of tools that count from 0 come out a pixel larger at most.
"""

import logging
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import warn_once
from ..common.errors import UserError, file_error, nearest, printable, some
from ..common.json_cache import cached_json
from . import box_files, folder_source, memory
from .box_source import Annotated, Annotations, Box, BoxSource, are_many
from .image_files import by_stem, stem

_PICTURES, _LABELS = ('JPEGImages', 'images'), ('Annotations', 'annotations')
_SIDES = ('xmin', 'ymin', 'xmax', 'ymax')
# A document type can define entities that grow without bound; annotations have none.
_DOCTYPES = tuple('<!DOCTYPE'.encode(encoding) for encoding in ('utf-8', 'utf-16-le', 'utf-16-be'))


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> BoxSource:
    """Opens a split of the folder data['name'].

    An XML file without objects is of an image that is known to have none. Images without XML file are not labelled and
    left out, with a line in the log.

    Raises:
      UserError: there is no such folder or split, a file that is not understood, and what `BoxSource` raises.
    """
    del crop_area
    root = folder_source.find_folder(data)
    lists = {file.stem: file for file in sorted((root / 'ImageSets' / 'Main').glob('*.txt'))}
    if lists and split not in lists:
        raise UserError(f'{root}/ImageSets/Main has no {split}.txt; {nearest(split, list(lists))}')
    folders = box_files.find_folders(root, 'train' if lists else split, _PICTURES, _LABELS, '.xml')
    if folders is None:
        raise _no_folders(root, split)
    pictures = by_stem(folders[0])
    files = {stem(file, folders[1]): file for file in _xml_files(folders[1])}
    if not files:
        raise UserError(f'{folders[1]} has no annotations, files *.xml')
    listed = _listed(lists[split], pictures, files) if lists else None
    classes = _class_names(root)
    numbers = {name: number for number, name in enumerate(classes)}
    found: dict[Path, Annotated] = {}
    missing = []
    for name, file in files.items() if listed is None else [(name, files[name]) for name in listed if name in files]:
        tree = _parse(file)
        where = printable(str(file.relative_to(root)))
        picture = pictures.get(name) or _renamed(tree, file, pictures)
        if picture is None:
            missing.append(f'{where}: there is no image {printable(name)} in {folders[0].relative_to(root)}')
            continue
        one = Annotated(picture.relative_to(folders[0]).as_posix(), picture, where, _boxes(tree, file, numbers),
                        _size(tree, file))
        if found.setdefault(picture, one) is not one:
            raise UserError(f'{root}: {found[picture].where} and {where} are both of the image {one.name}')
    unlabelled = [name for name in (pictures if listed is None else listed)
                  if name not in files and pictures[name] not in found]
    if unlabelled:
        warn_once(printable(f'{root}: left out {len(unlabelled):,} image(s) of {split} without annotation: '
                            f'{some(unlabelled)}'))
    name = f'{root}/{split}' if lists or split != 'train' else str(root)
    return BoxSource(Annotations('voc_folder', name, list(found.values()), classes, missing, 'object {}',
                                 mistake=_mistake), data['max_boxes'], image, data['max_unreadable'])


def _renamed(tree: ET.Element, file: Path, pictures: Mapping[str, Path]) -> Path | None:
    """Returns the image that an annotation says it is of; files are renamed, and what is in them is not."""
    name = (tree.findtext('filename') or '').strip()
    return pictures.get(str(Path(box_files.check_name(name, file, 'filename')).with_suffix(''))) if name else None


def _boxes(tree: ET.Element, file: Path, numbers: Mapping[str, int]) -> list[Box]:
    boxes = []
    for i, element in enumerate(tree.findall('object'), start=1):
        label = box_files.class_number(_name(element, file, i), numbers, file, f'object {i}')
        element_of_box = element.find('bndbox')
        if element_of_box is None:
            hint = ', but a polygon: export boxes' if element.find('polygon') is not None else ''
            raise file_error(file, f'object {i} has no bndbox{hint}')
        left, top, right, bottom = (_number(element_of_box, side, file, f'object {i}') for side in _SIDES)
        # By the letter, one with xmin = xmax is a pixel wide. Nobody labels a pixel: it is a click, and has no area.
        corners = (left - (right > left), top - (bottom > top), right, bottom)
        difficult = (element.findtext('difficult') or '0').strip()
        if difficult not in ('0', '1'):
            raise file_error(file, f'object {i}: difficult is {difficult[:40]!r}, not 0 or 1')
        boxes.append(Box(i, label, corners, difficult == '1'))
    return boxes


def _name(element: ET.Element, file: Path, number: int) -> str:
    name = ' '.join((element.findtext('name') or '').split())
    if not name:
        raise file_error(file, f'object {number} has no name')
    return name


def _number(element: ET.Element, name: str, file: Path, place: str) -> float:
    text = element.findtext(name)
    if text is None:
        raise file_error(file, f'{place} has no {name}')
    try:
        return float(text)
    except ValueError:
        raise file_error(file, f'{place}: {name} is {text[:40]!r}, not a number') from None


def _size(tree: ET.Element, file: Path) -> tuple[int, int] | None:
    size = tree.find('size')
    if size is None or not size.findtext('width') or not size.findtext('height'):
        return None
    sides = [_number(size, side, file, 'size') for side in ('width', 'height')]
    return (int(sides[0]), int(sides[1])) if np.isfinite(sides).all() and min(sides) > 0 else None


def _parse(file: Path) -> ET.Element:
    content = box_files.read_bytes(file)
    if not content.strip():
        raise file_error(file, 'is empty')
    if any(doctype in content for doctype in _DOCTYPES):
        raise file_error(file, 'has a document type, which annotations have not: it is not read')
    try:
        tree = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:  # the latter two of encodings
        raise file_error(file, f'is no XML, or cut short: {error}') from None
    if tree.tag != 'annotation':
        raise file_error(file, f'is no annotation of Pascal VOC: it begins with <{tree.tag}>, not <annotation>')
    return tree


def _listed(file: Path, pictures: Mapping[str, Path], files: Mapping[str, Path]) -> list[str]:
    """Returns the names in a list of ImageSets."""
    names: dict[str, int] = {}
    for number, line in enumerate(box_files.read_text(file).splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        place = f'line {number}'
        name = box_files.check_name(name, file, place)
        known = [one for one in (name, str(Path(name).with_suffix(''))) if one in pictures or one in files]
        if not known:
            hint = ': it is a list of one class' if name.split()[-1] in ('-1', '0', '1') and ' ' in name else ''
            raise file_error(file, f'{place}: there is neither an annotation nor an image {name[:80]!r}{hint}')
        if names.setdefault(known[0], number) != number:
            raise file_error(file, f'{place} repeats {known[0]!r} of line {names[known[0]]}')
    if not names:
        raise file_error(file, 'names no images')
    return list(names)


def _class_names(root: Path) -> tuple[str, ...]:
    """Returns the names of the classes: those of classes.txt, or of all annotations, so that all splits agree."""
    file = root / 'classes.txt'
    if file.is_file():
        return box_files.read_classes(file)
    files = _xml_files(root)

    def compute() -> list[str]:
        logging.info('looking for the names of classes in %s: %s annotations, once', root, f'{len(files):,}')
        return sorted({_name(element, file, i) for file in files
                       for i, element in enumerate(_parse(file).findall('object'), start=1)})
    names = cached_json('voc_classes', [[str(file.absolute()) for file in files], memory.fingerprint(files)], compute)
    if not names:
        raise UserError(f'{root}: none of its {len(files):,} annotations has an object; name the classes in '
                        'classes.txt if that is so')
    return box_files.check_classes(names, root, names)


def _xml_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob('*.xml')
                  if not any(part.startswith('.') for part in file.relative_to(folder).parts))


def _mistake(corners: np.ndarray, own: np.ndarray) -> str:
    del own
    if are_many(float((corners[:, 2:] < corners[:, :2]).any(1).mean())):
        return ('many boxes have xmax below xmin: they look like x, y, width, height; the bndbox of Pascal VOC is the '
                'corners xmin, ymin, xmax, ymax')
    return ''


def _no_folders(root: Path, split: str) -> UserError:
    below = [folder.parent for name in _LABELS for folder in root.glob(f'*/{name}/')]
    if split == 'train' and len(below) == 1:
        return UserError(f'{root} has no folder Annotations: did you mean {below[0]}?')
    return (box_files.no_split(root, split, _PICTURES, _LABELS, '.xml', f'ImageSets/Main/{split}.txt')
            or UserError(f'{root} should hold Annotations/*.xml and JPEGImages/*, or annotations/ and images/'))
