"""Promises of input_pipeline/augmentation.py."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.ndimage
from jax.scipy import ndimage

from practicum.common.errors import UserError
from practicum.input_pipeline import augmentation

GEOMETRIC = {'flip_horizontal': 0.5, 'flip_vertical': 0.5, 'shift': 0.2, 'rotation': 30.0, 'zoom': 0.2, 'shear': 15.0,
             'elastic': 0.03, 'random_crop': 3}
PHOTOMETRIC = {'invert': 0.5, 'gamma': 0.5, 'contrast': 0.5, 'brightness': 0.3, 'channel_shift': 0.2, 'noise': 0.1}
EVERYTHING = {**GEOMETRIC, **PHOTOMETRIC, 'cutout': 5}
EACH = [{name: value} for name, value in {**EVERYTHING, 'rand_augment': 2}.items()]


def batch_of(size, height=12, width=14, channels=3):
    keys = jax.random.split(jax.random.key(7), size)
    images = jax.random.uniform(jax.random.key(1), (size, height, width, channels))
    masks = jax.random.randint(jax.random.key(2), (size, height, width), 0, 4)
    return keys, images, masks


def run(config, *batch):
    return compiled(tuple(config.items()))(*batch)


@functools.cache
def compiled(fields):
    """One compilation for every test that asks for the same fields and shapes."""
    return quick_jit(augmentation.build(dict(fields)))


# The same program, compiled in a third of the time and run less quickly, which images this small do not notice.
quick_jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def moved(image, **draws):
    """One image [height, width] moved by affine_source, zeros outside."""
    source = augmentation.affine_source(*image.shape, **draws)
    coordinates = augmentation.coordinates_of(source, *image.shape)
    return ndimage.map_coordinates(image, coordinates, order=1, mode='constant')


# What is off costs and changes nothing.

@pytest.mark.parametrize('config', [{}, {'mixup': 0.2, 'cutmix': 1.0}, augmentation.DEFAULTS,
                                    ml_collections.ConfigDict(augmentation.DEFAULTS)])
def test_off_returns_the_very_same_arrays(config):
    keys, images, masks = batch_of(2)
    augment = augmentation.build(config)
    assert augment(keys, images) is images
    assert augment(keys, images, masks) == (images, masks)
    assert not jax.make_jaxpr(augment)(keys, images).eqns


@pytest.mark.parametrize('config', EACH, ids=lambda config: next(iter(config)))
def test_each_operation_changes_images_and_keeps_shape_type_and_range(config):
    keys, images, masks = batch_of(16)
    new_images, new_masks = run(config, keys, images, masks)
    assert new_images.shape == images.shape and new_images.dtype == jnp.float32
    assert new_masks.shape == masks.shape and new_masks.dtype == masks.dtype
    assert new_images.min() >= 0 and new_images.max() <= 1
    assert jnp.any(new_images != images)
    assert bool(jnp.any(new_masks != masks)) == (next(iter(config)) in (*GEOMETRIC, 'rand_augment'))
    # Alike examples with different keys come out different.
    alike, _ = run(config, keys, jnp.broadcast_to(images[:1], images.shape), masks)
    assert len(np.unique(np.asarray(alike), axis=0)) > 1


# Flips.

@pytest.mark.parametrize('name, axis', [('flip_horizontal', 2), ('flip_vertical', 1)])
def test_flip_swaps_its_axis_and_twice_is_identity(name, axis):
    keys, images, masks = batch_of(3)
    once = run({name: 1.0}, keys, images, masks)
    np.testing.assert_array_equal(once[0], jnp.flip(images, axis))
    np.testing.assert_array_equal(once[1], jnp.flip(masks, axis))
    twice = run({name: 1.0}, keys, *once)
    np.testing.assert_array_equal(twice[0], images)
    np.testing.assert_array_equal(twice[1], masks)


def test_a_flip_of_probability_a_quarter_happens_to_a_quarter():
    keys, images, _ = batch_of(2000, 2, 2, 1)
    changed = jnp.any(run({'flip_horizontal': 0.25}, keys, images) != images, axis=(1, 2, 3))
    assert 0.2 < changed.mean() < 0.3


# The affine transformation.

def test_no_movement_is_exactly_identity():
    image = jax.random.uniform(jax.random.key(0), (9, 12))
    np.testing.assert_array_equal(moved(image), image)
    np.testing.assert_array_equal(moved(image, rotation=0.0, scale=1.0, shear=0.0, shift_y=0.0, shift_x=0.0), image)


def test_a_vanishing_rotation_changes_nothing_visible():
    keys, images, _ = batch_of(4)
    np.testing.assert_allclose(run({'rotation': 1e-4}, keys, images), images, atol=1e-4)


def test_rotation_is_counterclockwise_about_the_centre():
    image = jax.random.uniform(jax.random.key(0), (8, 8))
    np.testing.assert_allclose(moved(image, rotation=jnp.pi / 2), np.rot90(image), atol=1e-5)


def test_shift_is_in_pixels_down_and_right():
    image = jax.random.uniform(jax.random.key(0), (8, 9))
    expected = np.zeros((8, 9), np.float32)
    expected[2:, 3:] = image[:-2, :-3]
    np.testing.assert_allclose(moved(image, shift_y=2.0, shift_x=3.0), expected, atol=1e-6)


def test_scale_above_one_enlarges():
    image = np.zeros((21, 21), np.float32)
    image[8:13, 8:13] = 1
    large = moved(image, scale=2.0)
    assert large.sum() == pytest.approx(4 * image.sum())
    np.testing.assert_allclose(moved(large, scale=0.5), image, atol=1e-6)


def test_shear_slants_the_lower_half_to_the_right():
    image = np.zeros((21, 21), np.float32)
    image[:, 10] = 1
    columns = jnp.argmax(moved(image, shear=jnp.pi / 4), axis=1)
    np.testing.assert_array_equal(columns[1:20], np.arange(1, 20))


def test_the_steps_compose_in_the_order_stated():
    image = np.zeros((31, 31), np.float32)
    image[8:23, 8:23] = jax.image.resize(jax.random.uniform(jax.random.key(0), (3, 3)), (15, 15), 'linear')
    together = moved(image, shear=0.3, scale=1.2, rotation=0.5, shift_y=2.0, shift_x=-3.0)
    apart = moved(moved(moved(moved(image, shear=0.3), scale=1.2), rotation=0.5), shift_y=2.0, shift_x=-3.0)
    # Four resamplings blur more than one, so this compares where things are, not the last digit.
    assert np.corrcoef(together.ravel(), apart.ravel())[0, 1] > 0.98


def test_draws_stay_within_the_limits_asked_for():
    height, width = 10, 20
    keys, _, _ = batch_of(200)
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, width)[None, None, :, None], (200, height, width, 1))
    centre = run({'shift': 0.1}, keys, ramp)[:, height // 2, width // 2, 0]
    pixels = (ramp[0, 0, width // 2, 0] - centre) * (width - 1)
    assert 1.8 < pixels.max() <= 2.001 and -2.001 <= pixels.min() < -1.8


@pytest.mark.parametrize('name', ['shift', 'rotation', 'zoom', 'shear', 'elastic'])
def test_edge_fill_invents_no_new_value_and_number_fill_is_seen(name):
    keys, _, _ = batch_of(16)
    white = jnp.ones((16, 12, 14, 3))
    ones = jnp.ones((16, 12, 14), jnp.int32)
    images, masks = run({name: GEOMETRIC[name], 'fill': 'edge'}, keys, white, ones)
    assert images.min() > 1 - 1e-6 and masks.min() == 1
    images, masks = run({name: GEOMETRIC[name], 'fill': 0.25}, keys, white, ones)
    assert images.min() == pytest.approx(0.25) and masks.min() == 0


# Elastic deformation.

def displaced(config, height, width, count=300):
    """Where the pixels of `count` images come from: [count, height, width, 2], in fractions of height and width."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ramps = np.stack([y / height, x / width, 0 * x], -1)
    keys = jax.random.split(jax.random.key(5), count)
    return np.asarray(run(config, keys, np.broadcast_to(ramps, (count, *ramps.shape))))[..., :2], ramps[..., :2]


def test_elastic_moves_rows_and_columns_by_the_std_asked_for_and_smoothly():
    # Ten pixels at least from the edge, where a ramp in [0, 1] shows a displacement as it is.
    height, width = 64, 96
    found, ramps = displaced({'elastic': 0.02}, height, width)
    moves = (found - ramps)[:, 10:-10, 10:-10]
    # Control points lie at (i + 1/2) / 4 of the side; an average of four pixels about the second row and column.
    at_control_point = (found - ramps)[:, 23:25, 35:37].mean((1, 2))
    np.testing.assert_allclose(at_control_point.std(0), 0.02, rtol=0.15)
    np.testing.assert_allclose(at_control_point.mean(0), 0, atol=0.004)
    assert abs(np.corrcoef(at_control_point.T)[0, 1]) < 0.2  # rows and columns are drawn apart
    # Neighbouring pixels move alike; pixels of different control points do not.
    steps = np.diff(moves, axis=2) * width
    assert np.abs(steps).max() < 0.8 and steps.std() < 0.2
    far = np.corrcoef(at_control_point[:, 0], (found - ramps)[:, 39:41, 59:61].mean((1, 2))[:, 0])[0, 1]
    assert abs(far) < 0.2


def test_elastic_is_what_scipy_makes_of_the_displaced_coordinates():
    keys, _, _ = batch_of(1)
    height, width = 20, 24
    image = np.random.default_rng(0).random((height, width)).astype(np.float32)
    labels = (image > 0.5).astype(np.uint8) * 3
    key = jax.random.fold_in(keys[0], 12)  # the number that belongs to elastic
    vectors = np.asarray(0.05 * jax.random.normal(key, (2, 4, 4)))
    # Keys' cubic convolution with control points at (i + 1/2) / 4 of each side, by its formula.
    def weights(size):
        distance = np.abs((np.arange(size)[:, None] + 0.5) * 4 / size - 0.5 - np.arange(4))
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        outer = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        kernel = np.where(distance < 1, near, np.where(distance < 2, outer, 0))
        return kernel / kernel.sum(1, keepdims=True)
    moves = np.einsum('hi,aij,wj->ahw', weights(height), vectors, weights(width))
    coordinates = np.mgrid[:height, :width] + moves * np.array([height, width])[:, None, None]
    new_image, new_mask = run({'elastic': 0.05}, keys, image[None, ..., None], labels[None])
    np.testing.assert_allclose(new_image[0, ..., 0], scipy.ndimage.map_coordinates(
        image, coordinates, order=1, mode='nearest'), atol=1e-5)
    np.testing.assert_array_equal(new_mask[0], scipy.ndimage.map_coordinates(
        labels, coordinates, order=0, mode='nearest'))


def test_a_vanishing_deformation_changes_nothing_visible():
    keys, images, masks = batch_of(4)
    new_images, new_masks = run({'elastic': 1e-6}, keys, images, masks)
    np.testing.assert_allclose(new_images, images, atol=1e-4)
    np.testing.assert_array_equal(new_masks, masks)


def test_elastic_and_affine_are_one_resampling():
    """A deformation that hardly moves anything leaves the rotated image as sharp as it was."""
    keys, images, masks = batch_of(4)
    alone = run({'rotation': 30.0}, keys, images, masks)
    both = run({'rotation': 30.0, 'elastic': 1e-7}, keys, images, masks)
    np.testing.assert_allclose(both[0], alone[0], atol=1e-4)
    assert (both[1] != alone[1]).mean() < 0.001


# Image and mask.

def test_a_mask_equals_the_thresholded_image_but_for_its_border():
    """A disc of any label, under everything that moves pixels: both operands see the same draw."""
    keys, _, _ = batch_of(16)
    y, x = np.mgrid[:48, :64]
    disc = np.broadcast_to((y - 22) ** 2 + (x - 34) ** 2 < 12 ** 2, (16, 48, 64))
    config = {**GEOMETRIC, 'elastic': 0.03, 'fill': 0.0}
    images, masks = run(config, keys, disc[..., None].astype(np.float32), disc.astype(np.uint8) * 7)
    assert masks.dtype == np.uint8 and set(np.unique(masks)) == {0, 7}
    differ = (np.asarray(images[..., 0]) > 0.5) != (np.asarray(masks) == 7)
    border = np.stack([scipy.ndimage.morphological_gradient(mask, size=3) > 0 for mask in np.asarray(masks)])
    assert not np.any(differ & ~border) and differ.mean() < 0.01
    assert np.all((np.asarray(masks) == 7).mean((1, 2)) > 0.02)  # none has lost its disc


@pytest.mark.parametrize('fill', ['edge', 0.0])
def test_a_mask_stays_on_the_object_it_marks(fill):
    keys, _, _ = batch_of(32)
    mask = np.zeros((32, 24, 26), np.int32)
    mask[:, 5:14, 8:20] = 1
    images, masks = run({**GEOMETRIC, 'fill': fill}, keys, jnp.asarray(np.stack([mask] * 3, -1), jnp.float32), mask)
    # Bilinear and nearest agree wherever the bilinear value is not near one half.
    sure = jnp.abs(images[..., 0] - 0.5) > 0.45
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(jnp.round(images[..., 0])[sure], masks[sure])
    assert jnp.any(masks != mask) and masks.max() == 1


def test_masks_get_no_label_that_was_not_there():
    keys, images, masks = batch_of(8)
    _, new_masks = run(EVERYTHING, keys, images, masks * 50)
    assert set(np.unique(new_masks)) <= {0, 50, 100, 150}


def test_masks_change_nothing_about_the_images():
    keys, images, masks = batch_of(8)
    np.testing.assert_allclose(run(EVERYTHING, keys, images), run(EVERYTHING, keys, images, masks)[0], atol=1e-6)


def test_photometric_operations_and_cutout_leave_masks_alone():
    keys, images, masks = batch_of(8)
    np.testing.assert_array_equal(run({**PHOTOMETRIC, 'cutout': 5}, keys, images, masks)[1], masks)


# The other operations.

def test_random_crop_is_a_window_of_the_padded_image_and_uses_every_offset():
    keys, images, masks = batch_of(100, 6, 7, 2)
    new_images, new_masks = run({'random_crop': 1}, keys, images, masks)
    offsets = set()
    for image, mask, new_image, new_mask in zip(*map(np.asarray, (images, masks, new_images, new_masks)), strict=True):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        found = [(y, x) for y in range(3) for x in range(3) if np.array_equal(padded[y:y + 6, x:x + 7], new_image)]
        assert len(found) == 1
        y, x = found[0]
        np.testing.assert_array_equal(np.pad(mask, 1)[y:y + 6, x:x + 7], new_mask)
        offsets.add((y, x))
    assert len(offsets) == 9


def test_invert_with_probability_one_is_one_minus_x():
    keys, images, _ = batch_of(4)
    np.testing.assert_array_equal(run({'invert': 1.0}, keys, images), 1 - images)


def test_brightness_adds_one_number_and_channel_shift_one_per_channel():
    keys, images, _ = batch_of(50)
    images = 0.4 + 0.2 * images  # Far enough from 0 and 1 that nothing is clipped.
    for name, count in (('brightness', 1), ('channel_shift', 3)):
        added = np.asarray(run({name: 0.3}, keys, images) - images)
        np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-6)
        assert {len(np.unique(one.round(4))) for one in added} == {count}
        assert 0.25 < np.abs(added).max() <= 0.3 + 1e-6


def test_contrast_scales_the_distance_to_the_mean():
    keys, images, _ = batch_of(50)
    images = 0.3 + 0.4 * images
    new_images = run({'contrast': 0.5}, keys, images)
    np.testing.assert_allclose(new_images.mean((1, 2)), images.mean((1, 2)), atol=1e-5)
    factors = new_images.std((1, 2)) / images.std((1, 2))
    assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() <= 1.5


def test_gamma_is_a_power_log_uniform_between_its_limits():
    keys, images, _ = batch_of(400, 4, 5, 1)
    images = 0.1 + 0.8 * images
    exponents = np.log(np.asarray(run({'gamma': 1.0}, keys, images))) / np.log(np.asarray(images))
    np.testing.assert_allclose(exponents, np.broadcast_to(exponents[:, :1, :1], exponents.shape), rtol=1e-3)
    octaves = np.log2(exponents[:, 0, 0, 0])
    assert -1.001 < octaves.min() < -0.95 and 0.95 < octaves.max() < 1.001
    assert abs(octaves.mean()) < 0.1 and octaves.std() == pytest.approx(2 / 12**0.5, rel=0.1)


def test_gamma_leaves_black_and_white_alone():
    keys, _, _ = batch_of(8)
    flat = np.broadcast_to(np.array([0, 1, 0], np.float32), (8, 12, 14, 3))
    np.testing.assert_array_equal(run({'gamma': 3.0}, keys, flat), flat)


def test_noise_is_gaussian_per_pixel_with_a_std_up_to_its_limit():
    keys = jax.random.split(jax.random.key(9), 100)
    added = np.asarray(run({'noise': 0.1}, keys, jnp.full((100, 20, 30, 2), 0.5))) - 0.5
    deviations = added.std((1, 2, 3))
    assert 0.09 < deviations.max() < 0.11 and deviations.min() < 0.01  # each image has its own
    assert deviations.mean() == pytest.approx(0.05, abs=0.01)
    whitened = added / deviations[:, None, None, None]
    assert abs(whitened.mean()) < 0.01 and (whitened**4).mean() == pytest.approx(3, abs=0.1)
    for neighbour in (whitened[:, 1:] * whitened[:, :-1], whitened[..., 0] * whitened[..., 1]):
        assert abs(neighbour.mean()) < 0.02


def test_cutout_blackens_one_square_of_the_side_asked_for():
    keys, _, _ = batch_of(100)
    images = run({'cutout': 5}, keys, jnp.ones((100, 12, 14, 3)))
    black = np.asarray(images == 0)
    assert np.all(np.isin(images, (0, 1))) and np.all(black == black[..., :1])
    areas = set()
    for square in black[..., 0]:
        rows, columns = np.flatnonzero(square.any(1)), np.flatnonzero(square.any(0))
        assert square.sum() == len(rows) * len(columns) and max(len(rows), len(columns)) <= 5
        areas.add(int(square.sum()))
    assert max(areas) == 25 and min(areas) < 25  # Whole squares, and some that hang over the border.


# Randomness belongs to the example.

def test_an_example_does_not_depend_on_the_rest_of_the_batch():
    keys, images, masks = batch_of(8)
    whole = run(EVERYTHING, keys, images, masks)
    order = np.array([5, 2, 7])
    part = run(EVERYTHING, keys[order], images[order], masks[order])
    np.testing.assert_allclose(part[0], whole[0][order], atol=1e-5)
    np.testing.assert_array_equal(part[1], whole[1][order])


def test_switching_one_operation_on_does_not_change_anothers_draws():
    keys, images, _ = batch_of(16)
    flipped = run({'flip_horizontal': 0.5}, keys, images)
    np.testing.assert_array_equal(run({'flip_horizontal': 0.5, 'invert': 1.0}, keys, images), 1 - flipped)
    cropped = run({'random_crop': 3}, keys, images)
    np.testing.assert_array_equal(run({'random_crop': 3, 'flip_vertical': 1.0}, keys, images[:, ::-1]), cropped)


def test_jit_equals_eager():
    keys, images, masks = batch_of(8)
    eager = augmentation.build(EVERYTHING)(keys, images, masks)
    jitted = run(EVERYTHING, keys, images, masks)
    np.testing.assert_allclose(jitted[0], eager[0], atol=1e-5)
    np.testing.assert_array_equal(jitted[1], eager[1])


@pytest.mark.parametrize('split', [pytest.param(jax.vmap, marks=pytest.mark.thorough), jax.pmap])
def test_a_batch_split_over_devices_gives_the_same_images(split):
    pieces = jax.local_device_count() if split is jax.pmap else 2
    keys, images, masks = batch_of(8)
    whole = run(EVERYTHING, keys, images, masks)
    apart = quick_jit(split(augmentation.build(EVERYTHING)))(
        *(array.reshape(pieces, 8 // pieces, *array.shape[1:]) for array in (keys, images, masks)))
    np.testing.assert_allclose(apart[0].reshape(images.shape), whole[0], atol=1e-5)
    np.testing.assert_array_equal(apart[1].reshape(masks.shape), whole[1])


# Mistakes.

@pytest.mark.parametrize('config, words', [
    ({'rotate': 5}, "no field 'rotate'.*rotation"),
    ({'flip_horizontaly': 0.5}, 'flip_horizontal[?]'),
    ({'flip_horizontal': 1.5}, 'flip_horizontal is 1.5.* 0 to 1'),
    ({'invert': -0.1}, 'invert is -0.1'),
    ({'rotation': 360}, 'rotation is 360.* 180'),
    ({'zoom': 1.0}, 'zoom is 1.0.* 0.9'),
    ({'elastic': 0.2}, 'elastic is 0.2.* 0.1'),
    ({'gamma': -1}, 'gamma is -1.* 4'),
    ({'noise': 2.0}, 'noise is 2.0.* 1'),
    ({'shift': float('nan')}, 'shift is nan'),
    ({'shift': '0.1'}, "shift is '0.1'"),
    ({'flip_vertical': True}, 'flip_vertical is True'),
    ({'random_crop': 2.5}, 'whole number of pixels'),
    ({'cutout': -1}, 'whole number of pixels'),
    ({'fill': 'mirror'}, "fill is 'mirror'"),
    ({'homography': 0.2}, 'homography is 0.2.* 0 to 0.15'),
    ({'shift': 0.1, 'width_shift': 0.2}, 'shift=0.1 moves images both ways already.*width_shift out'),
    ({'shift': 0.1, 'width_shift': 0.2, 'height_shift': 0.1}, 'width_shift and height_shift out'),
    ({'fill': 2}, 'fill is 2'),
    ({'rand_augment': 15}, 'rand_augment is 15.*whole number from 0 to 14'),
    ({'rand_augment': 2, 'rand_augment_magnitude': 11}, 'rand_augment_magnitude is 11.* 0 to 10'),
    ({'mixup': -0.2}, 'mixup is -0.2.*0 or more'),
    ({'cutmix': float('inf')}, 'cutmix is inf'),
    ({'mix_probability': 1.5}, 'mix_probability is 1.5.* 0 to 1'),
])
def test_a_bad_value_is_one_line_that_names_it(config, words):
    with pytest.raises(UserError, match=words) as error:
        augmentation.build(config)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['random_crop', 'cutout'])
def test_sizes_the_image_has_no_room_for_are_refused(name):
    with pytest.raises(UserError, match=f'{name}=12 needs larger images than 12x14'):
        augmentation.build({name: 12})(*batch_of(2))
