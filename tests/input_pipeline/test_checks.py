"""What is found wrong with data before the first step, rather than trained on in silence."""


import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import checks, preprocessing
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.checks import check_batch, check_source
from practicum.input_pipeline.source import Source
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


def test_the_summary_of_the_same_data_is_the_same_and_of_others_is_not():
    """What several hosts compare; pixels and fractions may be rounded differently on each of them."""
    def summary(**changes):
        arrays = {'image': np.zeros((5, 2, 2, 1), np.uint8), 'label': np.asarray([0, 1, 0, 1, 1], np.int32),
                  'y': np.zeros(5, np.float32)} | changes
        info = DatasetInfo(class_names=('cat', 'dog'))
        return checks.summary(ArraySource(arrays, info, [{'file': f'{i}.png'} for i in range(5)]))
    assert summary() == summary(image=np.ones((5, 2, 2, 1), np.uint8)) == summary(y=np.full(5, 1e-7, np.float32))
    assert summary() != summary(label=np.asarray([0, 1, 0, 1, 0], np.int32))


def test_a_summary_looks_at_few_examples_and_at_the_classes_and_names():
    described = []

    class Many(Source):
        info = DatasetInfo(class_names=('cat', 'dog'))
        labels = np.zeros(100_000, np.int32)

        def __len__(self):
            return len(self.labels)

        def describe(self, indices):
            described.append(len(indices))
            return [{'file': f'{self.prefix}{i}'} for i in indices]

    def summary(prefix, info=Many.info):
        source = Many()
        source.prefix, source.info = prefix, info
        return checks.summary(source)
    assert summary('a') == summary('a') != summary('b')
    assert summary('a') != summary('a', DatasetInfo(class_names=('cat', 'fox')))
    assert max(described) <= 256
