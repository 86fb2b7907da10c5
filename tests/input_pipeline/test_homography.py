"""Perspective, transposed images, shifts of one side, and what is shown outside of an image."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import alteration, augmentation, homography
from practicum.input_pipeline.arrays import ArraySource
from practicum.training.components import check_fields
from tests.tiny import tiny_config

COUNT, SIZE = 8, 12
KEYS = jax.random.split(jax.random.key(3), COUNT)
IMAGES = np.random.default_rng(0).random((COUNT, SIZE, SIZE, 1)).astype(np.float32)
MASKS = np.random.default_rng(1).integers(0, 4, (COUNT, SIZE, SIZE))
NEW = {'homography': 0.15, 'transpose': 0.5, 'width_shift': 0.2, 'height_shift': 0.1}


@functools.cache
def compiled(fields):
    return jax.jit(augmentation.build(dict(fields)), compiler_options={'xla_backend_optimization_level': 0})


def run(config, images=IMAGES, masks=MASKS):
    return jax.device_get(compiled(tuple(config.items()))(KEYS, images, masks))


def test_perspective_is_that_of_opencv_and_can_be_undone():
    """The corners of the result show the moved corners of the image; the inverse goes back, also with an affine map."""
    height, width = 30, 40
    corners = jax.random.uniform(jax.random.key(1), (4, 2), minval=-0.15, maxval=0.15)
    source, goes = homography.before(augmentation.affine_source(height, width), corners, height, width)
    square = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    matrix = cv2.getPerspectiveTransform(
        square, np.float32(square + np.asarray(corners)[:, ::-1] * [width, height]))
    row, column = np.mgrid[:height, :width].astype(np.float64)
    x, y, scale = np.einsum('ij,jhw->ihw', matrix, np.stack([column + 0.5, row + 0.5, np.ones_like(row)]))
    np.testing.assert_allclose(source(row, column), [y / scale - 0.5, x / scale - 0.5], atol=1e-3)
    affine = augmentation.affine_source(height, width, shift_x=9.0, rotation=1.0, scale=0.3)
    source, goes = homography.before(affine, corners, height, width)
    np.testing.assert_allclose(source(*goes(row, column)), [row, column], atol=1e-2)


def test_the_strongest_perspective_has_a_place_for_every_point():
    """All 256 extreme positions of the corners: no point of the image is beyond the horizon, which would fold it."""
    signs = np.stack(np.meshgrid(*[[-0.15, 0.15]] * 8), -1).reshape(-1, 4, 2).astype(np.float32)
    edge = np.float32([[-0.5, -0.5], [-0.5, 9.5], [9.5, -0.5], [9.5, 9.5]]).T

    @jax.vmap
    def there_and_back(corners):
        source, goes = homography.before(augmentation.affine_source(10, 10), corners, 10, 10)
        return jnp.stack([*source(*goes(*edge)), *goes(*source(*edge))])
    found = np.asarray(jax.jit(there_and_back)(signs))
    np.testing.assert_allclose(found, np.broadcast_to(np.concatenate([edge, edge]), found.shape), atol=1e-2)


def test_a_vanishing_perspective_changes_nothing_visible():
    images, masks = run({'homography': 1e-6})
    np.testing.assert_allclose(images, IMAGES, atol=1e-4)
    np.testing.assert_array_equal(masks, MASKS)


def test_transpose_swaps_rows_and_columns_of_image_and_mask():
    images, masks = run({'transpose': 1.0})
    np.testing.assert_array_equal(images, IMAGES.swapaxes(1, 2))
    np.testing.assert_array_equal(masks, MASKS.swapaxes(1, 2))
    with pytest.raises(UserError, match='transpose=1.0 needs square images, not 12x11'):
        augmentation.build({'transpose': 1.0})(KEYS, IMAGES[:, :, :-1])
    with pytest.raises(UserError, match=r'transpose = 0.5 needs square images, not config.image.size = .8, 6.'):
        check_fields(tiny_config('augment.transpose=0.5', 'image.size=(8, 6)'))


@pytest.mark.parametrize('name, axis', [('width_shift', 2), ('height_shift', 1)])
def test_a_shift_of_one_side_leaves_the_other_alone(name, axis):
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)
    along = np.broadcast_to(ramp[:, None, None] if axis == 1 else ramp[:, None], IMAGES.shape)
    moved = run({name: 0.25}, along)[0]
    assert (moved != along).any((1, 2, 3)).all()
    places = (along - moved)[:, SIZE // 2, SIZE // 2, 0] * (SIZE - 1)
    assert np.abs(places).max() <= 0.25 * SIZE + 1e-4 and len(set(places.round(3))) == COUNT
    across = along.swapaxes(1, 2)
    np.testing.assert_allclose(run({name: 0.25}, across)[0], across, atol=1e-5)


@pytest.mark.parametrize('fill, pad', [('reflect', 'symmetric'), ('wrap', 'wrap'), ('edge', 'edge')])
def test_outside_of_an_image_is_what_numpy_pads_it_with(fill, pad):
    """Whole pixels, of image and mask alike; three times as far as the image is wide is reflected more than once."""
    far = 3 * SIZE
    padded = [np.pad(array[0].reshape(SIZE, SIZE), far, pad) for array in (IMAGES, MASKS)]
    resample = augmentation.resampling(fill)
    for down, right in ((2, -3), (-far, 0), (7, far)):
        source = augmentation.affine_source(SIZE, SIZE, shift_y=down, shift_x=right)
        image, mask, _ = resample(augmentation.Example(jnp.asarray(IMAGES[0]), jnp.asarray(MASKS[0][..., None])),
                                  source)
        part = slice(far - down, far - down + SIZE), slice(far - right, far - right + SIZE)
        np.testing.assert_allclose(image[..., 0], padded[0][part], atol=1e-6)
        np.testing.assert_array_equal(mask[..., 0], padded[1][part])


def test_a_crop_shows_zeros_outside_unless_the_fill_repeats_the_image():
    """Zeros with 'edge' too, as ever."""
    ones = np.ones_like(IMAGES)
    assert run({'random_crop': 3, 'fill': 'wrap'}, ones)[0].min() == 1
    for fill in ('edge', 0.5):
        assert run({'random_crop': 3, 'fill': fill}, ones)[0].min() == 0
    wrapped = run({'random_crop': 3, 'fill': 'wrap'})[0]
    assert all(any(np.array_equal(np.roll(image, (y, x), (0, 1)), new) for y in range(-3, 4) for x in range(-3, 4))
               for image, new in zip(IMAGES, wrapped))


def test_new_operations_change_no_draw_of_earlier_ones():
    """Each has its own number; where they do nothing visible, the others' images are what they were."""
    old = {'rotation': 30.0, 'noise': 0.1}
    vanishing = {'homography': 1e-7, 'width_shift': 1e-7, 'height_shift': 1e-7, 'transpose': 1e-9}
    np.testing.assert_allclose(run(old | vanishing)[0], run(old)[0], atol=1e-4)


def test_an_altered_evaluation_set_takes_them():
    source = ArraySource({'image': np.uint8(255 * IMAGES)}, DatasetInfo())
    found = alteration.altered(source, NEW | {'fill': 'reflect'}, {}, 'the set').read(np.arange(COUNT))['image']
    assert (found != source.arrays['image']).any((1, 2, 3)).all()
