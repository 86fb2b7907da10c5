"""Images inside a page: PNG and GIF files of a run's folder, and what was drawn for it."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

_MOST_PIXELS = 120_000_000  # a larger image is not opened
_LONGEST_SIDE = 2400  # a larger one is scaled down
_LOSSLESS_BYTES = 120_000  # diagrams stay as they are; what needs more is photographs


def embed(path: Path, complain: Callable[[str], None]) -> dict[str, Any] | None:
    """Returns an image as {'src', 'width', 'height'}, its pixels in 'src'; None, after a complaint, if it is damaged.

    Args:
      path: a PNG file; or a GIF file, which stays as it is and moves.
      complain: called with a sentence about what is wrong with the file.
    """
    try:
        with Image.open(path, formats=('PNG', 'GIF')) as image:
            pixels = image.width * image.height
            if pixels > _MOST_PIXELS:
                raise ValueError(f'{image.width} x {image.height} pixels are too many')
            if image.format == 'GIF':
                kind, data = 'gif', _checked(image, path.read_bytes(), _MOST_PIXELS // max(1, pixels))
            else:
                image.load()
                kind, data = 'webp', _compressed(image, lossless=path.stat().st_size < 4 * _LOSSLESS_BYTES)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        complain(f'{path.name} is left out: {" ".join(str(error).split())[:120]}')
        return None
    return _in_page(data, image, kind)


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


def _in_page(data: bytes, image: Image.Image, kind: str = 'webp') -> dict[str, Any]:
    return {'src': f'data:image/{kind};base64,{base64.b64encode(data).decode()}', 'width': image.width,
            'height': image.height}


def _checked(animation: Image.Image, data: bytes, most: int) -> bytes:
    """Returns the bytes of a GIF file. Raises ValueError or OSError if it has more frames than `most` or is damaged."""
    for number, _ in enumerate(ImageSequence.Iterator(animation)):
        if number >= most:
            raise ValueError(f'more than {most:,} frames are too many')
        animation.load()
    return data


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
