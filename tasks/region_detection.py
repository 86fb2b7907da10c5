"""R-CNN: what each of many regions of an image shows, and from that the objects in the image."""

import functools
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
from ..common.errors import UserError
from . import boxes as boxes_lib
from . import detection_figures, detection_metrics
from .detection import CANDIDATES, Detection
from .detection_examples import DetectionExamples
from .metrics import Mean, Ratio

_SCALE = (0.1, 0.1, 0.2, 0.2)  # of offsets, that networks learn in units of: Fast R-CNN's reference implementation
_LARGEST = float(np.log(1000 / 16))  # logarithm by which a box can be larger than its region: exp does not overflow
_ROUND = 128  # regions, up to a multiple of which those of an image are filled up: few programs for all images
_FOUND = 0.5  # overlap of a region with an object, from which on the object is within reach


class RegionDetection(Detection):
    """Learns from single regions; images are put together of all of theirs.

    The loss of a region is the cross-entropy of its class, and if it shows an object, `box_weight` times the smooth L1
    distance of its offsets (Girshick 2015, "Fast R-CNN", section 2.3). In an image every region is a candidate for
    every class, moved by its offsets; of those of one class that overlap the better one stays.

    Metrics of regions are loss, accuracy and `object_accuracy`, of those that show an object. Evaluation sets hold all
    regions of their images, so that of images there are detection's as well; and `proposal_recall`, the share of the
    objects that some region overlaps by half: no more can be found, but for what the offsets add.

    Args:
      config: 'box_weight'; 'overlap', 'lowest_score', 'max_detections' and 'shown_score', see `Detection`.
      info: of regions, see input_pipeline/region_source.py.

    Raises:
      UserError: a number out of its range, or data that are no regions.
    """
    fields = ('box_weight', 'overlap', 'lowest_score', 'max_detections', 'shown_score')

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        if len(info.class_names or ()) < 2 or info.input_size is None:
            raise UserError("config.task.name = 'region_detection' needs regions of images with boxes: "
                            "config.data.regions.kind = 'selective_search'")
        defaults = {'overlap': 0.3}  # the paper's code; objects of one class seldom overlap by more
        super().__init__(defaults | dict(config), info.replace(class_names=info.class_names[1:]))
        self.config, self.info = config, info
        self.box_weight = config.get('box_weight', 1.0)
        if isinstance(self.box_weight, bool) or not isinstance(self.box_weight, (int, float)) or not (
                0 <= self.box_weight < np.inf):
            raise UserError(f'config.task.box_weight = {self.box_weight!r}: it is a number from 0 on')
        self.per_example = RegionExamples(self)

        @flax.struct.dataclass
        class Metrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            class_loss: Mean.from_output('class_loss')
            box_loss: Mean.from_output('box_loss')
            accuracy: Mean.from_output('correct')
            object_accuracy: Ratio.of('correct_object', 'is_object')

        self.train_metrics = self.eval_metrics = Metrics

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of classes, the background among them."""
        return {'num_classes': 1 + len(self.class_names)}

    def score(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each region.

        Args:
          outputs: of models/rcnn.py.
          batch: 'label' and 'box_target', see input_pipeline/region_source.py.

        Returns:
          'loss', its parts 'class_loss' and 'box_loss', 'correct', 'is_object' and 'correct_object', each [batch].
        """
        if not isinstance(outputs, Mapping) or 'box_offsets' not in outputs:
            raise UserError("config.task.name = 'region_detection' takes config.model.name = 'rcnn'")
        label = batch['label']
        is_object = (label > 0).astype(jnp.float32)
        class_loss = optax.softmax_cross_entropy_with_integer_labels(outputs['logits'], label)
        kind = jnp.maximum(label - 1, 0)[:, None, None]
        offsets = jnp.take_along_axis(outputs['box_offsets'], kind, axis=1)[:, 0]
        errors = optax.huber_loss(offsets, batch['box_target'] / jnp.asarray(_SCALE))
        box_loss = self.box_weight * is_object * jnp.sum(errors, axis=-1)
        correct = (jnp.argmax(outputs['logits'], axis=-1) == label).astype(jnp.float32)
        return {'loss': class_loss + box_loss, 'class_loss': class_loss, 'box_loss': box_loss, 'correct': correct,
                'is_object': is_object, 'correct_object': correct * is_object}

    def decode(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns of each region 'probabilities', float32 [batch, 1 + classes], and 'box_offsets' in shares of it."""
        return {'probabilities': jax.nn.softmax(outputs['logits']),
                'box_offsets': outputs['box_offsets'] * jnp.asarray(_SCALE)}

    def combine(self, regions: np.ndarray, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the objects of one image: what `Detection.decode` returns, without the first dimension.

        Args:
          regions: float [n, 4], in pixels of the image that they were cut out of.
          found: what `decode` returned of them, [n, ...].
        """
        missing = -len(regions) % _ROUND
        filled = [np.pad(np.asarray(values, np.float32), ((0, missing),) + ((0, 0),) * (np.ndim(values) - 1))
                  for values in (regions, found['probabilities'], found['box_offsets'])]
        return jax.tree.map(np.asarray, self._combined(*filled))

    @functools.cached_property
    def _combined(self):
        @jax.jit
        def combined(regions, probabilities, offsets):
            boxes = boxes_lib.clip(refine(regions[:, None], offsets), self.size)
            # A box of nothing at the edge would overlap none.
            scores = jnp.where(boxes_lib.area(boxes) > 0, probabilities[:, 1:], 0).reshape(-1)
            scores, places = lax.top_k(scores, min(CANDIDATES, len(scores)))
            scores = jnp.where(scores >= self.lowest_score, scores, 0)
            return self._select(boxes.reshape(-1, 4)[places], scores, places % len(self.class_names))
        return combined

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns the curves and counts of `detection_figures.draw`; the worst examples are regions, and not drawn."""
        del worst, first
        return detection_figures.draw(metrics, (), self.class_names, self.shown_score)


class RegionExamples(DetectionExamples):
    """Looks at every evaluated region, and from all of them at every image.

    Args:
      task: that the regions are of.
    """

    def __init__(self, task: RegionDetection):
        super().__init__(task.class_names, task.size, task.decode, task.shown_score)
        self._task = task
        self.metrics = (*self.metrics, 'proposal_recall')

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a region shows and is taken for, and for `summarize` its 'found', see `RegionDetection.decode`.

        Args:
          output: of `decode`.
          example: 'label'.
          metadata: not used here; see input_pipeline/region_source.py.
        """
        del metadata
        names = ('background', *self.class_names)
        label = int(example['label'])
        return {'label': names[label], 'prediction': names[int(output['probabilities'].argmax())],
                'probability': float(output['probabilities'][label]), 'found': dict(output)}

    def listed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a row for a file, without what is of the whole image."""
        return {key: value for key, value in row.items() if key not in ('found', 'objects')}

    def severity(self, row: Mapping[str, Any]) -> float:
        """Returns how improbable the truth is taken to be."""
        return 1 - row['probability']

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns detection's metrics over all images, see `DetectionExamples.summarize`, and 'proposal_recall'."""
        images: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows:
            images.setdefault(row['image_number'], []).append(row)
        measured, within_reach, objects = [], 0, 0
        for own in images.values():
            regions = np.asarray([row['region'] for row in own], np.float32)
            found = {name: np.stack([row['found'][name] for row in own]) for name in own[0]['found']}
            truth = np.asarray(own[0]['objects'], np.float64).reshape(-1, 6)
            example = {'box_labels': truth[:, 0].astype(int), 'box_crowd': truth[:, 1], 'boxes': truth[:, 2:]}
            measured.append(own[0] | super().measure(self._task.combine(regions, found), example, own[0]))
            to_find = truth[truth[:, 1] == 0, 2:]
            overlaps = detection_metrics.overlaps(regions.astype(np.float64), to_find, np.zeros(len(to_find), bool))
            within_reach += int((overlaps.max(axis=0, initial=0) >= _FOUND).sum())
            objects += len(to_find)
        recall = {'proposal_recall': within_reach / objects} if objects else {}
        return super().summarize(measured) | recall


def refine(regions: jax.Array, offsets: jax.Array) -> jax.Array:
    """Returns the boxes that offsets say, float32 [..., 4]; the inverse of `region_source.box_targets`.

    Args:
      regions: float32 [..., 4].
      offsets: float32 [..., 4].
    """
    sides = regions[..., 2:] - regions[..., :2]
    centres = (regions[..., :2] + regions[..., 2:]) / 2 + sides * offsets[..., :2]
    half = sides * jnp.exp(jnp.minimum(offsets[..., 2:], _LARGEST)) / 2
    return jnp.concatenate([centres - half, centres + half], axis=-1)
