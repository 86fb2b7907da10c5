"""Boxes: one data set gives the same arrays in all formats; what all sources have in common."""

import logging
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from practicum.common import console
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import checks, images, relabelling, sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.training.defaults import base
from tests import tiny_boxes
from tests.tiny_boxes import CLASSES, IMAGE, SCENES, refused

pytestmark = pytest.mark.usefixtures('own_cache')

FEATURES = ('image', 'boxes', 'box_labels', 'box_crowd')
WRITERS = {'voc_folder': tiny_boxes.write_voc, 'coco': tiny_boxes.write_coco, 'yolo_folder': tiny_boxes.write_yolo}


def open_split(source, root, split='train', *, image=IMAGE, training=False, **fields):
    data = base().data
    data.update(source=source, name=str(root), **{'max_boxes': 4} | fields)
    return sources.open_split(data, image, split, training=training)


def by_file(source) -> dict[str, dict]:
    """File -> features and sizes."""
    indices = np.arange(len(source))
    examples = source.read(indices)
    assert examples.keys() == set(FEATURES)
    return {facts['file']: {name: values[i] for name, values in examples.items()} | {
        'size': (facts['width'], facts['height'])} for i, facts in enumerate(source.describe(indices))}


def expected(name) -> np.ndarray:
    (width, height), objects = SCENES[name]
    scale = np.array([IMAGE['size'][1] / width, IMAGE['size'][0] / height] * 2)
    return np.array([box[1:5] for box in objects]).reshape(-1, 4) * scale


class TinyObjects(tfds.core.GeneratorBasedBuilder):
    """The scenes as tfds has boxes."""
    VERSION = tfds.core.Version('1.0.0')
    folder = None

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(shape=(None, None, 3)), 'image/filename': tfds.features.Text(),
            'objects': tfds.features.Sequence({
                'bbox': tfds.features.BBoxFeature(), 'label': tfds.features.ClassLabel(names=CLASSES),
                'is_difficult': np.bool_})}))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for name, ((width, height), objects) in SCENES.items():
            yield name, {'image': str(self.folder / name), 'image/filename': name, 'objects': [
                {'bbox': tfds.features.BBox(top / height, left / width, bottom / height, right / width),
                 'label': label, 'is_difficult': bool(hard)} for label, left, top, right, bottom, hard in objects]}


class FlatObjects(TinyObjects):
    """One of 101 boxes has no area."""

    def _generate_examples(self):
        for i in range(101):
            yield i, {'image': np.zeros((8, 8, 3), np.uint8), 'image/filename': f'{i}.png', 'objects': [
                {'bbox': tfds.features.BBox(0.0, 0.0, 0.5, 0.5 * (i != 7)), 'label': 'dog', 'is_difficult': False}]}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Folders of array_record and of tfrecord."""
    TinyObjects.folder = tmp_path_factory.mktemp('images')
    tiny_boxes.write_images(TinyObjects.folder)
    tfds.disable_progress_bar()
    folders = {}
    for form in ('array_record', 'tfrecord'):
        folders[form] = tmp_path_factory.mktemp(form)
        for name in ('tiny_objects', 'flat_objects'):
            tfds.builder(name, data_dir=str(folders[form]), file_format=form).download_and_prepare()
    return folders


def open_tfds(prepared, form='array_record', **fields):
    return open_split('tfds', 'tiny_objects', data_dir=str(prepared[form]), **fields)


# --- what is right ---

@pytest.mark.parametrize('limit', [2048, 0], ids=['memory', 'stream'])
def test_all_formats_give_equal_arrays(tmp_path, prepared, limit):
    """YOLO does not know what is hard, and tfds has an order of its own; all else is equal to the last bit."""
    opened = {kind: open_split(kind, write(tmp_path / kind), memory_limit_mb=limit)
              for kind, write in WRITERS.items()}
    assert all(isinstance(source, ArraySource) == bool(limit) for source in opened.values())
    orders = [[facts['file'] for facts in source.describe(np.arange(6))] for source in opened.values()]
    assert orders[0] == orders[1] == orders[2] != sorted(orders[0])
    opened['tfds'] = open_tfds(prepared, memory_limit_mb=limit)
    if limit:
        opened['tfrecord'] = open_tfds(prepared, 'tfrecord')
    found = {kind: by_file(source) for kind, source in opened.items()}
    for kind, examples in found.items():
        info = opened[kind].info
        assert info.class_names == CLASSES and info.input_size == IMAGE['size'] and opened[kind].has_boxes
        assert examples.keys() == SCENES.keys()
        for name, example in examples.items():
            size, objects = SCENES[name]
            assert example['boxes'].dtype == np.float32 and example['box_labels'].dtype == np.int32
            assert example['box_crowd'].dtype == np.uint8 and example['boxes'].shape == (4, 4)
            np.testing.assert_array_equal(example['boxes'][:len(objects)], expected(name).astype(np.float32), kind)
            assert not example['boxes'][len(objects):].any() and (example['box_labels'][len(objects):] == -1).all()
            assert [CLASSES[label] for label in example['box_labels'][:len(objects)]] == [o[0] for o in objects]
            hard = [0 if kind == 'yolo_folder' else one[5] for one in objects]
            assert example['box_crowd'].tolist() == hard + [0] * (4 - len(objects))
            assert example['size'] == size
            np.testing.assert_array_equal(example['image'], found['voc_folder'][name]['image'])


def test_any_size_of_image_and_input(tmp_path):
    """Where shares are not exact, formats differ by rounding alone."""
    scenes = {f'{i}.png': ((101 + 7 * i, 67 - 5 * i), [('cat', i, 2 * i, 17 + i, 31, 0)]) for i in range(5)}
    image = IMAGE | {'size': (37, 53)}
    found = [by_file(open_split(kind, write(tmp_path / kind, scenes), image=image)) for kind, write in WRITERS.items()]
    for name, ((width, height), ((_, *box, _),)) in scenes.items():
        exact = np.array(box) * np.tile([53 / width, 37 / height], 2)
        for examples in found:
            np.testing.assert_allclose(examples[name]['boxes'][0], exact, rtol=1e-6)
        np.testing.assert_array_equal(found[0][name]['boxes'], found[1][name]['boxes'])


def test_arrays_of_numpy(tmp_path):
    """Boxes move with images that are resized; fewer columns than max_boxes are filled up."""
    boxes = np.array([[[0, 0, 8, 4], [2, 1, 4, 2]], [[0, 0, 0, 0], [0, 0, 0, 0]]], np.float64)
    np.savez(tmp_path / 'a.npz', image=np.zeros((2, 4, 8, 3), np.uint8), boxes=boxes, box_labels=[[1, 0], [-1, -1]],
             class_names=['cat', 'dog'])
    source = open_split('npz', tmp_path / 'a.npz')
    assert source.has_boxes and source.info.input_size == (16, 32) and source.info.class_names == ('cat', 'dog')
    assert source.arrays['boxes'].tolist() == [[[0, 0, 32, 16], [8, 4, 16, 8], [0] * 4, [0] * 4], [[0] * 4] * 4]
    assert source.arrays['box_labels'].tolist() == [[1, 0, -1, -1], [-1] * 4]
    assert source.arrays['box_crowd'].dtype == np.uint8 and not source.arrays['box_crowd'].any()
    assert source.describe(np.array([1])) == [{'width': 8, 'height': 4}]
    checks.check_source(source, IMAGE | {'mean': (0,), 'std': (1,)}, 'the training set')
    with pytest.raises(UserError, match=r'example 0 has 2 boxes: set config.data.max_boxes = 2, it is 1'):
        open_split('npz', tmp_path / 'a.npz', max_boxes=1)
    config = base().data
    config.update(source='arrays', max_boxes=2, arrays={
        'image': np.zeros((1, 16, 32, 3)).tolist(), 'boxes': [[[0, 0, 1, 2]]], 'box_labels': [[2]]})
    source = sources.open_split(config, IMAGE, 'train')
    assert source.arrays['boxes'].tolist() == [[[0, 0, 1, 2], [0] * 4]] and source.info.class_names == ('0', '1', '2')


@pytest.mark.parametrize('arrays, parts', [
    ({'boxes': np.zeros((2, 3, 4))}, ('boxes need the arrays',)),
    ({'boxes': np.zeros((2, 3, 5)), 'box_labels': np.zeros((2, 3), int)}, ('(2, 3, 5)', '[n, boxes, 4]')),
    ({'boxes': np.zeros((2, 3, 4)), 'box_labels': np.zeros((2, 2), int)}, ('(2, 3, 4)', '(2, 2)')),
    ({'boxes': np.zeros((2, 3, 4)), 'box_labels': np.zeros((2, 3))}, ('whole numbers as box_labels', 'float64')),
    ({'boxes': np.zeros((2, 3, 4)), 'box_labels': np.full((2, 3), -2)}, ('box_labels hold -2',)),
])
def test_arrays_that_do_not_fit(tmp_path, arrays, parts):
    np.savez(tmp_path / 'a.npz', image=np.zeros((2, 4, 8, 3), np.uint8), **arrays)
    refused(lambda: open_split('npz', tmp_path / 'a.npz'), *parts)


def test_folds_by_a_regex_and_parts_of_a_split(tmp_path):
    root = tiny_boxes.write_voc(tmp_path / 'set')
    for limit in (0, 2048):
        held, rest = ({facts['file'] for facts in source.describe(np.arange(len(source)))} for source in (
            open_split('voc_folder', root, split, folds=2, group_by=r'\.\w+$', memory_limit_mb=limit)
            for split in ('fold', 'train')))
        assert held | rest == set(SCENES) and {frozenset({name[-3:] for name in part}) for part in (held, rest)} == {
            frozenset({'jpg'}), frozenset({'png'})}
    halves = [open_split('voc_folder', root, part, memory_limit_mb=0) for part in ('train[:50%]', 'train[50%:]')]
    assert [len(half) for half in halves] == [3, 3] and halves[0].has_boxes


def test_boxes_of_each_class_are_counted(tmp_path):
    source = open_split('voc_folder', tiny_boxes.write_voc(tmp_path))
    assert relabelling.count_labels(source) == (3, 3, 2)


# --- sizes of images ---

@pytest.mark.parametrize('form', ['jpg', 'png', 'tif', 'webp', 'bmp'])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_the_size_is_that_of_the_image_that_is_read(tmp_path, form, orientation):
    file = tmp_path / f'a.{form}'
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (20, 10)).save(file, **({} if form == 'bmp' else {'exif': exif}))
    size = images.upright_size(file)
    assert size == images.read_image(file, channels=3).shape[:2]
    assert size == ((20, 10) if orientation > 4 and form != 'bmp' else (10, 20))


def test_an_annotation_of_the_image_lying_is_refused(tmp_path):
    """Labelling tools that do not look at EXIF data show such an image lying."""
    root = tiny_boxes.write_voc(tmp_path, {'a.jpg': ((20, 10), [('cat', 1, 2, 5, 8, 0)])})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (20, 10)).save(root / 'JPEGImages' / 'a.jpg', exif=exif)
    refused(lambda: open_split('voc_folder', root), 'Annotations/a.xml is of an image of 20x10 pixels',
            'a.jpg has 10x20', 'labelled lying', 'exiftool')
    (root / 'Annotations' / 'a.xml').write_text(tiny_boxes.xml('a.jpg', (10, 20), [('cat', 1, 2, 5, 20, 0)]))
    found = by_file(open_split('voc_folder', root, image=IMAGE | {'size': (20, 10)}))['a.jpg']
    assert found['size'] == (10, 20) and found['boxes'][0].tolist() == [1, 2, 5, 20]


# --- what is left out, and what is too much of it ---

def many(objects) -> dict:
    """100 images, with one object each; the last has other ones."""
    scenes = {f'{i}.png': ((32, 16), [('cat', 1, 2, 9, 12, 0)]) for i in range(99)}
    return scenes | {'odd.png': ((32, 16), objects)}


@pytest.mark.parametrize('kind', WRITERS)
@pytest.mark.parametrize('box, text', [
    ((5, 3, 5, 9), 'has no area'), ((5, 9, 8, 9), 'has no area'), ((9, 3, 5, 9), 'has no area'),
    ((32, 3, 40, 9), 'lies outside of the image of 32x16 pixels'), ((-9, 3, 0, 9), 'lies outside of the image'),
    ((float('nan'), 3, 5, 9), 'is not finite')], ids=['line', 'flat', 'turned', 'right', 'left', 'nan'])
def test_a_box_that_is_none_is_named_and_left_out(tmp_path, kind, box, text, caplog):
    if kind == 'voc_folder':  # the writer adds 1
        box = (box[0] - (box[0] == box[2]), box[1] - (box[1] == box[3]), *box[2:])
    scenes = many([('cat', 0, 0, 4, 4, 0), ('dog', *box, 0)])
    root = WRITERS[kind](tmp_path, scenes)
    if kind == 'yolo_folder' and box[0] == 32:
        (root / 'labels' / 'odd.txt').write_text('0 0.1 0.1 0.1 0.1\n1 1 0.1 -0 0.1\n')
        text = 'has no area'
    with caplog.at_level(logging.WARNING):
        found = by_file(open_split(kind, root))['odd.png']
    line = next(message for message in caplog.messages if 'boxes' in message)
    assert line.startswith('1 of 101 boxes in ') and text in line and '(dog)' in line and '\n' not in line
    assert {'voc_folder': 'Annotations/odd.xml: object 2', 'coco': 'annotations.json: annotations[100]',
            'yolo_folder': 'labels/odd.txt: line 2'}[kind] in line
    assert found['box_labels'].tolist() == [0, -1, -1, -1]
    refused(lambda: open_split(kind, root, max_unreadable=0.005), text,
            'cannot be used, more than config.data.max_unreadable = 0.005')


def test_a_click_of_voc_is_no_pixel(tmp_path):
    """By the letter, xmin = xmax is one pixel wide: as 1 to 1 of the first pixel."""
    root = tiny_boxes.write_voc(tmp_path, many([('cat', 4, 3, 5, 9, 0)]))
    refused(lambda: open_split('voc_folder', root, max_unreadable=0.0),
            'object 1 (cat) has no area (left 5, top 3, right 5, bottom 9)')


def test_boxes_over_the_edge_are_cut(tmp_path, caplog):
    scenes = many([('cat', -1, -1, 33, 17, 0)])
    root = tiny_boxes.write_coco(tmp_path / 'a', scenes)
    with caplog.at_level(logging.WARNING):
        found = by_file(open_split('coco', root, image=IMAGE | {'size': (16, 32)}))['odd.png']
    assert found['boxes'][0].tolist() == [0, 0, 32, 16] and not caplog.messages  # a pixel is nothing to speak of
    root = tiny_boxes.write_coco(tmp_path / 'b', many([('cat', 20, 3, 45, 9, 0)]))
    with caplog.at_level(logging.WARNING):
        found = by_file(open_split('coco', root))['odd.png']
    assert found['boxes'][0].tolist() == [20, 3, 32, 9]
    assert '1 of 100 boxes' in caplog.text and 'over the edge of their image, by up to 13 pixels' in caplog.text


@pytest.mark.parametrize('kind', WRITERS)
def test_too_many_boxes_say_how_many(tmp_path, kind):
    scenes = {'a.png': ((32, 16), [('cat', i, 0, i + 2, 9, 0) for i in range(7)]),
              'b.png': ((32, 16), [('cat', i, 0, i + 2, 9, 0) for i in range(9)])}
    root = WRITERS[kind](tmp_path, scenes)
    refused(lambda: open_split(kind, root, max_boxes=6), 'b.png has 9 boxes: set config.data.max_boxes = 9, it is 6')
    refused(lambda: open_split(kind, root, max_boxes=0), 'config.data.max_boxes = 0')
    assert by_file(open_split(kind, root, max_boxes=9))['b.png']['boxes'].shape == (9, 4)


def test_too_many_boxes_in_tfds(prepared):
    for form in prepared:
        refused(lambda: open_tfds(prepared, form, max_boxes=2), 'example ',  # noqa: B023
                'has 3 boxes: set config.data.max_boxes = 3, it is 2')
    refused(lambda: open_tfds(prepared, training=True, random_resized_crop=(0.2, 0.9)), 'boxes, which are not cropped')


@pytest.mark.parametrize('form, limit', [('array_record', 2048), ('array_record', 0), ('tfrecord', 2048)])
def test_a_box_of_tfds_without_area_is_named_and_left_out(prepared, form, limit, caplog):
    def opened(**fields):
        return open_split('tfds', 'flat_objects', data_dir=str(prepared[form]), memory_limit_mb=limit, **fields)

    for _ in range(2):  # what was found is cached, and said again
        caplog.clear()
        console.warn_once.cache_clear()
        with caplog.at_level(logging.WARNING):
            source = opened()
        line = next(message for message in caplog.messages if 'boxes' in message)
        assert '1 of 101 boxes in flat_objects/train cannot be used' in line and 'object 1 (dog) of example' in line
        index = int(line.rpartition('example ')[2].split()[0])
        assert source.describe(np.array([index]))[0]['file'] == '7.png'
        assert np.flatnonzero(source.read(np.arange(101))['box_labels'][:, 0] == -1).tolist() == [index]
    refused(lambda: opened(max_unreadable=0.0), 'has no area', 'config.data.max_unreadable = 0.0')


@pytest.mark.parametrize('kind', WRITERS)
def test_a_missing_image_is_left_out_with_its_boxes(tmp_path, kind, caplog):
    root = WRITERS[kind](tmp_path, many([('dog', 1, 2, 3, 4, 0)]))
    next(root.glob('*/odd.png')).unlink()
    with caplog.at_level(logging.WARNING):
        assert len(open_split(kind, root)) == 99
    assert '1 of 100 annotations' in caplog.text and 'there is no image odd' in caplog.text
    refused(lambda: open_split(kind, root, max_unreadable=0.001), 'there is no image odd', 'max_unreadable = 0.001')


@pytest.mark.parametrize('kind', ['voc_folder', 'coco'])
def test_an_annotation_of_another_size(tmp_path, kind):
    root = WRITERS[kind](tmp_path)
    Image.new('RGB', (33, 32)).save(next(root.glob('*/b.jpg')))
    refused(lambda: open_split(kind, root), '1 of 6 annotations', {
        'coco': 'annotations.json: images[1]', 'voc_folder': 'Annotations/b.xml'}[kind] + ' is of an image of 32x32 '
        'pixels, b.jpg has 33x32')


@pytest.mark.parametrize('limit', [2048, 0])
def test_damaged_images_are_left_out(tmp_path, limit, caplog):
    root = tiny_boxes.write_voc(tmp_path / 'set', many([('dog', 1, 2, 3, 4, 0)]))
    (root / 'JPEGImages' / 'odd.png').write_bytes(b'no image')
    for training in (True, False):
        source = open_split('voc_folder', root, training=training, memory_limit_mb=limit)
        assert len(source) == 99 and 'odd.png' not in by_file(source)
    refused(lambda: open_split('voc_folder', root, max_unreadable=0.0, memory_limit_mb=limit), 'odd.png')
    whole = root / 'JPEGImages' / '5.png'
    whole.write_bytes(whole.read_bytes()[:-30])  # its header tells the size
    assert len(open_split('voc_folder', root, max_unreadable=0.02, memory_limit_mb=limit)) == 98


def test_an_image_that_can_be_read_again_has_its_boxes(tmp_path):
    """As when permissions were wrong, which neither size nor time of a file tell."""
    root = tiny_boxes.write_voc(tmp_path / 'set')
    file = root / 'JPEGImages' / 'a.png'
    sound, time = file.read_bytes(), file.stat().st_mtime_ns
    file.write_bytes(bytes(len(sound)))
    os.utime(file, ns=(time, time))
    assert 'a.png' not in by_file(open_split('voc_folder', root, max_unreadable=0.5))
    file.write_bytes(sound)
    os.utime(file, ns=(time, time))
    found = by_file(open_split('voc_folder', root, max_unreadable=0.5))['a.png']
    assert found['size'] == (64, 32) and found['boxes'][0].tolist() == [0, 0, 32, 16]


@pytest.mark.parametrize('kind', WRITERS)
def test_changed_annotations_are_read_anew(tmp_path, kind):
    root = WRITERS[kind](tmp_path / 'set')
    before = by_file(open_split(kind, root))
    changed = SCENES | {'f.png': ((32, 64), [('owl', 8, 8, 16, 32, 0)])}
    WRITERS[kind](root, changed)
    after = by_file(open_split(kind, root))
    assert before['f.png']['boxes'][0].tolist() != after['f.png']['boxes'][0].tolist() == [8, 2, 16, 8]
    assert after['f.png']['box_labels'][0] == 2


def test_what_boxes_cannot_do(tmp_path):
    root = tiny_boxes.write_voc(tmp_path)
    refused(lambda: open_split('voc_folder', root, image=IMAGE | {'resize': 'crop'}), "use 'stretch'")
    refused(lambda: open_split('voc_folder', root, random_resized_crop=(0.1, 1.0)), 'random_resized_crop')
    refused(lambda: open_split('voc_folder', root, merge_classes=(('pet', ('cat', 'dog')),)),
            'config.data.merge_classes is for data with one class', 'has boxes', 'one name in the annotations')


# --- checks before the first step ---

INFO = DatasetInfo(class_names=CLASSES, input_size=(16, 32))
SOUND = {'boxes': np.array([[[0, 0, 32, 16], [0, 0, 0, 0]]], np.float32), 'box_labels': np.array([[2, -1]], np.int32),
         'box_crowd': np.zeros((1, 2), np.uint8)}


def test_sound_boxes_pass():
    checks.check_batch(SOUND, INFO, base().image)


@pytest.mark.parametrize('change, parts', [
    ({'boxes': SOUND['boxes'] + np.float32(0.5)}, ('example 0 has a box outside of its 32x16 pixels', '0.5, 32.5')),
    ({'boxes': np.float32([[[5, 3, 5, 9], [0] * 4]])}, ('example 0 has a box without area', '5, 3, 5, 9')),
    ({'boxes': SOUND['boxes'] * np.float32(np.nan)}, ('boxes of example 0 is not finite',)),
    ({'boxes': SOUND['boxes'][..., :3]}, ('boxes (1, 2, 3)',)),
    ({'box_labels': np.zeros((1, 3), np.int32)}, ('box_labels (1, 3)',)),
    ({'box_labels': np.array([[3, -1]], np.int32)}, ('are 3, but there are 3 classes, 0 to 2, and -1',)),
    ({'box_labels': np.array([[0, -2]], np.int32)}, ('are -2',)),
    ({'box_labels': np.zeros((1, 2), np.float32)}, ('box_labels are float32',)),
    ({'box_crowd': np.full((1, 2), 7, np.uint8)}, ('box_crowd of example 0 is neither 0 nor 1',)),
])
def test_unsound_boxes_are_refused(change, parts):
    refused(lambda: checks.check_batch(SOUND | change, INFO, base().image, 'the data'), 'the data: ', *parts)


@pytest.mark.parametrize('memory', [2048, 0])
def test_classes_are_said_with_their_objects_and_two_ways_to_write_one_warned_of(tmp_path, caplog, memory):
    """Of streamed images the objects are not counted; those that are hard are none."""
    scenes = {f'{i}.png': ((32, 32), [(name, 1, 1, 9, 9, hard), ('dog', 9, 9, 30, 30, 0)])
              for i, (name, hard) in enumerate([('cat', 0), ('Cat', 0), ('cat', 1), ('owl', 1)])}
    root = tiny_boxes.write_voc(tmp_path, scenes)
    with caplog.at_level(logging.INFO):
        source = open_split('voc_folder', root, training=True, memory_limit_mb=memory)
        caplog.clear()
        checks.say_what_is_learned(source, {})
    said, warned = caplog.messages
    assert said == 'classes: ' + ('Cat 1, cat 1, dog 4, owl 0 objects' if memory else 'Cat, cat, dog, owl')
    assert warned.startswith("the classes 'Cat' and 'cat' differ only in case or spaces")
