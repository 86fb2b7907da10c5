"""What happens to a batch inside the step: masks move with images, shading is evened out, the rest passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.input_pipeline import preprocessing
from practicum.training.defaults import base


def image_config(**fields):
    config = base().image
    config.update(fields)
    return config


@pytest.fixture(scope='module')
def scene() -> np.ndarray:
    """Texture of 96x80 pixels within a black border, float32 [1, 96, 80, 1] up to 0.25."""
    texture = np.random.RandomState(0).uniform(0.1, 0.25, (1, 96, 80, 1)).astype(np.float32)
    texture[:, :12] = texture[:, -12:] = texture[:, :, :12] = texture[:, :, -12:] = 0
    return texture


def test_a_smooth_shading_is_evened_out_and_black_stays_black(scene):
    rows = np.linspace(1, 4, 96, dtype=np.float32)[None, :, None, None]
    plain, shaded = (np.asarray(preprocessing.even_out(jnp.asarray(x), 16)) for x in (scene, scene * rows))
    inside = (slice(None), slice(28, 68), slice(28, 52))  # two blocks from the border
    assert np.abs(shaded - plain)[inside].max() < 0.25  # where the shaded image itself differs by up to 300 %
    assert np.corrcoef(shaded[inside].ravel(), plain[inside].ravel())[0, 1] > 0.98
    assert not plain[scene == 0].any() and plain.min() >= 0 and plain.max() <= 4


@pytest.mark.parametrize('size', [(96, 80), (37, 50), (5, 5)])
def test_any_size_is_evened_out_within_its_own_example(size):
    images = jax.random.uniform(jax.random.key(0), (2, *size, 3))
    both = preprocessing.even_out(images, 16)
    assert both.shape == images.shape
    np.testing.assert_allclose(both[:1], preprocessing.even_out(images[:1], 16), rtol=1e-6)


def test_the_config_decides_and_0_is_off(scene):
    pixels = {'image': np.uint8(255 * scene)}
    off = preprocessing.build(image_config())(pixels, None)['image']
    np.testing.assert_allclose(off, pixels['image'] / 255.0, rtol=1e-6)
    on = preprocessing.build(image_config(local_mean=16, mean=(1.0,), std=(2.0,)))(pixels, None)['image']
    np.testing.assert_allclose(on, (preprocessing.even_out(off, 16) - 1) / 2, atol=1e-6)
    with pytest.raises(UserError, match='config.image.local_mean = -1'):
        preprocessing.build(image_config(local_mean=-1))


def test_a_mask_moves_with_its_image_and_other_features_pass():
    mask = np.zeros((3, 32, 32), np.uint8)
    mask[:, 4:12, 6:20] = 1
    batch = {'image': 255 * mask[..., None], 'segmentation_mask': mask, 'weight': np.arange(3.0)}
    augment = base().augment
    augment.update(flip_horizontal=1.0, shift=0.2, fill='0')
    moved = preprocessing.build(image_config(), augment)(batch, jax.random.split(jax.random.key(0), 3))
    found = np.asarray(moved['image'][..., 0] > 0.5)
    assert (found != mask.astype(bool)).any((1, 2)).all()
    assert (found == np.asarray(moved['segmentation_mask'])).mean() > 0.97  # borders are interpolated
    np.testing.assert_array_equal(moved['weight'], batch['weight'])
