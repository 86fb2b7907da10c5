"""YOLO: where its files may lie, names of classes, and one line for each mistake."""

import logging

import numpy as np
import pytest
from PIL import Image

from practicum.input_pipeline import yolo_source
from practicum.training.defaults import base
from tests import tiny_boxes
from tests.tiny_boxes import IMAGE, SCENES, files, refused

pytestmark = pytest.mark.usefixtures('own_cache')


@pytest.fixture
def root(tmp_path):
    return tiny_boxes.write_yolo(tmp_path / 'set')


def open_split(root, split='train', **fields):
    data = base().data
    data.update(source='yolo_folder', name=str(root), **{'max_boxes': 4} | fields)
    return yolo_source.open_split(data, IMAGE, split)


@pytest.mark.parametrize('pictures, labels', [
    ('images', 'labels'), ('images', 'images'), ('.', '.'), ('train/images', 'train/labels'),
    ('images/train', 'labels/train'), ('train', 'train')])
def test_folders(tmp_path, pictures, labels):
    root = tiny_boxes.write_yolo(tmp_path / 'set', SCENES, pictures, labels)
    assert files(open_split(root)) == sorted(SCENES)
    if pictures == 'train':
        return
    if 'train' in pictures:
        refused(lambda: open_split(root, 'trian'), "no split 'trian'", 'did you mean train?')
        other = tiny_boxes.write_yolo(root, {'x.png': SCENES['a.png']}, pictures.replace('train', 'val'),
                                      labels.replace('train', 'val'))
        assert files(open_split(other, 'val')) == ['x.png']
    else:
        refused(lambda: open_split(root, 'test'), "all of it is 'train'", 'train[80%:]')


def test_splits_of_other_names_are_not_all_train(tmp_path):
    for split in ('training', 'validation'):
        tiny_boxes.write_yolo(tmp_path, SCENES, f'images/{split}', f'labels/{split}')
    refused(lambda: open_split(tmp_path), "no split 'train'", 'did you mean training?')


def test_images_without_objects_are_kept(root, caplog):
    """Their label files may be empty, or not be there."""
    (root / 'labels' / 'b.txt').write_text('\n \n')
    with caplog.at_level(logging.WARNING):
        source = open_split(root)
    assert files(source) == sorted(SCENES)
    assert '1 of 6 images have no label file and are taken to have no objects' in caplog.text
    counts = {facts['file']: (labels >= 0).sum() for facts, labels in zip(
        source.describe(np.arange(6)), source.read(np.arange(6))['box_labels'])}
    assert counts['b.jpg'] == counts['d.jpg'] == 0 and counts['more/e.png'] == 2


@pytest.mark.parametrize('name, text', [
    ('data.yaml', "names: ['cat', 'dog', owl]\nnc: 3"), ('data.yaml', 'names:\n  0: cat\n  1: dog\n  2: owl\n'),
    ('data.yml', 'train: ../train/images\nnames:\n- cat\n- dog\n- "owl"'), ('labels/classes.txt', 'cat\r\ndog\r\nowl'),
    ('classes.txt', '\ufeffcat\ndog\nowl\n')])
def test_names_of_classes(root, name, text):
    (root / 'classes.txt').unlink()
    (root / name).write_text(text)
    assert open_split(root).info.class_names == ('cat', 'dog', 'owl')


@pytest.mark.parametrize('text, parts', [
    ('names: [cat, [dog]]', ('names[1]', 'not text')), ('names: [cat, no, owl]', ("names[1] is 'False'", 'in quotes')),
    ('nc: 3', ('has no names',)), ('names: {1: cat, 2: dog}', ('numbered from 0 to 1',)), ('names: [', ('is no YAML',)),
    ('', ('has no names',)), ('names: [cat, cat]', ("names[1] repeats the class 'cat' of names[0]",)),
    ('!!python/object/apply:os.system ["true"]', ('is no YAML',)), ('names: []', ('names 0 classes',)),
    ('names: [cat, dog, owl]\nnc: 2', ('nc, the number of classes, is 2, but names has 3',)),
    ('a: &a [x, x]\nnames: [*a, *a]', ('names[0]',))])
def test_names_that_are_none(root, text, parts):
    (root / 'classes.txt').unlink()
    (root / 'data.yaml').write_text(text)
    refused(lambda: open_split(root), 'data.yaml: ', *parts)


@pytest.mark.parametrize('name, text, parts', [
    ('data.yaml', 'names: [cat, dog, owl]', ()), ('data.yaml', 'train: images/train', ()),
    ('data.yaml', 'names: [cat, owl, dog]', ("data.yaml: class 1 is 'owl' here and 'dog' in ", 'set/classes.txt')),
    ('data.yml', 'names: {0: cat, 1: dog}', ("data.yml: class 2 is none here and 'owl' in ",)),
    ('labels/classes.txt', 'cat\ndog\nowl\n', ()),
    ('labels/classes.txt', 'cat\ndog\nowl\nelk', ("class 3 is 'elk' here and none in ",))])
def test_two_files_of_names_agree(root, name, text, parts):
    (root / name).write_text(text)
    if parts:
        refused(lambda: open_split(root), *parts)
    else:
        assert open_split(root).info.class_names == ('cat', 'dog', 'owl')


def test_no_names_at_all(root):
    (root / 'classes.txt').unlink()
    refused(lambda: open_split(root), 'neither classes.txt', 'nor data.yaml')


@pytest.mark.parametrize('line, parts', [
    ('3 0.5 0.5 0.1 0.1', ('line 2 is of class 3, but classes.txt names 3, 0 to 2',)),
    ('-1 0.5 0.5 0.1 0.1', ('is of class -1',)),
    ('0 12 14 20 30', ('line 2 has a number above 1: it looks like pixels',)), ('0 -7 0.5 0.1 0.1', ('pixels',)),
    ('0 0.5 0.5 inf 0.1', ('above 1',)), ('0 0.5 0.5 0.1', ('line 2 has 4 numbers, not 5',)),
    ('0.5 0.5 0.1 0.1 0', ("the class is '0.5', not a whole number",)), ('nan 0.5 0.5 0.1 0.1', ("class is 'nan'",)),
    ('0 0.5 0.5 0.1 0.1 0.93', ('6 numbers', 'predictions, not labels')),
    ('0 0.1 0.1 0.9 0.1 0.9 0.9', ('7 numbers', 'a polygon? Export boxes')), ('0', ('1 number, not 5',)),
    ('cat 0.5 0.5 0.1 0.1', ("is 'cat 0.5 0.5 0.1 0.1', not five numbers",)),
    ('0,0.5,0.5,0.1,0.1', ('1 number',)), (b'\xff\xfe0 1', ('not UTF-8',)), (b'\x89PNG\r\n\x1a\n', ('not UTF-8',)),
    ('0 nan 0.5 0.1 0.1', ('labels/a.txt: line 2 (cat) is not finite', 'max_unreadable'))])
def test_a_line_that_is_wrong(root, line, parts):
    content = b'0 0.5 0.5 0.1 0.1\n'
    (root / 'labels' / 'a.txt').write_bytes(content + line if isinstance(line, bytes) else content + line.encode())
    refused(lambda: open_split(root), 'labels/a.txt', *parts)


def test_corners_in_place_of_centres(tmp_path):
    rng = np.random.default_rng(0)
    corners = [(*low, *(low + sides)) for low, sides in zip(rng.integers(1, 40, (20, 2)), rng.integers(4, 24, (20, 2)))]
    scenes = {f'{i}.png': ((64, 64), [('cat', *map(int, box), 0)]) for i, box in enumerate(corners)}
    root = tiny_boxes.write_yolo(tmp_path, scenes)
    assert len(open_split(root)) == 20
    for i, box in enumerate(corners):
        (root / 'labels' / f'{i}.txt').write_text(' '.join(['0', *(str(side / 64) for side in box)]))
    refused(lambda: open_split(root), 'they look like left, top, right, bottom; YOLO has x and y of the centre')


def test_two_images_of_one_name(root):
    Image.new('RGB', (64, 32)).save(root / 'images' / 'a.jpg')
    refused(lambda: open_split(root), 'images has both a.jpg and a.png: remove one')


def test_folders_that_are_not_there(root):
    refused(lambda: open_split(root / 'images' / 'more'), 'should hold images/* and labels/*.txt')
    for file in (root / 'labels').rglob('*.txt'):
        file.rename(file.with_stem(f'x{file.stem}'))
    refused(lambda: open_split(root), 'no image in', 'has a label file of the same name in')
