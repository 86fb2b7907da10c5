"""Semantic segmentation: a class for every pixel."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from . import outlines, overlays, segmentation_metrics
from .metrics import Mean, Ratio
from .prediction import Prediction, softmax
from .task import PerExample, Task

LOSSES = ('cross_entropy', 'dice', 'cross_entropy_dice')


class Segmentation(Task):
    """Pixelwise cross-entropy, soft Dice, or their sum; scored image by image with exact masks.

    - cross_entropy: mean over the image's pixels, each weighted by its class's weight (and divided by the sum of the
      weights), so that an image counts the same whatever else is in the batch.
    - dice: 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) of probabilities p and truth t over the image, averaged over
      all classes but the background (Milletari et al. 2016, without the squares; Drozdzal et al. 2016).

    Args:
      config: 'loss', one of LOSSES; 'class_weights', a number above 0 for each class, or ().
      info: 'class_names'; class 0 is the background. 'contour_origin', (x, y) of the top left pixel's centre in the
        data set's own contours; (0, 0) if there is none.

    Raises:
      UserError: an unknown loss, fewer than 2 classes, or weights that do not fit them.
    """
    fields = ('loss', 'class_weights')
    primary_metric = 'dice'
    output_name = 'logits'
    writes_files, takes_top_k = True, False

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        self.class_names = tuple(info.class_names or ())
        if len(self.class_names) < 2:
            raise UserError(f'segmentation needs at least 2 classes, the data set has {len(self.class_names)}')
        self.loss = config.get('loss', 'cross_entropy')
        if self.loss not in LOSSES:
            raise UserError(f'config.task.loss = {self.loss!r}; {nearest(self.loss, LOSSES)}')
        weights = tuple(config.get('class_weights', ()))
        if weights and (len(weights) != len(self.class_names) or not all(map(_is_weight, weights))):
            raise UserError(f'config.task.class_weights = {weights}: give one number above 0 for each of '
                            f'{", ".join(self.class_names)}, or ()')
        self.class_weights = weights
        self.contour_origin = np.asarray(info.other.get('contour_origin', (0, 0)), float)
        self.per_example = SegmentationExamples(self.class_names)

        @flax.struct.dataclass
        class TrainMetrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            accuracy: Mean.from_output('accuracy')
            dice: Ratio.of('dice_sum', 'dice_count')

        @flax.struct.dataclass
        class EvalMetrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            accuracy: Mean.from_output('accuracy')

        self.train_metrics = TrainMetrics
        self.eval_metrics = EvalMetrics

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of classes."""
        return {'num_classes': len(self.class_names)}

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array]:
        """Returns (images,), float [batch, height, width, channels]."""
        if 'segmentation_mask' not in batch and 'label' in batch:
            raise KeyError('segmentation_mask')  # as for a missing image: the caller says what the examples have
        return super().inputs(batch)

    def score(self, logits: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each image.

        Args:
          logits: float32 [batch, height, width, classes].
          batch: 'segmentation_mask', integer [batch, height, width].

        Returns:
          Each [batch]: 'loss'; 'accuracy', the share of right pixels; 'dice_sum' and 'dice_count', the sum of the Dice
          of the classes but the background that are in either mask, and their number.
        """
        mask = batch['segmentation_mask']
        if logits.shape != (*mask.shape, len(self.class_names)):
            raise UserError(f'config.task.name: segmentation takes logits [batch, height, width, '
                            f'{len(self.class_names)}], this model gives {list(logits.shape)}: another config.model or '
                            'config.task')
        prediction = jnp.argmax(logits, axis=-1)
        pixels = (-3, -2)
        truth, found = (array[..., None] == jnp.arange(1, len(self.class_names)) for array in (mask, prediction))
        areas = jnp.sum(truth, pixels) + jnp.sum(found, pixels)
        dice = 2.0 * jnp.sum(truth & found, pixels) / jnp.maximum(areas, 1)  # 0 where the class is in neither
        return {'loss': self._loss(logits, mask), 'accuracy': jnp.mean(prediction == mask, (-2, -1)),
                'dice_sum': jnp.sum(dice, -1), 'dice_count': jnp.sum(areas > 0, -1).astype(jnp.float32)}

    def _loss(self, logits: jax.Array, mask: jax.Array) -> jax.Array:
        # One-hot rather than a gather: XLA would fold the gather's scatter for a second at every compilation.
        truth = jax.nn.one_hot(mask, len(self.class_names))
        log_probabilities = jax.nn.log_softmax(logits)
        loss = 0.0
        if 'cross_entropy' in self.loss:
            weighted = truth * jnp.asarray(self.class_weights) if self.class_weights else truth
            loss -= jnp.sum(weighted * log_probabilities, (-3, -2, -1)) / jnp.sum(weighted, (-3, -2, -1))
        if 'dice' in self.loss:
            probabilities = jnp.exp(log_probabilities[..., 1:])
            intersection = jnp.sum(probabilities * truth[..., 1:], (-3, -2))
            areas = jnp.sum(probabilities, (-3, -2)) + jnp.sum(truth[..., 1:], (-3, -2))
            loss += 1 - jnp.mean((2 * intersection + 1) / (areas + 1), axis=-1)
        return loss

    def predict(self, logits: np.ndarray, image: np.ndarray, metadata: Mapping[str, Any], top_k: int) -> Prediction:
        """Segments one image at its own size.

        Args:
          logits: float32 [height, width, classes], at the model's size.
          image: uint8 [own height, own width, channels].
          metadata: 'spacing_mm' of the image, if it is known.
          top_k: not used.

        Returns:
          'classes': for each but the background its pixels, connected components, and area in mm2 if the spacing is
          known; 'contour_origin' of the contours. As files the mask, an overlay, and of each class that was found the
          outline of the component with the largest one; holes are not outlined.
        """
        del top_k
        from skimage import measure
        from skimage.transform import resize
        probabilities = softmax(logits.astype(np.float32))
        # Bilinear on probabilities: the outline keeps the precision that the probabilities have between pixels.
        size = (*image.shape[:2], probabilities.shape[-1])
        probabilities = resize(probabilities, size, order=1, anti_aliasing=False)
        mask = np.argmax(probabilities, axis=-1).astype(np.uint8)
        classes: dict[str, dict[str, Any]] = {}
        files: dict[str, Any] = {'mask.png': mask, 'overlay.png': overlays.overlay(image, prediction=mask)}
        for index, name in enumerate(self.class_names[1:], start=1):
            region = mask == index
            classes[name] = {'pixels': int(region.sum()), 'components': int(measure.label(region).max())}
            if metadata.get('spacing_mm'):
                classes[name]['area_mm2'] = round(float(region.sum() * np.prod(metadata['spacing_mm'])), 1)
            contour = outlines.trace(region)[0] + self.contour_origin if region.any() else None
            files[re.sub(r'[^\w.-]+', '_', name) + '-contour.txt'] = contour
        return Prediction({'classes': classes, 'contour_origin': self.contour_origin.tolist()}, files)

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a table."""
        return {f'{name}_{field}': row['classes'][name].get(field, '') for name in self.class_names[1:]
                for field in ('pixels', 'components', 'area_mm2')}

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line: 'left_ventricle : 1,234 pixels, 2,411 mm2'."""
        def one(name, found):
            area = f", {found['area_mm2']:,.0f} mm2" if 'area_mm2' in found else ''
            parts = f" in {found['components']} parts" if found['components'] > 1 else ''
            return f"{name} : {found['pixels']:,} pixels{area}{parts}"
        return '   '.join(one(*item) for item in row['classes'].items())

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                 first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns the worst cases, image, truth and prediction side by side, as a figure."""
        del metrics, first
        return {'worst_examples': overlays.draw_examples(worst)} if worst else {}


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < math.inf


class SegmentationExamples(PerExample):
    """Looks at every evaluated image on the host, where exact distances between outlines are to be had."""

    def __init__(self, class_names: tuple[str, ...]):
        self._class_names = class_names
        self.metrics = tuple(segmentation_metrics.summary_names(class_names))

    def outputs(self, logits: jax.Array) -> dict[str, jax.Array]:
        """Returns what `measure` needs of the model: 'prediction', uint8 [batch, height, width]."""
        return {'prediction': jnp.argmax(logits, axis=-1).astype(jnp.uint8)}

    def measure(self, outputs: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns one image's scores, see `segmentation_metrics.measure`."""
        return segmentation_metrics.measure(outputs['prediction'], example['segmentation_mask'], self._class_names,
                                            metadata.get('spacing_mm'))

    def severity(self, case: Mapping[str, Any]) -> float:
        """Returns what cases are ranked by: 1 - mean Dice; 0 where there was nothing to find and nothing was found."""
        dice = [value for value in case['dice'].values() if value is not None]
        return 1 - sum(dice) / len(dice) if dice else 0.0

    def summarize(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Returns means over cases, see `segmentation_metrics.summarize`."""
        return segmentation_metrics.summarize(cases, self._class_names)
