"""The mean image of a data set as a file: a picture, or the numbers themselves."""

from pathlib import Path

import numpy as np
from PIL import Image

from ...common.errors import UserError, file_error, printable
from ...common.files import replacing

_SUFFIXES = ('.png', '.npy')


def check(file: Path) -> None:
    """Raises UserError unless a mean image can be written there."""
    if file.suffix.lower() not in _SUFFIXES:
        raise UserError(f'--mean_image {printable(str(file))}: it ends in .png (a picture) or .npy (the numbers)')
    if not file.absolute().parent.is_dir():
        raise file_error(file, 'there is no such folder to write it to')


def write(file: Path, mean_image: np.ndarray) -> None:
    """Writes a mean image.

    Args:
      file: .npy holds it as float32 [height, width, channels]; .png rounded to 8 bits, of 1 or 3 channels.
      mean_image: float [height, width, channels], as `config.image` reads pixels: in [0, 1], floats as they are.

    Raises:
      UserError: a picture cannot show it, or the file cannot be written.
    """
    if file.suffix.lower() == '.png':
        if mean_image.shape[-1] not in (1, 3) or not 0 <= mean_image.min() <= mean_image.max() <= 1:
            raise UserError(f'--mean_image {printable(str(file))}: a picture has 1 or 3 channels of [0, 1], this mean '
                            f'image has {mean_image.shape[-1]} from {mean_image.min():.4g} to {mean_image.max():.4g}: '
                            'end it in .npy')
    try:
        with replacing(file) as opened:
            if file.suffix.lower() == '.npy':
                np.save(opened, mean_image.astype(np.float32))
            else:
                pixels = np.round(255 * mean_image).astype(np.uint8)
                Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(opened, 'PNG')
    except OSError as error:
        raise file_error(file, f'cannot be written: {error.strerror}') from error
