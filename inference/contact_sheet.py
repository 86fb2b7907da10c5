"""Rows of small images with captions, to look at many at once."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIDE = 176  # pixels that an image may take, either way
_GAP = 10
_BORDER = 4
_LINE = 16
_TEXT = 12
_INK, _MARK, _BLANK = (40, 40, 40), (200, 60, 40), (225, 225, 225)


@dataclasses.dataclass
class Tile:
    """One image of a sheet.

    Attributes:
      image: uint8 [height, width, channels] with 1 or 3 channels; None for one that could not be read.
      lines: caption; what is too long is cut in its middle.
      marked: drawn with a border.
    """
    picture: np.ndarray | None
    lines: tuple[str, ...]
    marked: bool = False


def draw(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """Draws tiles in rows; images keep their proportions."""
    # matplotlib's font knows Latin, Greek and Cyrillic; Pillow's own Latin alone.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf', _TEXT)
    lines = max(len(tile.lines) for row in rows for tile in row)
    cell = (_SIDE + 2 * _GAP, _SIDE + 2 * _GAP + lines * _LINE)
    sheet = Image.new('RGB', (max(map(len, rows)) * cell[0], len(rows) * cell[1]), 'white')
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            left, top = j * cell[0] + _GAP, i * cell[1] + _GAP
            picture = _small(tile.picture)
            corner = (left + (_SIDE - picture.width) // 2, top + _SIDE - picture.height)
            sheet.paste(picture, corner)
            if tile.marked:
                box = (corner[0] - _BORDER, corner[1] - _BORDER, corner[0] + picture.width + _BORDER - 1,
                       corner[1] + picture.height + _BORDER - 1)
                pen.rectangle(box, outline=_MARK, width=_BORDER)
            for number, text in enumerate(tile.lines):
                pen.text((left + _SIDE // 2, top + _SIDE + _BORDER + number * _LINE), _shortened(text, font), _INK,
                         font, anchor='ma')
    return sheet


def _small(picture: np.ndarray | None) -> Image.Image:
    if picture is None:
        return Image.new('RGB', (_SIDE, _SIDE), _BLANK)
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert('RGB')
    scale = _SIDE / max(image.size)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    # Images of a few pixels, such as digits, are shown as they are: in squares.
    return image.resize(size, Image.Resampling.NEAREST if scale > 4 else Image.Resampling.BICUBIC)


def _shortened(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Returns a text that fits below an image: file names differ at their ends more often than in the middle."""
    kept, short = len(text), text
    while font.getlength(short) > _SIDE and kept > 2:
        kept -= 1
        short = f'{text[:kept // 2]}…{text[len(text) - (kept - kept // 2):]}'
    return short
