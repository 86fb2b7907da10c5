"""Scores of detection, against pycocotools on random sets, and by hand."""

import contextlib
import io

import numpy as np
import pytest

from practicum.tasks import detection_metrics
from practicum.tasks.detection_metrics import DetectedImage, confusion_matrix, counts, curves, evaluate, match, overlaps

CLASSES = 4  # of the random sets; the last has no object, the one before it no detection


def image_of(found=(), truth=()) -> DetectedImage:
    """An image with (class, score, left, top, right, bottom) found, and (class, crowd, left, ...) there."""
    found, truth = (np.array(rows, float).reshape(-1, 6) for rows in (found, truth))
    return DetectedImage(found[:, 2:], found[:, 1], found[:, 0].astype(int), truth[:, 2:], truth[:, 0].astype(int),
                         truth[:, 1].astype(bool))


def random_set(seed: int, images: int = 8) -> list[DetectedImage]:
    """Crowded, on a coarse grid of numbers: equal scores, overlaps of exactly 0.5, all sizes, crowds, empty images."""
    generator = np.random.default_rng(seed)
    result = []
    for index in range(images):
        objects, found = (0, 5) if index == 1 else (4, 0) if index == 2 else (0, 0) if index == 3 else \
            (generator.integers(1, 40), generator.integers(1, 330 if index == 0 else 60))
        corner = generator.integers(0, 60, (objects, 2))
        truth = np.concatenate([corner, corner + generator.choice([4, 8, 20, 32, 64, 96, 160], (objects, 2))], axis=1)
        truth_classes = generator.choice([0, 0, 0, 1, 2], objects)
        # Most detections lie about an object, some exactly on it.
        boxes = truth[generator.integers(0, objects, found)] if objects else generator.integers(0, 50, (found, 4))
        boxes = boxes + generator.integers(-2, 3, (found, 4)) * generator.integers(0, 3, (found, 1))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        result.append(DetectedImage(boxes.astype(float), generator.integers(0, 12, found) / 12,
                                    generator.choice([0, 0, 0, 1, 3], found), truth.astype(float), truth_classes,
                                    generator.random(objects) < 0.15))
    return result


def pycocotools_scores(images: list[DetectedImage], num_classes: int) -> tuple[np.ndarray, ...]:
    """What pycocotools says: its 12 figures, precision [T, R, K, A] and recall [T, K, A], -1 where it is undefined."""
    coco = pytest.importorskip('pycocotools.coco')
    cocoeval = pytest.importorskip('pycocotools.cocoeval')

    def width_and_height(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    annotations, results = [], []
    for number, image in enumerate(images, start=1):
        for box, kind, crowd in zip(width_and_height(image.truth_boxes), image.truth_classes, image.crowd):
            annotations.append({'id': len(annotations) + 1, 'image_id': number, 'category_id': int(kind) + 1,
                                'bbox': box, 'area': box[2] * box[3], 'iscrowd': int(crowd)})
        for box, score, kind in zip(width_and_height(image.boxes), image.scores, image.classes):
            results.append({'image_id': number, 'category_id': int(kind) + 1, 'bbox': box, 'score': float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {'images': [{'id': i + 1} for i in range(len(images))], 'annotations': annotations,
                         'categories': [{'id': i + 1} for i in range(num_classes)], 'info': {}}
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval['precision'][..., -1], evaluation.eval['recall'][..., -1]


# Equal to pycocotools.

@pytest.mark.parametrize('seed', range(40))
def test_every_number_is_that_of_pycocotools(seed):
    images = random_set(seed)
    stats, precision, recall = pycocotools_scores(images, CLASSES)
    scores, found = evaluate(images, CLASSES)
    names = ('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large', None, None, 'ar100', 'ar_small', 'ar_medium',
             'ar_large')
    for name, expected in zip(names, stats):
        if name:
            assert scores[name] == pytest.approx(expected, abs=1e-9), name
    np.testing.assert_allclose(np.nan_to_num(found.precision, nan=-1), precision.transpose(2, 3, 0, 1), atol=1e-9)
    np.testing.assert_allclose(np.nan_to_num(found.recall, nan=-1), recall.transpose(1, 2, 0), atol=1e-9)


def test_the_random_sets_have_what_is_hard():
    images = [image for seed in range(40) for image in random_set(seed)]
    assert max(np.bincount(image.classes, minlength=1).max() for image in images) > 100
    assert sum(image.crowd.sum() for image in images) > 100
    halves = sum((overlaps(image.boxes, image.truth_boxes, image.crowd) == 0.5).sum() for image in images)
    assert halves > 100
    assert all(len(set(image.scores.tolist())) < len(image.scores) for image in images if len(image.scores) > 12)
