"""Boxes drawn on images, with names and scores. The colours are told apart by every kind of colour vision."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

Colour = tuple[int, int, int]

# Okabe & Ito 2008, without black. Of more classes the eighth has the first colour again.
COLOURS: tuple[Colour, ...] = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
                               (213, 94, 0), (204, 121, 167))
_LONGEST_NAME = 24


def colour_of(class_index: int) -> Colour:
    """Returns the colour of a class."""
    return COLOURS[class_index % len(COLOURS)]


def draw_boxes(image: np.ndarray, boxes: np.ndarray, labels: Sequence[int], scores: Sequence[float] | None = None, *,
               class_names: Sequence[str], side: int = 512) -> np.ndarray:
    """Draws boxes in the colours of their classes, with names and scores; of overlapping ones the best is on top.

    Args:
      image: see `draw_marked`.
      boxes: float [n, 4], left, top, right, bottom in pixels of the image.
      labels: int [n], their classes.
      scores: float [n]; None: none are written, and the first box is on top.
      class_names: of the data set.
      side: see `draw_marked`.

    Returns:
      uint8 [factor * height, factor * width, 3].
    """
    order = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores, float), kind='stable')
    order = order[::-1]
    texts = [class_names[labels[i]] for i in order]
    texts = [text if len(text) <= _LONGEST_NAME else f'{text[:_LONGEST_NAME - 1]}…' for text in texts]
    if scores is not None:
        texts = [f'{text} {scores[i]:.2f}' for text, i in zip(texts, order)]
    return draw_marked(image, np.asarray(boxes, float).reshape(-1, 4)[order], [colour_of(labels[i]) for i in order],
                       texts, side=side)


def draw_marked(image: np.ndarray, boxes: np.ndarray, colours: Sequence[Colour], texts: Sequence[str],
                thick: Sequence[bool] | None = None, *, side: int = 512) -> np.ndarray:
    """Draws boxes in given colours with given texts, the last on top and all texts above all boxes.

    Lines and letters grow with the image. What lies outside the image is not drawn, nor are boxes that are not finite.

    Args:
      image: uint8 [height, width], or with a last axis of 1 or 3 channels.
      boxes: float [n, 4], left, top, right, bottom in pixels of the image.
      colours: of each.
      texts: of each, above its left corner; '' for none.
      thick: which have a line of twice the width; None: none.
      side: an image is enlarged by the largest whole factor that keeps its longer side within so many pixels.

    Returns:
      uint8 [factor * height, factor * width, 3].
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont
    height, width = image.shape[:2]
    factor = max(1, side // max(height, width))
    picture = np.broadcast_to(image.reshape(height, width, -1), (height, width, 3))
    picture = Image.fromarray(picture.repeat(factor, axis=0).repeat(factor, axis=1))
    pen = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 180))
    # matplotlib's font knows Latin, Greek and Cyrillic; Pillow's own Latin alone.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf',
                              max(11, round(max(picture.size) / 50)))
    placed = []
    for number, box in enumerate(np.asarray(boxes, float).reshape(-1, 4)):
        if not np.isfinite(box).all():
            continue
        left, top, right, bottom = np.round(factor * np.clip(box, 0, [width, height, width, height])).astype(int)
        right, bottom = right - 1, bottom - 1  # the last pixels, which are within
        if right < left or bottom < top:
            continue
        wanted = 2 * line if thick is not None and thick[number] else line
        within = max(1, min(wanted, (min(right - left, bottom - top) + 1) // 4))
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0))  # seen on any ground
        pen.rectangle((left, top, right, bottom), outline=colours[number], width=within)
        placed.append((number, left, top))
    for number, left, top in placed:
        if texts[number]:
            _write(pen, font, texts[number], (left, top), colours[number], picture.size)
    return np.asarray(picture)


def _write(pen, font, text: str, corner: tuple[int, int], colour: Colour, size: tuple[int, int]) -> None:
    """Writes a text on its colour above a corner; below the corner where the image ends above it."""
    wide, (ascent, descent) = round(pen.textlength(text, font)), font.getmetrics()
    high, margin = ascent + descent, max(2, font.size // 6)
    left = max(0, min(corner[0], size[0] - wide - 2 * margin))
    top = corner[1] - high if corner[1] >= high else corner[1]
    pen.rectangle((left, top, left + wide + 2 * margin - 1, top + high - 1), fill=colour)
    brightness = np.dot(colour, (0.299, 0.587, 0.114))
    pen.text((left + margin, top), text, (0, 0, 0) if brightness > 110 else (255, 255, 255), font)
