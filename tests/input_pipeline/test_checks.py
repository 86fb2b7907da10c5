"""What is found wrong with data before the first step, rather than trained on in silence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import preprocessing, sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.checks import check_batch, check_source, digest_of
from practicum.input_pipeline.source import Source
from practicum.input_pipeline.text_source import TokenStream
from practicum.training.defaults import base

INFO = DatasetInfo(class_names=('a', 'b', 'c'))
IMAGE = base().image
CT = IMAGE.copy_and_resolve_references()
CT.mean, CT.std = (-600.0,), (700.0,)
FLOATS = np.random.default_rng(0).random((4, 2, 2, 1)).astype(np.float32)
BYTES = np.zeros((4, 2, 2, 1), np.uint8)


@pytest.mark.parametrize('batch', [
    {'image': BYTES, 'label': np.array([0, 1, 2, 2], np.int32)}, {'image': BYTES.astype(np.uint16)},
    {'image': FLOATS}, {'image': BYTES, 'segmentation_mask': np.full((4, 2, 2), 2, np.uint8)},
    {'x': FLOATS, 'y': -1e6 * FLOATS}, {'labels': np.eye(3, dtype=np.float32)}])
def test_sound_data_pass(batch):
    check_batch(batch, INFO, IMAGE)


@pytest.mark.parametrize('batch, parts', [
    ({'image': 255 * FLOATS}, ('float images are from', 'scale them to 0 to 1', 'config.image.mean')),
    ({'image': FLOATS - 1}, ('float images',)),
    ({'image': FLOATS.astype(np.float64)}, ('image is of type float64', 'uint8, uint16 or float32')),
    ({'image': BYTES.astype(np.int32)}, ('image is of type int32',)),
    ({'image': FLOATS * np.float32(np.nan)}, ('image of example 0 is not finite',)),
    ({'image': BYTES.repeat(3, 3)}, ('3 channel(s)', 'config.image.channels = 1')),
    ({'label': np.array([0, 1, 3], np.int32)}, ('label of example 2 is 3', '3 classes, 0 to 2')),
    ({'label': np.array([0, -1], np.int32)}, ('label of example 1 is -1',)),
    ({'label': np.array([0.0, 1.0], np.float32)}, ('label is of type float32', 'int32')),
    ({'segmentation_mask': np.full((4, 2, 2), 255, np.uint8)}, ('segmentation_mask of example 0 is 255',)),
    ({'y': np.array([1, np.inf], np.float32)}, ('y of example 1 is not finite',)),
    ({'x': np.array(['a'])}, ('x is of type',)),
    ({'x': np.zeros(3, np.float32), 'y': np.zeros(2, np.float32)}, ('different numbers of examples: x 3, y 2',)),
    ({'labels': np.eye(2, dtype=np.float32)}, ('labels of shape (2, 2)', '3 classes')),
])
def test_what_is_wrong_is_said_in_one_line(batch, parts):
    with pytest.raises(UserError) as error:
        check_batch(batch, INFO, IMAGE, 'the training set')
    text = str(error.value)
    assert text.startswith('the training set: ') and '\n' not in text and all(part in text for part in parts), text


def test_floats_of_any_range_are_fine_where_mean_and_std_are_said():
    check_batch({'image': 1000 * FLOATS - 1000}, INFO, CT)


def test_all_labels_in_memory_are_looked_at():
    labels = np.zeros(1000, np.int32)
    labels[-1] = 3
    with pytest.raises(UserError, match='label of example 999 is 3'):
        check_source(ArraySource({'x': np.zeros((1000, 2), np.float32), 'label': labels}, INFO), IMAGE, 'it')


@pytest.mark.parametrize('dtype, white', [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0)])
def test_every_type_of_image_is_brought_to_one_range_once(dtype, white):
    values = (FLOATS * white).astype(dtype)
    prepared = preprocessing.build(IMAGE)({'image': values}, None)['image']
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, values / np.float64(white), rtol=1e-6)


# --- hosts with different data ---

def folder(root: Path, count=12, grey=9, name='{}.png') -> Source:
    for label in ('cat', 'dog'):
        (root / label).mkdir(parents=True)
        for i in range(count // 2):
            Image.new('L', (4, 4), grey + i).save(root / label / name.format(i))
    data = base().data
    data.update(source='folder', name=str(root), memory_limit_mb=0)
    return sources.open_split(data, {'size': (4, 4), 'channels': 1}, 'train', training=True)


def test_a_copy_of_a_folder_is_the_same_data_and_another_folder_is_not(tmp_path):
    same = [digest_of(folder(tmp_path / name)) for name in 'ab']
    others = [digest_of(folder(tmp_path / name, **options)) for name, options in (
        ('c', {'count': 14}), ('d', {'grey': 10}), ('e', {'name': 'x{}.png'}))]
    assert same[0] == same[1] and len({same[0], *others}) == 4


def test_arrays_and_texts_are_told_apart():
    def arrays(**changed):
        return ArraySource({'image': BYTES, 'label': np.arange(4, dtype=np.int32) % 3} | changed, INFO)
    first = digest_of(arrays())
    assert digest_of(arrays()) == first
    assert digest_of(arrays(image=BYTES + 1)) != first != digest_of(arrays(label=np.zeros(4, np.int32)))
    texts = [digest_of(TokenStream(np.arange(40, dtype=np.int32) + k, 5, 1, INFO)) for k in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
