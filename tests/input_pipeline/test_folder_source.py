"""Folders at ImageNet's size: random parts streamed from disk, and images that cannot be read."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.common import console
from practicum.common.errors import UserError
from practicum.input_pipeline import images, jpeg, memory, plain_jpeg, sources, unreadable
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.batches import EvalBatches, TrainBatches, stream
from practicum.input_pipeline.folder_source import FolderSource
from practicum.training.defaults import base

IMAGE = {'size': (16, 16), 'channels': 3}
CROP = {'random_resized_crop': (0.2, 0.9)}


def open_split(root: Path, split='train', *, image=IMAGE, training=False, invert=False, **fields):
    data = base().data
    data.update(source='folder', name=str(root), **fields)
    return sources.open_split(data, image, split, training=training, invert=invert)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no warning given yet."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    console.warn_once.cache_clear()
    return tmp_path / 'cache'


@pytest.fixture
def root(tmp_path) -> Path:
    """40 JPEGs of 40x30 in two classes, each of its own brightness, with a gradient to see crops by."""
    gradient = np.add.outer(np.arange(30), np.arange(40))[..., None].repeat(3, 2)
    for k, name in enumerate(('cat', 'dog')):
        (tmp_path / 'animals' / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray((gradient + 4 * i + 80 * k).astype(np.uint8)).save(
                tmp_path / 'animals' / name / f'{i:02}.jpg', quality=95)
    return tmp_path / 'animals'


def brightness(source) -> list[int]:
    return source.read(np.arange(len(source)))['image'].mean((1, 2, 3)).round().astype(int).tolist()


def empty(file: Path) -> None:
    file.write_bytes(b'')


def cut(file: Path) -> None:
    """Header sound, pixels not."""
    data = file.read_bytes()
    file.write_bytes(data[:-20])


# --- random parts ---

def test_training_reads_random_parts_and_evaluation_whole_images(root):
    training, evaluation = open_split(root, training=True, **CROP), open_split(root, **CROP)
    assert training.needs_rng and not isinstance(training, ArraySource)
    assert isinstance(evaluation, ArraySource)  # it fits into memory
    batches = TrainBatches(training, 10, seed=3)
    batch, files = batches(7), FolderSource(root, IMAGE).files
    for row, (i, uniforms) in enumerate(zip(batches.indices(7), batches.uniforms(7))):
        expected = np.empty((16, 16, 3), np.uint8)
        jpeg.read_crop(files[i], uniforms, CROP['random_resized_crop'], expected)
        np.testing.assert_array_equal(batch['image'][row], expected)
        assert batch['label'][row] == (files[i].parent.name == 'dog')
    for split in (evaluation, open_split(root, memory_limit_mb=0, **CROP)):
        assert split.read(np.arange(1))['image'][0].tolist() == images.resize(
            images.read_image(files[0], channels=3), (16, 16)).tolist()
        assert len(EvalBatches(split, 10)(0)['image']) == 10


@pytest.mark.parametrize('workers', [1, 3])
@pytest.mark.parametrize('hosts', [1, 2])
def test_parts_do_not_depend_on_hosts_and_threads(root, hosts, workers):
    source = open_split(root, 'train[10%:]', training=True, **CROP)
    whole = [TrainBatches(source, 8, seed=1)(step)['image'] for step in range(6)]
    share = 8 // hosts
    parts = [[batch['image'] for batch in stream(
        TrainBatches(source, 8, 1, slice(h * share, (h + 1) * share)), range(6), source=source, workers=workers)]
        for h in range(hosts)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert any((a != b).any() for a, b in zip(whole, [TrainBatches(source, 8, seed=2)(s)['image'] for s in range(6)]))


def test_a_image_is_cut_anew_in_every_epoch(root):
    batches = TrainBatches(open_split(root, training=True, **CROP), 40, seed=0)
    first, second = ({i: batches(epoch)['image'][row] for row, i in enumerate(batches.indices(epoch))}
                     for epoch in (0, 1))
    assert sum((first[i] == second[i]).all() for i in range(40)) == 0


def test_inverted_parts(root):
    plain, inverted = (open_split(root, training=True, invert=invert, **CROP) for invert in (False, True))
    assert inverted.needs_rng
    np.testing.assert_array_equal(TrainBatches(inverted, 4, 0)(0)['image'], 255 - TrainBatches(plain, 4, 0)(0)['image'])


@pytest.mark.parametrize('area', [(0.5,), (0.0, 1.0), (0.5, 0.2), (0.5, 1.5), ('a', 'b')])
def test_an_impossible_area_is_an_error(root, area):
    with pytest.raises(UserError, match='config.data.random_resized_crop'):
        open_split(root, training=True, random_resized_crop=area)


def test_only_single_images_are_cut():
    data = base().data
    data.update(source='mask_folder', name='masks', **CROP)
    with pytest.raises(UserError, match="it is for config.data.source = 'folder'"):
        sources.open_split(data, {'size': (8, 8), 'channels': 1}, 'train')


# --- the middle of an image ---

def test_the_middle_is_cut_out_in_memory_and_streaming_and_cached_apart(root, cache):
    image = IMAGE | {'resize': 'crop'}
    loaded, streaming = open_split(root, image=image), open_split(root, image=image, memory_limit_mb=0)
    stretched = open_split(root)
    expected = np.stack([images.fit(images.read_image(file, channels=3), (16, 16), 'crop')
                         for file in FolderSource(root, IMAGE).files])
    for source in (loaded, streaming):
        np.testing.assert_array_equal(source.read(np.arange(40))['image'], expected)
    assert (stretched.arrays['image'] != expected).any() and len(list((cache / 'decoded').iterdir())) == 2


def test_another_way_to_resize_is_an_error(root):
    with pytest.raises(UserError, match="config.image.resize = 'corp'; did you mean crop"):
        open_split(root, image=IMAGE | {'resize': 'corp'})


def test_masks_are_not_cut(tmp_path):
    for name, mode in (('images', 'RGB'), ('masks', 'L')):
        (tmp_path / 'own' / name).mkdir(parents=True)
        Image.new(mode, (20, 30)).save(tmp_path / 'own' / name / 'a.png')
    data = base().data
    data.update(source='mask_folder', name=str(tmp_path / 'own'))
    assert len(sources.open_split(data, IMAGE, 'train')) == 1
    with pytest.raises(UserError, match="config.image.resize = 'crop' would cut off"):
        sources.open_split(data, IMAGE | {'resize': 'crop'}, 'train')


def test_the_identity_of_stretched_images_is_what_it_was(root):
    source = FolderSource(root, IMAGE)
    assert source.identity == ['folder', str(root), (16, 16), 3, {'class_names': ['cat', 'dog']},
                               [str(file) for file in source.files], memory.fingerprint(source.files)]


# --- images that cannot be read ---

@pytest.mark.parametrize('spoil', [empty, cut])
@pytest.mark.parametrize('limit', [2048, 0])
def test_unreadable_images_are_left_out_with_one_warning(root, limit, spoil, caplog):
    whole = brightness(open_split(root))
    files = FolderSource(root, IMAGE).files
    for i in (5, 30):
        spoil(files[i])
    opened = [open_split(root, memory_limit_mb=limit, max_unreadable=0.1) for _ in range(2)]
    for source in opened:
        assert brightness(source) == [value for i, value in enumerate(whole) if i not in (5, 30)]
        assert [facts['file'] for facts in source.describe(np.array([4, 5]))] == [
            files[i].relative_to(root).as_posix() for i in (4, 6)]
        assert isinstance(source, ArraySource) == bool(limit)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and '2 of 40 images' in warnings[0] and str(files[5]) in warnings[0]


@pytest.mark.parametrize('training, limit', [(False, 2048), (False, 0), (True, 0)])
def test_too_many_are_an_error(root, training, limit):
    for file in FolderSource(root, IMAGE).files[:3]:
        empty(file)
    for _ in range(2):  # also from the cache
        with pytest.raises(UserError, match=r'3 of 40 images in .*config.data.max_unreadable = 0.05 .*0 bytes'):
            open_split(root, training=training, memory_limit_mb=limit, max_unreadable=0.05)
    assert len(open_split(root, training=training, memory_limit_mb=limit, max_unreadable=0.08)) == 37


def test_parts_end_where_they_did_whoever_reads_them(root):
    """Training learns of damaged pixels late; no example of its part may reach the evaluation set or the reverse."""
    files = FolderSource(root, IMAGE).files
    for i in (2, 3, 31):
        cut(files[i])
    empty(files[10])
    training = open_split(root, 'train[:75%]', training=True, max_unreadable=0.2, **CROP)
    names = [{facts['file'] for facts in source.describe(np.arange(len(source)))} for source in (
        training, open_split(root, 'train[75%:]', max_unreadable=0.2),
        open_split(root, 'train[75%:]', max_unreadable=0.2, memory_limit_mb=0))]
    expected = [file.relative_to(root).as_posix() for file in files]
    assert names[0] == set(expected[:10] + expected[11:30]) and len(training) == 29
    assert names[1] == names[2] == set(expected[30:31] + expected[32:])


def test_damage_found_while_training_is_replaced_by_the_next_image(root, caplog):
    files = FolderSource(root, IMAGE).files
    whole = brightness(open_split(root))
    for i in (7, 8, 39):
        cut(files[i])
    sources_ = [open_split(root, training=True, memory_limit_mb=0, max_unreadable=0.1) for _ in range(2)]
    expected = np.array(whole)
    expected[[7, 8, 39]] = expected[[9, 9, 0]]
    assert brightness(sources_[0]) == expected.tolist()
    order = np.random.default_rng(0).permutation(40)
    for begin in range(0, 40, 4):  # found in another order, in other batches
        indices = order[begin:begin + 4]
        read = sources_[1].read(indices)
        assert read['image'].mean((1, 2, 3)).round().tolist() == expected[indices].tolist()
    assert read['label'].tolist() == [int(files[{7: 9, 8: 9, 39: 0}.get(i, i)].parent.name == 'dog') for i in indices]
    assert '1 of 40 images' in caplog.text and 'turn out to be damaged' in caplog.text


def test_too_much_damage_found_while_training_is_an_error(root):
    for file in FolderSource(root, IMAGE).files[10:13]:
        cut(file)
    source = open_split(root, training=True, max_unreadable=0.05, **CROP)
    batches = TrainBatches(source, 40, 0)
    with pytest.raises(UserError, match='3 of 40 images .*max_unreadable'):
        list(stream(batches, range(1), source=source))


def test_damage_done_after_the_check_stops_an_evaluation(root):
    source = open_split(root, memory_limit_mb=0, max_unreadable=0.5)
    cut(FolderSource(root, IMAGE).files[0])
    with pytest.raises(UserError, match='damaged'):
        source.read(np.arange(2))


def broken(file: Path) -> None:
    """Sound at both ends, but not between them: only whoever decodes it finds out."""
    data = bytearray(file.read_bytes())
    middle = (data.index(b'\xff\xda') + len(data)) // 2
    data[middle:middle + 2] = b'\xff\xda'
    file.write_bytes(data)


def test_damage_that_an_evaluation_finds_is_left_out_from_then_on(root):
    """A JPEG is not decoded to see whether it is sound, and once more to be evaluated."""
    whole = brightness(open_split(root))
    files = FolderSource(root, IMAGE).files
    broken(files[7])
    for other in ({}, {'merge_classes': (('all', ('cat', 'dog')),)}):
        source = open_split(root, memory_limit_mb=0, max_unreadable=0.1, **other)
        if not other:
            assert len(source) == 40
            with pytest.raises(UserError, match=f'{files[7]}: .*start again, and it is left out'):
                source.read(np.arange(5, 9))
            source = open_split(root, memory_limit_mb=0, max_unreadable=0.1)
        assert brightness(source) == whole[:7] + whole[8:]
    with pytest.raises(UserError, match='1 of 40 images'):
        open_split(root, memory_limit_mb=0)


def test_an_evaluation_decodes_its_photographs_once(root, monkeypatch):
    decoded, decode = [], plain_jpeg.decode
    monkeypatch.setattr(plain_jpeg, 'decode', lambda *args: decoded.append(1) or decode(*args))
    source = open_split(root, memory_limit_mb=0)
    assert not decoded
    list(stream(EvalBatches(source, 8), range(5), source=source))
    assert len(decoded) == 40


@pytest.mark.parametrize('limit', [2048, 0])
def test_what_could_not_be_read_is_tried_again(root, limit, monkeypatch):
    """Permissions are no property of a file's content: they do not show in its time and size."""
    file, fails = FolderSource(root, IMAGE).files[4], [True]
    whole, is_sound = images.read_image, plain_jpeg.is_sound
    monkeypatch.setattr(plain_jpeg, 'is_sound', lambda path, *, whole: not (fails and str(path) == str(file)) and
                        is_sound(path, whole=whole))

    def read(path, *, channels, bits=8):
        if str(path) == str(file) and fails:
            raise UserError(f'{path}: may not be read (permission denied)')
        return whole(path, channels=channels)
    monkeypatch.setattr(images, 'read_image', read)
    assert len(open_split(root, memory_limit_mb=limit, max_unreadable=0.1)) == 39
    fails.clear()
    source = open_split(root, memory_limit_mb=limit, max_unreadable=0.1)
    assert len(source) == 40
    np.testing.assert_array_equal(source.read(np.array([4]))['image'][0],
                                  images.resize(whole(file, channels=3), (16, 16)))


def test_files_are_checked_once_until_one_changes(root, monkeypatch, cache):
    asked = []
    check = FolderSource.check
    monkeypatch.setattr(FolderSource, 'check', lambda self, i, *, pixels: asked.append(pixels) or check(
        self, i, pixels=pixels))
    for _ in range(2):
        open_split(root, training=True, **CROP)
        open_split(root, memory_limit_mb=0)
    assert asked == [False] * 40 + [True] * 40
    assert sorted(json.loads(file.read_text()) for file in (cache / 'unreadable').iterdir()) == [[], []]
    Image.new('RGB', (9, 9)).save(root / 'cat' / '00.jpg')
    open_split(root, training=True, **CROP)
    assert len(asked) == 120


def test_a_link_to_nothing_is_one_of_them(root):
    (root / 'cat' / 'link.jpg').symlink_to(root / 'cat' / 'gone.jpg')
    for limit in (2048, 0):
        assert len(open_split(root, memory_limit_mb=limit, max_unreadable=0.1)) == 40


def test_the_limit_is_a_share(root):
    with pytest.raises(UserError, match='config.data.max_unreadable = 5.0'):
        open_split(root, max_unreadable=5.0)


def test_all_unreadable_is_an_error_whatever_the_limit(root):
    for file in root.rglob('*.jpg'):
        empty(file)
    for limit in (2048, 0):
        with pytest.raises(UserError, match='40 of 40'):
            open_split(root, memory_limit_mb=limit, max_unreadable=1.0)


def test_one_class_is_an_error_that_says_what_is_expected(root):
    for file in (root / 'dog').iterdir():
        file.unlink()
    (root / 'dog').rmdir()
    with pytest.raises(UserError, match=r'animals: at least 2 classes .*1 folder \(cat\).*animals/<class>/\*\.jpg'):
        open_split(root)


def test_sources_of_other_kinds_are_left_alone(monkeypatch):
    monkeypatch.setattr(unreadable, 'leave_out', None)
    data = base().data
    data.update(name='digits')
    assert len(sources.open_split(data, {'size': (8, 8), 'channels': 1}, 'train')) > 1000
