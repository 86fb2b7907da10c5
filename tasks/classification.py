"""Image classification with one label per image."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, some
from ..common.vocabulary import Vocabulary
from . import fit_figures
from .classification_examples import ClassificationExamples, draw_worst_examples
from .classification_metrics import CalibrationError, QuadraticKappa, RocAuc, log_odds, per_class_table
from .decisions import Decisions
from .metrics import ConfusionMatrix, Mean
from .prediction import Prediction, softmax
from .task import Task

_MOST_RANKED = 100  # classes up to which the probabilities of all examples are kept, for AUC


class Classification(Task):
    """Softmax cross-entropy over classes.

    Args:
      config: 'label_smoothing' in [0, 1) (Szegedy et al. 2016, section 7). 'class_weights': of the loss of examples of
        each class, a number above 0 for each, or 'balanced' for the inverse of their frequencies; their mean is made 1;
        () for none. 'focal_gamma': exponent of the focal loss (Lin et al. 2017), 0 for none. 'auxiliary_weight': of the
        losses of auxiliary classifiers, for models that have them (0.3 in Szegedy et al. 2015, section 5).
        'per_example': whether evaluations list every example and show the worst mistakes. 'decisions': (decision, class
        names or regexes) pairs, see tasks/decisions.py. 'ordered': whether the order of the classes means something, as
        of grades of a disease: then Cohen's quadratic kappa is measured too.
      info: 'class_names', a sequence of strings; 'class_counts' for balanced weights.

    Raises:
      UserError: the data have no classes, or a field is out of range.
    """
    fields = ('label_smoothing', 'class_weights', 'focal_gamma', 'auxiliary_weight', 'per_example', 'decisions',
              'ordered')
    primary_metric = 'accuracy'
    output_name = 'logits'
    takes_mixed_labels = True

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        self.input_features = (next((name for name in ('image', 'x', 'tokens') if name in info.features), 'image'),)
        super().__init__(config, info)
        self.class_names = tuple(info.class_names or ())
        if len(self.class_names) < 2:
            raise UserError(f'classification needs at least 2 classes, the data set has {len(self.class_names)}')
        self.label_smoothing = config.get('label_smoothing', 0.0)
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f'config.task.label_smoothing = {self.label_smoothing}: it must be in [0, 1)')
        self.class_weights = _class_weights(config.get('class_weights', ()), info)
        self.focal_gamma = config.get('focal_gamma', 0.0)
        if not 0 <= self.focal_gamma < math.inf:
            raise UserError(f'config.task.focal_gamma = {self.focal_gamma}: it must be a number from 0 on')
        self.auxiliary_weight = config.get('auxiliary_weight', 0.3)
        self.decisions = Decisions(config.get('decisions', ()), self.class_names)
        self.per_example = ClassificationExamples(self.class_names) if config.get('per_example', False) else None
        if 'tokens' in self.input_features and info.vocabulary is not None:
            self.input_vocabulary = Vocabulary.from_meta(info.vocabulary)
        num_classes = len(self.class_names)

        @flax.struct.dataclass
        class TrainMetrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            accuracy: Mean.from_output('correct')

        evaluated = {'loss': Mean.from_output('loss'), 'accuracy': Mean.from_output('correct'),
                     'calibration_error': CalibrationError, 'confusion': ConfusionMatrix.of(num_classes)}
        if num_classes > 5:
            evaluated['top5_accuracy'] = Mean.from_output('top5_correct')
        if num_classes <= _MOST_RANKED:
            evaluated['auc'] = RocAuc.of(num_classes)
        if config.get('ordered', False):
            evaluated['quadratic_kappa'] = QuadraticKappa.of(num_classes)
        if self.decisions:
            evaluated['decision_accuracy'] = Mean.from_output('decision_correct')
        self.train_metrics = TrainMetrics
        self.eval_metrics = clu_metrics.Collection.create(**evaluated)

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of classes, and of the tokens of texts."""
        fields = {'num_classes': len(self.class_names)}
        return fields | ({'input_vocabulary_size': self.input_vocabulary.size} if self.input_vocabulary else {})

    def score(self, outputs: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each example.

        Args:
          outputs: logits, float32 [batch, classes], or {'logits', 'auxiliary': tuple of further logits}.
          batch: 'label', int32 [batch]; where images are mixed also 'mixed_label', int32 [batch], and 'mix', float32
            [batch], the share of 'label' in the loss. A label that is no class makes the loss NaN.

        Returns:
          'loss', 'correct', 'top5_correct', 'label', 'prediction', each [batch], 'probabilities' and 'log_odds'
          [batch, classes].
        """
        auxiliary = ()
        if isinstance(outputs, dict):
            outputs, auxiliary = outputs['logits'], outputs['auxiliary']
        label = batch['label']
        if outputs.shape != (len(label), len(self.class_names)):
            raise UserError(f'config.task.name: classification takes logits [batch, {len(self.class_names)}], this '
                            f'model gives {list(outputs.shape)}: another config.model or config.task')
        loss = self._loss(outputs, batch)
        for logits in auxiliary:
            loss += self.auxiliary_weight * self._loss(logits, batch)
        prediction = jnp.argmax(outputs, axis=-1)
        above = jnp.sum(outputs > jnp.take_along_axis(outputs, label[:, None], axis=-1), axis=-1)
        scores = {'loss': loss, 'label': label, 'prediction': prediction,
                  'correct': (prediction == label).astype(jnp.float32),
                  'top5_correct': (above < 5).astype(jnp.float32),
                  'probabilities': jax.nn.softmax(outputs)}
        if len(self.class_names) <= _MOST_RANKED:
            scores['log_odds'] = log_odds(outputs)
        if self.decisions:
            scores['decision_correct'] = self.decisions.correct(scores['probabilities'], label)
        return scores

    def _loss(self, logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the loss of each example, [batch]."""
        loss = self._cross_entropy(logits, batch['label'])
        if 'mix' not in batch:
            return loss
        return batch['mix'] * loss + (1 - batch['mix']) * self._cross_entropy(logits, batch['mixed_label'])

    def _cross_entropy(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        classes = len(self.class_names)
        truth = jax.nn.one_hot(label, classes)
        targets = optax.smooth_labels(truth, self.label_smoothing) if self.label_smoothing else truth
        loss = optax.softmax_cross_entropy(logits, targets)
        if self.focal_gamma:
            wrong = -jnp.expm1(-optax.softmax_cross_entropy(logits, truth))  # 1 - probability of the label
            loss *= jnp.maximum(wrong, 1e-7) ** self.focal_gamma  # at 0 the slope of the power may be infinite
        if self.class_weights is not None:
            loss *= jnp.asarray(self.class_weights)[label]
        return jnp.where((label >= 0) & (label < classes), loss, jnp.nan)

    def combine_views(self, logits: jax.Array) -> jax.Array:
        """Returns logits whose softmax is the mean of that over several views of the same images.

        Args:
          logits: float32 [views, batch, classes].
        """
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(logits.shape[0])

    def predict(self, logits: np.ndarray, image: np.ndarray, metadata: Mapping[str, Any], top_k: int) -> Prediction:
        """Returns the `top_k` classes of one example with their probabilities in percent, the likeliest first.

        Args:
          logits: float [classes].
          image: not used.
          metadata: not used.
          top_k: how many classes.
        """
        del image, metadata
        probabilities = softmax(logits.astype(np.float32))
        order = np.argsort(-probabilities, kind='stable')[:top_k]
        row = {'classes': [self.class_names[c] for c in order],
               'percent': [100.0 * float(probabilities[c]) for c in order]}
        if self.decisions:
            row['decision'] = self.decisions(probabilities)
        return Prediction(row)

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a table: class_1, percent_1, class_2, ..."""
        pairs = enumerate(zip(row['classes'], row['percent']), start=1)
        decision = {'decision': row['decision']} if 'decision' in row else {}
        return decision | {key: value for i, (name, share) in pairs
                for key, value in ((f'class_{i}', name), (f'percent_{i}', f'{share:.2f}'))}

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line: '2 : 96.27 %   3 : 2.10 %'."""
        classes = '   '.join(f'{name} : {share:.2f} %' for name, share in zip(row['classes'], row['percent']))
        return f"{row['decision']}   ({classes})" if 'decision' in row else classes

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                 first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns figures: the confusion matrix, and the worst mistakes where `cases` are looked at."""
        del first
        figures = {}
        if 'confusion' in metrics:
            figures['confusion_matrix'] = draw_confusion_matrix(metrics['confusion'], self.class_names)
        if worst:
            figures['worst_examples'] = draw_worst_examples(worst)
        return figures

    def fit_figures(self, model: Any, variables: Mapping[str, Any], sets: Mapping[str, Mapping[str, np.ndarray]]
                    ) -> dict[str, Any]:
        """Returns which class each point of a plane is taken for, as 'regions'."""
        if not fit_figures.is_plane(sets):
            return {}
        return {'regions': fit_figures.draw_regions(
            lambda points: softmax(fit_figures.apply(model, variables, points)), sets, self.class_names)}

    def tables(self, metrics: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Returns precision, recall and F1 of every class."""
        return {'per_class': per_class_table(metrics['confusion'], self.class_names)} if 'confusion' in metrics else {}


def _class_weights(given: Any, info: DatasetInfo) -> np.ndarray | None:
    """Returns float32 [classes] with mean 1; None for no weights."""
    names = info.class_names
    if given in ('balanced', ('balanced',)):
        if info.class_counts is None:
            raise UserError("config.task.class_weights = 'balanced': how many examples of each class there are is not "
                            f'known of these data: give one number for each of {some(names)}')
        if 0 in info.class_counts:
            raise UserError("config.task.class_weights = 'balanced': there is no training example of "
                            f'{names[info.class_counts.index(0)]!r}')
        weights = 1 / np.asarray(info.class_counts, np.float64)
    else:
        weights = tuple(given) if not isinstance(given, str) else (given,)
        if not weights:
            return None
        if len(weights) != len(names) or not all(map(_is_weight, weights)):
            raise UserError(f"config.task.class_weights = {weights}: give one number above 0 for each of "
                            f"{some(names)}, or 'balanced', or ()")
        weights = np.asarray(weights, np.float64)
    return (weights / weights.mean()).astype(np.float32)


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def draw_confusion_matrix(counts: np.ndarray, class_names: tuple[str, ...]):
    """Draws int [classes, classes] counts, true classes in rows, coloured by the share of their row."""
    from matplotlib.figure import Figure  # half a second that only images need
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
