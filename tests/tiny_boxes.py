"""Six tiny images with boxes, written as Pascal VOC, COCO or YOLO have them; what the tests of these sources share."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError

CLASSES = ('cat', 'dog', 'owl')
# Name of an image -> its (width, height), and its objects: class, left, top, right, bottom, whether it is hard.
SCENES = {
    'a.png': ((64, 32), [('dog', 0, 0, 64, 32, 0)]),
    'b.jpg': ((32, 32), [('cat', 1, 2, 9, 30, 0), ('owl', 8, 4, 32, 12, 1), ('cat', 30, 30, 32, 32, 0)]),
    'c.png': ((16, 64), [('owl', 3, 5, 5, 7, 0)]),
    'd.jpg': ((64, 64), []),
    'more/e.png': ((128, 16), [('dog', 100, 1, 128, 15, 0), ('dog', 0, 0, 2, 16, 1)]),
    'f.png': ((32, 64), [('cat', 7, 9, 21, 33, 0)]),
}
IMAGE = {'size': (16, 32), 'channels': 3, 'resize': 'stretch'}


def write_images(folder: Path, scenes=None) -> None:
    """Each image of one grey."""
    for i, (name, ((width, height), _)) in enumerate((scenes or SCENES).items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), 30 * i % 256, np.uint8)).save(folder / name)


def xml(name: str, size, objects) -> str:
    """An annotation of Pascal VOC, whose first pixel is 1."""
    found = ''.join(f'<object><name>{label}</name><difficult>{hard}</difficult><bndbox><xmin>{left + 1}</xmin><ymin>'
                    f'{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>'
                    for label, left, top, right, bottom, hard in objects)
    return (f'<annotation><filename>{Path(name).name}</filename><size><width>{size[0]}</width><height>{size[1]}'
            f'</height><depth>3</depth></size>{found}</annotation>')


def write_voc(root: Path, scenes=None, pictures='JPEGImages', labels='Annotations') -> Path:
    """All of it is 'train'."""
    write_images(root / pictures, scenes)
    for name, (size, objects) in (scenes or SCENES).items():
        file = (root / labels / name).with_suffix('.xml')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(xml(name, size, objects))
    return root


def coco(scenes=None, classes=CLASSES) -> dict:
    """What COCO's JSON holds; its categories are not in the order of their ids."""
    numbers = {name: 10 * i + 3 for i, name in enumerate(classes)}
    content = {'images': [], 'annotations': [], 'categories': [
        {'id': number, 'name': name} for name, number in reversed(numbers.items())]}
    for i, (name, ((width, height), objects)) in enumerate((scenes or SCENES).items()):
        content['images'].append({'id': 50 - i, 'file_name': name, 'width': width, 'height': height})
        content['annotations'] += [
            {'id': 100 * i + j, 'image_id': 50 - i, 'category_id': numbers[label], 'iscrowd': hard,
             'bbox': [left, top, right - left, bottom - top]}
            for j, (label, left, top, right, bottom, hard) in enumerate(objects)]
    return content


def write_coco(root: Path, scenes=None, file='annotations.json', folder='images') -> Path:
    """All of it is 'train', by default."""
    write_images(root / folder, scenes)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(coco(scenes)))
    return root


def lines(size, objects) -> str:
    """A label file of YOLO."""
    width, height = size
    return ''.join(f'{CLASSES.index(label)} {(left + right) / 2 / width} {(top + bottom) / 2 / height} '
                   f'{(right - left) / width} {(bottom - top) / height}\n'
                   for label, left, top, right, bottom, _ in objects)


def write_yolo(root: Path, scenes=None, pictures='images', labels='labels') -> Path:
    """All of it is 'train'; YOLO does not say what is hard."""
    write_images(root / pictures, scenes)
    for name, (size, objects) in (scenes or SCENES).items():
        file = (root / labels / name).with_suffix('.txt')
        file.parent.mkdir(parents=True, exist_ok=True)
        if objects:
            file.write_text(lines(size, objects))
    (root / 'classes.txt').write_text('\n'.join(CLASSES) + '\n')
    return root


def files(source) -> list[str]:
    """The images of a source."""
    return sorted(facts['file'] for facts in source.describe(np.arange(len(source))))


def refused(call, *parts) -> None:
    """Whether a call is answered with one line of a sensible length that has these parts."""
    with pytest.raises(UserError) as error:
        call()
    text = str(error.value)
    assert '\n' not in text and len(text) < 1500 and all(part in text for part in parts), text
