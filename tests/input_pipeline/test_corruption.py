"""Corruptions have the published levels, get worse with severity, and depend on an example's position alone."""

import io

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image
from skimage import color

from practicum.common.errors import UserError
from practicum.input_pipeline import corruption

NAMES = corruption.CORRUPTIONS
RANDOM = ('gaussian_noise', 'shot_noise', 'impulse_noise', 'speckle_noise')
WITHOUT_ORDER = ('saturate',)  # less, then more saturation


@pytest.fixture(scope='module')
def photograph() -> np.ndarray:
    """Smooth and sharp parts in three channels, float32 [72, 80, 3]."""
    noise = np.random.default_rng(0).random((72, 80, 3))
    image = scipy.ndimage.gaussian_filter(noise, (2, 2, 0))
    image = (image - image.min()) / (image.max() - image.min())
    image[20:40, 30:60] = (0.9, 0.3, 0.2)
    return image.astype(np.float32)


def corrupted(name: str, severity: int, image: np.ndarray, position: int = 0) -> np.ndarray:
    return corruption.build({name: severity})(position, image)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('side', [32, 72])
def test_each_keeps_shape_type_and_range_and_gets_worse(name, side, photograph):
    image = photograph[:side, :side]
    found = [corrupted(name, severity, image) for severity in range(1, 6)]
    for changed in found:
        assert changed.shape == image.shape and changed.dtype == np.float32
        assert 0 <= changed.min() and changed.max() <= 1
    distances = [np.abs(changed - image).mean() for changed in found]
    assert name in WITHOUT_ORDER or distances[0] < distances[-1]
    assert sum(distance > 0 for distance in distances) >= 3  # CIFAR-10-C's smallest disks are points


@pytest.mark.parametrize('name', RANDOM)
def test_what_is_random_depends_on_the_position_alone(name, photograph):
    first = corrupted(name, 3, photograph, 7)
    np.testing.assert_array_equal(first, corrupted(name, 3, photograph, 7))
    assert (first != corrupted(name, 3, photograph, 8)).any()
    both = corruption.build({'contrast': 1, name: 3})(7, photograph)  # the noise comes first
    np.testing.assert_array_equal(both, corrupted('contrast', 1, first))


@pytest.mark.parametrize('side, std', [(32, 0.08), (63, 0.08), (64, 0.18), (224, 0.18)])
def test_small_images_have_the_levels_of_cifar_10_c(side, std):
    grey = np.full((side, side, 3), 0.5, np.float32)
    assert corrupted('gaussian_noise', 3, grey).std() == pytest.approx(std, rel=0.05)


def test_the_formulas_are_the_published_ones(photograph):
    blurred = scipy.ndimage.gaussian_filter(photograph, (3, 3, 0), mode='nearest')
    np.testing.assert_allclose(corrupted('gaussian_blur', 3, photograph), blurred, atol=1e-6)
    hsv = color.rgb2hsv(photograph)
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
    np.testing.assert_allclose(corrupted('brightness', 3, photograph), color.hsv2rgb(hsv), atol=1e-5)
    means = photograph.mean(axis=(0, 1))
    np.testing.assert_allclose(corrupted('contrast', 2, photograph), (photograph - means) * 0.3 + means, atol=1e-6)
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.round(photograph * 255))).save(file, 'JPEG', quality=15)
    np.testing.assert_allclose(corrupted('jpeg', 3, photograph) * 255, np.asarray(Image.open(file)), atol=1e-4)


def test_half_of_the_impulses_are_white():
    changed = corrupted('impulse_noise', 5, np.full((224, 224, 1), 0.5, np.float32))
    assert (changed != 0.5).mean() == pytest.approx(0.27, abs=0.01)
    assert (changed == 1).sum() / (changed != 0.5).sum() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize('channels', [1, 4])
@pytest.mark.parametrize('name', NAMES)
def test_grey_images_and_those_of_other_channels(name, channels):
    image = np.random.default_rng(0).random((20, 24, channels)).astype(np.float32)
    if name == 'saturate' or (name == 'jpeg' and channels == 4):
        with pytest.raises(UserError, match=f'{name} .* {channels}'):
            corrupted(name, 1, image)
    else:
        assert corrupted(name, 2, image).shape == image.shape


def test_black_becomes_brighter_too():
    assert corrupted('brightness', 1, np.zeros((64, 64, 3), np.float32)) == pytest.approx(0.1)


def test_off_changes_nothing(photograph):
    assert corruption.build({})(0, photograph) is photograph
    assert corruption.build(dict.fromkeys(NAMES, 0))(0, photograph) is photograph


@pytest.mark.parametrize('severities, message', [
    ({'gausian_noise': 3}, 'did you mean gaussian_noise?'),
    ({'jpeg': 6}, 'severity of jpeg is 6'),
    ({'jpeg': -1}, 'severity of jpeg is -1'),
    ({'jpeg': 2.0}, 'severity of jpeg is 2.0'),
    ({'jpeg': True}, 'severity of jpeg is True'),
])
def test_mistakes(severities, message):
    with pytest.raises(UserError, match=message.replace('?', r'\?')):
        corruption.build(severities)
