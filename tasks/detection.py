"""Detection: the class and the box of every object in an image."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics
from jax import lax

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from . import box_drawing, detection_examples, detection_figures
from . import boxes as boxes_lib
from .metrics import Mean
from .prediction import Prediction
from .task import Task

LOSSES = ('object', 'detectnet')
DECODERS = ('nms', 'cluster')

_FRACTION = 0.4  # of a box's sides that its region has, as in DetectNet
_GAMMA, _ALPHA = 2.0, 0.75  # of the focal loss; of cells without objects
CANDIDATES = 300  # boxes of an image that are compared with one another


class Detection(Task):
    """Trains every cell near the middle of an object to say its class and box; the others, that nothing is there.

    The cells of an object are those in a region about its centre, see `boxes.assign`. Losses are sums over an image's
    cells, divided by its number of objects (at least 1): an image counts the same whatever else is in the batch.

    - object: quality focal loss of the classes, where the truth is the overlap of the cell's box with the object's (Li
      et al. 2020, "Generalized focal loss", section 3.2), and 1 - GIoU of the boxes. Every object has the same weight
      however many cells it has: otherwise large ones drown small ones.
    - detectnet: squared error of the classes' probabilities, and 2 times the absolute error of the box's sides, divided
      by its width or height (NVIDIA 2016, DetectNet, the layers coverage_loss and bbox_loss), every cell with the same
      weight.

    Args:
      config: 'loss', one of LOSSES; 'decoder', 'nms' (of two boxes that overlap by more than `overlap` the better one
        stays) or 'cluster' (boxes that are alike become one, as in DetectNet, see `boxes.cluster`); 'overlap' for nms;
        'region', sides of a region are at least so many strides; 'lowest_score' of what is found at all, which for
        metrics should be low; 'max_detections' of an image; 'shown_score' of what is drawn, counted and predicted.
      info: 'class_names' and 'input_size'.

    Raises:
      UserError: an unknown name, a number out of its range, or data without boxes.
    """
    fields = ('loss', 'decoder', 'overlap', 'region', 'lowest_score', 'max_detections', 'shown_score')
    primary_metric = 'ap50'
    writes_files, takes_top_k = True, False

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        if info.input_size is None or not info.class_names:
            raise UserError("config.task.name = 'detection' needs examples with boxes: config.data.source = "
                            "'voc_folder', 'coco' or 'yolo_folder', or a tfds data set with objects")
        self.class_names, self.size = tuple(info.class_names), tuple(info.input_size)
        self.loss = _one_of(config, 'loss', LOSSES)
        self.decoder = _one_of(config, 'decoder', DECODERS)
        self.overlap = _between(config, 'overlap', 0.5, 0, 1)
        self.region = _between(config, 'region', 1.5, 0, 100)
        self.lowest_score = _between(config, 'lowest_score', 0.01, 0, 1)
        self.shown_score = _between(config, 'shown_score', 0.4, 0, 1)
        self.max_detections = int(_between(config, 'max_detections', 100, 1, 10_000))
        self.per_example = detection_examples.DetectionExamples(self.class_names, self.size, self.decode,
                                                                self.shown_score)

        @flax.struct.dataclass
        class Metrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            class_loss: Mean.from_output('class_loss')
            box_loss: Mean.from_output('box_loss')

        self.train_metrics = self.eval_metrics = Metrics

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of classes and the size of the images."""
        return {'num_classes': len(self.class_names), 'image_size': self.size}

    def score(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each image.

        Args:
          outputs: of models/detector.py.
          batch: 'boxes', 'box_labels' and 'box_crowd', see input_pipeline/source.py.

        Returns:
          'loss', and its parts 'class_loss' and 'box_loss', each [batch].
        """
        truth = {name: batch[name] for name in ('boxes', 'box_labels', 'box_crowd')}
        if not isinstance(outputs, Mapping) or 'distances' not in outputs:
            raise UserError("config.task.name = 'detection' takes config.model.name = 'detector'")
        losses = jax.vmap(self._losses)(outputs, truth)
        return dict(losses, loss=losses['class_loss'] + losses['box_loss'])

    def _losses(self, outputs: Mapping[str, jax.Array], truth: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """The parts of one image's loss, scalars."""
        cells = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]) if x.ndim == 3 else x, dict(outputs))
        given = boxes_lib.assign(truth['boxes'], truth['box_labels'], truth['box_crowd'], cells['centres'],
                                 cells['stride'], fraction=_FRACTION, least=self.region)
        objects = jnp.maximum(jnp.sum((truth['box_labels'] >= 0) & (truth['box_crowd'] == 0)), 1).astype(jnp.float32)
        label = jax.nn.one_hot(truth['box_labels'][given.owner], len(self.class_names)) * given.positive[:, None]
        goal = truth['boxes'][given.owner]
        found = _corners(cells)
        counted = ~given.ignored[:, None]
        if self.loss == 'detectnet':
            positives = jnp.maximum(jnp.sum(given.positive), 1)
            errors = (jax.nn.sigmoid(cells['logits']) - label) ** 2
            sides = jnp.maximum(goal[:, 2:] - goal[:, :2], 1)
            wide = jnp.abs(found - goal) / jnp.concatenate([sides, sides], axis=-1)
            wide = jnp.sum(jnp.where(given.positive[:, None], wide, 0))
            return {'class_loss': jnp.sum(errors * counted) / positives, 'box_loss': 2 * wide / positives}
        goal = jnp.where(given.positive[:, None], goal, found)  # cells without an object: no gradient, no NaN
        iou, overlap = boxes_lib.giou(found, goal)
        # As many cells as the mean object has: the weights of an image's cells sum to the number of its positive ones.
        positives = jnp.maximum(jnp.sum(given.positive), 1)
        weight = given.share * positives / objects
        quality = label * lax.stop_gradient(iou)[:, None]
        probability = jax.nn.sigmoid(cells['logits'])
        entropy = optax.sigmoid_binary_cross_entropy(cells['logits'], quality)
        focal = jnp.abs(quality - probability) ** _GAMMA * entropy
        focal = jnp.where(label > 0, focal * weight[:, None], focal) * counted
        return {'class_loss': jnp.sum(focal) / positives, 'box_loss': jnp.sum(weight * (1 - overlap)) / positives}

    def decode(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Finds objects.

        Args:
          outputs: of models/detector.py.

        Returns:
          'boxes' float32 [batch, max_detections, 4] in pixels of the input, 'scores' float32 [batch, max_detections]
          in descending order, 0 where there is none, and 'classes' int32 likewise, -1 where there is none.
        """
        return jax.vmap(self._decode)(dict(outputs))

    def _decode(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        cells = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]) if x.ndim == 3 else x, dict(outputs))
        scores = jax.nn.sigmoid(cells['logits']).reshape(-1)
        scores, places = lax.top_k(scores, min(CANDIDATES, len(scores)))
        scores = jnp.where(scores >= self.lowest_score, scores, 0)
        cell, classes = jnp.divmod(places, len(self.class_names))
        return self._select(boxes_lib.clip(_corners(cells), self.size)[cell], scores, classes)

    def _select(self, found: jax.Array, scores: jax.Array, classes: jax.Array) -> dict[str, jax.Array]:
        """Returns what is left of the candidates of an image, see `decode`; they come in descending order of scores."""
        if self.decoder == 'cluster':
            found, scores = boxes_lib.cluster(found, scores, classes, least=1, tolerance=0.2)
        else:
            kept = boxes_lib.non_maximum_suppression(found, scores, classes, self.overlap)
            scores = jnp.where(kept, scores, 0)
        short = self.max_detections - len(scores)
        scores, best = lax.top_k(scores, min(self.max_detections, len(scores)))
        there = scores > 0
        result = {'boxes': jnp.where(there[:, None], found[best], 0), 'scores': scores,
                  'classes': jnp.where(there, classes[best], -1).astype(jnp.int32)}
        if short <= 0:
            return result
        empty = {'boxes': 0, 'scores': 0, 'classes': -1}
        return {name: jnp.pad(values, ((0, short),) + ((0, 0),) * (values.ndim - 1), constant_values=empty[name])
                for name, values in result.items()}

    def predict(self, output: Mapping[str, np.ndarray], image: np.ndarray, metadata: Mapping[str, Any], top_k: int
                ) -> Prediction:
        """Says what was found in one image, in pixels of its own size.

        Args:
          output: of `decode`, for this image.
          image: uint8 [own height, own width, channels].
          metadata: not used.
          top_k: not used; `shown_score` decides.

        Returns:
          'width' and 'height' of the image; 'objects', of each that is shown 'class', 'percent' and 'box', left, top,
          right and bottom; 'counts' of each class. As a file the image with its boxes; as `found` everything, of any
          score.
        """
        del metadata, top_k
        height, width = image.shape[:2]
        there = output['scores'] > 0
        found = {name: values[there] for name, values in output.items()}
        scale = np.array([width / self.size[1], height / self.size[0]] * 2)
        return self.say(found | {'boxes': found['boxes'].astype(np.float64) * scale}, image)

    def say(self, found: Mapping[str, np.ndarray], image: np.ndarray) -> Prediction:
        """Returns what `predict` does; found: 'boxes' [n, 4] in pixels of the image, 'scores' [n], 'classes' [n]."""
        shown = {name: values[found['scores'] >= self.shown_score] for name, values in found.items()}
        objects = [{'class': self.class_names[kind], 'percent': round(100 * float(score), 2),
                    'box': [round(edge, 2) for edge in box]}
                   for kind, score, box in zip(shown['classes'], shown['scores'], shown['boxes'].tolist())]
        counts = {name: int((shown['classes'] == number).sum()) for number, name in enumerate(self.class_names)}
        drawn = box_drawing.draw_boxes(image, shown['boxes'], shown['classes'], shown['scores'],
                                       class_names=self.class_names)
        row = {'width': image.shape[1], 'height': image.shape[0], 'objects': objects, 'counts': counts}
        return Prediction(row, {'boxes.png': drawn}, dict(found))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns 'dog 97 % at 12 40 200 310   ...', left, top, right and bottom in pixels."""
        return '   '.join(f"{one['class']} {one['percent']:.0f} % at {' '.join(f'{edge:.0f}' for edge in one['box'])}"
                          for one in row['objects']) or 'nothing'

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns how many objects of each class there are."""
        return dict(row['counts'])

    def tables(self, metrics: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Returns 'per_class', see `detection_examples.class_rows`."""
        return {'per_class': detection_examples.class_rows(metrics, self.class_names)} if (
            'class_scores' in metrics) else {}

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns the curves, counts and worst images of `detection_figures.draw`."""
        del first
        return detection_figures.draw(metrics, worst, self.class_names, self.shown_score)


def _corners(cells: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the boxes that cells mean, float32 [cells, 4]."""
    x_y, distances = cells['centres'], cells['distances']
    return jnp.concatenate([x_y - distances[:, :2], x_y + distances[:, 2:]], axis=-1)


def _one_of(config: Mapping[str, Any], field: str, known: tuple[str, ...]) -> str:
    value = config.get(field, known[0])
    if value not in known:
        raise UserError(f'config.task.{field} = {value!r}; {nearest(str(value), known)}')
    return value


def _between(config: Mapping[str, Any], field: str, default: float, low: float, high: float) -> float:
    value = config.get(field, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UserError(f'config.task.{field} = {value!r}: it is a number from {low} to {high}')
    return value
