"""Scores of detection, against pycocotools on random sets, and by hand."""

import contextlib
import io

import numpy as np
import pytest

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


# By hand.

HERE, THERE, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (60, 60, 70, 70)


def test_overlap_is_intersection_over_union_and_in_a_crowd_over_the_detection():
    found = np.array([(0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (3, 3, 3, 9)], float)
    truth = np.array([(0, 0, 10, 10), (0, 0, 10, 40), (0, 0, 10, 40)], float)
    expected = [[1, 1 / 4, 1], [50 / 150, 50 / 450, 1 / 2], [0, 0, 0], [0, 0, 0]]  # touching is not overlapping
    np.testing.assert_allclose(overlaps(found, truth, np.array([False, False, True])), expected)
    assert overlaps(found, truth[:0], np.zeros(0, bool)).shape == (4, 0)


def test_average_precision_of_a_hand_counted_example():
    """Right, false, right, of three objects: precision 1 up to a recall of 1/3, then 2/3 up to 2/3, then nothing."""
    images = [image_of([(0, 0.9, *HERE), (0, 0.8, *FAR)], [(0, 0, *HERE), (0, 0, *THERE)]),
              image_of([(0, 0.7, *HERE)], [(0, 0, *HERE)])]
    scores, found = evaluate(images, 1)
    expected = (34 * 1 + 33 * 2 / 3) / 101  # of the recalls 0.00 to 0.33, and 0.34 to 0.66
    assert [scores[name] for name in ('ap', 'ap50', 'ap75')] == pytest.approx([expected] * 3)
    assert scores['ar100'] == pytest.approx(2 / 3)
    assert scores['ap_small'] == pytest.approx(expected) and np.isnan(scores['ap_medium'])
    assert found.objects.tolist() == [[3, 3, 0, 0]]
    # F1 after one, two and three: 2/4, 2/5, 4/6.
    assert found.best[0].tolist() == pytest.approx([0.7, 2 / 3, 2 / 3, 2 / 3])


def test_a_threshold_of_overlap_counts_as_reached_by_what_is_equal_to_it():
    half = image_of([(0, 0.9, 0, 0, 10, 5)], [(0, 0, *HERE)])
    scores, found = evaluate([half], 1)
    assert scores['ap50'] == 1 and scores['ap'] == pytest.approx(0.1) and scores['ap75'] == 0
    assert evaluate([image_of([(0, 0.9, 0, 0, 10, 10)], [(0, 0, *HERE)])], 1)[0]['ap'] == 1


def test_of_two_detections_of_one_object_the_second_is_false():
    image = image_of([(0, 0.5, *HERE), (0, 0.9, 0, 0, 10, 9)], [(0, 0, *HERE)])
    matches = match(image)
    assert matches.order.tolist() == [1, 0]
    assert matches.right[0, 0].tolist() == [True, False] and matches.false[0, 0].tolist() == [False, True]
    assert matches.right[0, 9].tolist() == [False, True]  # at 0.95 the first one is not good enough


def test_a_crowd_swallows_any_number_of_detections_and_need_not_be_found():
    crowd = (0, 1, 0, 0, 40, 40)
    image = image_of([(0, 0.9, 1, 1, 9, 9), (0, 0.8, 20, 20, 30, 30), (0, 0.7, *FAR), (1, 0.6, 1, 1, 9, 9)],
                     [crowd, (0, 0, *FAR)])
    matches = match(image)
    assert matches.ignored[0, 0].tolist() == [True, True, False, False]
    assert matches.false[0, 0].tolist() == [False, False, False, True]  # of another class than the crowd
    assert evaluate([image], 1)[0]['ap'] == 1
    assert counts([image], 0.5, 2).tolist() == [[[1, 1], [0, 1]]]
    nothing_found = evaluate([image_of([], [crowd])], 1)[0]
    assert all(np.isnan(value) for value in nothing_found.values())


def test_an_object_goes_before_a_crowd_that_overlaps_more():
    image = image_of([(0, 0.9, 0, 0, 10, 6)], [(0, 1, 0, 0, 40, 40), (0, 0, *HERE)])
    assert match(image).taken[0, 0].tolist() == [1]


def test_scores_of_ranges_of_area_leave_out_what_lies_outside():
    small, large = (0, 0, 30, 30), (100, 100, 300, 300)
    image = image_of([(0, 0.9, 400, 400, 600, 600), (0, 0.8, *small), (0, 0.7, *large)],
                     [(0, 0, *small), (0, 0, *large)])
    scores, _ = evaluate([image], 1)
    assert scores['ap_small'] == 1  # the false one is large
    assert scores['ap_large'] == pytest.approx(0.5) and scores['ap50'] == pytest.approx(2 / 3)
    assert scores['ar_large'] == 1 and np.isnan(scores['ap_medium']) and np.isnan(scores['ar_medium'])


def test_a_class_without_objects_is_in_no_mean_and_one_without_detections_is_zero():
    scores, found = evaluate([image_of([(0, 0.9, *HERE), (2, 0.9, *FAR)], [(0, 0, *HERE), (1, 0, *THERE)])], 3)
    assert scores['ap'] == 0.5 and scores['ar100'] == 0.5
    per_class = found.precision[:, 0].mean(axis=(1, 2))
    assert per_class[:2].tolist() == [1, 0] and np.isnan(per_class[2])
    assert np.isnan(found.best[1]).tolist() == [True, True, False, False] and found.best[1, 2:].tolist() == [0, 0]
    assert np.isnan(found.best[2]).all()


def test_only_the_best_hundred_of_a_class_count():
    false = [(0, 0.9, *FAR)] * 100
    image = image_of([*false[:99], (0, 0.1, *HERE), (1, 0.05, *HERE)], [(0, 0, *HERE), (1, 0, *HERE)])
    assert evaluate([image], 2)[1].recall[:, 0, 0].tolist() == [1, 1]
    image = image_of([(0, 0.1, *HERE), *false, (1, 0.05, *HERE)], [(0, 0, *HERE), (1, 0, *HERE)])
    assert evaluate([image], 2)[1].recall[:, 0, 0].tolist() == [0, 1]


def test_the_best_threshold_does_not_part_equal_scores():
    image = image_of([(0, 0.5, *HERE), (0, 0.5, *FAR), (0, 0.4, *FAR)], [(0, 0, *HERE)])
    found = curves([image], [match(image)], 1)
    assert found.best[0].tolist() == pytest.approx([0.5, 1 / 2, 1, 2 / 3])


def test_no_images_and_empty_images_have_no_scores():
    for images in ([], [image_of()]):
        assert all(np.isnan(value) for value in evaluate(images, 2)[0].values())
        assert counts(images, 0.5, 2).sum() == 0 and confusion_matrix(images, 0.5, 2).sum() == 0


def test_what_is_not_a_number_is_a_false_detection():
    nan = float('nan')
    scores, _ = evaluate([image_of([(0, 0.9, nan, nan, nan, nan), (0, 0.8, *HERE)], [(0, 0, *HERE)])], 1)
    assert scores['ap50'] == pytest.approx(0.5)


def test_the_confusion_matrix_of_a_hand_counted_example():
    image = image_of(
        [(0, 0.9, *HERE), (1, 0.8, 0, 0, 10, 9),  # the second of one object
         (0, 0.7, 20, 0, 30, 9),  # another class
         (2, 0.6, 200, 200, 210, 210),  # nothing is there
         (1, 0.5, 310, 310, 320, 320),  # in a crowd, of whatever class
         (2, 0.4, *FAR)],  # not shown
        [(0, 0, *HERE), (1, 0, *THERE), (2, 0, *FAR), (0, 1, 300, 300, 400, 400)])
    assert confusion_matrix([image, image], 0.45, 3).tolist() == [
        [2, 0, 0, 0],
        [2, 0, 0, 0],
        [0, 0, 0, 2],
        [0, 2, 2, 0]]
    assert counts([image], 0.45, 3).tolist() == [[[1, 2], [1, 2], [1, 1]]]


def test_the_confusion_matrix_counts_every_object_and_every_box_once():
    images = random_set(1)
    objects = sum(int((~image.crowd).sum()) for image in images)
    matrix = confusion_matrix(images, 0.3, CLASSES)
    assert matrix[:-1].sum() == objects and matrix[-1, -1] == 0
    shown = sum(int((image.scores >= 0.3).sum()) for image in images)
    assert max(int((image.scores >= 0.3).sum()) for image in images) > 100
    assert shown - matrix[:, :-1].sum() < 0.5 * shown  # the rest lies in crowds
    without = [image_of(np.column_stack([image.classes, image.scores, image.boxes]),
                        np.column_stack([image.truth_classes, 0 * image.crowd, image.truth_boxes])) for image in images]
    assert confusion_matrix(without, 0.3, CLASSES)[:, :-1].sum() == shown
