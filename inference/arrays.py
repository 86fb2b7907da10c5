"""Images and tables as Python has them, brought to what a run reads from files. Nothing is guessed: what could mean
two things is refused.
"""

from typing import Any

import numpy as np
from PIL import Image

from ..common.errors import UserError
from ..input_pipeline import images


def to_images(values: Any, channels: int, frames: int = 1, *, any_range: bool = False) -> list[np.ndarray]:
    """Returns images in their own sizes with other channels: grey becomes colour, colour grey, transparent white.

    Args:
      values: one image or several, uint8, uint16 or floats in [0, 1] that mean pixels / 255: an array [height, width],
        [height, width, channels] or [n, height, width, channels] with 1, 3 or 4 channels, a Pillow image, or a list of
        such images, of any sizes. For videos arrays [frames, height, width, channels], with n before it for several.
      channels: 1 or 3; other numbers, such as those of spectral bands, are taken as they are.
      frames: of a video; 1 for images.
      any_range: whether floats may be anything, as those that the run was trained on.

    Returns:
      uint8, uint16 or float32 [(frames,) height, width, channels] each, of one type: what training takes, too.

    Raises:
      UserError: another type, shape or range.
    """
    if isinstance(values, (list, tuple)):
        found = [image for value in values for image in _images(value, channels, frames, any_range, several=False)]
        if len({image.dtype for image in found}) > 1:
            raise UserError('these images are of different types: give all of them as uint8, or all as floats')
        return found
    return _images(values, channels, frames, any_range, several=True)


def _images(value: Any, channels: int, frames: int, any_range: bool, several: bool) -> list[np.ndarray]:
    if isinstance(value, Image.Image) and frames == 1:
        return [images.convert(value, channels)]
    pixels = _pixels(value, any_range)
    if pixels.ndim == 2 and frames == 1:
        pixels = pixels[..., None]
    one = 3 if frames == 1 else 4
    known = (1, 3, 4) if channels in (1, 3) else (channels,)  # what can be converted
    if (pixels.ndim not in (one, one + several) or pixels.shape[-1] not in known or 0 in pixels.shape[-one:]
            or frames > 1 and pixels.shape[-4] != frames):
        shapes = ['[height, width]'] * (frames == 1)
        image = 'height, width, channels]' if frames == 1 else f'{frames}, height, width, channels]'
        shapes += [f'[{image}'] + [f'[n, {image}'] * several
        raise UserError(f'an array of shape {list(np.shape(value))} is not taken for {"images" if several else "one"}: '
                        f'expected {" or ".join(shapes)}, with '
                        f'{"1, 3 or 4" if len(known) > 1 else channels} channels last')
    pixels = pixels[None] if pixels.ndim == one else pixels
    if pixels.shape[-1] != channels:
        pixels = as_uint8(pixels)  # which Pillow converts
    if frames == 1:
        return [images.convert(image, channels) for image in pixels]
    return [np.stack([images.convert(frame, channels) for frame in video]) for video in pixels]


def as_uint8(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels with 8 bits, to look at: of uint16 the upper half, of floats in [0, 1] 255 times as much."""
    if pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    return pixels if pixels.dtype == np.uint8 else np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)


def _pixels(value: Any, any_range: bool) -> np.ndarray:
    """Returns uint8, uint16 or float32 pixels."""
    values = _array(value)
    if values.dtype in (np.uint8, np.uint16):
        return values
    if not np.issubdtype(values.dtype, np.floating):
        hint = '; .astype(numpy.uint8) if the values are 0 to 255' if values.dtype.kind in 'biu' else ''
        raise UserError(f'images are uint8, uint16, or floats in [0, 1], not {values.dtype}{hint}')
    if not np.isfinite(values).all():
        raise UserError('images of floats hold pixels / 255, in [0, 1]; these have a nan or an infinity')
    if values.size and not any_range and not (values.min() >= 0 and values.max() <= 1):
        raise UserError(f'images of floats hold pixels / 255, in [0, 1]; these go from {values.min():.4g} to '
                        f'{values.max():.4g}: give uint8 pixels, or scale them (preprocessing is done here)')
    return values.astype(np.float32)


def to_rows(values: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Returns rows of a table, float32 [n, *shape].

    Args:
      values: numbers, [n, *shape] or, for one row, [*shape].
      shape: of a row; None where it is not known, for [n, ...].

    Raises:
      UserError: another shape, or what is no finite number.
    """
    values = _array(values)
    if values.dtype.kind not in 'biuf':
        raise UserError(f'a table holds numbers, not {values.dtype}')
    if not np.isfinite(values).all():
        raise UserError('a table holds finite numbers: these have a NaN or an infinity')
    if shape and values.shape == shape:
        values = values[None]
    if not values.ndim or shape is not None and values.shape[1:] != shape:
        expected = ', '.join(map(str, ('n', *(('columns',) if shape is None else shape))))
        raise UserError(f'a table of shape {list(values.shape)} does not fit: expected [{expected}]')
    return values.astype(np.float32)


def _array(values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UserError(f'that is not an array: {" ".join(str(error).split())[:120]}') from error
