"""Pictures of reconstructions: beside their images, of the extremes of an error, and of codes drawn from nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_KINDS = ('usual, least error', 'usual, largest error', 'anomalies, least error', 'anomalies, largest error')
_PICTURE_INCHES, _NAMES_INCHES, _TITLE_INCHES = 0.85, 0.95, 0.25
_GAP = 2  # pixels between pictures


def is_picture(array: np.ndarray) -> bool:
    """Whether an array is an image [height, width, channels] that can be shown."""
    return np.ndim(array) == 3


def draw_pairs(shown: Sequence[Mapping[str, Any]], *, noisy: bool):
    """Draws a column for each example: the image, what the model saw if that is another, and the reconstruction.

    Args:
      shown: dicts with 'example', 'outputs' and 'scores', see reconstruction_examples.py.
      noisy: whether the model saw the images with noise.

    Returns:
      A matplotlib figure.
    """
    rows = [[_pixels(kept['example']['image']) for kept in shown]]
    if noisy:
        rows.append([kept['outputs']['given'] for kept in shown])
    rows.append([kept['outputs']['reconstruction'] for kept in shown])
    names = ('image', 'with noise', 'reconstruction') if noisy else ('image', 'reconstruction')
    return _draw_sheets([('squared error of the reconstruction, summed over the pixels', np.stack(rows),
                          [f"{kept['scores']['squared_error']:.1f}" for kept in shown])], names)


def draw_extremes(metrics: Mapping[str, Any]):
    """Draws usual examples and anomalies of least and largest error, each above its reconstruction.

    Args:
      metrics: of `ReconstructionExamples.summarize`.
    """
    return _draw_sheets([(name, pairs.swapaxes(0, 1), [f'{value:.1f}' for value in values]) for name, pairs, values
                         in zip(_KINDS, metrics['extremes'], metrics['extreme_errors'])], ('image', 'reconstruction'))


def draw_errors(metrics: Mapping[str, Any]):
    """Draws how the squared errors of usual examples and of anomalies are distributed."""
    from matplotlib.figure import Figure  # half a second that only images need
    errors, anomalous = metrics['errors'], metrics['anomalous']
    figure = Figure(figsize=(6, 3.6), layout='constrained')
    axes = figure.add_subplot()
    bins = np.linspace(0, np.quantile(errors, 0.995), 60)
    for chosen, name, colour in ((~anomalous, 'usual', 'tab:blue'), (anomalous, 'anomalies', 'tab:orange')):
        axes.hist(errors[chosen], bins, density=True, alpha=0.6, color=colour, label=f'{name}: {chosen.sum():,}')
    axes.set(xlabel='squared error', ylabel='density', title=f"AUC {metrics['auc']:.3f}")
    axes.legend()
    return figure


def draw_grid(images: np.ndarray, title: str):
    """Draws images, float [rows, columns, height, width, channels] in [0, 1], side by side without gaps."""
    from matplotlib.figure import Figure
    pixels = _sheet(_pixels(images), gap=0)
    height, width = pixels.shape[:2]
    figure = Figure(figsize=(6, 6 * height / width + _TITLE_INCHES))
    axes = figure.add_axes((0, 0, 1, 1 - _TITLE_INCHES / figure.get_figheight()))
    _show(axes, pixels)
    axes.set_title(title, fontsize=9)
    return figure


def sheet(images: np.ndarray, scale: int = 2) -> np.ndarray:
    """Returns images, float [rows, columns, height, width, channels] in [0, 1], as one, uint8 [height, width, 3].

    Args:
      images: of 3 channels, or of any other number, whose mean is shown.
      scale: pixels that become of each, in height and width.
    """
    pixels = _sheet(_pixels(images), gap=0)
    if pixels.shape[-1] != 3:
        pixels = np.repeat(pixels.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _draw_sheets(sheets: Sequence[tuple[str, np.ndarray, Sequence[str]]], names: Sequence[str]):
    """Draws sheets one below the other: (title, uint8 [rows, columns, height, width, channels], names of columns).

    Each is one image: axes for every picture on it would take seconds to lay out.
    """
    from matplotlib.figure import Figure
    rows, columns, height, width = sheets[0][1].shape[:4]
    inches = columns * _PICTURE_INCHES, rows * _PICTURE_INCHES * (height + _GAP) / (width + _GAP)
    total = _NAMES_INCHES + inches[0], len(sheets) * (inches[1] + 2 * _TITLE_INCHES)
    figure = Figure(figsize=total)
    for number, (title, images, labels) in enumerate(sheets, start=1):
        bottom = 1 - (number * (inches[1] + 2 * _TITLE_INCHES)) / total[1]
        axes = figure.add_axes((_NAMES_INCHES / total[0], bottom, inches[0] / total[0], inches[1] / total[1]))
        _show(axes, _sheet(images, gap=_GAP))
        axes.set_axis_off()
        for column, label in enumerate(labels):
            axes.text((column + 0.5) / columns, 1.02, label, transform=axes.transAxes, ha='center', va='bottom',
                      fontsize=8)
        for row, name in enumerate(names):
            axes.text(-0.005, 1 - (row + 0.5) / rows, name, transform=axes.transAxes, ha='right', va='center',
                      fontsize=8)
        figure.text(0.5, bottom + (inches[1] + 1.55 * _TITLE_INCHES) / total[1], title, ha='center', va='center',
                    fontsize=9)
    return figure


def _sheet(images: np.ndarray, gap: int) -> np.ndarray:
    """Returns uint8 [rows, columns, height, width, channels] as one image with white gaps between the parts."""
    images = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    rows, columns, height, width, channels = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def _show(axes: Any, image: np.ndarray) -> None:
    """Shows uint8 [height, width, channels]; of other numbers of channels than 3 their mean."""
    if image.shape[-1] != 3:
        axes.imshow(image.mean(axis=-1), cmap='gray', vmin=0, vmax=255, aspect='auto')
    else:
        axes.imshow(image, aspect='auto')
    axes.set(xticks=[], yticks=[])


def _pixels(image: np.ndarray) -> np.ndarray:
    """Returns an image as it was read, of integers or of floats in [0, 1], as uint8."""
    if image.dtype.kind == 'u':
        return (image // (np.iinfo(image.dtype).max // 255)).astype(np.uint8)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
