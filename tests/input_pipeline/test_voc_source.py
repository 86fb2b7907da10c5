"""Pascal VOC: where its files may lie, names of classes, lists, and one line for each mistake."""

import logging

import numpy as np
import pytest
from PIL import Image

from practicum.input_pipeline import voc_source
from practicum.training.defaults import base
from tests import tiny_boxes
from tests.tiny_boxes import IMAGE, SCENES, files, refused

FOUR = {f'{name}.png': ((32, 16), [(label, 1, 2, 9, 12, 0)])
        for name, label in zip('abcd', ('cat', 'dog', 'cat', 'owl'))}

pytestmark = pytest.mark.usefixtures('own_cache')


@pytest.fixture
def root(tmp_path):
    return tiny_boxes.write_voc(tmp_path / 'set', FOUR)


def open_split(root, split='train', **fields):
    data = base().data
    data.update(source='voc_folder', name=str(root), **{'max_boxes': 4} | fields)
    return voc_source.open_split(data, IMAGE, split)


def write_lists(root, **names):
    (root / 'ImageSets' / 'Main').mkdir(parents=True, exist_ok=True)
    for split, lines in names.items():
        (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(lines) + '\n')


# --- where files lie ---

def test_given_lists(root):
    write_lists(root, train=['a', 'b.png', ''], val=[' c '], trainval=['a', 'b', 'c'])
    assert files(open_split(root)) == ['a.png', 'b.png'] and files(open_split(root, 'val')) == ['c.png']
    refused(lambda: open_split(root, 'vla'), 'has no vla.txt; did you mean val?')
    classes = {open_split(root, split).info.class_names for split in ('train', 'val')}
    assert classes == {('cat', 'dog', 'owl')}  # of all files: no list has an owl


@pytest.mark.parametrize('pictures, labels', [
    ('images', 'annotations'), ('JPEGImages', 'annotations'), ('images', 'images'), ('.', '.'),
    ('train/images', 'train/annotations'), ('images/train', 'annotations/train'), ('train', 'train')])
def test_folders(tmp_path, pictures, labels):
    root = tiny_boxes.write_voc(tmp_path / 'set', SCENES, pictures, labels)
    assert files(open_split(root)) == sorted(SCENES)
    test = tiny_boxes.write_voc(root, FOUR, pictures.replace('train', 'test'), labels.replace('train', 'test'))
    if 'train' in pictures:
        assert files(open_split(test, 'test')) == sorted(FOUR)
        refused(lambda: open_split(test, 'tset'), "no split 'tset'", 'did you mean test?')
    else:
        refused(lambda: open_split(test, 'test'), "all of it is 'train'", 'train[80%:]')


def test_classes_have_the_order_of_classes_txt(root):
    (root / 'classes.txt').write_text('owl\ndog\nzebra\ncat\n')
    source = open_split(root)
    assert source.info.class_names == ('owl', 'dog', 'zebra', 'cat')
    labels = source.read(np.arange(4))['box_labels'][:, 0]
    assert [source.info.class_names[label] for label in labels] == [
        FOUR[facts['file']][1][0][0] for facts in source.describe(np.arange(4))]


def test_unlabelled_images_are_left_out_and_empty_ones_kept(root, caplog):
    Image.new('RGB', (32, 16)).save(root / 'JPEGImages' / 'new.png')
    (root / 'Annotations' / 'a.xml').write_text(tiny_boxes.xml('a.png', (32, 16), []))
    with caplog.at_level(logging.WARNING):
        source = open_split(root)
    assert files(source) == sorted(FOUR) and 'left out 1 image(s) of train without annotation: new' in caplog.text
    empty = [facts['file'] for facts in source.describe(np.arange(4))].index('a.png')
    assert (source.read(np.array([empty]))['box_labels'] == -1).all()


def test_a_renamed_annotation_finds_its_image_by_filename(root, caplog):
    file = (root / 'Annotations' / 'a.xml').rename(root / 'Annotations' / 'label-1.xml')
    with caplog.at_level(logging.WARNING):
        assert files(open_split(root)) == sorted(FOUR) and not caplog.messages
    (root / 'Annotations' / 'label-2.xml').write_text(file.read_text())
    refused(lambda: open_split(root), 'label-1.xml and Annotations/label-2.xml are both of the image a.png')


def test_the_first_pixel_is_1(root):
    """xmin 1, xmax 32 of 32 pixels is the whole width; a tool that counts from 0 does no harm."""
    for left, top in ((1, 1), (0, 0)):
        (root / 'Annotations' / 'a.xml').write_text(
            f'<annotation><object><name>cat</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>32.0</xmax><ymax>'
            '16</ymax></bndbox><part><name>head</name><bndbox><xmin>2</xmin></bndbox></part></object></annotation>')
        source = open_split(root)
        boxes = source.read(np.arange(4))['boxes'][:, 0].tolist()
        assert [0, 0, 32, 16] in boxes and [1, 2, 9, 12] in boxes


# --- mistakes ---

OBJECT = ('<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>')
BOMB = ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x0 "aaaaaaaaaa">'
        + ''.join(f'<!ENTITY x{i} "{10 * f"&x{i - 1};"}">' for i in range(1, 10)) + ']><annotation>&x9;</annotation>')
OUTSIDE = ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object>'
           '</annotation>')


@pytest.mark.parametrize('content, parts', [
    (b'', ('is empty',)), (b'\n \n', ('is empty',)), (bytes(range(256)), ('is no XML',)),
    (f'<annotation>{OBJECT}'.encode(), ('is no XML, or cut short', 'line 1')),
    (b'<html></html>', ('no annotation of Pascal VOC', '<html>')),
    (b'{"images": []}', ('is no XML',)), (100_000 * b'<annotation>', ('is no XML, or cut short',)),
    (BOMB.encode(), ('has a document type',)), (BOMB.encode('utf-16'), ('has a document type',)),
    (OUTSIDE.encode(), ('has a document type',)),
    (b'<?xml version="1.0" encoding="GBK"?><annotation></annotation>', ('is no XML', 'encoding')),
    ('<annotation><a>é</a></annotation>'.encode('latin-1'), ('is no XML', 'invalid token')),
    (b'<annotation><object><bndbox/></object></annotation>', ('object 1 has no name',)),
    (b'<annotation><object><name>cat</name></object></annotation>', ('object 1 has no bndbox',)),
    (b'<annotation><object><name>cat</name><polygon/></object></annotation>', ('a polygon: export boxes',)),
    (f'<annotation>{OBJECT}{OBJECT.replace("<xmax>3</xmax>", "")}</annotation>'.encode(), ('object 2 has no xmax',)),
    (f'<annotation>{OBJECT.replace("3", "three")}</annotation>'.encode(), ("xmax is 'three', not a number",)),
    (f'<annotation>{OBJECT.replace("</name>", "</name><difficult>yes</difficult>")}</annotation>'.encode(),
     ("difficult is 'yes', not 0 or 1",)),
    (f'<annotation><size><width>a</width><height>2</height></size>{OBJECT}</annotation>'.encode(), ("width is 'a'",)),
], ids=lambda value: '' if isinstance(value, bytes) else value[0][:20])
def test_a_file_that_is_not_understood(root, content, parts):
    (root / 'Annotations' / 'a.xml').write_bytes(content)
    refused(lambda: open_split(root), 'Annotations/a.xml: ', *parts)


def test_an_unknown_class_names_the_nearest(root):
    (root / 'classes.txt').write_text('cat\ndog\nowls\n')
    refused(lambda: open_split(root), 'd.xml: object 1', "'owl', which is not in classes.txt; did you mean owls?")


@pytest.mark.parametrize('text, parts', [
    ('', ('names 0 classes',)), ('cat\n\ndog\nowl', ('line 2 is an empty name',)),
    ('cat\ndog\ncat', ("line 3 repeats the class 'cat' of line 1",)), (b'cat\nd\xf6g\n', ('line 2', 'not UTF-8'))])
def test_names_of_classes_that_are_none(root, text, parts):
    (root / 'classes.txt').write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(lambda: open_split(root), 'classes.txt: ', *parts)


@pytest.mark.parametrize('lines, parts', [
    (['a', 'x'], ('line 2: there is neither an annotation nor an image',)), (['a', 'b', 'a.png'], ("repeats 'a'",)),
    (['a -1'], ('a list of one class',)), (['../a'], ('line 1', 'path below the folder')), ([''], ('names no images',)),
    (['/etc/passwd'], ('path below',))])
def test_lists_that_are_wrong(root, lines, parts):
    write_lists(root, train=lines)
    refused(lambda: open_split(root), 'ImageSets/Main/train.txt: ', *parts)


@pytest.mark.parametrize('name', ['../x.jpg', '/etc/x.jpg', 'C:\\x.jpg', 'C:x.jpg', '..\\x.jpg', '.'])
def test_a_name_that_leads_out_of_the_folder(root, name):
    (root / 'Annotations' / 'odd.xml').write_text(f'<annotation><filename>{name}</filename></annotation>')
    refused(lambda: open_split(root), 'odd.xml: filename names the image', 'below the folder of images')


def test_two_images_of_one_name(root):
    Image.new('RGB', (32, 16)).save(root / 'JPEGImages' / 'a.jpg')
    refused(lambda: open_split(root), 'JPEGImages has both a.jpg and a.png: remove one')


def test_folders_that_are_not_there(root, tmp_path):
    refused(lambda: open_split(root / 'Annotations'), 'should hold Annotations/*.xml and JPEGImages/*')
    refused(lambda: open_split(root / 'nothing'), 'is not a folder')
    refused(lambda: open_split(tmp_path), 'has no folder Annotations: did you mean', 'set?')
    (root / 'Annotations').rename(root / 'other')
    refused(lambda: open_split(root), 'should hold')


def test_no_objects_at_all(root):
    for file in (root / 'Annotations').iterdir():
        file.write_text('<annotation/>')
    refused(lambda: open_split(root), 'none of its 4 annotations has an object', 'classes.txt')
    (root / 'classes.txt').write_text('cat\n')
    assert len(open_split(root)) == 4


@pytest.mark.parametrize('sides, hint', [
    (('20', '8', '9', '5'), 'they look like x, y, width, height'),
    (('0.1', '0.2', '0.5', '0.9'), 'these look like shares')])
def test_boxes_of_another_format(root, sides, hint):
    for name in 'abcd':
        box = ''.join(f'<{side}>{value}</{side}>' for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), sides))
        (root / 'Annotations' / f'{name}.xml').write_text(
            f'<annotation><object><name>cat</name><bndbox>{box}</bndbox></object></annotation>')
    refused(lambda: open_split(root), hint)
