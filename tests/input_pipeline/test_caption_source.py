"""Images with captions as people have them: Flickr8k's file, COCO's file, and what is wrong with either."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.common import console
from practicum.common.errors import UserError
from practicum.input_pipeline import caption_source, folder_source, memory, unreadable
from practicum.training.defaults import base

IMAGE = {'size': (8, 10), 'channels': 3}
NAMES = [f'{i}.png' for i in range(8)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    """An empty cache, and no warning given yet."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    console.warn_once.cache_clear()


@pytest.fixture
def root(tmp_path) -> Path:
    """Images 0.png, ..., 7.png, of grey 0, 10, ..., 70."""
    (tmp_path / 'set' / 'images').mkdir(parents=True)
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((8, 10, 3), 10 * i, np.uint8)).save(tmp_path / 'set' / 'images' / name)
    return tmp_path / 'set'


def write(root: Path, lines=None, file='captions.txt', header='image,caption') -> None:
    """By default two captions of each image."""
    if lines is None:
        lines = [f'{name},image {name[0]} {k}' for name in NAMES for k in 'ab']
    (root / file).write_text('\n'.join([header, *lines]) + '\n', encoding='utf-8')


def write_json(root: Path, content=None, file='captions.json') -> None:
    if content is None:
        content = {'images': [{'id': 100 + i, 'file_name': name} for i, name in enumerate(NAMES)],
                   'annotations': [{'image_id': 100 + i, 'id': 2 * i + k, 'caption': f'image {i} {"ab"[k]}'}
                                   for k in range(2) for i in range(8)]}
    (root / file).write_text(json.dumps(content))


def open_split(root, split='train', image=IMAGE, **fields):
    data = base().data
    data.update(source='caption_folder', name=str(root), **fields)
    return caption_source.open_split(data, image, split)


def captions(source) -> dict[str, list[str]]:
    return {facts['file']: facts['captions'] for facts in source.describe(np.arange(len(source)))}


EXPECTED = {name: [f'image {name[0]} a', f'image {name[0]} b'] for name in NAMES}


# --- what is right ---

@pytest.mark.parametrize('writer', [write, write_json])
def test_an_example_is_a_image_with_all_of_its_captions(root, writer):
    writer(root)
    source = open_split(root)
    assert len(source) == 8 and captions(source) == EXPECTED and source.info.to_json() == {}
    examples, facts = source.read(np.array([3, 0, 3])), source.describe(np.array([3, 0, 3]))
    assert examples.keys() == {'image'} and examples['image'].shape == (3, 8, 10, 3)
    assert examples['image'][:, 0, 0, 0].tolist() == [10 * int(f['file'][0]) for f in facts]
    assert facts[0] == facts[2] != facts[1]


def test_the_order_is_by_a_hash_of_the_file_name(root):
    """So that parts divide images, and the same wherever the folder lies and however its captions are sorted."""
    write(root)
    files = list(captions(open_split(root)))
    write(root, [f'{name},image {name[0]} {k}' for k in 'ab' for name in reversed(NAMES)])
    assert list(captions(open_split(root))) == files != NAMES
    assert files == [path.name for path in sorted((Path('x', name) for name in NAMES),
                                                  key=lambda path: folder_source.order(path, Path('x')))]


@pytest.mark.parametrize('line, caption', [
    ('0.png,A dog , and a cat , run .', 'A dog , and a cat , run .'),
    ('0.png,"A dog , and a cat , run ."', 'A dog , and a cat , run .'),
    ('0.png,"A sign says "" Stop "" , twice"', 'A sign says " Stop " , twice'),
    ('0.png,"Stop" says a sign, "or else"', '"Stop" says a sign, "or else"'),
    ('0.png,"a quotation mark that never ends', '"a quotation mark that never ends'),
    ('"0.png","quoted, both"', 'quoted, both'), ('  0.png ,  blanks   around\t it ', 'blanks around it'),
    ('0.png,caf\u00e9 \u732b', 'caf\u00e9 \u732b'), ('./0.png,dotted', 'dotted'), ('0.png,a\r', 'a'),
    ('0.png,' + 'long ' * 40000 + 'end', 'long ' * 40000 + 'end'),
])
def test_commas_and_quotation_marks(root, line, caption):
    write(root, [line, *(f'{name},x' for name in NAMES[1:])])
    assert captions(open_split(root))['0.png'] == [caption]


def test_a_file_from_windows(root):
    (root / 'captions.txt').write_bytes(
        b'\xef\xbb\xbfimage,caption\r\n' + b''.join(f'{name},a {name}\r\n\r\n'.encode() for name in NAMES))
    assert captions(open_split(root)) == {name: [f'a {name}'] for name in NAMES}


def test_given_splits(root):
    write(root, [f'{name},x' for name in NAMES[:5]], 'captions_train.txt')
    write_json(root, {'images': [{'id': 1, 'file_name': '6.png'}], 'annotations': [{'image_id': 1, 'caption': 'y'}]},
               'captions_test.json')
    assert sorted(captions(open_split(root))) == NAMES[:5]
    assert captions(open_split(root, 'test')) == {'6.png': ['y']}
    with pytest.raises(UserError, match='no captions_tset.txt or .json; did you mean test?'):
        open_split(root, 'tset')


def test_images_in_folders_below(root):
    (root / 'images' / 'more').mkdir()
    (root / 'images' / '7.png').rename(root / 'images' / 'more' / '7.png')
    write(root, [f'{name},x' for name in NAMES[:7]] + ['more/7.png,y'])
    assert captions(open_split(root))['more/7.png'] == ['y']


def test_in_memory_and_with_damaged_images(root):
    write(root)
    source = open_split(root)
    damaged = source.describe(np.array([2]))[0]['file']
    (root / 'images' / damaged).write_bytes(b'no image')
    loaded = memory.load(source)
    assert len(loaded) == 8
    kept = unreadable.leave_out(loaded, source, np.arange(8), 0.2)
    assert captions(loaded.select(kept)) == {name: texts for name, texts in EXPECTED.items() if name != damaged}
    assert unreadable.readable(source, np.arange(8), 0.2, pixels=False, workers=1).tolist() == [0, 1, 3, 4, 5, 6, 7]
    with pytest.raises(UserError, match=damaged):
        source.check(2, pixels=True)
    with pytest.raises(UserError, match='1 of 8 images.*max_unreadable'):
        unreadable.readable(source, np.arange(8), 0.01, pixels=False, workers=1)


def test_the_cache_knows_when_captions_change(root):
    write(root)
    before = memory.load(open_split(root))
    write(root, [f'{name},other words' for name in NAMES])
    after = memory.load(open_split(root))
    assert captions(before) == EXPECTED and captions(after) == {name: ['other words'] for name in NAMES}


# --- what is wrong but can be left out ---

def test_one_line_tells_what_is_left_out(root, caplog):
    lines = [f'{name},{k}' for name in NAMES[:7] for k in 'abcde'] + [
        '0.png,', '1.png,  ', '2.png,""', '3.png,a', 'gone.png,x', 'gone.png,y', 'lost.png,z']
    write(root, lines)
    with caplog.at_level(logging.WARNING):
        source = open_split(root, max_unreadable=0.2)
        open_split(root, max_unreadable=0.2)
    assert len(source) == 7 and captions(source) == {name: list('abcde') for name in NAMES[:7]}
    assert [record.getMessage() for record in caplog.records] == [
        f'{root}/captions.txt: left out 3 empty captions, 1 repeated caption, 3 captions of missing images (gone.png, '
        'lost.png), 1 image without captions (7.png)']


def test_nothing_is_said_where_nothing_is_left_out(root, caplog):
    write(root, [f'{name},the same of all' for name in NAMES])
    with caplog.at_level(logging.WARNING):
        assert len(open_split(root, max_unreadable=0.0)) == 8
    assert not caplog.records


@pytest.mark.parametrize('lines, message', [
    ([f'{name},x' for name in NAMES] + ['0.png,'], 'captions.txt: 1 empty caption, of 9 captions and 8 images: more'),
    ([f'{name},x' for name in NAMES] + ['a.png,x'], r'1 caption of missing images \(a.png\), of 9 captions'),
    ([f'{name},x' for name in NAMES[:6]], r'2 images without captions \(6.png, 7.png\), of 6 captions'),
])
def test_too_much_left_out_is_an_error(root, lines, message):
    write(root, lines)
    with pytest.raises(UserError, match=message + '.*config.data.max_unreadable = 0.1'):
        open_split(root, max_unreadable=0.1)


# --- what is wrong ---

@pytest.mark.parametrize('content, message', [
    (b'', 'captions.txt: is empty'), (b' \n\n', 'captions.txt: is empty'),
    (b'image,caption\n', 'captions.txt: holds no captions'),
    (b'0.png,a dog\n', "begins with '0.png,a dog': its first line should be 'image,caption'"),
    (b'image,caption\n0.png,a\n1.png a\n', "line 3 has no comma: '1.png a'; it should be <image>,<caption>"),
    (b'image,caption\n0.png,a\n1.png,caf\xe9\n', r'line 3 \(byte 31\) is not UTF-8'),
    (b'image,caption\n,a dog\n', "line 2 names the image ''"),
    (b'image,caption\n../secret.png,a\n', "line 2 names the image '../secret.png': it should be a file in images/"),
    (b'image,caption\n0.png,a\n/etc/passwd,a\n', "line 3 names the image '/etc/passwd'"),
    (b'image,caption\na/../../b.png,a\n', "line 2 names the image"),
    (b'image,caption\n..\\b.png,a\n', "line 2 names the image"),
    (b'image,caption\nx.png,a\n', r'none of its 1 captions is of an image in images/ \(the first is of x.png\)'),
    (b'image,caption\n0.png,\n', 'all of its 1 captions are empty'),
])
def test_a_bad_file_is_one_line(root, content, message):
    (root / 'captions.txt').write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        open_split(root)
    assert '\n' not in str(error.value) and str(root) in str(error.value)


IMAGES = [{'id': 1, 'file_name': '0.png'}]


@pytest.mark.parametrize('content, message', [
    ('', 'is empty'), ('{', 'is no JSON'), ('[' * 100_000, 'is no JSON'), ('[]', "no list of objects 'images'"),
    ('{"images": []}', "no list of objects 'annotations'"), ('{"images": [], "annotations": []}', 'holds no captions'),
    ('{"images": [1], "annotations": []}', "no list of objects 'images'"),
    ({'images': [{'id': 1}], 'annotations': []}, r"images\[0\] should have 'id' and 'file_name'"),
    ({'images': [*IMAGES, {'id': 1, 'file_name': '1.png'}], 'annotations': []}, 'have the same id 1'),
    ({'images': IMAGES, 'annotations': [{'image_id': 1, 'caption': 3}]}, r"annotations\[0\] should have"),
    ({'images': IMAGES, 'annotations': [{'image_id': [], 'caption': 'a'}]}, r"annotations\[0\] should have"),
    ({'images': IMAGES, 'annotations': [{'image_id': 2, 'caption': 'a'}]}, r'none of its 1 captions.*\(.*id 2\)'),
    ({'images': [{'id': 1, 'file_name': '../../a.png'}], 'annotations': [{'image_id': 1, 'caption': 'a'}]},
     r"annotations\[0\] names the image '../../a.png'"),
])
def test_a_bad_json_file_is_one_line(root, content, message):
    (root / 'captions.json').write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        open_split(root)
    assert '\n' not in str(error.value) and str(root) in str(error.value)


def test_a_link_out_of_the_folder_is_followed(root, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'secret.png')
    (root / 'images' / 'link.png').symlink_to(tmp_path / 'secret.png')
    write(root, [*(f'{name},x' for name in NAMES), 'link.png,secret'])
    assert captions(open_split(root, max_unreadable=0.5))['link.png'] == ['secret']


@pytest.mark.parametrize('remove, split, message', [
    (None, 'test', "all of it is 'train'; take parts of that instead of 'test'"),
    ('captions.txt', 'train', 'has no captions.txt and no captions.json'),
    ('images', 'train', 'has no folder images'),
])
def test_a_folder_that_is_not_whole(root, remove, split, message):
    write(root)
    if remove:
        (root / remove).rename(root / 'elsewhere')
    with pytest.raises(UserError, match=message):
        open_split(root, split)


def test_two_files_of_captions_or_no_folder(root):
    write(root)
    write_json(root)
    with pytest.raises(UserError, match='has both captions.txt and captions.json: remove one'):
        open_split(root)
    with pytest.raises(UserError, match='is not a folder'):
        open_split(root / 'nowhere')


def test_no_images(root):
    write(root)
    for name in NAMES:
        (root / 'images' / name).unlink()
    with pytest.raises(UserError, match='no images in this folder'):
        open_split(root)
