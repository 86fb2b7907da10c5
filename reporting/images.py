"""Images inside a page: PNG files of a run's folder, and what was drawn for it."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_MOST_PIXELS = 120_000_000  # a larger image is not opened
_LONGEST_SIDE = 2400  # a larger one is scaled down
_LOSSLESS_BYTES = 120_000  # diagrams stay as they are; what needs more is photographs


def embed(path: Path, complain: Callable[[str], None]) -> dict[str, Any] | None:
    """Returns an image as {'src', 'width', 'height'}, its pixels in 'src'; None, after a complaint, if it is damaged.

    Args:
      path: a PNG file.
      complain: called with a sentence about what is wrong with the file.
    """
    try:
        with Image.open(path, formats=('PNG',)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f'{image.width} x {image.height} pixels are too many')
            image.load()
            data = _compressed(image, lossless=path.stat().st_size < 4 * _LOSSLESS_BYTES)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        complain(f'{path.name} is left out: {" ".join(str(error).split())[:120]}')
        return None
    return _in_page(data, image)


def embed_drawn(image: Image.Image, *, lossless: bool = True) -> dict[str, Any]:
    """Returns an image that is no file, as `embed` does.

    Args:
      image: of Pillow.
      lossless: whether pixels stay exactly as they are, if they are not very many.
    """
    return _in_page(_compressed(image, lossless=lossless), image)


def embed_pixels(pixels: np.ndarray, *, lossless: bool = True) -> dict[str, Any]:
    """Returns pixels, uint8 [height, width, 1 or 3], as `embed_drawn` does an image."""
    return embed_drawn(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert('RGB'),
                       lossless=lossless)


def _in_page(data: bytes, image: Image.Image) -> dict[str, Any]:
    return {'src': f'data:image/webp;base64,{base64.b64encode(data).decode()}', 'width': image.width,
            'height': image.height}


def _compressed(image: Image.Image, *, lossless: bool) -> bytes:
    """Returns an image as WebP: exact where that is tried and small, as photographs are kept otherwise."""
    if image.mode != 'RGB':
        rgba = image.convert('RGBA')
        image = Image.new('RGB', image.size, 'white')
        image.paste(rgba, mask=rgba.getchannel('A'))
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    for options in ({'lossless': True, 'quality': 50, 'method': 2},) * lossless + ({'quality': 88, 'method': 4},):
        buffer = io.BytesIO()
        image.save(buffer, 'WEBP', **options)
        if buffer.tell() <= _LOSSLESS_BYTES:
            break
    return buffer.getvalue()
