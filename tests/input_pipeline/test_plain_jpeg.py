"""Plain JPEGs are decoded without Pillow, to its very pixels; all others are left to it."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from practicum.common.errors import UserError
from practicum.input_pipeline import images, plain_jpeg


def photo(height: int, width: int, mode: str = 'RGB') -> Image.Image:
    generator = np.random.default_rng(height + width)
    smooth = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height))
    return Image.fromarray((np.asarray(smooth) // 2 + generator.integers(0, 100, (height, width, 3))).astype(
        np.uint8)).convert(mode)


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, 'JPEG', **options)
    return file.getvalue()


def by_pillow(data: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(ImageOps.exif_transpose(image).convert('RGB').convert('RGB' if channels == 3 else 'L')).reshape(
            *ImageOps.exif_transpose(image).size[::-1], channels)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'subsampling': 0}, {'subsampling': 1}, {'quality': 30},
                                     {'quality': 100}, {'optimize': True}])
@pytest.mark.parametrize('size', [(64, 64), (61, 83), (1, 1), (17, 5)])
def test_pixels_are_exactly_those_of_pillow(mode, options, size, channels):
    data = encoded(photo(*size, mode), **options)
    found = plain_jpeg.decode(data, channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_pillow(data, channels))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('content', [
    *(encoded(photo(20, 30), exif=exif(orientation)) for orientation in range(1, 9)),
    encoded(photo(20, 30, 'CMYK')), encoded(photo(20, 30)) + b'more'])
def test_what_is_not_plain_is_read_as_before(tmp_path, content, channels):
    file = tmp_path / 'a.jpg'
    file.write_bytes(content)
    np.testing.assert_array_equal(images.read_image(file, channels=channels), by_pillow(content, channels))


@pytest.mark.parametrize('content', [b'', b'\xff\xd8', b'GIF89a', encoded(photo(9, 9), exif=exif(6)),
                                     encoded(photo(9, 9, 'CMYK')), encoded(photo(40, 40))[:400]])
def test_others_are_left_to_pillow(content):
    assert plain_jpeg.decode(content, 3) is None


def test_an_image_of_absurd_size_is_not_decoded(monkeypatch):
    monkeypatch.setattr(plain_jpeg, 'MAX_PIXELS', 99)
    assert plain_jpeg.decode(encoded(photo(10, 10)), 3) is None


def test_what_looks_sound_without_being_decoded(tmp_path):
    data, file = encoded(photo(80, 90)), tmp_path / 'a.jpg'
    for content, header, whole in ((data, True, True), (data + bytes(9), True, True), (data[:-2], True, False),
                                   (data[:-20], True, False), (data + b'more', True, False), (data[:100], False, False),
                                   (b'', False, False), (b'hello', False, False)):
        file.write_bytes(content)
        assert plain_jpeg.is_sound(file, whole=False) == header
        assert plain_jpeg.is_sound(file, whole=True) == whole
    assert not plain_jpeg.is_sound(tmp_path / 'missing.jpg', whole=False)
    assert not plain_jpeg.is_sound(tmp_path, whole=False)


def test_trailing_bytes_are_no_damage(tmp_path):
    """Phones append films to photographs: whether the pixels are sound is then found out by decoding them."""
    (tmp_path / 'a.jpg').write_bytes(encoded(photo(80, 90)) + b'a film')
    images.check(tmp_path / 'a.jpg', channels=3, pixels=True)


def test_a_pipe_is_an_error_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.jpg')
    for read in (lambda path: images.read_image(path, channels=3),
                 lambda path: images.check(path, channels=3, pixels=False)):
        with pytest.raises(UserError, match='a.jpg: no such file'):
            read(tmp_path / 'a.jpg')


def test_dicom_is_dicom_whatever_it_begins_with(tmp_path):
    data = encoded(photo(80, 90))
    Path(tmp_path / 'a.jpg').write_bytes(data[:128] + b'DICM' + data[132:])
    assert plain_jpeg.read(tmp_path / 'a.jpg', 3) is None
