"""Classification, example by example: what was said of each image, and the worst mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np


class ClassificationCases:
    """See `cases` in tasks/__init__.py.

    Args:
      class_names: of the data set.
    """
    metrics = ()

    def __init__(self, class_names: Sequence[str]):
        self.class_names = class_names

    def outputs(self, logits: jax.Array) -> dict[str, jax.Array]:
        """Returns 'probabilities', float32 [batch, classes]."""
        return {'probabilities': jax.nn.softmax(logits)}

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                facts: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the true and the predicted class of one example and their probabilities."""
        del facts
        probabilities, label = output['probabilities'], int(example['label'])
        predicted = int(probabilities.argmax())
        return {'class': self.class_names[label], 'predicted': self.class_names[predicted],
                'class_probability': float(probabilities[label]),
                'predicted_probability': float(probabilities[predicted])}

    def severity(self, case: Mapping[str, Any]) -> float:
        """Returns how little was thought of the true class."""
        return -case['class_probability']

    def summarize(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Returns no metrics: they are summed on the device."""
        del cases
        return {}


def draw_worst_cases(worst: Sequence[Mapping[str, Any]]):
    """Draws the images whose class was thought the least likely, with what was said of them."""
    from matplotlib.figure import Figure
    columns = min(4, len(worst))
    rows = -(-len(worst) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows), layout='constrained')
    for number, kept in enumerate(worst):
        axes = figure.add_subplot(rows, columns, number + 1)
        image, case = kept['example']['image'], kept['case']
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap='gray', vmin=0, vmax=255)
        right = case['class'] == case['predicted']
        axes.set_title(f"{case['class']}: {100 * case['class_probability']:.1f} %"
                       + ('' if right else f"\n{case['predicted']}: {100 * case['predicted_probability']:.1f} %"),
                       fontsize=9, color='black' if right else 'firebrick')
        axes.set_xlabel(str(case.get('file', ''))[-28:], fontsize=7)
        axes.set(xticks=[], yticks=[])
    figure.suptitle('least probable true classes')
    return figure
