"""COCO: where its files may lie, categories, and one line for each mistake."""

import json
from pathlib import Path

import numpy as np
import pytest

from practicum.input_pipeline import coco_source
from practicum.training.defaults import base
from tests import tiny_boxes
from tests.tiny_boxes import IMAGE, SCENES, files, refused

pytestmark = pytest.mark.usefixtures('own_cache')


@pytest.fixture
def root(tmp_path):
    return tiny_boxes.write_coco(tmp_path / 'set')


def open_split(root, split='train', **fields):
    data = base().data
    data.update(source='coco', name=str(root), **{'max_boxes': 4} | fields)
    return coco_source.open_split(data, IMAGE, split)


# --- where files lie ---

@pytest.mark.parametrize('file, folder', [
    ('annotations/instances_val2017.json', 'val2017'), ('annotations/instances_val2017.json', 'images/val2017'),
    ('annotations/val2017.json', 'images'), ('val2017.json', 'val2017'), ('instances_val2017.json', '.'),
    ('val2017/_annotations.coco.json', 'val2017'), ('val2017/labels.json', 'data'),
    ('val2017/annotations.json', 'val2017/images')])
def test_files_of_a_split(tmp_path, file, folder):
    root = tiny_boxes.write_coco(tmp_path, SCENES, file, folder)
    assert files(open_split(root, 'val2017')) == sorted(SCENES)
    refused(lambda: open_split(root, 'val2071'), 'no annotations/instances_val2071.json; did you mean val2017?')
    refused(lambda: open_split(root), 'no annotations/instances_train.json')


@pytest.mark.parametrize('file, folder', [
    ('annotations.json', 'images'), ('annotations/instances_default.json', 'images'), ('result.json', 'images'),
    ('_annotations.coco.json', '.'), ('labels.json', 'data'), ('annotations/instances_train.json', 'train')])
def test_one_file_is_all_train(tmp_path, file, folder):
    root = tiny_boxes.write_coco(tmp_path, SCENES, file, folder)
    assert files(open_split(root)) == sorted(SCENES)
    refused(lambda: open_split(root, 'test'), 'test.json', "'train'" if 'train' not in file else 'train')


def test_two_files_of_one_split(root):
    (root / 'labels.json').write_text((root / 'annotations.json').read_text())
    refused(lambda: open_split(root), 'has both annotations.json and labels.json: remove one')


def test_classes_have_the_order_of_their_ids_or_of_classes_txt(root):
    assert open_split(root).info.class_names == ('cat', 'dog', 'owl')  # the file has them the other way round
    (root / 'classes.txt').write_text('owl\ncat\ndog\n')
    source = open_split(root)
    assert source.info.class_names == ('owl', 'cat', 'dog')
    row = [facts['file'] for facts in source.describe(np.arange(6))].index('c.png')
    assert source.read(np.array([row]))['box_labels'][0, 0] == 0


def test_a_category_without_objects_may_be_left_out_of_classes_txt(root):
    """Some tools add a parent of all categories."""
    content = tiny_boxes.coco()
    content['categories'].append({'id': 0, 'name': 'animals'})
    (root / 'annotations.json').write_text(json.dumps(content))
    assert open_split(root).info.class_names == ('animals', 'cat', 'dog', 'owl')
    (root / 'classes.txt').write_text('cat\ndog\nowl\n')
    assert open_split(root).info.class_names == ('cat', 'dog', 'owl')
    (root / 'classes.txt').write_text('cat\ndog\nowls\n')
    refused(lambda: open_split(root), "is of the class 'owl', which is not in classes.txt; did you mean owls?")


def test_ids_may_be_texts_and_sizes_may_be_missing(root):
    content = tiny_boxes.coco()
    for image in content['images']:
        image['id'] = f"image {image['id']}"
        del image['width'], image['height']
    for annotation in content['annotations']:
        annotation['image_id'] = f"image {annotation['image_id']}"
        del annotation['id'], annotation['iscrowd']
    (root / 'annotations.json').write_text(json.dumps(content))
    source = open_split(root)
    assert files(source) == sorted(SCENES) and not source.read(np.arange(6))['box_crowd'].any()


# --- mistakes ---

@pytest.mark.parametrize('content, parts', [
    (b'', ('is empty',)), (b'{"images": [', ('is no JSON, or cut short',)), (bytes(range(256)), ('not UTF-8',)),
    (b'[' * 100_000, ('is no JSON',)), (b'[]', ("no list of objects 'categories'",)),
    (b'{"images": [], "annotations": [], "categories": [1]}', ("no list of objects 'categories'",)),
    (b'{"images": [], "annotations": [], "categories": []}', ('names 0 classes',)),
], ids=lambda value: '' if isinstance(value, bytes) else value[0][:20])
def test_a_file_that_is_not_understood(root, content, parts):
    (root / 'annotations.json').write_bytes(content)
    refused(lambda: open_split(root), 'annotations.json: ', *parts)


def change(key, index, **fields):
    def apply(content):
        entry = content[key][index] | fields
        content[key][index] = {name: value for name, value in entry.items() if value is not ...}
    return apply


@pytest.mark.parametrize('apply, parts', [
    (change('annotations', 2, image_id=999), ('annotations[2] is of the image_id 999, which no image has',)),
    (change('annotations', 2, image_id=...), ('annotations[2] has no image_id',)),
    (change('annotations', 2, image_id=[1]), ('annotations[2] has no image_id',)),
    (change('annotations', 2, id=0), ('annotations[2] has the id 0 of another annotation',)),
    (change('annotations', 2, category_id=7), ('annotations[2] is of the category_id 7, which no category has',)),
    (change('annotations', 2, bbox=...), ('annotations[2] has no bbox',)),
    (change('annotations', 2, bbox=[1, 2, 3]), ('annotations[2] has a bbox of 3 numbers', 'width, height')),
    (change('annotations', 2, bbox=[]), ('a bbox of 0 numbers',)),
    (change('annotations', 2, bbox=[1, 2, '3', 4]), ("bbox [1, 2, '3', 4] is not of numbers",)),
    (change('annotations', 2, bbox=[1, 2, True, 4]), ('is not of numbers',)),
    (change('annotations', 2, bbox=[1, 2, 10**400, 4]), ('beyond all bounds',)),
    (change('annotations', 2, bbox=[1, 2, float('inf'), 4]), ('annotations[2] (owl) is not finite',)),
    (change('annotations', 2, iscrowd='no'), ("iscrowd is 'no', not 0 or 1",)),
    (change('images', 1, id=50), ('images[1] has the id 50 of another image',)),
    (change('images', 1, id=None), ('images[1] has no id',)),
    (change('images', 1, file_name='a.png'), ("images[0] and images[1] are both 'a.png'",)),
    (change('images', 1, file_name=...), ('images[1] has no file_name',)),
    (change('images', 1, file_name='../a.png'), ('images[1] names the image', 'below the folder of images')),
    (change('images', 1, file_name='/etc/passwd'), ('below the folder of images',)),
    (change('images', 1, file_name='images\\a.png'), ("with '/'",)),
    (change('images', 1, file_name=''), ('images[1]',)),
    (change('images', 1, file_name=300 * 'x'), ('below the folder of images',)),
    (change('images', 1, file_name='\ud800.png'), ('there is no image \\ud800.png',)),
    (change('images', 1, file_name='gone.png'), ('there is no image gone.png (images[1])', 'max_unreadable')),
    (change('images', 1, width='wide'), ("images[1] has the width 'wide'",)),
    (change('categories', 1, id=3), ('categories[2] has the id 3 of another category',)),
    (change('categories', 1, name='cat'), ("repeats the class 'cat'",)),
    (change('categories', 1, name=' '), ('category 13 is an empty name',)),
    (change('categories', 1, name=5), ('categories[1] has no name',)),
])
def test_an_entry_that_is_wrong(root, apply, parts):
    content = tiny_boxes.coco()
    apply(content)
    (root / 'annotations.json').write_text(json.dumps(content))
    refused(lambda: open_split(root), 'annotations.json', *parts)


@pytest.mark.parametrize('convert, hint', [
    (lambda x, y, w, h, *_: [x, y, x + w, y + h], 'look like x1, y1, x2, y2; the bbox of COCO is x, y, width, height'),
    (lambda x, y, w, h, width, height: [x / width, y / height, w / width, h / height], 'these look like shares')])
def test_boxes_of_another_format(tmp_path, convert, hint):
    """Of objects that are anywhere, of any size."""
    rng = np.random.default_rng(0)
    scenes = {}
    for i in range(20):
        left, top, width, height = (int(side) for side in rng.integers((1, 1, 4, 4), (40, 40, 20, 20)))
        scenes[f'{i}.png'] = ((64, 64), [('cat', left, top, left + width, top + height, 0)])
    root = tiny_boxes.write_coco(tmp_path, scenes)
    assert len(open_split(root)) == 20
    content = tiny_boxes.coco(scenes)
    for annotation in content['annotations']:
        annotation['bbox'] = convert(*annotation['bbox'], 64, 64)
    (root / 'annotations.json').write_text(json.dumps(content))
    refused(lambda: open_split(root), hint)


def test_folders_that_are_not_there(root: Path):
    refused(lambda: open_split(root / 'images'), 'should hold images/* and annotations/instances_train.json')
    refused(lambda: open_split(root / 'nothing'), 'is not a folder')
