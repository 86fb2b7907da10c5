"""Reading image files as users have them, into uint8 arrays of one size and number of channels."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..common.errors import UserError, file_error, nearest
from . import dicom

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pbm', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp',
                  *dicom.SUFFIXES)

RESIZES = ('stretch', 'crop', 'cover')  # see `fit`
_CROPPED_SHARE = 0.875

# Decided by content, not by suffix. A closed list, because some of Pillow's formats start other programs (EPS runs
# Ghostscript) and none of those is a photograph.
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')

# Above any camera's sensor; decoded, a picture of this size takes 300 MB.
MAX_PIXELS = 100_000_000

# Pillow warns about large images on two more lines of the terminal; `read_image` refuses them by an error.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


def read_image(path, *, channels: int) -> np.ndarray:
    """Reads one image: the first frame, turned upright by its EXIF orientation.

    Transparent parts show a white page, as in a browser: a digit drawn on a transparent background becomes ink on
    paper. 16-bit grey is scaled from 0..65535 and floating point from 0..1 to 0..255; other ranges are refused, because
    stretching each image by its own extremes would make equal things unequal. Colour becomes grey by the luma of
    ITU-R 601. Colour profiles are ignored. Only DICOM is stretched by its own extremes (see `dicom.read_dicom`), since
    scanners agree on no unit.

    Args:
        path: a BMP, GIF, JPEG, PNG, PBM/PGM/PPM, TIFF, WebP or DICOM file, whatever its suffix.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8 [height, width, channels].

    Raises:
        UserError: one line naming the file and what is wrong: missing, a directory, empty, not an image, damaged,
            of absurd size, or of values with no agreed range.
    """
    if channels not in (1, 3):
        raise UserError(f'channels is {channels!r}; images are read with 1 channel (grey) or 3 (RGB)')
    if dicom.is_dicom(path):
        return np.repeat(dicom.read_dicom(path).pixels[..., None], channels, axis=2)
    return _to_channels(decode(Path(path)), path, channels)


def read_video(path, *, frames: int, channels: int) -> np.ndarray:
    """Reads some frames of an animated GIF, PNG or WebP, evenly spread from the first to the last.

    Args:
        path: the file; of one with fewer frames some are repeated.
        frames: how many to read.
        channels: 1 (grey) or 3 (RGB), as for `read_image`.

    Returns:
        uint8 [frames, height, width, channels].

    Raises:
        UserError: as `read_image`, and for an image that does not move.
    """
    path = Path(path)
    with _decoding(path) as image:
        total = getattr(image, 'n_frames', 1)
        if total < 2:
            raise file_error(path, 'is one image; a video is an animated GIF, PNG or WebP')
        pictures = []
        for number in np.linspace(0, total - 1, frames).round().astype(int).tolist():
            image.seek(number)
            pictures.append(image.copy())
    return np.stack([_to_channels(picture, path, channels) for picture in pictures])


def _to_channels(image: Image.Image, path, channels: int) -> np.ndarray:
    """Returns a decoded image as uint8 [height, width, channels]."""
    image = _eight_bit_grey(image, path)
    if image.has_transparency_data:
        page = Image.new('RGBA', image.size, 'white')
        page.alpha_composite(image.convert('RGBA'))
        image = page
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


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resamples to (height, width), bilinear and antialiased; the array itself if it has that size already.

    Args:
        image: uint8 [height, width, channels], channels 1 or 3.

    Returns:
        uint8 [size[0], size[1], channels].
    """
    height, width = size
    channels = image.shape[-1]
    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture).reshape(height, width, channels)


def fit(image: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    """Brings an image to the size that a model takes; the same in training, evaluation and prediction.

    Args:
        image: uint8 [height, width, channels], channels 1 or 3.
        size: (height, width).
        how: config.image.resize. 'stretch' changes the proportions, see `resize`. 'crop' keeps them: the image is
            scaled until `size` is 0.875 of its shorter side, 224 of 256, and the centre is cut out (He et al. 2016,
            "Deep residual learning", as the reference implementations of PyTorch evaluate it). 'cover' is the same
            without a margin: `size` is all of the shorter side.

    Returns:
        uint8 [size[0], size[1], channels].

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


def find_images(path) -> list[Path]:
    """The image files (by suffix) of a folder and the folders in it, sorted; a file is returned as itself.

    Hidden files and folders are skipped, and so are symbolic links to folders and those to files outside the folder.

    Raises:
        UserError: there is nothing at the path, no image in the folder, or a folder that may not be read.
    """
    folder = Path(path)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise file_error(path, 'no such file or folder')

    def refuse(error):
        raise file_error(error.filename, f'cannot be listed: {error.strerror}')

    inside = folder.resolve()
    images = []
    for parent, subfolders, files in os.walk(folder, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith('.')]
        images += [Path(parent, name) for name in files
                   if not name.startswith('.') and name.lower().endswith(IMAGE_SUFFIXES)]
    images = sorted(image for image in images if not image.is_symlink() or image.resolve().is_relative_to(inside))
    if not images:
        raise file_error(path, f'no images in this folder (looked for {" ".join(IMAGE_SUFFIXES)})')
    return images


def check(path: Path, *, channels: int, pixels: bool) -> None:
    """Raises the UserError of `read_image` if an image cannot be read; without `pixels` only its header is."""
    if pixels:
        read_image(path, channels=channels)
    else:
        check_header(path)


def check_header(path: Path) -> None:
    """Raises the UserError of `read_image` for what the beginning of a file shows; its pixels are not decoded."""
    if not dicom.is_dicom(path):
        decode(path, pixels=False)


def decode(path: Path, *, pixels: bool = True) -> Image.Image:
    """Opens and decodes the file, or its header alone; every way in which that fails becomes a UserError."""
    with _decoding(path) as image:
        if pixels:
            image.load()
            with contextlib.suppress(Exception):  # Damaged EXIF beside sound pixels is common: keep them as stored.
                ImageOps.exif_transpose(image, in_place=True)
    return image


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[Image.Image]:
    """Opens an image; every way in which that or the decoding within fails becomes a UserError."""
    if path.is_dir():
        raise file_error(path, 'is a folder, not an image')
    if not path.is_file():  # Also a pipe or a device, which would block.
        raise file_error(path, 'no such file')
    try:
        if path.stat().st_size == 0:
            raise file_error(path, 'is empty (0 bytes)')
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise file_error(path, f'{image.width}x{image.height} pixels is too large; shrink it first')
            yield image
    except UserError:
        raise
    except PermissionError:
        raise file_error(path, 'may not be read (permission denied)') from None
    except Image.UnidentifiedImageError:
        raise file_error(path, 'is not a BMP, GIF, JPEG, PNG, PPM, TIFF, WebP or DICOM image, or its beginning is '
                                'damaged') from None
    except Image.DecompressionBombError:
        raise file_error(path, 'has too many pixels; shrink it first') from None
    # Pillow's decoders raise whatever a malformed file trips them into (OSError, SyntaxError, struct.error, IndexError,
    # zlib.error, ...); the list changes with its releases, and only Pillow runs in this block.
    except Exception as error:
        raise file_error(path, f'is damaged or cut short ({str(error) or type(error).__name__})') from None


def _eight_bit_grey(image, path):
    """Images with more than 8 bits per pixel as 'L'; others as they are. Pillow itself would clip at 255."""
    if image.mode.startswith('I'):
        values = np.asarray(image).astype(np.int64)
        low, high, unit = 0, 65535, 257  # 65535 / 255
    elif image.mode == 'F':
        values = np.asarray(image).astype(np.float64)
        low, high, unit = 0, 1, 1 / 255
    else:
        return image
    if not (values.min() >= low and values.max() <= high):  # This way round it is also true of NaN.
        raise file_error(path, f'grey values from {values.min()} to {values.max()}, but {low} to {high} is what '
                                f'mode {image.mode} is read as; save it with 8 bits')
    grey = np.round(values / unit)
    if image.mode.startswith('I') and 'transparency' in image.info:  # One grey value of a PNG that means transparent.
        grey[values == image.info['transparency']] = 255
    return Image.fromarray(grey.astype(np.uint8))
