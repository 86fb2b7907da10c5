"""Random parts of large images, fast: what ImageNet-sized training reads from its files.

simplejpeg decodes (libjpeg-turbo, to the same pixels as Pillow, at half, quarter or eighth size where that is enough)
and OpenCV resizes with SIMD: about half of Pillow's time, see benchmarks/decode.py. Whatever is not a plain upright
grey or colour JPEG goes through `images.read_image`.
"""

import math
import os
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from . import images, plain_jpeg

_RATIOS = (3 / 4, 4 / 3)  # width / height of a crop
_REDUCTIONS = (8, 4, 2)  # sizes that libjpeg-turbo decodes to with SIMD

cv2.setNumThreads(0)  # batches are read in threads already, one per core


def crop_window(height: int, width: int, uniforms: Sequence[float], area: Sequence[float]
                ) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a random part of an image (Szegedy et al. 2015, section 6).

    The share of the area is uniform and the aspect ratio log-uniform, in 3/4..4/3 as far as such a part fits into the
    image; so nothing has to be drawn again. In an image too narrow for any such ratio the part is as large as fits.

    Args:
      height, width: of the image, pixels.
      uniforms: four numbers in [0, 1): of area, ratio, top and left.
      area: smallest and largest share of the image's area.
    """
    share = area[0] + (area[1] - area[0]) * uniforms[0]
    low = min(max(share * width / height, _RATIOS[0]), _RATIOS[1])  # flatter ones are higher than the image
    high = min(max(width / (share * height), _RATIOS[0]), _RATIOS[1])
    ratio = low * (high / low) ** uniforms[1]
    crop_height = min(math.sqrt(share * height * width / ratio), height, width / ratio)
    crop_width = min(width, max(1, round(crop_height * ratio)))
    crop_height = min(height, max(1, round(crop_height)))
    return (int(uniforms[2] * (height - crop_height + 1)), int(uniforms[3] * (width - crop_width + 1)),
            crop_height, crop_width)


def read_crop(path: str | os.PathLike, uniforms: Sequence[float], area: Sequence[float], out: np.ndarray) -> None:
    """Reads a random part of an image and resizes it, bilinear.

    A part at least twice, four or eight times as large as `out` is decoded at a half, quarter or eighth, and begins and
    ends at a whole pixel of that, so that resizing leaves out no pixels to speak of. Evaluation resizes with Pillow,
    which weighs pixels a little differently. OpenCV rounds alike in every thread, but maybe not on every kind of CPU.

    Args:
      path: what `images.read_image` reads.
      uniforms, area: see `crop_window`.
      out: uint8 or uint16 [height, width, channels], contiguous; the result is written here. Only of uint8 with 1 or 3
        channels is it fast.

    Raises:
      UserError: see `images.read_image`.
    """
    crop(plain_jpeg.bytes_of(path), lambda: images.read_image(path, channels=out.shape[2], bits=8 * out.itemsize),
         uniforms, area, out)


def crop(data: bytes, decode: Callable[[], np.ndarray], uniforms: Sequence[float], area: Sequence[float],
         out: np.ndarray) -> None:
    """Does what `read_crop` does, of the bytes of a file.

    Args:
      data: of the file.
      decode: returns the whole image, of the type of `out`; called if the file is not a plain upright JPEG.
      uniforms, area, out: see `read_crop`.
    """
    size, channels, image = out.shape[:2], out.shape[2], None
    plain = plain_jpeg.header(data) if out.dtype == np.uint8 and channels in (1, 3) else None
    try:
        if plain and plain_jpeg.is_upright(data):
            old_height, old_width, colours = plain
            window = crop_window(old_height, old_width, uniforms, area)
            by = _reduction(window, size)
            least = {'min_height': -(-old_height // by), 'min_width': -(-old_width // by)} if by > 1 else {}
            image = simplejpeg.decode_jpeg(data, 'GRAY' if colours == 'Gray' else 'RGB', min_factor=by, **least)
    except ValueError:  # damaged
        image = None
    if image is None:
        image = decode()
        window = crop_window(*image.shape[:2], uniforms, area)
        if out.dtype != np.uint8 or channels not in (1, 3):
            top, left, height, width = window
            out[...] = images.resize(image[top:top + height, left:left + width], size)
            return
        by = _reduction(window, size)
        if by > 1:
            reduced = Image.fromarray(image[..., 0] if channels == 1 else image).reduce(by)
            image = np.asarray(reduced).reshape(reduced.height, reduced.width, channels)
    top, left, height, width = (value // by for value in window)  # rounded down, the part stays inside the image
    part = image[top:top + height, left:left + width]
    if part.shape[2] == channels:
        cv2.resize(part, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        resized = cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR)
        out[...] = resized[..., None] if channels == 3 else np.asarray(Image.fromarray(resized).convert('L'))[..., None]


def _reduction(window: tuple[int, int, int, int], size: Sequence[int]) -> int:
    """Returns by how much an image can be reduced with no fewer pixels left of the window than are asked for."""
    return next((by for by in _REDUCTIONS if window[2] >= by * size[0] and window[3] >= by * size[1]), 1)
