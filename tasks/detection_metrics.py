"""Scores of object detection as COCO has them, in float64 on the host; pycocotools' numbers, without pycocotools.

Boxes are left, top, right, bottom in pixels, the right edge at the end of the last pixel. Detections of a class are
taken in the order of their scores, of equal ones the earlier first. Each takes the free object of its class that it
overlaps most, of equal overlaps the later, if that is enough; one that finds none is false. A crowd is neither to be
found nor an error to find: it takes what found no object, any number of them, and the overlap with it is the share of
the detection that lies in it.

A box's area decides whether it is small, medium or large. COCO's own data have the areas of outlines for that, so its
AP by area is slightly another one; everything else is the same.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..common import box_overlaps

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = 100  # of a class in an image, those with the highest scores
AREAS = {'all': (0.0, 1e10), 'small': (0.0, 32.0**2), 'medium': (32.0**2, 96.0**2), 'large': (96.0**2, 1e10)}
_ALL = {'all': AREAS['all']}


@dataclasses.dataclass(frozen=True)
class DetectedImage:
    """What was found in an image, and what there is.

    Attributes:
      boxes: float64 [found, 4], in pixels of the image's own size, or areas mean nothing.
      scores: float64 [found], in any order.
      classes: int [found].
      truth_boxes: float64 [objects, 4].
      truth_classes: int [objects].
      crowd: bool [objects], what is neither to be found nor an error to find.
    """
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    truth_boxes: np.ndarray
    truth_classes: np.ndarray
    crowd: np.ndarray

    def above(self, score: float) -> 'DetectedImage':
        """Returns the image with the detections of at least this score."""
        kept = self.scores >= score
        return dataclasses.replace(self, boxes=self.boxes[kept], scores=self.scores[kept], classes=self.classes[kept])


class Matches(NamedTuple):
    """Which detections of an image are right, by ranges of area and thresholds of overlap.

    Attributes:
      order: int [n], the detections that count, the highest score first.
      taken: int32 [areas, thresholds, n], the object that each of them takes; -1: none.
      ignored: bool [areas, thresholds, n], what is neither right nor false: it took a crowd or an object outside the
        range, or none and is outside itself.
      other: bool [areas, objects], what is not to be found: crowds, and objects outside the range.
    """
    order: np.ndarray
    taken: np.ndarray
    ignored: np.ndarray
    other: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which detections found an object, bool [areas, thresholds, n]."""
        return (self.taken >= 0) & ~self.ignored

    @property
    def false(self) -> np.ndarray:
        """Which detections are wrong, bool [areas, thresholds, n]."""
        return (self.taken < 0) & ~self.ignored

    @property
    def found(self) -> np.ndarray:
        """Which objects were found, of all sizes at the first threshold, bool [objects]; of crowds whether touched."""
        return np.isin(np.arange(self.other.shape[1]), self.taken[0, 0])


def overlaps(boxes: np.ndarray, truth_boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Returns intersection over union, [found, objects]; with a crowd intersection over the detection's own area."""
    shared = box_overlaps.intersection(boxes, truth_boxes)
    own, theirs = box_overlaps.area(boxes)[:, None], box_overlaps.area(truth_boxes)
    whole = np.where(crowd, own, own + theirs - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def match(image: DetectedImage, thresholds: Sequence[float] = IOU_THRESHOLDS,
          areas: Mapping[str, tuple[float, float]] = AREAS, most: int = MOST_DETECTIONS) -> Matches:
    """Matches the detections of an image with its objects, see above.

    Args:
      image: one of them.
      thresholds: overlaps from which on an object is found.
      areas: ranges (lowest, highest) of areas in pixels, both ends included.
      most: detections of a class that count, those with the highest scores.
    """
    order = np.argsort(-image.scores, kind='stable')
    order = order[_places_in_class(image.classes[order]) < most]
    boxes = image.boxes[order]
    low, high = np.array(list(areas.values())).T[..., None]
    outside, other = ((area < low) | (area > high) for area in map(box_overlaps.area, (boxes, image.truth_boxes)))
    other |= image.crowd
    taken = np.full((len(areas), len(thresholds), len(order)), -1, np.int32)
    ignored = np.zeros(taken.shape, bool)
    free = np.ones((*taken.shape[:2], len(image.crowd)), bool)
    enough = np.minimum(thresholds, 1 - 1e-10)[:, None]
    overlap = overlaps(boxes, image.truth_boxes, image.crowd)
    possible = (image.classes[order][:, None] == image.truth_classes) & (overlap >= enough.min())
    for detection in np.flatnonzero(possible.any(axis=1)):
        objects = np.flatnonzero(possible[detection])
        objects = objects[np.argsort(overlap[detection, objects], kind='stable')]  # the last is the best
        fits = free[:, :, objects] & (overlap[detection, objects] >= enough)
        # What is to be found comes before what is not, however little of it overlaps.
        rank = np.arange(1, 1 + len(objects)) + len(objects) * ~other[:, None, objects]
        rank = fits * rank
        best = objects[rank.argmax(axis=-1)]
        where = np.nonzero(rank.any(axis=-1))
        chosen = best[where]
        taken[(*where, detection)] = chosen
        ignored[(*where, detection)] = other[where[0], chosen]
        free[(*where, chosen)] = image.crowd[chosen]
    ignored |= (taken < 0) & outside[:, None]
    return Matches(order, taken, ignored, other)


def _places_in_class(classes: np.ndarray) -> np.ndarray:
    """How many of the same class come before each, int [n]."""
    by_class = np.argsort(classes, kind='stable')
    ordered = classes[by_class]
    places = np.empty(len(classes), int)
    places[by_class] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return places


class Curves(NamedTuple):
    """Precision and recall of every class, range of area and threshold of overlap; NaN where there is no object.

    Attributes:
      precision: float64 [classes, areas, thresholds, recalls], the best that is to be had from each of RECALLS on.
      recall: float64 [classes, areas, thresholds], of all detections.
      objects: int [classes, areas], how many there are to be found.
      best: float64 [classes, 4], of all sizes at the first threshold the score where F1 is highest, and precision,
        recall and F1 of the detections from that score on. It is chosen on these very images. Without a right
        detection there is no score and no precision, and recall and F1 are 0.
    """
    precision: np.ndarray
    recall: np.ndarray
    objects: np.ndarray
    best: np.ndarray


def curves(images: Sequence[DetectedImage], matches: Sequence[Matches], num_classes: int) -> Curves:
    """Returns precision and recall over all images; their order decides which of equal scores comes first.

    Args:
      images: all of them.
      matches: of each image, see `match`, all with equal ranges and thresholds.
      num_classes: all of them.
    """
    areas, thresholds = matches[0].taken.shape[:2] if matches else (len(AREAS), len(IOU_THRESHOLDS))
    found = Curves(np.full((num_classes, areas, thresholds, len(RECALLS)), np.nan),
                   np.full((num_classes, areas, thresholds), np.nan), np.zeros((num_classes, areas), int),
                   np.full((num_classes, 4), np.nan))
    if not images:
        return found
    truth = np.concatenate([image.truth_classes for image in images])
    other = np.concatenate([one.other for one in matches], axis=1)
    classes, scores = (np.concatenate([getattr(image, name)[one.order] for image, one in zip(images, matches)])
                       for name in ('classes', 'scores'))
    right, false = (np.concatenate([getattr(one, name) for one in matches], axis=2) for name in ('right', 'false'))
    for number in range(num_classes):
        objects = found.objects[number] = np.count_nonzero(~other[:, truth == number], axis=1)
        own = np.flatnonzero(classes == number)
        own = own[np.argsort(-scores[own], kind='stable')]
        hits, misses = np.cumsum(right[:, :, own], axis=-1), np.cumsum(false[:, :, own], axis=-1)
        precision = hits / np.maximum(1, hits + misses)
        precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
        precision = np.pad(precision, [(0, 0), (0, 0), (0, 1)])  # 0 for a recall that is never reached
        for area in np.flatnonzero(objects):
            recall = hits[area] / objects[area]
            found.recall[number, area] = recall[:, -1] if len(own) else 0
            for threshold in range(thresholds):
                places = np.searchsorted(recall[threshold], RECALLS)
                found.precision[number, area, threshold] = precision[area, threshold, places]
        if objects[0]:
            found.best[number] = _best_f1(scores[own], hits[0, 0], misses[0, 0], objects[0])
    return found


def _best_f1(scores: np.ndarray, hits: np.ndarray, misses: np.ndarray, objects: int) -> tuple[float, ...]:
    """Score, precision, recall and F1 where F1 is highest; of equal F1 the highest score."""
    if not hits.any():
        return np.nan, np.nan, 0.0, 0.0
    f1 = 2 * hits / (hits + misses + objects)
    f1[:-1][scores[:-1] == scores[1:]] = -1  # no threshold parts equal scores
    best = int(f1.argmax())
    return scores[best], hits[best] / (hits[best] + misses[best]), hits[best] / objects, f1[best]


def coco_scores(found: Curves) -> dict[str, float]:
    """Returns COCO's scores: means over classes that have objects to be found; NaN where none has.

    Args:
      found: with AREAS and IOU_THRESHOLDS.

    Returns:
      'ap': average precision, the mean over overlaps of 0.50, 0.55 ... 0.95. 'ap50', 'ap75': at one of them.
      'ap_small', 'ap_medium', 'ap_large': of objects up to 32 x 32 pixels, up to 96 x 96, and above.
      'ar100': average recall, with up to 100 detections of a class in an image. 'ar_small' and so on: likewise.
    """
    result = {'ap': _mean(found.precision[:, 0]), 'ap50': _mean(found.precision[:, 0, 0]),
              'ap75': _mean(found.precision[:, 0, 5])}
    result |= {f'ap_{name}': _mean(found.precision[:, i]) for i, name in enumerate(AREAS) if i}
    result['ar100'] = _mean(found.recall[:, 0])
    return result | {f'ar_{name}': _mean(found.recall[:, i]) for i, name in enumerate(AREAS) if i}


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float('nan')


def evaluate(images: Sequence[DetectedImage], num_classes: int) -> tuple[dict[str, float], Curves]:
    """Returns COCO's scores, see `coco_scores`, and what they are made of."""
    found = curves(images, [match(image) for image in images], num_classes)
    return coco_scores(found), found


def matches_at_half(image: DetectedImage, score: float) -> tuple[DetectedImage, Matches]:
    """Returns an image with the detections of at least this score, and their matches at an overlap of 0.5."""
    shown = image.above(score)
    return shown, match(shown, thresholds=(0.5,), areas=_ALL)


def counts(images: Sequence[DetectedImage], score: float, num_classes: int) -> np.ndarray:
    """Counts objects, and the detections of at least a score: int [images, classes, (true, predicted)].

    Crowds are not counted, nor what is found in them.
    """
    found = np.zeros((len(images), num_classes, 2), int)
    for row, image in zip(found, images):
        shown, matches = matches_at_half(image, score)
        row[:, 0] = np.bincount(image.truth_classes[~image.crowd], minlength=num_classes)
        row[:, 1] = np.bincount(shown.classes[matches.order][~matches.ignored[0, 0]], minlength=num_classes)
    return found


def confusion_matrix(images: Sequence[DetectedImage], score: float, num_classes: int) -> np.ndarray:
    """Counts which objects were taken for what: int [classes + 1, classes + 1], true classes in rows.

    Detections of at least `score` are taken in the order of their scores, whatever their class; each takes the free
    object that it overlaps most, of those it overlaps by at least 0.5, whatever its class. The last row, background, is
    of detections that found no object, a second one of the same object among them; the last column is of objects that
    no detection found. What lies in a crowd is not counted.
    """
    counted = np.zeros((num_classes + 1, num_classes + 1), int)
    for image in images:
        shown = image.above(score)
        of_one_class = dataclasses.replace(shown, classes=np.zeros_like(shown.classes),
                                           truth_classes=np.zeros_like(shown.truth_classes))
        matches = match(of_one_class, thresholds=(0.5,), areas=_ALL, most=len(shown.scores))
        predicted = shown.classes[matches.order]
        right = matches.right[0, 0]
        np.add.at(counted, (image.truth_classes[matches.taken[0, 0][right]], predicted[right]), 1)
        np.add.at(counted, (num_classes, predicted[matches.false[0, 0]]), 1)
        np.add.at(counted, (image.truth_classes[~matches.found & ~image.crowd], num_classes), 1)
    return counted
