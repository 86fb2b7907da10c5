"""Detection, example by example: which objects were found, which were missed, and what was seen where nothing is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from . import detection_metrics
from .detection_metrics import DetectedImage
from .task import PerExample

_MOST_NAMED = 20  # classes up to which each has a metric of its own; the table has all


class DetectionExamples(PerExample):
    """Looks at every evaluated image on the host: see `rows` in tasks/__init__.py.

    Args:
      class_names: of the data set.
      input_size: (height, width) of the images whose pixels the model's boxes and those of the examples are in.
      decode: returns of a model's outputs 'boxes', float32 [batch, k, 4], left, top, right, bottom in pixels of the
        input, 'scores', float32 [batch, k], and 'classes', int32 [batch, k], -1 where nothing was found.
      shown_score: detections below it are not shown, nor counted as found or false; AP takes them all.

    Attributes:
      metrics: names of the scalars that `summarize` can return.
    """

    def __init__(self, class_names: Sequence[str], input_size: tuple[int, int],
                 decode: Callable[[Any], Mapping[str, jax.Array]], shown_score: float):
        self.class_names, self.shown_score = tuple(class_names), shown_score
        self._input_size, self._decode = input_size, decode
        self.metrics = ('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large', 'ar100', 'ar_small', 'ar_medium',
                        'ar_large', 'count_error', *self._named)

    @property
    def _named(self) -> list[str]:
        """Metrics of single classes; '/' separates a metric from its evaluation set."""
        names = self.class_names if 1 < len(self.class_names) <= _MOST_NAMED else ()
        return [f"ap50_{name.replace('/', '_')}" for name in names]

    def outputs(self, outputs: Any) -> dict[str, jax.Array]:
        """Returns what was found, see `decode` above."""
        return dict(self._decode(outputs))

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Compares what was found in one image with what there is.

        Args:
          output: 'boxes' [k, 4], 'scores' [k], 'classes' [k].
          example: 'boxes' [n, 4], 'box_labels' [n] and 'box_crowd' [n].
          metadata: 'width' and 'height' of the image in its own size, which all boxes are scaled to; without them they
            stay as they are.

        Returns:
          'objects', how many there are, crowds apart; 'found' and 'missed', how many of them were found, with a score
          of at least `shown_score` and an overlap of at least 0.5, and not; 'false', detections with such a score that
          found nothing. For `summarize` also 'detections', float64 [found, 6] of class, score and box, and 'truth',
          float64 [objects, 7] of class, crowd, found and box, in pixels of the image's own size.
        """
        scale = np.tile(self._scale(metadata), 2)
        seen, there = output['classes'] >= 0, example['box_labels'] >= 0
        image = DetectedImage(
            output['boxes'][seen].astype(np.float64) * scale, output['scores'][seen].astype(np.float64),
            output['classes'][seen].astype(int), example['boxes'][there].astype(np.float64) * scale,
            example['box_labels'][there].astype(int), example['box_crowd'][there].astype(bool))
        matches = detection_metrics.matches_at_half(image, self.shown_score)[1]
        objects, found = ~image.crowd, matches.found & ~image.crowd
        return {'objects': int(objects.sum()), 'found': int(found.sum()), 'missed': int((objects & ~found).sum()),
                'false': int(matches.false.sum()),
                'detections': np.column_stack([image.classes, image.scores, image.boxes]),
                'truth': np.column_stack([image.truth_classes, image.crowd, found, image.truth_boxes])}

    def listed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a row for a file: instead of all boxes the missed, as 'class left top right bottom', and the false.

        The false ones have their score between class and box. Pixels are of the image's own size.
        """
        image = as_image(row)
        shown, matches = detection_metrics.matches_at_half(image, self.shown_score)
        false = matches.order[matches.false[0, 0]]
        missed = np.flatnonzero(~matches.found & ~image.crowd)
        kept = {key: value for key, value in row.items() if key not in ('detections', 'truth')}
        return kept | {
            'missed_boxes': [f'{self.class_names[image.truth_classes[i]]} {_text(image.truth_boxes[i])}'
                             for i in missed],
            'false_boxes': [f'{self.class_names[shown.classes[i]]} {shown.scores[i]:.3f} {_text(shown.boxes[i])}'
                            for i in false]}

    def severity(self, row: Mapping[str, Any]) -> float:
        """Returns how many boxes are missed or false."""
        return float(row['missed'] + row['false'])

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns metrics over all images, and arrays that tables and figures are made of.

        Returns:
          COCO's scores, see `detection_metrics.coco_scores`; 'ap50_<class>' of each of up to 20 classes, where there
          are several; 'count_error', the mean over images of how far the number of shown detections is off. What is
          undefined, such as the AP of a class without objects, is left out, so that no value is NaN.
          Arrays, where there are images:
          'precision_at_recall': float64 [classes, 101], at an overlap of 0.5, see `Curves`.
          'class_scores': float64 [classes, 9], objects, AP, AP50, AP75, best score with precision, recall and F1, and
            count error, see `class_rows`.
          'confusion': int [classes + 1, classes + 1], see `confusion_matrix`, of shown detections.
          'counts': int [images, classes, 2], true and shown.
          'sizes': float64 [objects, 6], class, whether it was found, width and height in pixels of the image's own size
            and in those of the input.
        """
        if not rows:
            return {}
        images, classes = [as_image(row) for row in rows], len(self.class_names)
        scalars, found = detection_metrics.evaluate(images, classes)
        counts = detection_metrics.counts(images, self.shown_score, classes)
        errors = np.abs(counts[..., 0] - counts[..., 1]).mean(axis=0)
        with_all = np.column_stack([found.objects[:, 0], *(found.precision[:, 0, part].mean(axis=(1, 2))
                                                           for part in (slice(None), slice(1), slice(5, 6))),
                                    found.best, errors])
        totals = counts.sum(axis=1)
        scalars['count_error'] = float(np.abs(totals[:, 0] - totals[:, 1]).mean())
        scalars |= dict(zip(self._named, with_all[:, 2].tolist()))
        return {name: value for name, value in scalars.items() if not np.isnan(value)} | {
            'precision_at_recall': found.precision[:, 0, 0], 'class_scores': with_all,
            'confusion': detection_metrics.confusion_matrix(images, self.shown_score, classes), 'counts': counts,
            'sizes': np.concatenate([self._sizes(row) for row in rows])}

    def _scale(self, metadata: Mapping[str, Any]) -> np.ndarray:
        """How many pixels of the image's own size one of the input is wide and high, float64 [2]."""
        height, width = self._input_size
        return np.array([metadata.get('width', width) / width, metadata.get('height', height) / height])

    def _sizes(self, row: Mapping[str, Any]) -> np.ndarray:
        truth = row['truth'][row['truth'][:, 1] == 0]
        sides = truth[:, 5:] - truth[:, 3:5]
        return np.concatenate([truth[:, [0, 2]], sides, sides / self._scale(row)], axis=1)


def as_image(row: Mapping[str, Any]) -> DetectedImage:
    """Returns what was found and what there is of a row of `DetectionExamples.measure`."""
    found, truth = row['detections'], row['truth']
    return DetectedImage(found[:, 2:], found[:, 1], found[:, 0].astype(int), truth[:, 3:], truth[:, 0].astype(int),
                         truth[:, 1] > 0)


def class_rows(metrics: Mapping[str, Any], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a row of a table for each class; what is undefined is None.

    Args:
      metrics: of `DetectionExamples.summarize`.
      class_names: of the data set.

    Returns:
      'class', 'objects', 'ap', 'ap50', 'ap75'; 'best_score', from which on detections have the highest F1 at an overlap
      of 0.5, chosen on these very images, and their 'precision', 'recall' and 'f1'; 'count_error', the mean over images
      of how far the number of shown detections is off.
    """
    names = ('ap', 'ap50', 'ap75', 'best_score', 'precision', 'recall', 'f1', 'count_error')
    return [{'class': name, 'objects': int(values[0]),
             **{key: None if np.isnan(value) else float(value) for key, value in zip(names, values[1:])}}
            for name, values in zip(class_names, metrics['class_scores'])]


def _text(box: np.ndarray) -> str:
    return ' '.join(f'{edge:.1f}' for edge in box)
