"""An altered evaluation set is the same examples, each altered alike whenever and wherever it is read."""

import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline.alteration import altered
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.source import IndexedSource

AUGMENT = {'rotation': 20.0, 'noise': 0.1, 'fill': '0'}
CORRUPT = {'shot_noise': 2, 'jpeg': 1}


def images_of(count: int, dtype=np.uint8, channels: int = 3) -> np.ndarray:
    values = np.random.default_rng(0).random((count, 16, 12, channels))
    return values.astype(dtype) if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


def source_of(count: int = 70, dtype=np.uint8, **more) -> ArraySource:
    return ArraySource({'image': images_of(count, dtype), 'label': np.arange(count, dtype=np.int32), **more},
                       DatasetInfo())


@pytest.fixture(scope='module')
def in_memory() -> ArraySource:
    return altered(source_of(), AUGMENT, CORRUPT, 'the set')


@pytest.mark.parametrize('rows', [np.arange(70), np.array([3]), np.array([69, 0, 3, 3])])
def test_an_example_is_altered_alike_in_any_order_batch_and_source(in_memory, rows):
    streaming = altered(IndexedSource(source_of()), AUGMENT, CORRUPT, 'the set')
    assert not isinstance(streaming, ArraySource) and isinstance(in_memory, ArraySource)
    found, wanted = streaming.read(rows), in_memory.read(rows)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
        assert found[name].dtype == wanted[name].dtype
    assert len(streaming) == len(in_memory) == 70


def test_images_alone_are_altered_and_examples_differ(in_memory):
    plain = source_of()
    np.testing.assert_array_equal(in_memory.arrays['label'], plain.arrays['label'])
    assert (in_memory.arrays['image'] != plain.arrays['image']).any(axis=(1, 2, 3)).all()
    same = np.broadcast_to(plain.arrays['image'][:1], (4, 16, 12, 3))
    alike = altered(ArraySource({'image': same}, DatasetInfo()), AUGMENT, {}, 'the set').arrays['image']
    assert len(np.unique(alike, axis=0)) == 4


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_images_keep_their_type_and_scale(dtype):
    plain = source_of(4, dtype).arrays['image']
    found = altered(source_of(4, dtype), {}, {'contrast': 1}, 'the set').arrays['image']
    assert found.dtype == dtype
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    means = plain.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, means + 0.75 * (plain - means), atol=0.6 if white > 1 else 1e-6)


def test_a_mask_moves_with_its_image():
    masks = np.zeros((6, 16, 12), np.uint8)
    masks[:, 3:9, 2:8] = 1
    source = ArraySource({'image': masks[..., None] * np.uint8(255), 'segmentation_mask': masks}, DatasetInfo())
    moved = altered(source, {'shift': 0.3, 'fill': '0'}, {}, 'the set').arrays
    assert (moved['segmentation_mask'] != masks).any() and moved['segmentation_mask'].dtype == np.uint8
    agree = (moved['image'][..., 0] > 127) == moved['segmentation_mask'].astype(bool)
    assert agree.mean() > 0.97


@pytest.mark.parametrize('augment', [{}, {'rotation': 0.0, 'fill': '0'}])
@pytest.mark.parametrize('corrupt', [{}, {'jpeg': 0}])
def test_nothing_to_do_is_the_source_itself(augment, corrupt):
    source = source_of()
    assert altered(source, augment, corrupt, 'the set') is source


@pytest.mark.parametrize('source, augment, corrupt, message', [
    (source_of(2), {'rotaton': 3.0}, {}, "the set: augmentation has no field 'rotaton'; did you mean rotation"),
    (source_of(2), {}, {'jpg': 3}, "the set: no corruption 'jpg'; did you mean jpeg"),
    (source_of(2), {'mixup': 0.2}, {}, 'the set: mixup'),
    (source_of(2), {'cutout': 12}, {}, 'the set: augmentation: cutout=12 needs larger images'),
    (ArraySource({'x': np.zeros((2, 3), np.float32)}, DatasetInfo()), {}, {'jpeg': 1}, 'no single images'),
    (ArraySource({'image': images_of(4)[None]}, DatasetInfo(frames=4)), {}, {'jpeg': 1}, 'no single images'),
    (ArraySource({'image': np.full((1, 8, 8, 1), 200, np.float32)}, DatasetInfo()), {}, {'jpeg': 1}, 'from 200 to 200'),
])
def test_mistakes_name_the_set(source, augment, corrupt, message):
    with pytest.raises(UserError, match='the set: .*') as failure:
        altered(source, augment, corrupt, 'the set')
    assert message in str(failure.value)
