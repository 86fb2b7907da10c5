"""Image classification with one label per image."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from tasks.metrics import ConfusionMatrix, Mean
from tasks.prediction import Prediction
from training.errors import UserError


class Classification:
    """Softmax cross-entropy over classes, optionally with label smoothing (Szegedy et al. 2016, section 7).

    Args:
      config: 'label_smoothing' in [0, 1).
      meta: 'class_names', a sequence of strings.

    Raises:
      UserError: the data have no classes, or smoothing is out of range.
    """
    fields = ('label_smoothing',)
    headline = 'accuracy'
    writes_files = False
    cases = None

    def __init__(self, config: Mapping[str, Any], meta: Mapping[str, Any]):
        self.class_names = tuple(meta.get('class_names') or ())
        if len(self.class_names) < 2:
            raise UserError(f'classification needs at least 2 classes, the data set has {len(self.class_names)}')
        self.label_smoothing = config.get('label_smoothing', 0.0)
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f'config.task.label_smoothing = {self.label_smoothing}: it must be in [0, 1)')

        @flax.struct.dataclass
        class TrainMetrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            accuracy: Mean.from_output('correct')

        @flax.struct.dataclass
        class EvalMetrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            accuracy: Mean.from_output('correct')
            confusion: ConfusionMatrix.of(len(self.class_names))

        self.train_metrics = TrainMetrics
        self.eval_metrics = EvalMetrics

    def model_facts(self) -> dict[str, Any]:
        """Returns the number of classes."""
        return {'num_classes': len(self.class_names)}

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array]:
        """Returns (images,), float [batch, height, width, channels]."""
        return (batch['image'],)

    def score(self, logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each example.

        Args:
          logits: float32 [batch, classes].
          batch: 'label', int32 [batch].

        Returns:
          'loss', 'correct', 'label' and 'prediction', each [batch].
        """
        label = batch['label']
        targets = jax.nn.one_hot(label, len(self.class_names))
        if self.label_smoothing:
            targets = optax.smooth_labels(targets, self.label_smoothing)
        prediction = jnp.argmax(logits, axis=-1)
        return {'loss': optax.softmax_cross_entropy(logits, targets), 'label': label, 'prediction': prediction,
                'correct': (prediction == label).astype(jnp.float32)}

    def predict(self, logits: np.ndarray, picture: np.ndarray, facts: Mapping[str, Any], top_k: int) -> Prediction:
        """Returns the `top_k` classes of one picture with their probabilities in percent, the likeliest first.

        Args:
          logits: float [classes].
          picture: not used.
          facts: not used.
          top_k: how many classes.
        """
        del picture, facts
        probabilities = np.asarray(jax.nn.softmax(logits.astype(np.float32)))
        order = np.argsort(-probabilities, kind='stable')[:top_k]
        return Prediction({'classes': [self.class_names[c] for c in order],
                           'percent': [100.0 * float(probabilities[c]) for c in order]})

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a table: class_1, percent_1, class_2, ..."""
        pairs = enumerate(zip(row['classes'], row['percent']), start=1)
        return {key: value for i, (name, share) in pairs
                for key, value in ((f'class_{i}', name), (f'percent_{i}', f'{share:.2f}'))}

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line: '2 : 96.27 %   3 : 2.10 %'."""
        return '   '.join(f'{name} : {share:.2f} %' for name, share in zip(row['classes'], row['percent']))

    def pictures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns the confusion matrix as a figure."""
        del worst
        if 'confusion' not in metrics:
            return {}
        return {'confusion_matrix': draw_confusion_matrix(metrics['confusion'], self.class_names)}


def draw_confusion_matrix(counts: np.ndarray, class_names: tuple[str, ...]):
    """Draws int [classes, classes] counts, true classes in rows, coloured by the share of their row."""
    from matplotlib.figure import Figure  # half a second that only pictures need
    n = len(class_names)
    side = min(14.0, max(4.0, 0.55 * n + 1.5))
    figure = Figure(figsize=(side, side), layout='constrained')
    axes = figure.add_subplot()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label='share of the true class')
    axes.set(xlabel='predicted', ylabel='true', title=f'{np.trace(counts):,} of {counts.sum():,} correct')
    if n <= 40:
        axes.set_xticks(range(n), class_names, rotation=90 if max(map(len, class_names)) > 3 else 0)
        axes.set_yticks(range(n), class_names)
    if n <= 26:
        for i, j in zip(*np.nonzero(counts)):
            axes.text(j, i, str(counts[i, j]), ha='center', va='center', fontsize=8,
                      color='white' if shares[i, j] > 0.5 else 'black')
    return figure
