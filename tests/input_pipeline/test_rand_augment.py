"""Operations of RandAugment equal PIL's, and each example draws its own."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from practicum.input_pipeline import augmentation, rand_augment

LEVEL = 0.6
PIXELS = np.random.default_rng(0).integers(30, 200, (20, 26, 3)).astype(np.uint8)
PIXELS[:8] //= 2
HEIGHT, WIDTH = PIXELS.shape[:2]


quick = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


@functools.partial(quick, static_argnames='fill')
def operate(name, level, image, mask=None, fill='edge'):
    return rand_augment.operate(name, level, augmentation.Example(image, mask), augmentation.resampling(fill))


def applied(name, level=LEVEL, pixels=PIXELS, **more):
    """In brightnesses of 0 to 255."""
    found = operate(rand_augment.OPERATIONS.index(name), level, jnp.asarray(pixels, jnp.float32) / 255, **more)
    return np.asarray(found.image) * 255


def pil(name, level):
    image = Image.fromarray(PIXELS)
    if name == 'identity':
        return image
    if name == 'autocontrast':
        return ImageOps.autocontrast(image)
    if name == 'equalize':
        return ImageOps.equalize(image)
    if name == 'solarize':
        return ImageOps.solarize(image, math.ceil(255 * (1 - abs(level))))
    if name == 'posterize':
        return ImageOps.posterize(image, 8 - round(4 * abs(level)))
    return getattr(ImageEnhance, name.capitalize())(image).enhance(1 + 0.9 * level)


@pytest.mark.parametrize('name', ['identity', 'autocontrast', 'equalize', 'solarize', 'posterize', 'color', 'contrast',
                                  'brightness', 'sharpness'])
@pytest.mark.parametrize('level', [-0.6, 0.9])
def test_an_operation_on_brightness_is_pil_s(name, level):
    found, expected = applied(name, level), np.asarray(pil(name, level), np.float32)
    assert name == 'identity' or np.abs(found - PIXELS).max() > 2
    np.testing.assert_allclose(found, expected, atol=1.6)  # PIL rounds down and between steps


def test_equalize_is_exact_and_leaves_flat_images_alone():
    np.testing.assert_allclose(applied('equalize'), np.asarray(ImageOps.equalize(Image.fromarray(PIXELS))), atol=1e-3)
    flat = np.full((5, 6, 3), 77, np.uint8)
    for name in ('equalize', 'autocontrast', 'sharpness', 'color', 'contrast'):
        np.testing.assert_allclose(applied(name, pixels=flat), flat, atol=1e-3)


@pytest.mark.parametrize('name, matrix', [
    ('shear_x', lambda t: (1, 0.3 * t, 0, 0, 1, 0)), ('shear_y', lambda t: (1, 0, 0, 0.3 * t, 1, 0)),
    ('translate_x', lambda t: (1, 0, 0.45 * WIDTH * t, 0, 1, 0)),
    ('translate_y', lambda t: (1, 0, 0, 0, 1, 0.45 * HEIGHT * t)),
])
@pytest.mark.parametrize('level', [-0.6, 0.5])
def test_an_operation_that_moves_pixels_is_pil_s(name, matrix, level):
    """About the centre; PIL counts from the corner."""
    found = applied(name, level, fill=0.0)
    a, b, c, d, e, f = matrix(-level)
    c += WIDTH / 2 - a * WIDTH / 2 - b * HEIGHT / 2
    f += HEIGHT / 2 - d * WIDTH / 2 - e * HEIGHT / 2
    expected = Image.fromarray(PIXELS).transform((WIDTH, HEIGHT), Image.Transform.AFFINE, (a, b, c, d, e, f),
                                                 Image.Resampling.BILINEAR)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    source_x, source_y = a * x + b * y + c - 0.5, d * x + e * y + f - 0.5
    inside = (source_x >= 0) & (source_x <= WIDTH - 1) & (source_y >= 0) & (source_y <= HEIGHT - 1)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(found[inside], np.asarray(expected)[inside], atol=1.5)


def test_rotation_turns_counterclockwise_by_up_to_30_degrees():
    found = applied('rotate', 0.5, fill=0.0)
    expected = np.asarray(Image.fromarray(PIXELS).rotate(15, Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found[5:-5, 5:-5], expected[5:-5, 5:-5], atol=1.5)


def test_masks_move_with_the_image_and_only_then():
    mask = jnp.asarray(np.random.default_rng(1).integers(0, 4, (HEIGHT, WIDTH, 1)))
    for which, name in enumerate(rand_augment.OPERATIONS):
        moved = operate(which, LEVEL, jnp.asarray(PIXELS, jnp.float32) / 255, mask).mask
        assert moved.dtype == mask.dtype
        assert np.array_equal(moved, mask) == (name in ('identity', *rand_augment.OPERATIONS[6:])), name


def test_one_and_five_channels_work():
    for channels in (1, 5):
        pixels = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, channels))
        for name in rand_augment.OPERATIONS:
            found = applied(name, pixels=pixels)
            assert found.shape == pixels.shape and np.isfinite(found).all()


def test_every_operation_happens_and_examples_are_alone():
    keys = jax.random.split(jax.random.key(3), 300)
    image = jnp.asarray(PIXELS, jnp.float32) / 255
    augment = quick(augmentation.build({'rand_augment': 1, 'fill': 0.5}))
    found = np.asarray(augment(keys, jnp.broadcast_to(image, (300, *image.shape))))
    known = [np.asarray(operate(which, sign * 0.9, image, fill=0.5).image)
             for which in range(len(rand_augment.OPERATIONS)) for sign in (-1, 1)]
    chosen = [int(np.argmin([np.abs(one - other).max() for other in known])) for one in found]
    np.testing.assert_allclose(found, np.stack(known)[chosen], atol=1e-5)
    counts = np.bincount(np.array(chosen) // 2, minlength=14)
    assert counts.min() >= 8 and counts.max() <= 40
    np.testing.assert_allclose(augment(keys[5:7], jnp.stack([image] * 2)), found[5:7], atol=1e-6)
