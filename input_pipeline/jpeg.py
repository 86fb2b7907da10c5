"""Random parts of large images, fast: what ImageNet-sized training reads from its files.

simplejpeg decodes (libjpeg-turbo, to the same pixels as Pillow, at half, quarter or eighth size where that is enough)
and OpenCV resizes with SIMD: about half of Pillow's time, see benchmarks/decode.py. Whatever is not a plain upright
grey or colour JPEG goes through `images.read_image`.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from . import images

_RATIOS = (3 / 4, 4 / 3)  # width / height of a crop
_REDUCTIONS = (8, 4, 2)  # sizes that libjpeg-turbo decodes to with SIMD
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright

cv2.setNumThreads(0)  # batches are read in threads already, one per core


def crop_window(height: int, width: int, draws: Sequence[float], area: tuple[float, float]
                ) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a random part of an image (Szegedy et al. 2015, section 6).

    The share of the area is uniform and the aspect ratio log-uniform, in 3/4..4/3 as far as such a part fits into the
    image; so nothing has to be drawn again. In an image too narrow for any such ratio the part is as large as fits.

    Args:
      height, width: of the image, pixels.
      draws: four numbers in [0, 1): of area, ratio, top and left.
      area: smallest and largest share of the image's area.
    """
    share = area[0] + (area[1] - area[0]) * draws[0]
    low = min(max(share * width / height, _RATIOS[0]), _RATIOS[1])  # flatter ones are higher than the image
    high = min(max(width / (share * height), _RATIOS[0]), _RATIOS[1])
    ratio = low * (high / low) ** draws[1]
    crop_height = min(math.sqrt(share * height * width / ratio), height, width / ratio)
    crop_width = min(width, max(1, round(crop_height * ratio)))
    crop_height = min(height, max(1, round(crop_height)))
    return (int(draws[2] * (height - crop_height + 1)), int(draws[3] * (width - crop_width + 1)),
            crop_height, crop_width)


def read_crop(path: Path, draws: Sequence[float], area: tuple[float, float], out: np.ndarray) -> None:
    """Reads a random part of an image and resizes it, bilinear.

    A part at least twice, four or eight times as large as `out` is decoded at a half, quarter or eighth, and begins and
    ends at a whole pixel of that, so that resizing leaves out no pixels to speak of. Evaluation resizes with Pillow,
    which weighs pixels a little differently. OpenCV rounds alike in every thread, but maybe not on every kind of CPU.

    Args:
      path: what `images.read_image` reads.
      draws, area: see `crop_window`.
      out: uint8 [height, width, channels], contiguous, channels 1 or 3; the result is written here.

    Raises:
      UserError: see `images.read_image`.
    """
    size, channels = out.shape[:2], out.shape[2]
    picture = None
    try:
        data = path.read_bytes()
        old_height, old_width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ('Gray', 'RGB', 'YCbCr') and old_height * old_width <= images.MAX_PIXELS and _upright(data):
            window = crop_window(old_height, old_width, draws, area)
            by = _reduction(window, size)
            least = {'min_height': -(-old_height // by), 'min_width': -(-old_width // by)} if by > 1 else {}
            picture = simplejpeg.decode_jpeg(data, 'GRAY' if colours == 'Gray' else 'RGB', min_factor=by, **least)
    except (OSError, ValueError):  # not a JPEG, or damaged: what is said about it is up to `read_image`
        picture = None
    if picture is None:
        picture = images.read_image(path, channels=channels)
        window = crop_window(*picture.shape[:2], draws, area)
        by = _reduction(window, size)
        if by > 1:
            reduced = Image.fromarray(picture[..., 0] if channels == 1 else picture).reduce(by)
            picture = np.asarray(reduced).reshape(reduced.height, reduced.width, channels)
    top, left, height, width = (value // by for value in window)  # rounded down, the part stays inside the image
    part = picture[top:top + height, left:left + width]
    if part.shape[2] == channels:
        cv2.resize(part, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        resized = cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR)
        out[...] = resized[..., None] if channels == 3 else np.asarray(Image.fromarray(resized).convert('L'))[..., None]


def _reduction(window: tuple[int, int, int, int], size: Sequence[int]) -> int:
    """Returns by how much an image can be reduced with no fewer pixels left of the window than are asked for."""
    return next((by for by in _REDUCTIONS if window[2] >= by * size[0] and window[3] >= by * size[1]), 1)


def _upright(data: bytes) -> bool:
    """Whether a JPEG is to be shown as it is stored."""
    head = data[:data.find(b'\xff\xda')]  # before the pixels, or before those of a thumbnail in the EXIF data
    if b'Exif\0\0' not in head and b'tiff:Orientation' not in head:
        return True
    try:
        with Image.open(io.BytesIO(data), formats=('JPEG',)) as image:
            return image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # damaged EXIF data trip Pillow in many ways; `images.read_image` copes with them
        return False
