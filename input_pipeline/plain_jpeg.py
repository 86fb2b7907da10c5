"""Plain JPEGs, upright and grey or colour, as nearly all photographs are: decoded by libjpeg-turbo without detours.

The pixels are exactly those of Pillow, at a fraction of its overhead for small images. Whatever is not plain, or not
sound, is left to `images.read_image`, which says what is wrong with it.
"""

import io
import os
import stat

import numpy as np
import simplejpeg
from PIL import Image

MAX_PIXELS = 100_000_000  # above any camera's sensor; decoded, an image of this size takes 300 MB
ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_COLOURS = ('Gray', 'RGB', 'YCbCr')
_HEAD_BYTES = 2**14  # that hold the header of a file, if its EXIF data are small
_TAIL_BYTES = 64
_START, _SCAN, _END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
_DICOM = slice(128, 132), b'DICM'


def read(path: str | os.PathLike | bytes, channels: int) -> np.ndarray | None:
    """Returns the pixels of a file, or of one whose content is given, see `decode`."""
    return decode(path if isinstance(path, bytes) else bytes_of(path), channels)


def decode(data: bytes, channels: int) -> np.ndarray | None:
    """Returns the pixels of a plain JPEG, uint8 [height, width, channels]; None for whatever else.

    Args:
      data: of the file.
      channels: 1 (grey) or 3 (RGB).
    """
    colours = header(data)
    if colours is None or not is_upright(data):
        return None
    try:
        image = simplejpeg.decode_jpeg(data, 'GRAY' if colours[2] == 'Gray' else 'RGB')
    except ValueError:  # damaged, perhaps in a way that Pillow puts up with
        return None
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.array(Image.fromarray(image).convert('L'))[..., None]  # the luma of ITU-R 601, rounded as Pillow does


def header(data: bytes) -> tuple[int, int, str] | None:
    """Returns height, width and colour space of a plain JPEG, 'Gray', 'RGB' or 'YCbCr'; None for whatever else."""
    most = getattr(data, 'max_pixels', MAX_PIXELS)  # of images.Content
    if data[:2] != _START or data[_DICOM[0]] == _DICOM[1]:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (height, width, colours) if colours in _COLOURS and height * width <= most else None


def is_sound(path: str | os.PathLike, *, whole: bool) -> bool:
    """Whether a file is a plain JPEG as far as can be seen without decoding it; False: it needs a closer look.

    Args:
      path: of the file.
      whole: also look whether it has an end: files that were cut short, as most damaged ones are, have none.
    """
    opened = _open(path)
    if opened is None:
        return False
    descriptor, size = opened
    try:
        data = os.read(descriptor, _HEAD_BYTES)
        if header(data) is None:
            return False
        if not whole:
            return True
        tail = data if len(data) == size else os.pread(descriptor, _TAIL_BYTES, size - _TAIL_BYTES)
        return tail.rstrip(b'\0').endswith(_END)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def size(path: str | os.PathLike | bytes) -> tuple[int, int] | None:
    """Returns (height, width) of a plain upright JPEG by its first bytes; None: it needs a closer look."""
    if isinstance(path, bytes):
        return _upright_size(path)
    opened = _open(path)
    if opened is None:
        return None
    try:
        data = os.read(opened[0], _HEAD_BYTES)
    except OSError:
        return None
    finally:
        os.close(opened[0])
    return _upright_size(data)


def _upright_size(data: bytes) -> tuple[int, int] | None:
    found = header(data)
    return found[:2] if found is not None and is_upright(data) else None


def is_upright(data: bytes) -> bool:
    """Whether a JPEG is to be shown as it is stored."""
    head = data[:data.find(_SCAN)]  # before the pixels, or before those of a thumbnail in the EXIF data
    if b'Exif\0\0' not in head and b'tiff:Orientation' not in head:
        return True
    try:
        with Image.open(io.BytesIO(data), formats=('JPEG',)) as image:
            return image.getexif().get(ORIENTATION, 1) == 1
    except Exception:  # damaged EXIF data trip Pillow in many ways; `images.read_image` copes with them
        return False


def bytes_of(path: str | os.PathLike) -> bytes:
    """Returns the content of a regular file; nothing if it cannot be read, which `images.read_image` then explains."""
    opened = _open(path)
    if opened is None:
        return b''
    descriptor, size = opened
    try:
        return os.read(descriptor, size)
    except OSError:
        return b''
    finally:
        os.close(descriptor)


def _open(path: str | os.PathLike) -> tuple[int, int] | None:
    """Returns the descriptor of a regular file and its size; None of whatever else, and of what cannot be opened."""
    try:
        # A pipe would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return descriptor, found.st_size
    except OSError:
        pass
    os.close(descriptor)
    return None
