"""Classification in which an example may belong to several classes or to none."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from .classification_metrics import RocAuc, class_scores
from .metrics import LabelCounts, Mean, Ratio
from .prediction import Prediction, sigmoid
from .task import Task

_MOST_RANKED = 100  # classes up to which the log-odds of all examples are kept, for AUC


class MultiLabel(Task):
    """Sigmoid cross-entropy, averaged over the classes of an example.

    Args:
      config: 'threshold' in (0, 1): the probability above which a class counts as predicted. 'class_weights': a number
        above 0 for each class, of its part in the loss; () for equal ones. 'positive_weight': how much more an example
        of a class counts in the loss than one without it, for classes that are rare: one number above 0, or one for
        each class.
      info: 'class_names', a sequence of strings.

    Raises:
      UserError: the data have no classes or no 'labels', or a field is out of range.
    """
    fields = ('threshold', 'class_weights', 'positive_weight')
    primary_metric = 'micro_f1'
    output_name = 'logits'
    takes_top_k = False

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        self.input_features = ('x',) if 'x' in info.features and 'image' not in info.features else ('image',)
        super().__init__(config, info)
        self.class_names = tuple(info.class_names or ())
        if not self.class_names:
            raise UserError('multi_label needs classes, the data set has none')
        if info.features and 'labels' not in info.features:
            raise UserError(f"multi_label needs the feature 'labels', the data have {', '.join(info.features)}: "
                            'another config.task or config.data')
        self.threshold = config.get('threshold', 0.5)
        if not _is_number(self.threshold) or not 0 < self.threshold < 1:
            raise UserError(f'config.task.threshold = {self.threshold}: it must be between 0 and 1')
        weights = self._weights('class_weights', config.get('class_weights', ()) or 1.0)
        self._class_weights = weights / weights.mean()
        self._positive_weight = self._weights('positive_weight', config.get('positive_weight', 1.0))
        num_classes = len(self.class_names)
        trained = {'loss': Mean.from_output('loss'), 'exact_match': Mean.from_output('exact_match'),
                   'micro_f1': Ratio.of('twice_hits', 'present_and_predicted')}
        evaluated = trained | {'label_counts': LabelCounts.of(num_classes)}
        if num_classes <= _MOST_RANKED:
            evaluated['auc'] = RocAuc.of(num_classes, several_labels=True)
        self.train_metrics = clu_metrics.Collection.create(**trained)
        self.eval_metrics = clu_metrics.Collection.create(**evaluated)

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of classes."""
        return {'num_classes': len(self.class_names)}

    def score(self, logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each example.

        Args:
          logits: float32 [batch, classes].
          batch: 'labels', float32 or uint8 [batch, classes] of 0 and 1.

        Returns:
          'loss'; 'exact_match', 1 where all classes are right; 'twice_hits' and 'present_and_predicted', the counts
          whose sums give micro F1, each [batch]; 'log_odds', 'labels' and 'predicted', [batch, classes].
        """
        labels = batch['labels']
        if jnp.shape(logits) != labels.shape or labels.shape[-1] != len(self.class_names):
            raise UserError(f'config.task.name: multi_label takes logits and labels [batch, {len(self.class_names)}], '
                            f'this model gives {list(jnp.shape(logits))} and the data {list(labels.shape)}: another '
                            'config.model, config.task or config.data')
        labels = labels.astype(jnp.float32)
        losses = -(self._positive_weight * labels * jax.nn.log_sigmoid(logits)
                   + (1 - labels) * jax.nn.log_sigmoid(-logits))
        predicted = self._predicted(logits).astype(jnp.float32)
        return {'loss': jnp.mean(losses * self._class_weights, axis=-1),
                'exact_match': jnp.all(predicted == labels, axis=-1).astype(jnp.float32),
                'twice_hits': 2 * jnp.sum(predicted * labels, axis=-1),
                'present_and_predicted': jnp.sum(predicted + labels, axis=-1),
                'log_odds': logits, 'labels': labels, 'predicted': predicted}

    def combine_views(self, logits: jax.Array) -> jax.Array:
        """Returns logits whose sigmoid is the mean of that over several views of the same images.

        Args:
          logits: float32 [views, batch, classes].
        """
        return (jax.nn.logsumexp(jax.nn.log_sigmoid(logits), axis=0)
                - jax.nn.logsumexp(jax.nn.log_sigmoid(-logits), axis=0))

    def predict(self, logits: np.ndarray, image: np.ndarray, metadata: Mapping[str, Any], top_k: int) -> Prediction:
        """Returns the classes of one example above the threshold with their probabilities in percent, likeliest first.

        Args:
          logits: float [classes].
          image, metadata: not used.
          top_k: not used: it is the threshold that decides.
        """
        del image, metadata, top_k
        logits = np.asarray(logits, np.float32)
        percent = 100 * sigmoid(logits)
        found = [c for c in np.argsort(-logits, kind='stable') if self._predicted(logits[c])]
        return Prediction({'classes': [self.class_names[c] for c in found],
                           'percent': [float(percent[c]) for c in found]})

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a table: 'classes' and 'percent', each separated by '; '."""
        return {'classes': '; '.join(row['classes']), 'percent': '; '.join(f'{share:.2f}' for share in row['percent'])}

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line: 'boat : 96.27 %   water : 81.10 %'."""
        classes = '   '.join(f'{name} : {share:.2f} %' for name, share in zip(row['classes'], row['percent']))
        return classes or f'no class above {100 * self.threshold:g} %'

    def tables(self, metrics: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Returns precision, recall and F1 of every class."""
        if 'label_counts' not in metrics:
            return {}
        return {'per_class': [{'class': name, **class_scores(*counts)}
                              for name, counts in zip(self.class_names, metrics['label_counts'])]}

    def _predicted(self, logits: Any) -> Any:
        """Whether probabilities are above the threshold; of logits, which are never rounded to 1."""
        return logits > math.log(self.threshold / (1 - self.threshold))

    def _weights(self, field: str, value: Any) -> np.ndarray:
        """Returns one number above 0 for every class, float32 [classes]."""
        values = (value,) * len(self.class_names) if _is_number(value) else tuple(value)
        if len(values) != len(self.class_names) or not all(_is_number(v) and 0 < v < math.inf for v in values):
            raise UserError(f'config.task.{field} = {value}: give one number above 0 for each of '
                            f'{", ".join(self.class_names)}, or {"()" if field == "class_weights" else "one for all"}')
        return np.asarray(values, np.float32)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
