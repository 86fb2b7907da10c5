"""Classification, example by example: what was said of each image, and the worst mistakes."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .task import PerExample

_LETTERS = 110  # of a line of a text that is drawn


class ClassificationExamples(PerExample):
    """See `rows` in tasks/__init__.py.

    Args:
      class_names: of the data set.
    """
    def __init__(self, class_names: Sequence[str]):
        self.class_names = class_names

    def outputs(self, logits: jax.Array) -> dict[str, jax.Array]:
        """Returns 'probabilities', float32 [batch, classes]."""
        return {'probabilities': jax.nn.softmax(logits)}

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the true and the predicted class of one example and their probabilities."""
        del metadata
        probabilities, label = output['probabilities'], int(example['label'])
        predicted = int(probabilities.argmax())
        return {'class': self.class_names[label], 'predicted': self.class_names[predicted],
                'class_probability': float(probabilities[label]),
                'predicted_probability': float(probabilities[predicted])}

    def severity(self, row: Mapping[str, Any]) -> float:
        """Returns how little was thought of the true class."""
        return -row['class_probability']


def draw_worst_examples(worst: Sequence[Mapping[str, Any]]):
    """Draws the images or texts whose class was thought the least likely, with what was said of them."""
    from matplotlib.figure import Figure
    if 'text' in worst[0]['scores']:
        return _draw_texts(worst)
    columns = min(4, len(worst))
    rows = -(-len(worst) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows), layout='constrained')
    for number, kept in enumerate(worst):
        axes = figure.add_subplot(rows, columns, number + 1)
        image, row = kept['example']['image'], kept['scores']
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap='gray', vmin=0, vmax=255)
        right = row['class'] == row['predicted']
        axes.set_title(f"{row['class']}: {100 * row['class_probability']:.1f} %"
                       + ('' if right else f"\n{row['predicted']}: {100 * row['predicted_probability']:.1f} %"),
                       fontsize=9, color='black' if right else 'firebrick')
        axes.set_xlabel(str(row.get('file', ''))[-28:], fontsize=7)
        axes.set(xticks=[], yticks=[])
    figure.suptitle('least probable true classes')
    return figure


def _draw_texts(worst: Sequence[Mapping[str, Any]]):
    from matplotlib.figure import Figure
    lines = [textwrap.wrap(kept['scores']['text'], _LETTERS, max_lines=4, placeholder=' …') for kept in worst]
    figure = Figure(figsize=(9, 0.6 + 0.18 * sum(len(text) + 2 for text in lines)), layout='constrained')
    axes = figure.add_subplot()
    axes.set_axis_off()
    top, total = 0, sum(len(text) + 2 for text in lines)
    for kept, text in zip(worst, lines):
        row = kept['scores']
        right = row['class'] == row['predicted']
        said = f"{row['class']}: {100 * row['class_probability']:.1f} %" + (
            '' if right else f"   {row['predicted']}: {100 * row['predicted_probability']:.1f} %")
        for number, line in enumerate([said, *text]):
            axes.text(0, 1 - (top + number) / total, line, fontsize=9, va='top', parse_math=False,
                      transform=axes.transAxes, weight='bold' if not number else 'normal',
                      color='black' if number else 'seagreen' if right else 'firebrick')
        top += len(text) + 2
    figure.suptitle('least probable true classes')
    return figure
