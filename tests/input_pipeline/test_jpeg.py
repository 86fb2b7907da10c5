"""Random parts of images: where they lie, and that their pixels are those of a slow and plain way."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import images, jpeg

AREA = (0.08, 1.0)
WHOLE = (1.0, 1.0)


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """A smooth colour image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, 'JPEG', quality=92, **options)
    return path


def read(path: Path, draws, size=(32, 24), channels=3, area=AREA) -> np.ndarray:
    out = np.full((*size, channels), 77, np.uint8)
    jpeg.read_crop(path, draws, area, out)
    return out


def slow(path: Path, draws, size=(32, 24), channels=3, area=AREA, grid=1) -> np.ndarray:
    """Decoded whole, cut at multiples of `grid` pixels, and resized by Pillow."""
    image = images.read_image(path, channels=channels)
    top, left, height, width = (v // grid * grid for v in jpeg.crop_window(*image.shape[:2], draws, area))
    return images.resize(np.ascontiguousarray(image[top:top + height, left:left + width]), size)


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int))


# --- where ---

@pytest.mark.parametrize('height, width', [(300, 400), (400, 300), (1, 1), (3, 500), (500, 3), (2, 2), (375, 500)])
def test_parts_lie_inside(height, width):
    for draws in np.random.default_rng(1).random((300, 4)):
        top, left, h, w = jpeg.crop_window(height, width, draws, AREA)
        assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and h >= 1 and w >= 1


def test_area_is_uniform_and_ratio_within_three_quarters_and_four_thirds():
    draws = np.random.default_rng(2).random((4000, 4))
    windows = np.array([jpeg.crop_window(600, 800, numbers, AREA) for numbers in draws])
    share = windows[:, 2] * windows[:, 3] / (600 * 800)
    np.testing.assert_allclose(share, 0.08 + 0.92 * draws[:, 0], atol=0.005)
    ratio = np.log(windows[:, 3] / windows[:, 2])
    assert np.abs(ratio).max() < math.log(4 / 3) + 0.01
    small = share < 0.4  # every ratio fits there: log-uniform, so symmetric and flat
    counts = np.histogram(ratio[small], bins=4, range=(-math.log(4 / 3), math.log(4 / 3)))[0]
    assert counts.min() > 0.8 * counts.mean()


@pytest.mark.parametrize('draws, expected', [
    ((1 - 1e-12, 0.5, 0.0, 0.0), (0, 0, 300, 400)),  # all of it, whose ratio is 4:3
    ((0.17 / 0.92, 0.5, 0.0, 0.0), (0, 0, 173, 173)),  # a quarter of 120,000 pixels, square
    ((0.17 / 0.92, 0.5, 0.9999, 0.9999), (127, 227, 173, 173)),  # in the other corner
    ((0.17 / 0.92, 0.0, 0.0, 0.0), (0, 0, 200, 150)),
])
def test_parts_worked_out_by_hand(draws, expected):
    assert jpeg.crop_window(300, 400, draws, AREA) == expected


def test_a_ribbon_gives_the_largest_part_that_fits():
    assert jpeg.crop_window(30, 900, (0.9, 0.5, 0.0, 0.0), AREA) == (0, 0, 30, 40)
    assert jpeg.crop_window(900, 30, (0.9, 0.5, 0.0, 0.0), AREA) == (0, 0, 40, 30)


# --- pixels ---

@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'subsampling': 0}, {'subsampling': 1}])
def test_enlarged_parts_are_those_of_pillow(options, tmp_path):
    file = save(photo(61, 83), tmp_path / 'a.jpg', **options)
    for draws in np.random.default_rng(3).random((10, 4)):
        assert differences(read(file, draws, (96, 90)), slow(file, draws, (96, 90))).max() <= 2


@pytest.mark.parametrize('by', [2, 4, 8])
def test_large_parts_are_decoded_smaller_and_stay_where_they_are(by, tmp_path):
    file = save(photo(40 * by + 5, 56 * by + 3), tmp_path / 'a.jpg')
    for draws in np.random.default_rng(4).random((5, 4)):
        difference = differences(read(file, draws, (32, 24), area=(0.8, 0.9)),
                                 slow(file, draws, (32, 24), area=(0.8, 0.9), grid=by))
        assert difference.mean() < 2  # a shift by one decoded pixel makes 6


@pytest.mark.parametrize('mode, channels', [('L', 1), ('L', 3), ('RGB', 1)])
def test_grey_from_colour_and_colour_from_grey(mode, channels, tmp_path):
    file = save(photo(40, 50).convert(mode), tmp_path / 'a.jpg')
    for draws in np.random.default_rng(5).random((5, 4)):
        assert differences(read(file, draws, (64, 64), channels), slow(file, draws, (64, 64), channels)).max() <= 2


@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_turned_upright_first(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(photo(40, 60), tmp_path / 'a.jpg', exif=exif)
    draws = (0.5, 0.3, 0.1, 0.8)
    assert differences(read(file, draws, (64, 64)), slow(file, draws, (64, 64))).max() <= 2


def test_other_files_come_through_the_slow_reader(tmp_path):
    photo(40, 60).convert('CMYK').save(tmp_path / 'cmyk.jpg')
    photo(40, 60).save(tmp_path / 'a_png.jpg', 'PNG')
    photo(200, 300).save(tmp_path / 'large.png')
    for name, grid in (('cmyk.jpg', 1), ('a_png.jpg', 1), ('large.png', 4)):
        for draws in np.random.default_rng(6).random((3, 4)):
            assert differences(read(tmp_path / name, draws), slow(tmp_path / name, draws, grid=grid)).mean() < 2


@pytest.mark.parametrize('spoil', [lambda data: data[:len(data) // 2], lambda data: data[:30], lambda data: b'',
                                   lambda data: b'no image at all'])
def test_a_damaged_file_is_an_error(spoil, tmp_path):
    file = save(photo(100, 100), tmp_path / 'a.jpg')
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(UserError, match='a.jpg: '):
        read(file, (0.5,) * 4)
    with pytest.raises(UserError, match='b.jpg: no such file'):
        read(tmp_path / 'b.jpg', (0.5,) * 4)
