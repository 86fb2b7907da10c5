"""Reading image files as users have them, into arrays of one size, depth and number of channels."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..common.errors import UserError, file_error, nearest
from . import dicom, plain_jpeg
from .plain_jpeg import MAX_PIXELS, ORIENTATION

RESIZES = ('stretch', 'crop', 'cover')  # see `fit`
_CROPPED_SHARE = 0.875

_LYING = (5, 6, 7, 8)  # orientations that exchange width and height

_DTYPES = {8: np.uint8, 16: np.uint16}

# Decided by content, not by suffix. A closed list, because some of Pillow's formats start other programs (EPS runs
# Ghostscript) and none of those is a photograph.
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')

_MAX_VIDEO_PIXELS = 500_000_000  # of all frames, all of which are decoded on the way to the last

# Pillow warns about large images on two more lines of the terminal; `read_image` refuses them by an error.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


class TooLarge(UserError):
    """An image of too many pixels."""


class Content(bytes):
    """The content of an image file, which every function here takes in place of its path.

    Attributes:
        max_pixels: of its image; DICOM has a limit of its own.
    """
    max_pixels = MAX_PIXELS

    def __str__(self) -> str:
        return 'the image'  # in messages, where the path of a file would be


def read_image(path, *, channels: int, bits: int = 8) -> np.ndarray:
    """Reads one image: the first frame, turned upright by its EXIF orientation.

    Transparent parts show a white page, as in a browser: a digit drawn on a transparent background becomes ink on
    paper. 16-bit grey is scaled from 0..65535 and floating point from 0..1 to the range of `bits`; other ranges are
    refused, because stretching each image by its own extremes would make equal things unequal. Colour becomes grey by
    the luma of ITU-R 601. Colour profiles are ignored. Only DICOM is stretched by its own extremes (see
    `dicom.read_dicom`, to 256 values), since scanners agree on no unit. Other numbers of channels are taken as they are
    stored, 4 of an RGBA or CMYK file with its last one; more than 4 come from arrays, see npz_source.py.

    Args:
        path: a BMP, GIF, JPEG, PNG, PBM/PGM/PPM, TIFF, WebP or DICOM file, whatever its suffix; or its `Content`.
        channels: 1 (grey), 3 (RGB), or what all files have.
        bits: 8 or 16 of each channel that is returned.

    Returns:
        uint8 or uint16 [height, width, channels].

    Raises:
        UserError: one line naming the file and what is wrong: missing, a directory, empty, not an image, damaged,
            of absurd size, of another number of channels, or of values with no agreed range.
    """
    depth(bits)
    if channels < 1:
        raise UserError(f'config.image.channels = {channels}: it is 1 (grey), 3 (RGB) or more')
    if bits == 8 and channels in (1, 3) and not dicom.has_suffix(path):
        plain = plain_jpeg.read(path, channels)
        if plain is not None:
            return plain
    if dicom.is_dicom(path):
        if channels not in (1, 3):
            raise file_error(path, f'is DICOM, which is read with 1 or 3 channels: config.image.channels = {channels}')
        return _widen(np.repeat(dicom.read_dicom(path).pixels[..., None], channels, axis=2), bits)
    path = _source(path)
    image = decode(path)
    if bits == 16 or channels not in (1, 3):
        deep = _sixteen_bits(image, path)
        if channels not in (1, 3):
            return _as_stored(np.asarray(image) if deep is None else deep, path, channels, bits)
        if deep is not None:
            return _deep_to_channels(deep, channels)
    return _widen(_to_channels(image, path, channels), bits)


def read_video(path, *, frames: int, channels: int) -> np.ndarray:
    """Reads some frames of an animated GIF, PNG or WebP, evenly spread from the first to the last.

    Args:
        path: the file; of one with fewer frames some are repeated.
        frames: how many to read.
        channels: 1 (grey) or 3 (RGB), as for `read_image`.

    Returns:
        uint8 [frames, height, width, channels].

    Raises:
        UserError: as `read_image`, and for an image that does not move, or with too many pixels in all its frames.
    """
    path = _source(path)
    with _decoding(path) as image:
        total = getattr(image, 'n_frames', 1)
        if total < 2:
            raise file_error(path, 'is one image; a video is an animated GIF, PNG or WebP')
        if total * image.width * image.height > _MAX_VIDEO_PIXELS:
            raise file_error(path, f'{total:,} frames of {image.width}x{image.height} pixels are too many; shrink it '
                                   'first')
        found = []
        for number in np.linspace(0, total - 1, frames).round().astype(int).tolist():
            image.seek(number)
            found.append(image.copy())
    return np.stack([_to_channels(frame, path, channels) for frame in found])


def depth(bits: int) -> type:
    """Returns the type of images that are read with config.image.bits.

    Raises:
        UserError: it is neither 8 nor 16.
    """
    if bits not in _DTYPES:
        raise UserError(f'config.image.bits = {bits!r}: images are read with 8 or 16')
    return _DTYPES[bits]


def more_identity(resize: str, bits: int) -> list[Any]:
    """Returns what distinguishes images from those read in the usual way, for `Source.identity`."""
    return [*([] if resize == 'stretch' else [resize]), *([] if bits == 8 else [f'{bits} bits'])]


def _widen(image: np.ndarray, bits: int) -> np.ndarray:
    """uint8 -> the range of as many bits."""
    return image if bits == 8 else image.astype(np.uint16) * np.uint16(257)


def _sixteen_bits(image: Image.Image, path: Path | Content) -> np.ndarray | None:
    """Returns a decoded image as uint16 [height, width, channels] if its file has 16 bits or floats, else None."""
    if image.mode.startswith('I') or image.mode == 'F':
        return _deep_grey(image, path)[..., None]
    if image.format not in ('PNG', 'TIFF') or image.mode not in ('LA', 'RGB', 'RGBA'):
        return None
    import cv2  # Pillow cuts colours of 16 bits down to 8
    try:
        data = path if isinstance(path, Content) else path.read_bytes()
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, OSError):
        values = None
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        return None
    orientation = 1
    with _decoding(path) as opened, contextlib.suppress(Exception):  # damaged EXIF data, see `decode`
        orientation = opened.getexif().get(ORIENTATION, 1)
    if orientation != 1:
        raise file_error(path, 'has 16 bits and is turned by EXIF data: save it upright')
    code = cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    values = cv2.cvtColor(values, code)
    return values[..., (0, 3)] if image.mode == 'LA' else values


def _deep_to_channels(values: np.ndarray, channels: int) -> np.ndarray:
    """uint16 grey, grey and alpha, RGB or RGBA -> grey or RGB, on a white page."""
    count = values.shape[2]
    if count in (2, 4):
        alpha = values[..., -1:] / np.float32(65535)
        values = np.round(values[..., :-1] * alpha + 65535 * (1 - alpha))
    if channels == 1 and values.shape[2] == 3:
        values = np.round(values @ np.float32([0.299, 0.587, 0.114]))[..., None]
    if channels == 3 and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return np.ascontiguousarray(values, np.uint16)


def _as_stored(values: np.ndarray, path: Path, channels: int, bits: int) -> np.ndarray:
    """Returns the pixels of a file if they have this number of channels."""
    values = values[..., None] if values.ndim == 2 else values
    if values.shape[2] != channels:
        raise file_error(path, f'has {values.shape[2]} channel(s), not config.image.channels = {channels}')
    if values.dtype == np.uint16 and bits == 8:
        return np.round(values / np.float32(257)).astype(np.uint8)
    return _widen(values, bits) if values.dtype == np.uint8 else values


def _to_channels(image: Image.Image, path, channels: int) -> np.ndarray:
    """Returns a decoded image as uint8 [height, width, channels]."""
    image = _eight_bit_grey(image, path)
    if image.has_transparency_data:
        page = Image.new('RGBA', image.size, 'white')
        page.alpha_composite(image.convert('RGBA'))
        image = page
    if channels == 3 or image.mode != 'L':
        image = image.convert('RGB')
    if channels == 1:  # By way of RGB, because Pillow knows no direct way from LAB; grey comes through exactly.
        image = image.convert('L')
    return np.array(image).reshape(image.height, image.width, channels)


def convert(image: np.ndarray | Image.Image, channels: int) -> np.ndarray:
    """Returns an image with 1 (grey) or 3 (RGB) channels, by the rules of `read_image`.

    Args:
        image: uint8 [height, width, channels] with 1, 3 or 4 (RGBA) channels, or an image of Pillow's.
        channels: 1 or 3.

    Returns:
        uint8 [height, width, channels].

    Raises:
        UserError: a Pillow image of values with no agreed range.
    """
    if isinstance(image, np.ndarray):
        if image.shape[-1] == channels:
            return image
        image = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))
    return _to_channels(image, 'image', channels)


def to_png(image: np.ndarray) -> bytes:
    """Returns the bytes of a PNG of an image, uint8 [height, width, 1 or 3]."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, 'PNG')
    return file.getvalue()


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resamples to (height, width), bilinear and antialiased; the array itself if it has that size already.

    Args:
        image: uint8, uint16 or float32 [height, width, channels].

    Returns:
        The same type, [size[0], size[1], channels].
    """
    height, width = size
    channels = image.shape[-1]
    if image.shape[:2] == (height, width):
        return image
    if image.dtype == np.uint8 and channels in (1, 3):
        resized = Image.fromarray(image[..., 0] if channels == 1 else image)
        resized = resized.resize((width, height), Image.Resampling.BILINEAR)
        return np.array(resized).reshape(height, width, channels)
    planes = [Image.fromarray(np.ascontiguousarray(image[..., channel], np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR) for channel in range(channels)]
    resized = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    return resized if image.dtype == np.float32 else np.round(resized).astype(image.dtype)


def fit(image: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    """Brings an image to the size that a model takes; the same in training, evaluation and prediction.

    Args:
        image: uint8, uint16 or float32 [height, width, channels].
        size: (height, width).
        how: config.image.resize. 'stretch' changes the proportions, see `resize`. 'crop' keeps them: the image is
            scaled until `size` is 0.875 of its shorter side, 224 of 256, and the centre is cut out (He et al. 2016,
            "Deep residual learning", as the reference implementations of PyTorch evaluate it). 'cover' is the same
            without a margin: `size` is all of the shorter side.

    Returns:
        The same type, [size[0], size[1], channels].

    Raises:
        UserError: `how` is none of them.
    """
    if how == 'stretch':
        return resize(image, size)
    if how not in RESIZES:
        raise UserError(f"config.image.resize = {how!r}; {nearest(str(how), RESIZES)}")
    share = _CROPPED_SHARE if how == 'crop' else 1.0
    (height, width), (old_height, old_width) = size, image.shape[:2]
    if height * old_width >= width * old_height:
        tall = round(height / share)
        wide = max(width, int(tall * old_width / old_height))
    else:
        wide = round(width / share)
        tall = max(height, int(wide * old_height / old_width))
    scaled = resize(image, (tall, wide))
    top, left = round((tall - height) / 2), round((wide - width) / 2)
    return scaled[top:top + height, left:left + width]


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resamples uint8 [height, width] classes to (height, width), each pixel taking the nearest one's class."""
    if mask.shape == tuple(size):
        return mask
    return np.array(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


def resized_spacing(spacing_mm: Sequence[float] | None, size: tuple[int, int], new_size: tuple[int, int]
                    ) -> list[float] | None:
    """Returns the height and width of a pixel in mm after resizing; None where they are unknown (None or 0)."""
    if spacing_mm is None or not all(side > 0 for side in spacing_mm):
        return None
    return [float(side) * old / new for side, old, new in zip(spacing_mm, size, new_size)]


def check(path: str | os.PathLike, *, channels: int, bits: int = 8, pixels: bool) -> None:
    """Raises the UserError of `read_image` if an image cannot be read.

    Args:
        path: of the image.
        channels, bits: as for `read_image`.
        pixels: look at its pixels too; of a plain JPEG, only whether they have an end. Without, at its header alone.
    """
    if channels in (1, 3) and not dicom.has_suffix(path) and plain_jpeg.is_sound(path, whole=pixels):
        return
    path = Path(path)
    if pixels:
        read_image(path, channels=channels, bits=bits)
    else:
        check_header(path)


def check_header(path: Path | Content) -> None:
    """Raises the UserError of `read_image` for what the beginning of a file shows; its pixels are not decoded."""
    if not dicom.is_dicom(path):
        decode(path, pixels=False)


def upright_size(path: Path | Content) -> tuple[int, int]:
    """Returns (height, width) of what `read_image` returns, by the beginning of the file where that says it.

    Raises:
        UserError: see `check_header`.
    """
    size = None if dicom.has_suffix(path) else plain_jpeg.size(path)
    if size is not None:
        return size
    if dicom.is_dicom(path):
        return dicom.read_dicom(path).pixels.shape
    with _decoding(path) as image:
        height, width = image.height, image.width
        lying = _is_lying(image) and image.format != 'TIFF'  # there Pillow has exchanged them already
    return (width, height) if lying else (height, width)


def is_turned(path: Path) -> bool:
    """Whether an image has width and height exchanged by its EXIF data when `read_image` reads it."""
    if dicom.is_dicom(path):
        return False
    with _decoding(path) as image:
        return _is_lying(image)


def _is_lying(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # damaged EXIF data, see `decode`
        return image.getexif().get(ORIENTATION, 1) in _LYING
    return False


def decode(path: Path | Content, *, pixels: bool = True) -> Image.Image:
    """Opens and decodes the file, or its header alone; every way in which that fails becomes a UserError."""
    with _decoding(path) as image:
        if pixels:
            image.load()
            with contextlib.suppress(Exception):  # Damaged EXIF beside sound pixels is common: keep them as stored.
                ImageOps.exif_transpose(image, in_place=True)
    return image


def _source(path: Any) -> Path | Content:
    return path if isinstance(path, Content) else Path(path)


@contextlib.contextmanager
def _decoding(path: Path | Content) -> Iterator[Image.Image]:
    """Opens an image; every way in which that or the decoding within fails becomes a UserError."""
    try:
        if isinstance(path, Content):
            size, most, opened = len(path), path.max_pixels, io.BytesIO(path)
        else:
            if path.is_dir():
                raise file_error(path, 'is a folder, not an image')
            if not path.is_file():  # Also a pipe or a device, which would block.
                raise file_error(path, 'no such file' + (' (a link to nothing)' if path.is_symlink() else ''))
            size, most, opened = path.stat().st_size, MAX_PIXELS, path
        if size == 0:
            raise file_error(path, 'is empty (0 bytes)')
        with Image.open(opened, formats=_FORMATS) as image:
            if image.width * image.height > most:
                raise TooLarge(str(file_error(path, f'{image.width}x{image.height} pixels is too large; shrink it '
                                                     'first')))
            yield image
    except UserError:
        raise
    except PermissionError:
        raise file_error(path, 'may not be read (permission denied)') from None
    except Image.UnidentifiedImageError:
        raise file_error(path, 'is not a BMP, GIF, JPEG, PNG, PPM, TIFF, WebP or DICOM image, or its beginning is '
                                'damaged') from None
    except Image.DecompressionBombError:
        raise TooLarge(str(file_error(path, 'has too many pixels; shrink it first'))) from None
    # Pillow's decoders raise whatever a malformed file trips them into (OSError, SyntaxError, struct.error, IndexError,
    # zlib.error, ...); the list changes with its releases, and only Pillow runs in this block.
    except Exception as error:
        raise file_error(path, f'is damaged or cut short ({str(error) or type(error).__name__})') from None


def _eight_bit_grey(image: Image.Image, path: Path | Content) -> Image.Image:
    """Images with more than 8 bits per pixel as 'L'; others as they are. Pillow itself would clip at 255."""
    if not image.mode.startswith('I') and image.mode != 'F':
        return image
    return Image.fromarray(_deep_grey(image, path, 255).astype(np.uint8))


def _deep_grey(image: Image.Image, path: Path | Content, white: int = 65535) -> np.ndarray:
    """Returns grey of 16 or more bits or of floats as uint16 [height, width] in 0..white."""
    integers = image.mode.startswith('I')
    values = np.asarray(image).astype(np.int64 if integers else np.float64)
    low, high = (0, 65535) if integers else (0, 1)
    if not (values.min() >= low and values.max() <= high):  # This way round it is also true of NaN.
        raise file_error(path, f'grey values from {values.min()} to {values.max()}, but {low} to {high} is what '
                                f'mode {image.mode} is read as; save it with 8 bits')
    grey = np.round(values / (high / white))
    if integers and 'transparency' in image.info:  # One grey value of a PNG that means transparent.
        grey[values == image.info['transparency']] = white
    return grey.astype(np.uint16)
