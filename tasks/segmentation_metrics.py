"""Scores of single segmented images, on the host: overlap, and distances between outlines in millimetres.

An outline is the boundary pixels of a mask: its pixels with one of their four neighbours outside it, or outside the
image. Distances are between pixel centres: exact for shifts by whole pixels, for curves up to half a pixel off.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

GOOD_CONTOUR_MM = 5.0  # average perpendicular distance of a good contour is below it (Radau et al. 2009)


def overlap(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> dict[str, Any]:
    """Counts how far two masks agree.

    Args:
      prediction, truth: integer [height, width] of class indices.
      num_classes: all of them, background included.

    Returns:
      'dice', 'iou': float or None per class. A class in neither mask is None, undefined, and no mean counts it; one in
        only one of them is 0.
      'accuracy': share of pixels with the right class.
      'background': share of pixels that are background, the accuracy of predicting nothing else.
      'truth_pixels', 'prediction_pixels', 'right_pixels': int per class; the last are in both masks.

    Raises:
      ValueError: masks of different sizes, or a class that does not exist.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f'prediction {prediction.shape} and truth {truth.shape} differ in size')
    if max(prediction.max(), truth.max()) >= num_classes or min(prediction.min(), truth.min()) < 0:
        raise ValueError(f'masks hold classes beyond 0 to {num_classes - 1}')
    pairs = num_classes * truth.astype(np.int64).ravel() + prediction.ravel()
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    both, true, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return {'dice': [float(2 * b / (t + p)) if t + p else None for b, t, p in zip(both, true, predicted)],
            'iou': [float(b / (t + p - b)) if t + p else None for b, t, p in zip(both, true, predicted)],
            'accuracy': float(both.sum() / truth.size), 'background': float(true[0] / truth.size),
            'truth_pixels': true.tolist(), 'prediction_pixels': predicted.tolist(), 'right_pixels': both.tolist()}


def surface_distances(prediction: np.ndarray, truth: np.ndarray,
                      spacing_mm: Sequence[float] = (1.0, 1.0)) -> dict[str, float] | None:
    """Measures how far apart the outlines of two masks are.

    Args:
      prediction, truth: bool [height, width].
      spacing_mm: distance between rows, and between columns.

    Returns:
      None if either mask is empty; else
      'hausdorff_95_mm': the larger of the two directed 95th percentiles (linear interpolation) of the distances from a
        boundary pixel of one mask to the nearest of the other, as in MONAI and DeepMind's surface-distance.
      'average_perpendicular_distance_mm': mean distance from a boundary pixel of the prediction to the nearest of the
        truth, as the MICCAI 2009 left ventricle challenge scores contours (Radau et al. 2009).
    """
    if not prediction.any() or not truth.any():
        return None
    from scipy.spatial import KDTree  # a third of a second that only this needs
    found, expected = (np.argwhere(_boundary(mask)) * np.asarray(spacing_mm, float) for mask in (prediction, truth))
    to_truth, to_prediction = KDTree(expected).query(found)[0], KDTree(found).query(expected)[0]
    return {'hausdorff_95_mm': float(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95))),
            'average_perpendicular_distance_mm': float(to_truth.mean())}


def good_contour(apd_mm: float | None) -> bool:
    """Returns whether an average perpendicular distance makes a good contour; None, no contour at all, does not."""
    return apd_mm is not None and apd_mm < GOOD_CONTOUR_MM


def measure(prediction: np.ndarray, truth: np.ndarray, class_names: Sequence[str],
            spacing_mm: Sequence[float] | None = None) -> dict[str, Any]:
    """Scores one image; what comes back can be written as JSON.

    Args:
      prediction, truth: integer [height, width] of class indices.
      class_names: all classes; the first is the background.
      spacing_mm: distance between rows, and between columns; None if it is not known.

    Returns:
      'accuracy', 'background', see `overlap`; and dicts over the classes but the background:
      'dice', 'iou': see `overlap`.
      'truth_pixels', 'prediction_pixels', 'right_pixels': int.
      'hausdorff_95_mm', 'apd_mm': see `surface_distances`; None without a spacing or where a mask is empty.
      'good_contour': bool; False where the class was missed altogether; None without a spacing or where the truth is
        empty, because there is no contour to find.
    """
    scores = overlap(prediction, truth, len(class_names))
    row: dict[str, Any] = {key: scores.pop(key) for key in ('accuracy', 'background')}
    for key, values in scores.items():
        row[key] = dict(zip(class_names[1:], values[1:]))
    row |= {'hausdorff_95_mm': {}, 'apd_mm': {}, 'good_contour': {}}
    for index, name in enumerate(class_names[1:], start=1):
        known = spacing_mm is not None
        distances = surface_distances(prediction == index, truth == index, spacing_mm) if known else None
        distances = distances or {}
        row['hausdorff_95_mm'][name] = distances.get('hausdorff_95_mm')
        row['apd_mm'][name] = apd = distances.get('average_perpendicular_distance_mm')
        row['good_contour'][name] = good_contour(apd) if known and row['truth_pixels'][name] else None
    return row


def summary_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Returns every name that `summarize` can give, in its order."""
    each = class_names[1:] if len(class_names) > 2 else ()
    return ('dice', 'iou', *(f'{score}_{_plain(name)}' for name in each for score in ('dice', 'iou')),
            'pooled_dice', 'pooled_iou', 'hausdorff_95_mm', 'apd_mm', 'good_contours', 'dice_good_contours',
            'background_accuracy')


def summarize(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, float]:
    """Averages rows of `measure`; each pair of an image and a class but the background counts the same.

    Returns:
      'dice', 'iou': means where they are defined; of several classes also each one's, as 'dice_<class>', 'iou_<class>'.
      'pooled_dice', 'pooled_iou': of the pixels of all images together, class by class, then the mean over classes.
      'hausdorff_95_mm', 'apd_mm': means where there are both outlines and a spacing. A missed structure is in neither:
        read them with 'good_contours'.
      'good_contours': share of the outlines of the truth, with a spacing, that were found to less than 5 mm.
      'dice_good_contours': mean Dice over the good contours, the score of the MICCAI 2009 challenge.
      'background_accuracy': pixel accuracy of predicting nothing but background, which a useful accuracy exceeds.
      A mean over nothing is left out, so that no value is NaN.
    """
    pairs = [(row, name) for row in rows for name in class_names[1:]]
    values = {score: [row[score][name] for row, name in pairs] for score in ('dice', 'iou')}
    if len(class_names) > 2:
        values |= {f'{score}_{_plain(name)}': [row[score][name] for row in rows]
                   for name in class_names[1:] for score in ('dice', 'iou')}
    values['pooled_dice'], values['pooled_iou'] = zip(*(_pooled(rows, name) for name in class_names[1:]))
    values |= {score: [row[score][name] for row, name in pairs] for score in ('hausdorff_95_mm', 'apd_mm')}
    values['good_contours'] = [row['good_contour'][name] for row, name in pairs]
    values['dice_good_contours'] = [row['dice'][name] for row, name in pairs if row['good_contour'][name]]
    values['background_accuracy'] = [row['background'] for row in rows]
    means = {key: _mean(entries) for key, entries in values.items()}
    return {key: mean for key, mean in means.items() if mean is not None}


def _pooled(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float | None, float | None]:
    """Dice and IoU of a class over the pixels of all images together; None if no pixel has it."""
    right, truth, prediction = (sum(row[key][name] for row in rows)
                                for key in ('right_pixels', 'truth_pixels', 'prediction_pixels'))
    areas = truth + prediction
    return (2 * right / areas, right / (areas - right)) if areas else (None, None)


def _boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a bool mask that erosion by a cross takes away."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _plain(class_name: str) -> str:
    """A class name as part of a metric's name, where '/' separates the evaluation set."""
    return class_name.replace('/', '_')
