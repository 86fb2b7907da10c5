"""Images of masks on images: of one image, and a sheet of shown with truth and prediction side by side.

The truth has cool colours and lies just outside its mask, the prediction has warm ones and lies just inside its own:
where they agree, both are seen. The colours are told apart by every kind of colour vision (after Okabe & Ito 2008).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# (truth, prediction) of classes 1, 2 and 3; 4 has those of 1 again, and so on.
COLOURS = (((0, 200, 140), (255, 125, 0)), ((86, 180, 255), (255, 105, 180)), ((240, 240, 240), (240, 228, 66)))

_MOST_ROWS = 12
_PANEL_INCHES, _TITLE_INCHES, _GAP_INCHES = 2.3, 0.27, 0.06


def overlay(image: np.ndarray, prediction: np.ndarray | None = None, truth: np.ndarray | None = None, *,
            fill: float = 0.3, line: int = 1, side: int = 512) -> np.ndarray:
    """Draws masks on an image: the prediction's area and outline, and the truth's outline.

    Args:
      image: uint8 [height, width], or with a last axis of 1 or 3 channels.
      prediction, truth: integer [height, width] of class indices; 0 is not drawn.
      fill: opacity of the prediction's area.
      line: width of the outlines in pixels of the result.
      side: an image is enlarged by the largest whole factor that keeps its longer side within so many pixels.

    Returns:
      uint8 [factor * height, factor * width, 3].

    Raises:
      ValueError: a mask of another size than the image.
    """
    size = image.shape[:2]
    for mask in (prediction, truth):
        if mask is not None and mask.shape != size:
            raise ValueError(f'a mask of {mask.shape} does not fit an image of {size}')
    factor = max(1, side // max(size))
    picture = _enlarged(np.broadcast_to(image.reshape(*size, -1), (*size, 3)), factor)
    predicted = list(_regions(prediction, factor))
    for region, (_, colour) in predicted:
        picture[region] = np.round((1 - fill) * picture[region] + fill * np.array(colour)).astype(np.uint8)
    for region, (colour, _) in _regions(truth, factor):
        picture[_rim(~region, line)] = colour
    for region, (_, colour) in predicted:
        picture[_rim(region, line)] = colour
    return picture


def draw_examples(shown: Sequence[Mapping[str, Any]]):
    """Draws a row for each kept: image, truth, prediction, and both outlines close up.

    Args:
      shown: up to 12, the rest is not drawn; each with
        'example': 'image', uint8 [height, width, channels], and 'segmentation_mask', integer [height, width];
        'outputs': 'prediction', integer [height, width];
        'scores': its scores, see `segmentation_metrics.measure`, and metadata about it, of which texts are its name.

    Returns:
      A matplotlib figure.
    """
    from matplotlib.figure import Figure  # half a second that only images need
    shown = shown[:_MOST_ROWS]
    height, width = shown[0]['example']['image'].shape[:2]
    panel = _PANEL_INCHES * np.array([min(1.5, max(0.5, height / width)), 1])
    row = panel[0] + _TITLE_INCHES + _GAP_INCHES
    total = np.array([len(shown) * row + _TITLE_INCHES, 4 * (panel[1] + _GAP_INCHES) + _GAP_INCHES])
    figure = Figure(figsize=(total[1], total[0]))
    lefts = [_GAP_INCHES + i * (panel[1] + _GAP_INCHES) for i in range(4)]
    truth_colour, prediction_colour = (tuple(0.8 * channel / 255 for channel in colour) for colour in COLOURS[0])
    for left, text, colour in zip(lefts, ('image', 'truth', 'prediction', 'both, close up'),
                                  ('0.3', truth_colour, prediction_colour, '0.3')):
        figure.text((left + panel[1] / 2) / total[1], 1 - 0.18 / total[0], text, ha='center', va='center', fontsize=9,
                    color=colour)
    for i, kept in enumerate(shown):
        top = _TITLE_INCHES + i * row  # inches from the top of the figure
        figure.text(lefts[0] / total[1], 1 - (top + 0.16) / total[0], _title(kept['scores']), fontsize=9, va='center',
                    parse_math=False)
        image, truth = kept['example']['image'], kept['example']['segmentation_mask']
        prediction = kept['outputs']['prediction']
        window = _close_up((truth > 0) | (prediction > 0))
        panels = (overlay(image), overlay(image, truth=truth, line=2), overlay(image, prediction, line=2),
                  overlay(image[window], prediction[window], truth[window], fill=0, line=3))
        for left, picture in zip(lefts, panels):
            axes = figure.add_axes((left / total[1], 1 - (top + _TITLE_INCHES + panel[0]) / total[0],
                                    panel[1] / total[1], panel[0] / total[0]))
            axes.imshow(picture)
            axes.set_axis_off()
    return figure


def _title(kept: Mapping[str, Any]) -> str:
    """A case's name and scores in one line: 'patient7/slice3.png   Dice 0.912   HD95 4.2 mm   APD 1.3 mm'."""
    name = ' '.join(value for value in kept.values() if isinstance(value, str))
    parts = [name if len(name) <= 60 else '…' + name[-59:]] if name else []
    several = len(kept['dice']) > 1
    # Of many classes those that went worst: a line holds about four.
    present = sorted((dice, index, key) for index, (key, dice) in enumerate(kept['dice'].items()) if dice is not None)
    for dice, _, key in present[:4]:
        scores = [f'Dice {dice:.3f}']
        if kept['hausdorff_95_mm'][key] is not None and not several:
            scores += [f"HD95 {kept['hausdorff_95_mm'][key]:.1f} mm", f"APD {kept['apd_mm'][key]:.1f} mm"]
        if not kept['prediction_pixels'][key]:
            scores.append('not found')
        if not kept['truth_pixels'][key]:
            scores.append('nothing there')
        parts.append((f'{key}: ' if several else '') + '   '.join(scores))
    return '   '.join(parts if present else [*parts, 'nothing there, nothing found'])


def _close_up(marked: np.ndarray) -> tuple[slice, slice]:
    """The part of an image, of the same proportions, that holds a bool mask and a margin; all of it without a mask."""
    if not marked.any():
        return slice(None), slice(None)
    size = np.array(marked.shape)
    where = np.argwhere(marked)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    share = min(1.0, max(1.5 * (high - low).max() / size.min(), 0.15))
    window = np.ceil(share * size).astype(int)
    start = np.clip(np.round((low + high - window) / 2).astype(int), 0, size - window)
    return tuple(slice(int(a), int(a + n)) for a, n in zip(start, window))


def _regions(mask: np.ndarray | None, factor: int) -> Iterator[tuple[np.ndarray, tuple]]:
    """The area of each class in a mask, bool and enlarged, with its colours."""
    for index in [] if mask is None else np.unique(mask[mask > 0]):
        yield _enlarged(mask == index, factor), COLOURS[(int(index) - 1) % len(COLOURS)]


def _rim(region: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a bool area within so many of its end; the image's border is no end."""
    inside = region
    for _ in range(width):
        padded = np.pad(inside, 1, mode='edge')
        inside = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inside


def _enlarged(array: np.ndarray, factor: int) -> np.ndarray:
    """A copy with every pixel as a square of factor x factor."""
    return array.repeat(factor, axis=0).repeat(factor, axis=1)
