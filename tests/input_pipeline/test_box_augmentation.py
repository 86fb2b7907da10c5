"""Boxes stay on what they are around: drawn shapes and their boxes agree whatever moves the image."""

import functools

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import alteration, augmentation, box_moves, mixing, preprocessing
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.source import IndexedSource
from practicum.tasks import Task
from practicum.training.defaults import base

COUNT, SIZE, BOXES = 64, 24, 5
# Whole pixels, of shapes that do not touch each other; in two of the five places there is no box.
SIDES = np.array([[3, 2, 10, 9], [13, 5, 21, 13], [0, 0, 0, 0], [4, 13, 12, 22], [0, 0, 0, 0]], np.float32)
LABELS = np.array([2, 0, -1, 1, -1], np.int32)
CROWD = np.array([0, 1, 0, 0, 0], np.uint8)
EXACT = {'flip_horizontal': 0.5, 'flip_vertical': 0.5, 'shift': 0.15, 'zoom': 0.25, 'random_crop': 3}
TURNING = {'rotation': 25.0, 'shear': 15.0, 'elastic': 0.035, 'rand_augment': 2}

quick_jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def drawn(ellipses: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images [COUNT, SIZE, SIZE, 1] of the three shapes, white on black, and masks with 1 + their place in SIDES."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for place, (left, top, right, bottom) in enumerate(SIDES):
        if LABELS[place] >= 0:
            across = (x - (left + right) / 2) / ((right - left) / 2)
            down = (y - (top + bottom) / 2) / ((bottom - top) / 2)
            inside = across**2 + down**2 <= 1 if ellipses else np.maximum(abs(across), abs(down)) <= 1
            mask[inside] = 1 + place
    masks = np.broadcast_to(mask, (COUNT, SIZE, SIZE))
    return (masks > 0).astype(np.float32)[..., None], masks


def features() -> dict[str, np.ndarray]:
    given = {'boxes': SIDES, 'box_labels': LABELS, 'box_crowd': CROWD}
    return {name: np.broadcast_to(values, (COUNT, *values.shape)) for name, values in given.items()}


KEYS = jax.random.split(jax.random.key(11), COUNT)


@functools.cache
def compiled(fields):
    return quick_jit(augmentation.build({**dict(fields), 'fill': '0'}))


def moved(config, *, ellipses=False, boxes=None):
    """Images, masks and boxes, after the operations of a config, as numpy has them."""
    images, masks = drawn(ellipses)
    return jax.device_get(compiled(tuple(config.items()))(KEYS, images, masks, features() if boxes is None else boxes))


@quick_jit
def resampled(boxes, **draws):
    """The boxes of one image, put through affine_source with these arguments."""
    size = SIZE, SIZE
    source = augmentation.affine_source(*size, **draws)
    return box_moves.boxed(box_moves.resampled(box_moves.outlines(boxes['boxes']), source, size), boxes)


def around(mask: np.ndarray, number: int) -> np.ndarray | None:
    """The box around the pixels of a number; None if there are none."""
    rows, columns = np.flatnonzero((mask == number).any(1)), np.flatnonzero((mask == number).any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else None


# Where boxes go.

@pytest.mark.parametrize('config', [*({name: value} for name, value in EXACT.items()), EXACT,
                                    {'transpose': 0.5, 'width_shift': 0.2, 'height_shift': 0.1}],
                         ids=lambda config: '+'.join(config))
def test_the_box_of_a_rectangle_is_around_its_pixels(config):
    images, masks, boxes = moved(config)
    compared = cut = 0
    for image, mask, sides, labels in zip(images[..., 0], masks, boxes['boxes'], boxes['box_labels']):
        for place in np.flatnonzero(labels >= 0):
            left, top, right, bottom = found = sides[place]
            np.testing.assert_allclose(found, around(mask, 1 + place), atol=0.51)  # half a pixel: the nearest
            # An edge is as far from a line in the middle as the brightness up to there adds up to.
            if min(left, top, SIZE - right, SIZE - bottom) > 1:
                y, x = int((top + bottom) / 2), int((left + right) / 2)
                row, column = (line * np.isin(numbers, (0, 1 + place))
                               for line, numbers in ((image[y], mask[y]), (image[:, x], mask[:, x])))
                first, last = np.int32(found[:2]) - 1, np.int32(found[2:]) + 2
                edges = (x - row[first[0]:x].sum(), y - column[first[1]:y].sum(),
                         x + row[x:last[0]].sum(), y + column[y:last[1]].sum())
                np.testing.assert_allclose(found, edges, atol=0.15 if 'zoom' in config else 1e-4)
                compared += 1
            cut += min(left, top, SIZE - right, SIZE - bottom) == 0
    assert compared > COUNT / 2 and bool(cut) == any(not name.startswith('flip') for name in config)


@pytest.mark.parametrize('config', [*({name: value} for name, value in TURNING.items()), EXACT | TURNING,
                                    {'homography': 0.15, 'rotation': 25.0, 'zoom': 0.25}],
                         ids=lambda config: '+'.join(config))
def test_the_box_of_an_ellipse_is_around_its_pixels(config):
    _, masks, boxes = moved(config, ellipses=True)
    errors = []
    for mask, sides, labels in zip(masks, boxes['boxes'], boxes['box_labels']):
        for place in np.flatnonzero(labels >= 0):
            if sides[place, :2].min() > 0 and sides[place, 2:].max() < SIZE:  # else it is the box of all, cut off
                errors.append(sides[place] - around(mask, 1 + place))
    # Where an ellipse touches its box it is less than a pixel wide, and the mask takes or leaves the pixel.
    steps = len(set(config) - {'rand_augment'}) + 2 * ('rand_augment' in config)
    assert len(errors) > COUNT / 2
    assert np.abs(errors).max() < (1.3 if steps == 1 else 2) and np.abs(np.mean(errors)) < 0.1
    assert np.abs(errors).mean() < 0.75


def test_a_right_angle_and_a_vanishing_rotation_are_exact():
    turned = np.stack([SIDES[:, 1], SIZE - SIDES[:, 2], SIDES[:, 3], SIZE - SIDES[:, 0]], 1)  # counterclockwise
    given = {'boxes': SIDES, 'box_labels': LABELS, 'box_crowd': CROWD}
    for angle, expected in ((0.0, SIDES), (1e-6, SIDES), (np.pi / 2, turned)):
        found = resampled(given, rotation=angle)['boxes']
        np.testing.assert_allclose(found[LABELS >= 0], expected[LABELS >= 0], atol=1e-4)


@quick_jit
def there_and_back(points, **draws):
    source = augmentation.affine_source(300, 400, **draws)
    return jnp.stack(box_moves.inverse(source)(*source(*points)))


def test_boxes_go_the_inverse_of_the_way_that_pixels_come():
    draw = np.random.default_rng(0)
    for _ in range(10):
        draws = {'shift_y': draw.uniform(-99, 99), 'shift_x': draw.uniform(-99, 99), 'rotation': draw.uniform(-3, 3),
                 'scale': draw.uniform(0.3, 1.8), 'shear': draw.uniform(-1, 1)}
        points = draw.uniform(0, 400, (2, 50)).astype(np.float32)
        np.testing.assert_allclose(there_and_back(points, **draws), points, atol=2e-3)


# What leaves the image.

def test_what_leaves_the_image_is_cut_off_and_what_keeps_too_little_is_dropped():
    _, masks, boxes = moved({'shift': 0.5})
    seen = set()
    for mask, sides, labels, crowd in zip(masks, *(boxes[name] for name in box_moves.FEATURES)):
        for place in np.flatnonzero(LABELS >= 0):
            width, height = SIDES[place, 2:] - SIDES[place, :2]
            left = np.count_nonzero(mask == 1 + place) / (width * height)
            if abs(left - 0.3) > 0.12:  # pixels are whole
                assert (labels[place] >= 0) == (left > 0.3)
            assert labels[place] in (LABELS[place], -1)
            if labels[place] < 0:
                assert not sides[place].any() and not crowd[place]
            else:
                assert crowd[place] == CROWD[place] and (sides[place, :2] < sides[place, 2:]).all()
            seen.add((labels[place] >= 0, left < 1))
        assert (labels[LABELS < 0] == -1).all() and not sides[LABELS < 0].any()
        assert sides.min() >= 0 and sides.max() <= SIZE
    assert seen == {(True, False), (True, True), (False, True)}


def test_an_object_that_fills_the_image_stays_when_it_is_enlarged():
    """A quarter of it is still seen, but the image shows nothing else."""
    full = {'boxes': np.float32([[0, 0, SIZE, SIZE]]), 'box_labels': np.zeros(1, np.int32),
            'box_crowd': np.zeros(1, np.uint8)}
    found = resampled(full, scale=1.9)
    for name, values in full.items():
        np.testing.assert_array_equal(found[name], values)


# What does not change.

def test_boxes_change_nothing_about_images_and_masks_nor_images_without_boxes():
    config = EXACT | TURNING
    images, masks, boxes = moved(config)
    nothing = {name: np.full_like(values, -1 if name == 'box_labels' else 0) for name, values in features().items()}
    same_images, same_masks, none = moved(config, boxes=nothing)
    np.testing.assert_array_equal(same_images, images)
    np.testing.assert_array_equal(same_masks, masks)
    for name, values in nothing.items():
        np.testing.assert_array_equal(none[name], values)
        assert none[name].dtype == boxes[name].dtype == values.dtype
    given, without = drawn(False)
    alone = compiled(tuple(config.items()))(KEYS, given, without)
    np.testing.assert_allclose(alone[0], images, atol=1e-6)


def test_an_example_s_boxes_do_not_depend_on_the_rest_of_the_batch():
    config = EXACT | TURNING
    order = np.random.default_rng(0).permutation(COUNT)
    images, masks = drawn(False)
    _, _, found = compiled(tuple(config.items()))(KEYS[order], images, masks, features())
    for name, values in moved(config)[2].items():
        np.testing.assert_array_equal(found[name], values[order])


@pytest.mark.parametrize('config', [{}, {'invert': 0.5, 'noise': 0.1, 'cutout': 5}])
def test_what_moves_no_pixels_leaves_boxes_as_they_are(config):
    """Also what reaches over the edge, or is covered by cutout."""
    given = features() | {'boxes': features()['boxes'] + np.float32(0.1)}
    found = moved(config, boxes=given)[2]
    for name, values in given.items():
        np.testing.assert_array_equal(found[name], values)


def test_flips_and_crops_are_those_of_dm_pix():
    """Which they were made by before boxes needed their draws; images of old runs stay what they are."""
    images = jax.random.uniform(jax.random.key(0), (COUNT, SIZE, SIZE, 1))

    @quick_jit
    @jax.vmap
    def before(key, image):
        image = dm_pix.random_flip_left_right(jax.random.fold_in(key, 0), image, probability=0.5)
        image = dm_pix.random_flip_up_down(jax.random.fold_in(key, 1), image, probability=0.5)
        padded = jnp.pad(image, ((3, 3), (3, 3), (0, 0)))
        return dm_pix.random_crop(jax.random.fold_in(key, 6), padded, image.shape)

    config = {name: EXACT[name] for name in ('flip_horizontal', 'flip_vertical', 'random_crop')}
    np.testing.assert_array_equal(compiled(tuple(config.items()))(KEYS, images), before(KEYS, images))


# Where boxes are moved.

def test_a_batch_s_boxes_move_with_its_image_and_mask():
    images, masks = drawn(False)
    batch = {'image': images, 'segmentation_mask': masks, **features(), 'weight': np.arange(COUNT)}
    augment = base().augment
    augment.update(flip_horizontal=1.0)
    image = base().image
    prepare = quick_jit(preprocessing.build(image, augment))
    found = prepare(batch, KEYS)
    mirrored = box_moves.mirrored(batch['boxes'], batch['box_labels'], SIZE)
    np.testing.assert_array_equal(found['boxes'], mirrored)
    np.testing.assert_array_equal(found['segmentation_mask'], masks[:, :, ::-1])
    del batch['segmentation_mask']
    np.testing.assert_array_equal(prepare(batch, KEYS)['boxes'], mirrored)
    assert preprocessing.build(image)(batch, None)['boxes'] is batch['boxes']


def test_an_altered_set_s_boxes_move_with_its_images():
    images, masks = drawn(False)
    arrays = {'image': np.uint8(255 * images), 'segmentation_mask': masks, **features()}
    source = ArraySource(arrays, DatasetInfo(), [{'width': 500 + i, 'height': 300} for i in range(COUNT)])
    augment = {'shift': 0.2, 'flip_vertical': 0.5, 'fill': '0'}
    found = alteration.altered(source, augment, {'jpeg': 1}, 'the set')
    rows = np.array([7, 3, 60])
    streamed = alteration.altered(IndexedSource(source), augment, {'jpeg': 1}, 'the set').read(rows)
    for name, values in found.read(rows).items():
        np.testing.assert_array_equal(streamed[name], values)
        assert values.dtype == arrays[name].dtype
    assert found.has_boxes and found.describe(rows) == source.describe(rows)
    for mask, sides, labels in zip(*(found.arrays[name] for name in ('segmentation_mask', 'boxes', 'box_labels'))):
        for place in np.flatnonzero(labels >= 0):
            np.testing.assert_allclose(sides[place], around(mask, 1 + place), atol=0.51)
    assert (found.arrays['boxes'] != source.arrays['boxes']).any((1, 2)).all()
    corrupted = alteration.altered(source, {}, {'jpeg': 1}, 'the set')
    np.testing.assert_array_equal(corrupted.arrays['boxes'], source.arrays['boxes'])


# What boxes refuse.

def test_a_deformation_that_folds_images_is_refused_with_boxes():
    images, masks = drawn(False)
    augment = augmentation.build({'elastic': 0.05})
    with pytest.raises(UserError, match='elastic=0.05 folds images.* boxes.* 0.04') as error:
        augment(KEYS, images, None, features())
    assert '\n' not in str(error.value)
    jax.eval_shape(augment, KEYS, images, masks)
    jax.eval_shape(augment, KEYS, images, masks, {})


def test_a_fill_that_shows_objects_without_their_boxes_is_refused():
    images, masks = drawn(False)
    for fill in ('reflect', 'wrap'):
        augment = augmentation.build({'shift': 0.1, 'fill': fill})
        with pytest.raises(UserError, match=f"fill='{fill}' shows objects again that no box is around"):
            augment(KEYS, images, None, features())
        jax.eval_shape(augment, KEYS, images, masks)
        jax.eval_shape(augmentation.build({'flip_horizontal': 0.5, 'fill': fill}), KEYS, images, None, features())


def test_images_whose_boxes_are_learned_are_not_mixed():
    """Of a task that does not say otherwise, as none with boxes does."""
    with pytest.raises(UserError, match='mixup and cutmix mix labels, which the task detection does not take'):
        mixing.check_task(mixing.build({'cutmix': 1.0}), Task, 'detection')
