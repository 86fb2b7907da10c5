"""Promises of input_pipeline/images.py."""

import io

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import image_search, images

RAMP = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)  # A small grey image without symmetry.
RGB = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)


def saved(path, picture, **options):
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def error_of(path, channels=3):
    with pytest.raises(UserError) as error:
        images.read_image(path, channels=channels)
    message = str(error.value)
    assert '\n' not in message and path.name in message
    return message


# What pixels become.

@pytest.mark.parametrize('suffix', ['png', 'bmp', 'ppm', 'tif', 'webp'])
def test_rgb_comes_back_exactly_from_every_lossless_format(tmp_path, suffix):
    path = saved(tmp_path / f'a.{suffix}', RGB, **({'lossless': True} if suffix == 'webp' else {}))
    image = images.read_image(path, channels=3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


def test_grey_is_repeated_in_rgb_and_rgb_becomes_luma(tmp_path):
    grey = saved(tmp_path / 'grey.png', RAMP)
    np.testing.assert_array_equal(images.read_image(grey, channels=1), RAMP[..., None])
    np.testing.assert_array_equal(images.read_image(grey, channels=3), np.repeat(RAMP[..., None], 3, axis=2))
    luma = images.read_image(saved(tmp_path / 'rgb.png', RGB), channels=1)
    assert luma.shape == (5, 6, 1)
    np.testing.assert_allclose(luma[..., 0], RGB @ [0.299, 0.587, 0.114], atol=1)


def test_a_jpeg_is_close(tmp_path):
    smooth = np.array(Image.fromarray(RGB).resize((64, 48), Image.Resampling.BICUBIC))
    image = images.read_image(saved(tmp_path / 'a.jpg', smooth, quality=95), channels=3)
    assert image.shape == (48, 64, 3) and np.abs(image.astype(int) - smooth).mean() < 5


def test_one_bit_is_black_and_white(tmp_path):
    path = saved(tmp_path / 'a.png', Image.fromarray(RAMP > 100))
    np.testing.assert_array_equal(images.read_image(path, channels=1)[..., 0], (RAMP > 100) * 255)


@pytest.mark.parametrize('mode, ink', [('RGBA', (0, 0, 0, 255)), ('LA', (0, 255))])
def test_transparent_background_is_a_white_page(tmp_path, mode, ink):
    digit = Image.new(mode, (4, 3), (0,) * len(ink))
    digit.putpixel((2, 1), ink)
    image = images.read_image(saved(tmp_path / 'digit.png', digit), channels=1)[..., 0]
    expected = np.full((3, 4), 255)
    expected[1, 2] = 0
    np.testing.assert_array_equal(image, expected)


def test_half_transparent_is_half_white(tmp_path):
    image = images.read_image(saved(tmp_path / 'a.png', Image.new('RGBA', (2, 2), (100, 0, 200, 128))), channels=3)
    np.testing.assert_allclose(image[0, 0], [177, 127, 227], atol=1)


def test_palette_gives_its_colours_and_its_transparent_entry_white(tmp_path):
    picture = Image.new('P', (2, 1))
    picture.putpalette([200, 10, 30, 5, 60, 70])
    picture.putpixel((1, 0), 1)
    opaque = images.read_image(saved(tmp_path / 'opaque.png', picture), channels=3)
    np.testing.assert_array_equal(opaque[0], [[200, 10, 30], [5, 60, 70]])
    for name in ('a.png', 'a.gif'):
        image = images.read_image(saved(tmp_path / name, picture, transparency=0), channels=3)
        np.testing.assert_array_equal(image[0], [[255, 255, 255], [5, 60, 70]])


@pytest.mark.parametrize('suffix', ['jpg', 'tif'])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    image = images.read_image(saved(tmp_path / f'a.{suffix}', Image.new('CMYK', (8, 8), (0, 255, 255, 0))), channels=3)
    np.testing.assert_allclose(image[4, 4], [255, 0, 0], atol=3)


@pytest.mark.parametrize('suffix', ['png', 'tif', 'pgm'])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    path = saved(tmp_path / f'a.{suffix}', RAMP.astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.read_image(path, channels=1)[..., 0], RAMP)


def test_floats_from_zero_to_one_are_scaled_and_others_refused(tmp_path):
    path = saved(tmp_path / 'unit.tif', RAMP.astype(np.float32) / 255)
    np.testing.assert_array_equal(images.read_image(path, channels=1)[..., 0], RAMP)
    for number, bad in enumerate((2.0, -1.0, np.nan)):
        path = saved(tmp_path / f'bad{number}.tif', np.array([[0.5, bad]], np.float32))
        assert 'grey values' in error_of(path)


def test_integers_beyond_sixteen_bits_are_refused(tmp_path):
    assert '70000' in error_of(saved(tmp_path / 'a.tif', np.array([[0, 70000]], np.int32)))


@pytest.mark.parametrize('suffix', ['gif', 'webp', 'png'])
def test_an_animation_is_its_first_frame(tmp_path, suffix):
    first, second = Image.new('RGB', (4, 4), 'red'), Image.new('RGB', (4, 4), 'blue')
    path = saved(tmp_path / f'a.{suffix}', first, save_all=True, append_images=[second], duration=50)
    image = images.read_image(path, channels=3)
    assert image.shape == (4, 4, 3)
    np.testing.assert_allclose(image[2, 2], [255, 0, 0], atol=3)


@pytest.mark.parametrize('orientation, turned', [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
    (5, lambda a: a.T), (6, lambda a: np.rot90(a, -1)), (7, lambda a: a[::-1, ::-1].T), (8, np.rot90)])
def test_exif_orientation_is_applied(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / 'a.png', RAMP, exif=exif)
    np.testing.assert_array_equal(images.read_image(path, channels=1)[..., 0], turned(RAMP))


def test_damaged_exif_does_not_cost_the_image(tmp_path):
    path = saved(tmp_path / 'a.png', RAMP, exif=b'Exif\0\0not a tag')
    np.testing.assert_array_equal(images.read_image(path, channels=1)[..., 0], RAMP)


def test_the_suffix_does_not_matter(tmp_path):
    path = tmp_path / 'really_a_png.jpg'
    np.testing.assert_array_equal(images.read_image(saved(path, RGB, format='PNG'), channels=3), RGB)


# Files that are no images: one line, never a traceback of another kind.

def test_missing_directory_and_empty_files_are_named(tmp_path):
    assert 'no such file' in error_of(tmp_path / 'missing.png')
    assert 'is a folder' in error_of(tmp_path)
    (tmp_path / 'empty.png').touch()
    assert 'empty' in error_of(tmp_path / 'empty.png')


def test_a_text_file_renamed_is_no_image(tmp_path):
    (tmp_path / 'notes.png').write_text('dear diary\n')
    assert 'is not a' in error_of(tmp_path / 'notes.png')


def test_postscript_is_not_handed_to_an_interpreter(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n')
    assert 'is not a' in error_of(tmp_path / 'a.png')


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'gif', 'bmp', 'tif', 'webp'])
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path, suffix):
    whole = saved(tmp_path / f'whole.{suffix}', np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    data = whole.read_bytes()
    for kept in (1, 10, len(data) // 4, len(data) // 2, len(data) * 9 // 10):
        part = tmp_path / f'part.{suffix}'
        part.write_bytes(data[:kept])
        error_of(part)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('file_format', ['PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP'])
def test_random_damage_gives_a_image_or_a_user_error(tmp_path, file_format):
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, file_format)
    path = tmp_path / 'damaged'
    refused = 0
    for _ in range(60):
        data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        data[random.integers(0, len(data), 4)] = random.integers(0, 256, 4)
        path.write_bytes(data.tobytes())
        try:
            image = images.read_image(path, channels=3)
            assert image.dtype == np.uint8 and image.shape[2] == 3
        except UserError as error:
            assert '\n' not in str(error)
            refused += 1
    assert refused > 0


@pytest.mark.parametrize('header', [b'P6 2 2 99999\n', b'P6 2 2 none\n', b'P6 2 99999999999999\n'])
def test_a_header_over_which_pillow_trips_is_a_user_error(tmp_path, header):
    (tmp_path / 'a.ppm').write_bytes(header + bytes(12))  # Pillow raises ValueError here, not OSError.
    assert 'damaged' in error_of(tmp_path / 'a.ppm')


@pytest.mark.parametrize('side', [10_500, 20_000])  # Beyond our limit, and beyond Pillow's own.
def test_an_absurdly_large_image_is_refused_before_it_is_decoded(tmp_path, side):
    path = saved(tmp_path / 'bomb.png', Image.new('1', (side, side)))
    assert 'too' in error_of(path)


@pytest.mark.parametrize('channels', [2, 4, 6])
def test_other_numbers_of_channels_are_what_the_file_has(tmp_path, channels):
    with pytest.raises(UserError, match=rf'has 3 channel\(s\), not config.image.channels = {channels}'):
        images.read_image(saved(tmp_path / 'a.png', RGB), channels=channels)
    with pytest.raises(UserError, match='config.image.channels = 0'):
        images.read_image(tmp_path / 'a.png', channels=0)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_a_fourth_channel_is_kept_where_it_is_asked_for(tmp_path, suffix):
    rgba = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    path = saved(tmp_path / f'a.{suffix}', rgba)
    np.testing.assert_array_equal(images.read_image(path, channels=4), rgba)
    np.testing.assert_array_equal(images.read_image(path, channels=4, bits=16), rgba.astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.read_image(saved(tmp_path / 'b.png', rgba[..., :2]), channels=2),
                                  rgba[..., :2])


# Sixteen bits.

DEEP = np.random.default_rng(1).integers(0, 65536, (5, 6, 3), dtype=np.uint16)


@pytest.mark.parametrize('suffix', ['png', 'tiff'])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    import cv2
    grey = saved(tmp_path / f'grey.{suffix}', DEEP[..., 0])
    np.testing.assert_array_equal(images.read_image(grey, channels=1, bits=16), DEEP[..., :1])
    np.testing.assert_array_equal(images.read_image(grey, channels=3, bits=16), DEEP[..., :1].repeat(3, 2))
    cv2.imwrite(str(tmp_path / f'colour.{suffix}'), DEEP[..., ::-1])
    colour = images.read_image(tmp_path / f'colour.{suffix}', channels=3, bits=16)
    assert colour.dtype == np.uint16
    np.testing.assert_array_equal(colour, DEEP)
    luma = images.read_image(tmp_path / f'colour.{suffix}', channels=1, bits=16)
    assert np.abs(luma[..., 0] - DEEP @ [0.299, 0.587, 0.114]).max() <= 0.6
    plain = images.read_image(tmp_path / f'colour.{suffix}', channels=3)
    assert plain.dtype == np.uint8 and np.abs(plain - DEEP / 257).max() < 1.01


def test_eight_bits_fill_the_range_of_sixteen(tmp_path):
    for name in ('a.png', 'a.bmp'):
        deep = images.read_image(saved(tmp_path / name, RGB), channels=3, bits=16)
        np.testing.assert_array_equal(deep, RGB.astype(np.uint16) * 257)
    with pytest.raises(UserError, match='config.image.bits = 12'):
        images.read_image(tmp_path / 'a.png', channels=3, bits=12)


def test_transparency_of_sixteen_bits_shows_white(tmp_path):
    import cv2
    rgba = np.concatenate([DEEP, np.full((5, 6, 1), 65535, np.uint16)], axis=2)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 32768
    cv2.imwrite(str(tmp_path / 'a.png'), rgba[..., (2, 1, 0, 3)])
    image = images.read_image(tmp_path / 'a.png', channels=3, bits=16)
    assert (image[0] == 65535).all()
    np.testing.assert_allclose(image[1], (DEEP[1] / 2 + 65535 / 2), atol=2)
    np.testing.assert_array_equal(image[2:], DEEP[2:])


@pytest.mark.parametrize('dtype, channels', [(np.uint16, 1), (np.uint16, 3), (np.float32, 5), (np.uint8, 4)])
def test_any_type_and_number_of_channels_is_resized_alike(dtype, channels):
    image = np.random.default_rng(2).integers(0, 256, (9, 12, channels)).astype(dtype)
    resized = images.resize(image, (5, 7))
    assert resized.dtype == dtype and resized.shape == (5, 7, channels)
    expected = np.concatenate([images.resize(image[..., k:k + 1].astype(np.uint8), (5, 7)) for k in range(channels)], 2)
    assert np.abs(resized.astype(float) - expected).max() <= 1


# Videos.

def test_a_video_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    frames = [Image.fromarray(np.full((20, 30), value, np.uint8)) for value in (0, 100, 200)]
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:])
    assert images.read_video(tmp_path / 'a.gif', frames=2, channels=1).shape == (2, 20, 30, 1)
    monkeypatch.setattr(images, '_MAX_VIDEO_PIXELS', 1700)
    with pytest.raises(UserError, match='3 frames of 30x20 pixels are too many'):
        images.read_video(tmp_path / 'a.gif', frames=2, channels=1)


# Names.

def test_a_path_that_is_too_long_is_one_line(tmp_path):
    long = tmp_path / ('a' * 300 + '.png')
    for call in (lambda: images.read_image(long, channels=1), lambda: image_search.find_images(long)):
        with pytest.raises(UserError) as error:
            call()
        assert '\n' not in str(error.value)


def test_a_name_that_is_not_utf_8(tmp_path):
    path = saved(tmp_path / 'caf\udce9.png', RGB)
    np.testing.assert_array_equal(images.read_image(image_search.find_images(tmp_path)[0], channels=3), RGB)
    path.write_bytes(b'')
    with pytest.raises(UserError) as error:
        images.read_image(path, channels=3)
    assert 'caf\\xe9.png: is empty' in str(error.value) and str(error.value).encode()


# Resizing.

@pytest.mark.parametrize('channels', [1, 3])
def test_resize_takes_height_then_width(channels):
    image = np.full((10, 20, channels), 77, np.uint8)
    small = images.resize(image, (5, 8))
    assert small.shape == (5, 8, channels) and small.dtype == np.uint8
    assert np.all(small == 77)


def test_resize_to_the_same_size_returns_the_array_itself():
    assert images.resize(RGB, (5, 6)) is RGB


def test_resize_is_antialiased():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    small = images.resize(checks, (8, 8))
    assert np.all(np.abs(small.astype(int) - 127) <= 3)  # Without a low-pass filter: stripes of 0 and 255.


# --- to the size of a model ---

@pytest.mark.parametrize('old, size, scaled', [
    ((300, 400), (224, 224), (256, 341)), ((400, 300), (224, 224), (341, 256)), ((500, 500), (224, 224), (256, 256)),
    ((20, 90), (28, 14), (32, 144)), ((90, 20), (28, 14), (72, 16)), ((100, 200), (28, 56), (32, 64))])
def test_the_middle_is_cut_out_of_a_image_scaled_in_proportion(old, size, scaled):
    picture = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    whole = images.resize(picture, scaled)
    top, left = round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2)
    np.testing.assert_array_equal(images.fit(picture, size, 'crop'),
                                  whole[top:top + size[0], left:left + size[1]])


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('old', [(1, 1), (3, 700), (700, 3), (7, 7), (8, 8), (9, 8)])
def test_images_of_any_shape_fit(old, channels):
    picture = np.full((*old, channels), 9, np.uint8)
    for how in images.RESIZES:
        fitted = images.fit(picture, (7, 8), how)
        assert fitted.shape == (7, 8, channels) and (fitted == 9).all()


def test_stretching_is_resizing():
    picture = np.random.default_rng(0).integers(0, 256, (9, 30, 1), np.uint8)
    np.testing.assert_array_equal(images.fit(picture, (12, 12), 'stretch'), images.resize(picture, (12, 12)))
    with pytest.raises(UserError, match="config.image.resize = 'strech'; did you mean stretch"):
        images.fit(picture, (12, 12), 'strech')


def test_a_header_is_checked_without_its_pixels(tmp_path):
    file = tmp_path / 'a.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(file)
    data = file.read_bytes()
    file.write_bytes(data[:len(data) // 2])
    images.check_header(file)
    for content, reason in ((b'', 'is empty'), (data[:10], 'is not a'), (b'hello', 'is not a')):
        file.write_bytes(content)
        with pytest.raises(UserError, match=f'a.png: {reason}'):
            images.check_header(file)
    with pytest.raises(UserError, match='no such file'):
        images.check_header(tmp_path / 'b.png')


# Images that are no files.

@pytest.mark.parametrize('form, mode', [
    ('PNG', 'RGBA'), ('PNG', 'I;16'), ('PNG', 'L'), ('JPEG', 'RGB'), ('GIF', 'P'), ('TIFF', 'F')])
@pytest.mark.parametrize('channels, bits', [(1, 8), (3, 8), (1, 16)])
def test_content_is_read_as_its_file_is(tmp_path, form, mode, channels, bits):
    grey = np.random.default_rng(0).random((6, 9), np.float32)
    picture = (Image.fromarray(grey) if mode == 'F' else Image.fromarray((65535 * grey).astype(np.uint16))
               if mode == 'I;16' else Image.fromarray((255 * grey).astype(np.uint8)).convert(mode))
    path = saved(tmp_path / 'a', picture, format=form)
    content = images.Content(path.read_bytes())
    np.testing.assert_array_equal(images.read_image(content, channels=channels, bits=bits),
                                  images.read_image(path, channels=channels, bits=bits))
    assert images.upright_size(content) == (6, 9)


def test_a_video_can_be_content_too(tmp_path):
    path = saved(tmp_path / 'a.gif', Image.fromarray(RAMP), save_all=True, append_images=[Image.fromarray(RAMP + 9)])
    content = images.Content(path.read_bytes())
    np.testing.assert_array_equal(images.read_video(content, frames=2, channels=3),
                                  images.read_video(path, frames=2, channels=3))


@pytest.mark.parametrize('content, words', [(b'', '0 bytes'), (b'hello', 'is not a BMP'),
                                            (b'\x89PNG\r\n\x1a\n' + bytes(30), 'is not a BMP')])
def test_errors_about_content_say_the_image(content, words):
    with pytest.raises(UserError, match=f'^the image: .*{words}'):
        images.read_image(images.Content(content), channels=3)


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'WEBP'])
def test_content_may_have_a_limit_of_its_own(tmp_path, form):
    content = images.Content(saved(tmp_path / 'a', RGB, format=form).read_bytes())
    content.max_pixels = RGB.shape[0] * RGB.shape[1]
    assert images.read_image(content, channels=3).shape == RGB.shape
    content.max_pixels -= 1
    with pytest.raises(images.TooLarge, match='6x5 pixels is too large'):
        images.read_image(content, channels=3)
