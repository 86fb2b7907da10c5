"""Pictures of reconstructions: beside their images, of the extremes of an error, and of codes drawn from nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_KINDS = ('usual, least error', 'usual, largest error', 'anomalies, least error', 'anomalies, largest error')


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
    rows = [('image', [_pixels(kept['example']['image']) for kept in shown])]
    if noisy:
        rows.append(('with noise', [kept['outputs']['given'] for kept in shown]))
    rows.append(('reconstruction', [kept['outputs']['reconstruction'] for kept in shown]))
    return _draw_rows(rows, [f"{kept['scores']['squared_error']:.1f}" for kept in shown],
                      'squared error of the reconstruction, summed over the pixels')


def draw_extremes(metrics: Mapping[str, Any]):
    """Draws usual examples and anomalies of least and largest error, each above its reconstruction.

    Args:
      metrics: of `ReconstructionExamples.summarize`.
    """
    from matplotlib.figure import Figure  # half a second that only images need
    pairs, errors = metrics['extremes'], metrics['extreme_errors']
    kinds, shown = pairs.shape[:2]
    figure = Figure(figsize=(0.8 * shown + 0.3, 2.05 * kinds + 0.3), layout='constrained')
    parts = figure.subfigures(kinds, 1)
    for part, kind, name, values in zip(parts, pairs, _KINDS, errors):
        part.suptitle(name, fontsize=9)
        for column in range(shown):
            for row in (0, 1):
                axes = part.add_subplot(2, shown, row * shown + column + 1)
                _show(axes, kind[column, row])
                if not row:
                    axes.set_title(f'{values[column]:.1f}', fontsize=7)
    return figure


def draw_errors(metrics: Mapping[str, Any]):
    """Draws how the squared errors of usual examples and of anomalies are distributed."""
    from matplotlib.figure import Figure
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
    """Draws images, float [rows, columns, height, width, channels] in [0, 1], side by side."""
    from matplotlib.figure import Figure
    rows, columns, height, width, channels = images.shape
    sheet = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    figure = Figure(figsize=(6, 6 * rows * height / (columns * width) + 0.3), layout='constrained')
    axes = figure.add_subplot()
    _show(axes, np.round(255 * np.clip(sheet, 0, 1)).astype(np.uint8))
    axes.set_title(title, fontsize=9)
    return figure


def _draw_rows(rows: Sequence[tuple[str, Sequence[np.ndarray]]], titles: Sequence[str], title: str):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(0.85 * len(titles) + 0.5, 0.95 * len(rows) + 0.5), layout='constrained')
    for row, (name, images) in enumerate(rows):
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(rows), len(titles), row * len(titles) + column + 1)
            _show(axes, image)
            if not row:
                axes.set_title(titles[column], fontsize=8)
            if not column:
                axes.set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def _show(axes: Any, image: np.ndarray) -> None:
    """Shows uint8 [height, width, channels]; of other numbers of channels than 3 their mean."""
    if image.shape[-1] != 3:
        axes.imshow(image.mean(axis=-1), cmap='gray', vmin=0, vmax=255)
    else:
        axes.imshow(image)
    axes.set(xticks=[], yticks=[])


def _pixels(image: np.ndarray) -> np.ndarray:
    """Returns an image as it was read, of integers or of floats in [0, 1], as uint8."""
    if image.dtype.kind == 'u':
        return (image // (np.iinfo(image.dtype).max // 255)).astype(np.uint8)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
