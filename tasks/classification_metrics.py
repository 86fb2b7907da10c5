"""What accuracy does not say: ranking, calibration, and classes one by one."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from .metrics import ConfusionMatrix

CALIBRATION_BINS = 15


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Returns the area under the receiver operating characteristic; NaN without positives, without negatives, of NaN.

    It is the probability that a positive example scores higher than a negative one, ties counting half (Hanley and
    McNeil 1982): the rank statistic of Mann and Whitney.

    Args:
      scores: float [n].
      positive: bool [n].
    """
    positives, negatives = scores[positive], np.sort(scores[~positive])
    if not len(positives) or not len(negatives) or np.isnan(scores).any():
        return float('nan')
    lower, lower_or_equal = (np.searchsorted(negatives, positives, side) for side in ('left', 'right'))
    return float((lower.sum() + lower_or_equal.sum()) / (2 * len(positives) * len(negatives)))


def log_odds(logits: jax.Array) -> jax.Array:
    """Returns log(p / (1 - p)) of every class's probability, [batch, classes], exact where p is nearly 0 or 1."""
    own = jnp.eye(logits.shape[-1], dtype=bool)
    return logits - jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits[:, None, :]), axis=-1)


@flax.struct.dataclass
class RocAuc(clu_metrics.Metric):
    """Exact area under the ROC curve, from the log-odds of all examples.

    Of two classes it is that of the second one, the positive by convention; of more, and where an example may have
    several, the mean over the classes, each against the rest, that have positives and negatives.

    Examples are ranked by log-odds, since probabilities are rounded to 1, and so tie, where a network is sure.

    Attributes:
      log_odds: float [examples, classes], see `log_odds`.
      labels: int [examples], or [examples, classes] of 0 and 1.
      mask: [examples], 0 for padding.
    """
    log_odds: jax.Array
    labels: jax.Array
    mask: jax.Array

    @classmethod
    def of(cls, num_classes: int, *, several_labels: bool = False) -> type['RocAuc']:
        """Returns the metric for so many classes.

        It reads 'log_odds' [batch, classes], 'mask' [batch], and 'label' [batch] or, with several_labels, 'labels'
        [batch, classes] of 0 and 1.
        """
        name, shape = ('labels', (0, num_classes)) if several_labels else ('label', (0,))

        @flax.struct.dataclass
        class Sized(cls):
            """For a fixed number of classes."""

            @classmethod
            def empty(cls):
                return cls(jnp.zeros((0, num_classes)), jnp.zeros(shape, jnp.int32), jnp.zeros(0))

            @classmethod
            def from_model_output(cls, log_odds, mask=None, **outputs):
                labels = outputs[name].astype(jnp.int32)
                return cls(log_odds, labels, jnp.ones(len(labels)) if mask is None else mask)
        return Sized

    def reduce(self):
        """See clu: leaves have a leading axis of devices."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), self)

    def merge(self, other):
        """Appends the other's examples; on the host, since shapes grow."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), self, other)

    def compute(self) -> float:
        """Returns the area, in [0, 1]."""
        kept = np.asarray(self.mask) > 0
        scores, labels = np.asarray(self.log_odds)[kept], np.asarray(self.labels)[kept]
        if labels.ndim == 1:
            classes = [1] if scores.shape[1] == 2 else range(scores.shape[1])
            areas = [roc_auc(scores[:, c], labels == c) for c in classes]
        else:
            areas = [roc_auc(scores[:, c], labels[:, c] > 0) for c in range(scores.shape[1])]
        areas = [area for area in areas if not np.isnan(area)]
        return float(np.mean(areas)) if areas else float('nan')


@flax.struct.dataclass
class CalibrationError(clu_metrics.Metric):
    """Expected calibration error (Guo et al. 2017, equation 3): |accuracy - confidence| of bins, averaged.

    Attributes:
      counts, correct, confidence: float [CALIBRATION_BINS], sums over the examples whose confidence, the largest
        probability, lies in a bin of equal width.
    """
    additive = True
    counts: jax.Array
    correct: jax.Array
    confidence: jax.Array

    @classmethod
    def empty(cls):
        """Returns the metric of no examples."""
        zeros = jnp.zeros(CALIBRATION_BINS)
        return cls(zeros, zeros, zeros)

    @classmethod
    def from_model_output(cls, probabilities, correct, mask=None, **_):
        """Reads 'probabilities' [batch, classes], 'correct' [batch] and 'mask'."""
        weights = jnp.ones(correct.shape) if mask is None else mask
        confidence = jnp.max(probabilities, axis=-1)
        # Bins are closed above, as in the paper: ((m - 1) / M, m / M].
        bins = jnp.clip(jnp.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)

        def add(values):
            return jnp.zeros(CALIBRATION_BINS).at[bins].add(values * weights)
        return cls(add(jnp.ones_like(confidence)), add(correct), add(confidence))

    def merge(self, other):
        """Adds the other's sums."""
        return jax.tree.map(lambda a, b: a + b, self, other)

    def compute(self) -> float:
        """Returns the error, in [0, 1]."""
        total = np.asarray(self.counts).sum()
        return float(np.abs(np.asarray(self.correct) - np.asarray(self.confidence)).sum() / total) if total else (
            float('nan'))


def per_class_table(confusion: np.ndarray, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns a row for each class: 'class', 'examples', 'precision', 'recall', 'f1' and 'most_confused_with'.

    Args:
      confusion: int [classes, classes], true classes in rows.

    What is 0 / 0, such as the precision of a class that is never predicted, is None.
    """
    rows = []
    for c, name in enumerate(class_names):
        hits, examples, predicted = confusion[c, c], confusion[c].sum(), confusion[:, c].sum()
        wrong = confusion[c].copy()
        wrong[c] = 0
        rows.append({'class': name, **class_scores(hits, examples, predicted),
                     'most_confused_with': class_names[int(wrong.argmax())] if wrong.any() else None})
    return rows


def class_scores(hits: int, examples: int, predicted: int) -> dict[str, Any]:
    """Returns 'examples', 'precision', 'recall' and 'f1' of one class; None where that is 0 / 0.

    Args:
      hits: how many examples of the class were predicted as such.
      examples: how many there are.
      predicted: how many examples of any class were predicted as this one.
    """
    def share(part, whole):
        return float(part / whole) if whole else None
    return {'examples': int(examples), 'precision': share(hits, predicted), 'recall': share(hits, examples),
            'f1': share(2 * hits, examples + predicted)}


class QuadraticKappa(ConfusionMatrix):
    """Cohen's kappa with quadratic weights (Cohen 1968), for classes in an order, such as grades of a disease.

    1 is agreement, 0 what chance would give; a mistake costs the square of the number of classes it is off by.
    """
    is_scalar = True

    def compute(self) -> float:
        """Returns kappa, in [-1, 1]; NaN if truth and prediction are of one and the same class throughout."""
        counts = super().compute().astype(float)
        cost = np.square(np.subtract.outer(np.arange(len(counts)), np.arange(len(counts))))
        expected = np.outer(counts.sum(axis=1), counts.sum(axis=0))
        by_chance = (cost * expected).sum()
        return float(1 - counts.sum() * (cost * counts).sum() / by_chance) if by_chance else float('nan')
