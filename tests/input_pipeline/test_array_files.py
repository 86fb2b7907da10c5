"""Arrays of numpy and numbers in a config: what they become, and one line for whatever does not fit together."""

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.training.defaults import base

IMAGE = base().image.copy_and_resolve_references()
IMAGE.size = (4, 5)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def open_split(path, split='train', *, image=IMAGE, **fields):
    data = base().data
    data.update(source='npz', name=str(path), **fields)
    return sources.open_split(data, image, split)


def open_arrays(**arrays):
    data = base().data
    data.update(source='arrays', arrays=arrays)
    return sources.open_split(data, IMAGE, 'train')


def refused(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert '\n' not in str(error.value) and all(part in str(error.value) for part in parts), error.value


def test_one_file_is_all_train(tmp_path):
    np.savez(tmp_path / 'a.npz', image=PIXELS, label=LABELS, patient=np.array(list('aabbcc')))
    for name in ('a.npz', 'a'):
        source = open_split(tmp_path / name)
        assert isinstance(source, ArraySource) and source.info.to_json() == {'class_names': ['0', '1', '2']}
        np.testing.assert_array_equal(source.arrays['image'], PIXELS[..., None])
        assert source.arrays['image'].dtype == np.uint8 and source.arrays['label'].dtype == np.int32
        assert source.describe(np.array([2])) == [{'patient': 'b'}]
    assert open_split(tmp_path / 'a', 'train[:50%]').arrays['label'].tolist() == [0, 1, 2]
    refused(lambda: open_split(tmp_path / 'a', 'test'), "has no split 'test'", "all of it is 'train'")


@pytest.mark.parametrize('form', ['files', 'prefixes'])
def test_splits_have_the_classes_of_all_of_them(tmp_path, form):
    splits = {'train': np.array(['cat', 'dog', 'cat', 'dog']), 'test': np.array(['owl', 'cat'])}
    if form == 'files':
        for split, labels in splits.items():
            np.savez(tmp_path / f'{split}.npz', image=PIXELS[:len(labels)], label=labels)
        name = tmp_path
    else:
        name = tmp_path / 'all.npz'
        np.savez(name, **{f'{split}_label': labels for split, labels in splits.items()},
                 **{f'{split}_image': PIXELS[:len(labels)] for split, labels in splits.items()})
    train, test = open_split(name), open_split(name, 'test')
    assert train.info == test.info and test.info.class_names == ('cat', 'dog', 'owl')
    assert train.arrays['label'].tolist() == [0, 1, 0, 1] and test.arrays['label'].tolist() == [2, 0]
    assert len(open_split(name, 'train[1:]+test')) == 5
    refused(lambda: open_split(name, 'tset'), 'did you mean test')


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize('channels', [1, 2, 7])
def test_images_keep_their_type_and_channels(tmp_path, dtype, channels):
    values = np.random.default_rng(0).integers(0, 2, (3, 4, 5, channels)).astype(dtype)
    np.savez(tmp_path / 'a.npz', image=values, y=np.arange(3))
    image = IMAGE.copy_and_resolve_references()
    image.channels = channels
    source = open_split(tmp_path / 'a', image=image)
    np.testing.assert_array_equal(source.arrays['image'], values)
    assert source.arrays['image'].dtype == (np.float32 if dtype == np.float64 else dtype)
    image.size = (8, 10)
    assert open_split(tmp_path / 'a', image=image).arrays['image'].shape == (3, 8, 10, channels)


def test_targets_and_several_labels(tmp_path):
    several = np.array([[0, 1], [1, 1], [0, 0]])
    np.savez(tmp_path / 'a.npz', x=np.ones((3, 4)), labels=several, y=np.ones((3, 2)), class_names=['red', 'round'])
    source = open_split(tmp_path / 'a')
    assert source.info.to_json() == {'class_names': ['red', 'round'], 'targets': 2}
    assert {name: (values.dtype, values.shape) for name, values in source.arrays.items()} == {
        'x': (np.float32, (3, 4)), 'labels': (np.float32, (3, 2)), 'y': (np.float32, (3, 2))}


@pytest.mark.parametrize('arrays, parts', [
    ({'image': PIXELS, 'label': LABELS[:5]}, ('different numbers of examples', 'image 6, label 5')),
    ({'image': PIXELS.astype(np.int64)}, ('image holds int64', 'uint8')),
    ({'image': PIXELS.astype(bool)}, ('image holds true and false',)),
    ({'image': PIXELS[..., None].repeat(3, 3)}, ('3 channel(s)', 'config.image.channels = 1')),
    ({'image': PIXELS[0]}, ('shape (4, 5)',)),
    ({'image': PIXELS, 'label': LABELS.astype(float)}, ("label holds float64", "called 'y'")),
    ({'image': PIXELS, 'label': LABELS, 'class_names': ['a', 'b']}, ('from 0 to 2', '2 classes')),
    ({'image': PIXELS, 'label': np.array(list('abcabd')), 'class_names': ['a', 'b', 'c']}, ("'d' is not in",)),
    ({'image': PIXELS, 'label': LABELS - 1}, ('from -1 to 1',)),
    ({'image': PIXELS, 'labels': np.full((6, 2), 3)}, ('labels', 'of 0 and 1')),
    ({'x': np.array(list('abc'))}, ('x holds texts, not numbers',)),
    ({'x': np.zeros((0, 3))}, ('x holds no examples',)),
    ({'imgae': PIXELS}, ('imgae is no feature', 'did you mean image')),
    ({'patient': np.arange(3)}, ('none of the arrays',)),
    ({'x': np.arange(3), 'patient': np.arange(4)}, ('4', '3')),
    ({'x': np.array([{}], object)}, ('Python objects',)),
])
def test_arrays_that_do_not_fit_are_one_line(tmp_path, arrays, parts):
    np.savez(tmp_path / 'a.npz', **arrays)
    refused(lambda: open_split(tmp_path / 'a'), 'a.npz', *parts)


def test_damaged_and_missing_files(tmp_path):
    np.savez(tmp_path / 'a.npz', image=PIXELS, label=LABELS)
    content = (tmp_path / 'a.npz').read_bytes()
    for spoiled in (b'', b'hello', content[:300], content[:60] + b'\xff' + content[61:], content[:200] + content[230:]):
        (tmp_path / 'a.npz').write_bytes(spoiled)
        refused(lambda: open_split(tmp_path / 'a'), 'a.npz')
    refused(lambda: open_split(tmp_path / 'nowhere'), 'neither an .npz file nor a folder')
    refused(lambda: open_split('a' * 300), 'a' * 60)
    refused(lambda: open_split(''), 'config.data.name is empty')


# --- numbers in the config ---

def test_labels_in_a_config_give_classes():
    source = open_arrays(image=tuple(map(lambda rows: tuple(map(tuple, rows)), (PIXELS[:3] / 255).tolist())),
                         label=(0, 2, 1))
    assert source.info.class_names == ('0', '1', '2') and source.arrays['label'].tolist() == [0, 2, 1]
    assert source.arrays['image'].dtype == np.float32 and source.arrays['image'].shape == (3, 4, 5, 1)


def test_targets_in_a_config_are_counted():
    assert open_arrays(x=(1.0, 2.0), y=(3.0, 5.0)).info.targets == 1
    assert open_arrays(x=(1.0, 2.0), y=((3.0, 5.0, 1.0), (5.0, 1.0, 1.0))).info.targets == 3


@pytest.mark.parametrize('arrays, parts', [
    ({'x': (1.0, 2.0), 'y': ((1.0,),)}, ('x 2, y 1',)),  # trained on before, the shorter one repeated
    ({'x': ((1.0, 2.0), (1.0,))}, ('config.data.arrays.x', 'differ in shape')),
    ({'x': ('a', 'b')}, ('x holds texts',)), ({'z': ('a', 'b')}, ('z holds texts',)),
    ({'x': ()}, ('x holds no examples',)), ({'x': 3.0}, ('x holds no examples',)), ({}, ('arrays is empty',)),
])
def test_arrays_in_a_config_that_do_not_fit(arrays, parts):
    refused(lambda: open_arrays(**arrays), 'config.data.arrays', *parts)
