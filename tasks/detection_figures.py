"""Figures of what a detector finds: precision and recall, what is confused, counts, sizes, the worst images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .box_drawing import COLOURS, Colour, draw_marked
from .detection_examples import as_image
from .detection_metrics import RECALLS, matches_at_half

_MOST_COLOURED = len(COLOURS)  # classes up to which each has a colour
_FOUND, _MISSED, _FALSE, _CROWD = (0, 158, 115), (240, 228, 66), (255, 125, 0), (150, 150, 150)
_MOST_WORST = 8


def draw(metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]], class_names: Sequence[str],
         shown_score: float) -> dict[str, Any]:
    """Draws an evaluation.

    Args:
      metrics: with the arrays of `DetectionExamples.summarize`; without them nothing is drawn.
      worst: the worst examples, each with 'example': 'image'; 'outputs' and 'scores' of `DetectionExamples`.
      class_names: of the data set.
      shown_score: as of `DetectionExamples`.

    Returns:
      Name -> matplotlib figure.
    """
    figures = {'worst_examples': draw_worst(worst, class_names, shown_score)} if worst else {}
    if 'confusion' in metrics:
        figures |= {'precision_recall': draw_precision_recall(metrics, class_names),
                    'confusion_matrix': draw_confusion_matrix(metrics['confusion'], class_names, shown_score),
                    'counts': draw_counts(metrics['counts'], class_names, shown_score),
                    'box_sizes': draw_sizes(metrics['sizes'], shown_score)}
    return figures


def draw_precision_recall(metrics: Mapping[str, Any], class_names: Sequence[str]):
    """Draws precision over recall at an overlap of 0.5, of every class, and where F1 is highest."""
    figure, axes = _figure(5.6, 4.6)
    curves, ap50 = metrics['precision_at_recall'], metrics['class_scores'][:, 2]
    best_precision, best_recall = metrics['class_scores'][:, 5:7].T
    coloured = len(class_names) <= _MOST_COLOURED
    lines, labels = [], []
    for i, name in enumerate(class_names):
        if np.isnan(ap50[i]):
            continue
        colour = _shade(COLOURS[i]) if coloured else '0.75'
        line, = axes.plot(RECALLS, curves[i], color=colour, linewidth=2 if coloured else 0.8)
        if coloured:
            axes.plot(best_recall[i], best_precision[i], 'o', color=colour, markersize=7)
            lines.append(line)
            labels.append(f'{ap50[i]:.3f}  {name}')
    known = curves[~np.isnan(ap50)]
    if len(known) > 1:
        mean, = axes.plot(RECALLS, known.mean(axis=0), color='black', linewidth=2, linestyle='--')
        lines.append(mean)
        labels.append(f'{known.mean():.3f}  mean')
    legend = axes.legend(lines, labels, title='AP50', loc='lower left')
    for text in legend.get_texts():
        text.set_parse_math(False)
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1.01), ylim=(0, 1.02),
             title='overlap from 0.5 on' + ('; points: highest F1' if coloured else ''))
    axes.grid(alpha=0.3)
    return figure


def draw_confusion_matrix(counts: np.ndarray, class_names: Sequence[str], shown_score: float):
    """Draws int [classes + 1, classes + 1], see `detection_metrics.confusion_matrix`, coloured by share of the row."""
    n = len(counts)
    side = min(14.0, max(4.8, 0.55 * n + 2.0))
    figure, axes = _figure(side, side)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.046, label='share of the row')
    axes.set(xlabel='predicted', ylabel='true',
             title=f'{np.trace(counts):,} of {counts[:-1].sum():,} objects right, {counts[-1].sum():,} boxes false\n'
                   f'score from {shown_score:g} on, overlap from 0.5 on')
    if n <= 41:
        turned = 90 if n > 8 or max(map(len, class_names)) > 10 else 0
        axes.set_xticks(range(n), [*class_names, 'missed'], rotation=turned, parse_math=False)
        axes.set_yticks(range(n), [*class_names, 'nothing'], parse_math=False)
    axes.axhline(n - 1.5, color='0.4', linewidth=0.8)
    axes.axvline(n - 1.5, color='0.4', linewidth=0.8)
    if n <= 26:
        for i, j in zip(*np.nonzero(counts)):
            axes.text(j, i, f'{counts[i, j]:,}', ha='center', va='center', fontsize=8,
                      color='white' if shares[i, j] > 0.5 else 'black')
    return figure


def draw_counts(counts: np.ndarray, class_names: Sequence[str], shown_score: float):
    """Draws how many objects images have and how many were found, of each of a few classes; int [images, classes, 2].

    The more images have the same two numbers, the larger is their point.
    """
    several = 1 < len(class_names) <= _MOST_COLOURED
    figure, axes = _figure(6.6 if several else 5.0, 4.8)
    series = [(name, counts[:, i]) for i, name in enumerate(class_names)] if several else [('', counts.sum(axis=1))]
    points = []
    for i, (_, pairs) in enumerate(series):
        where, times = np.unique(pairs, axis=0, return_counts=True)
        points.append(axes.scatter(*where.T, s=18 * times ** 0.75, color=_shade(COLOURS[i if several else 4]),
                                   alpha=0.6, linewidths=0))
    top = max(1, max(pairs.max(initial=0) for _, pairs in series))
    axes.plot([0, top], [0, top], color='0.5', linewidth=1, zorder=0)
    errors = [np.abs(pairs[:, 0] - pairs[:, 1]).mean() for _, pairs in series]
    axes.set(xlabel='objects in the image', ylabel=f'boxes with a score from {shown_score:g} on', aspect='equal',
             xlim=(-0.04 * top - 0.2, 1.04 * top + 0.2),
             title='counts of each class' if several else f'off by {errors[0]:.2f} on average')
    if several:
        legend = figure.legend(points, [f'{error:.2f}  {name}' for error, (name, _) in zip(errors, series)],
                               title='mean error', loc='outside right upper')
        for text, point in zip(legend.get_texts(), legend.legend_handles):
            text.set_parse_math(False)
            point.set_sizes([40])
    axes.locator_params(integer=True)
    axes.grid(alpha=0.3)
    return figure


def draw_sizes(sizes: np.ndarray, shown_score: float):
    """Draws how large objects are and which of them were found; float [objects, 6], see `summarize`.

    Left in pixels of the images' own size, with the borders of COCO's small, medium and large; right the shorter side
    in pixels of the model's input: objects not much larger than the model's stride are hard to find.
    """
    from matplotlib.figure import Figure  # half a second that only images need
    figure = Figure(figsize=(10.0, 4.6), layout='constrained')
    own, ours = figure.subplots(1, 2)
    found = sizes[:, 1] > 0
    blue, red = _shade(COLOURS[4]), _shade(COLOURS[5])
    kinds = ((found, blue, f'{found.sum():,} found'), (~found, red, f'{(~found).sum():,} missed'))
    for chosen, colour, name in kinds:
        own.scatter(*sizes[chosen, 2:4].T, s=12, color=colour, alpha=0.5, linewidths=0, label=name)
    if len(sizes):
        own.set_xscale('log', base=2)
        own.set_yscale('log', base=2)
        low, high = np.maximum(sizes[:, 2:4].min() / 1.3, 1e-3), sizes[:, 2:4].max() * 1.3
        widths = np.geomspace(low, high, 50)
        for area in (32.0**2, 96.0**2):
            own.plot(widths, area / widths, color='0.5', linewidth=1, linestyle='--')
        own.set(xlim=(low, high), ylim=(low, high))
        shorter = np.maximum(sizes[:, 4:].min(axis=1), 1e-3)
        edges = np.geomspace(shorter.min() / 1.01, shorter.max() * 1.01, 25)
        ours.hist([shorter[chosen] for chosen, _, _ in kinds], edges, stacked=True, color=[blue, red])
        ours.set_xscale('log', base=2)
        for axis in (own.xaxis, own.yaxis, ours.xaxis):
            axis.set_major_formatter('{x:g}')
    own.set(xlabel='width in pixels of the image', ylabel='height in pixels of the image', aspect='equal',
            title='dashed: areas of 32 x 32 and 96 x 96')
    legend = figure.legend(*own.get_legend_handles_labels(), title=f'score from {shown_score:g} on', ncols=2,
                           loc='outside lower center')
    for point in legend.legend_handles:
        point.set(sizes=[40], alpha=1)
    own.grid(alpha=0.3)
    ours.set(xlabel="shorter side in pixels of the model's input", ylabel='objects',
             title='sizes as the model sees them')
    ours.locator_params(axis='y', integer=True)
    return figure


def draw_worst(worst: Sequence[Mapping[str, Any]], class_names: Sequence[str], shown_score: float):
    """Draws the worst images in pairs: objects, missed ones thick, beside the detections, false ones thick."""
    from matplotlib.figure import Figure
    worst = worst[:_MOST_WORST]
    columns = min(2, len(worst))
    lines = -(-len(worst) // columns)
    height, width = worst[0]['example']['image'].shape[:2]
    # In inches.
    wide, tall, title, gap = 3.4, 3.4 * min(1.5, max(0.5, height / width)), 0.25, 0.06
    total = np.array([2 * columns * (wide + gap) + gap, lines * (tall + title + gap) + title])
    figure = Figure(figsize=total)
    figure.text(0.5, 1 - 0.5 * title / total[1], f'left objects, missed ones thick; right boxes with a score from '
                f'{shown_score:g} on, false ones thick', fontsize=9, ha='center', va='center')
    for number, kept in enumerate(worst):
        row, image = kept['scores'], _as_uint8(kept['example']['image'])
        name = str(row.get('file', ''))
        texts = (name if len(name) <= 44 else f'…{name[-43:]}',
                 f"{row['missed']} of {row['objects']} missed, {row['false']} false")
        bottom = total[1] - title - (number // columns + 1) * (tall + title + gap) + gap
        for side, picture in enumerate(_pair(image, row, class_names, shown_score)):
            left = gap + (number % columns * 2 + side) * (wide + gap)
            axes = figure.add_axes((left / total[0], bottom / total[1], wide / total[0], tall / total[1]))
            axes.imshow(picture)
            axes.set_title(texts[side], fontsize=8, pad=3, parse_math=False)
            axes.set_axis_off()
    return figure


def _pair(image: np.ndarray, row: Mapping[str, Any], class_names: Sequence[str],
          shown_score: float) -> tuple[np.ndarray, np.ndarray]:
    """The objects of an image and what was found in it, drawn on the image as the model saw it."""
    boxes = as_image(row)
    shown, matches = matches_at_half(boxes, shown_score)
    height, width = image.shape[:2]
    scale = np.tile([width / row.get('width', width), height / row.get('height', height)], 2)
    missed = ~matches.found & ~boxes.crowd
    truth = draw_marked(image, boxes.truth_boxes * scale,
                        _colours(boxes.crowd, missed, _MISSED),
                        [class_names[c] if bad else '' for c, bad in zip(boxes.truth_classes, missed)], missed)
    order = matches.order[::-1]
    false, other = matches.false[0, 0][::-1], matches.ignored[0, 0][::-1]
    found = draw_marked(image, shown.boxes[order] * scale, _colours(other, false, _FALSE),
                        [f'{class_names[shown.classes[i]]} {shown.scores[i]:.2f}' if bad else ''
                         for i, bad in zip(order, false)], false)
    return truth, found


def _colours(crowd: np.ndarray, wrong: np.ndarray, colour: Colour) -> list[Colour]:
    return [_CROWD if other else colour if bad else _FOUND for other, bad in zip(crowd, wrong)]


def _as_uint8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        return (image // 257).astype(np.uint8)
    return np.clip(image, 0, 255).astype(np.uint8)


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # half a second that only images need
    figure = Figure(figsize=(width, height), layout='constrained')
    return figure, figure.add_subplot()


def _shade(colour: Colour) -> tuple[float, ...]:
    """A colour for matplotlib; yellow is too light for lines on white."""
    return tuple(channel / 255 * (0.85 if sum(colour) > 500 else 1) for channel in colour)
