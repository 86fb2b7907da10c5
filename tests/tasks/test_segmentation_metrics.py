"""Scores of segmented images, against hand-worked examples, brute force and scikit-image."""

import json

import numpy as np
import pytest
from skimage.metrics import hausdorff_distance

from practicum.tasks import segmentation_metrics
from practicum.tasks.segmentation_metrics import measure, overlap, summarize, surface_distances

NAMES = ('background', 'ventricle')
THREE = ('background', 'ventricle', 'muscle')


def square(top, left, side=10, size=(40, 50)):
    mask = np.zeros(size, bool)
    mask[top:top + side, left:left + side] = True
    return mask


def disc(radius, centre=(40, 45), size=(80, 90)):
    y, x = np.mgrid[:size[0], :size[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def blob(seed, size=(24, 30)):
    """A few overlapping rectangles: holes, corners, several parts, often cut by the image's border."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(size, bool)
    for _ in range(4):
        top, left = generator.integers(0, 20, 2)
        mask[top:top + generator.integers(1, 9), left:left + generator.integers(1, 9)] ^= True
    return mask


def brute_force(prediction, truth, spacing_mm):
    """Every boundary pixel against every other, boundaries found pixel by pixel."""
    def boundary(mask):
        def outside(y, x):
            return not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x])
        return [(y, x) for y, x in np.argwhere(mask)
                if outside(y - 1, x) or outside(y + 1, x) or outside(y, x - 1) or outside(y, x + 1)]
    found, expected = (np.array(boundary(mask)) * spacing_mm for mask in (prediction, truth))
    distances = np.sqrt(((found[:, None] - expected[None]) ** 2).sum(-1))
    to_truth, to_prediction = distances.min(1), distances.min(0)
    return {'hausdorff_95_mm': max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)),
            'average_perpendicular_distance_mm': to_truth.mean()}


# Overlap.

def test_overlap_of_a_hand_counted_example():
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0]], np.uint8)
    prediction = np.array([[0, 1, 1, 1], [0, 0, 1, 0], [2, 0, 0, 0]], np.uint8)
    assert overlap(prediction, truth, 4) == {
        'dice': [2 * 5 / (6 + 7), 2 * 3 / (4 + 4), 2 * 1 / (2 + 1), None],
        'iou': [5 / 8, 3 / 5, 1 / 2, None],
        'accuracy': 9 / 12,
        'background': 6 / 12,
        'truth_pixels': [6, 4, 2, 0],
        'prediction_pixels': [7, 4, 1, 0],
        'right_pixels': [5, 3, 1, 0]}


def test_a_class_in_neither_mask_is_undefined_and_in_one_of_them_zero():
    empty, full = np.zeros((4, 5), np.uint8), np.ones((4, 5), np.uint8)
    assert overlap(empty, empty, 2)['dice'] == [1.0, None]
    assert overlap(empty, empty, 2)['iou'] == [1.0, None]
    for pair in ((empty, full), (full, empty)):
        assert overlap(*pair, 2)['dice'] == [0.0, 0.0] and overlap(*pair, 2)['iou'] == [0.0, 0.0]


@pytest.mark.parametrize('prediction, truth, words', [
    (np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8), 'differ in size'),
    (np.full((4, 5), 2, np.uint8), np.zeros((4, 5), np.uint8), 'beyond 0 to 1'),
    (np.zeros((4, 5), np.uint8), np.full((4, 5), 255, np.uint8), 'beyond 0 to 1'),
    (np.full((4, 5), -1), np.zeros((4, 5), np.uint8), 'beyond 0 to 1'),
])
def test_masks_that_do_not_fit_are_refused(prediction, truth, words):
    with pytest.raises(ValueError, match=words):
        overlap(prediction, truth, 2)


# Distances.

def test_equal_masks_are_no_distance_apart():
    assert surface_distances(disc(20), disc(20)) == {'hausdorff_95_mm': 0, 'average_perpendicular_distance_mm': 0}


def test_a_square_inside_another_is_its_margin_away():
    """10 x 10 in 16 x 16: each of the inner one's 36 boundary pixels is 3 from the outer boundary."""
    inner, outer = square(13, 13), square(10, 10, side=16)
    found = surface_distances(inner, outer)
    assert found['average_perpendicular_distance_mm'] == 3
    # Of the outer one's 60, 4 corners are 3 sqrt(2) away, their 8 neighbours sqrt(13), their 8 next sqrt(10). Sorted,
    # the 95th percentile lies at 0.95 * 59 = 56.05: within the corners, numbers 56 to 59.
    assert found['hausdorff_95_mm'] == pytest.approx(3 * 2**0.5)
    # Directed: the outer one as prediction has another mean, the same maximum of the two percentiles.
    back = surface_distances(outer, inner)
    assert back['hausdorff_95_mm'] == found['hausdorff_95_mm']
    expected = (4 * 18**0.5 + 8 * 13**0.5 + 8 * 10**0.5 + 40 * 3) / 60
    assert back['average_perpendicular_distance_mm'] == pytest.approx(expected)


def test_single_pixels_are_as_far_apart_as_their_centres():
    found = surface_distances(square(3, 4, side=1), square(6, 8, side=1), (1.0, 1.0))
    assert found == {'hausdorff_95_mm': 5, 'average_perpendicular_distance_mm': 5}
    found = surface_distances(square(3, 4, side=1), square(6, 8, side=1), (2.0, 0.5))
    assert found['hausdorff_95_mm'] == pytest.approx(40**0.5)  # 6 mm down, 2 mm across


def test_rows_and_columns_have_their_own_spacing():
    """A shift of a long thin bar across itself: 4 rows of 2.5 mm, or 4 columns of 0.5 mm."""
    bar = np.zeros((60, 60), bool)
    bar[20:21, 5:55] = True
    down = surface_distances(np.roll(bar, 4, axis=0), bar, (2.5, 0.5))
    across = surface_distances(np.roll(bar.T, 4, axis=1), bar.T, (2.5, 0.5))
    assert down == {'hausdorff_95_mm': 10, 'average_perpendicular_distance_mm': 10}
    assert across == {'hausdorff_95_mm': 2, 'average_perpendicular_distance_mm': 2}


def test_concentric_discs_are_apart_by_the_difference_of_their_radii():
    """But for half a pixel, because boundaries are whole pixels."""
    found = surface_distances(disc(24), disc(20), (1.4, 1.4))
    assert found == pytest.approx(dict.fromkeys(found, 4 * 1.4), abs=0.5 * 1.4)


@pytest.mark.parametrize('spacing_mm', [(1.0, 1.0), (1.37, 0.8)])
def test_distances_are_those_of_brute_force(spacing_mm):
    for seed in range(20):
        prediction, truth = blob(seed), blob(seed + 100)
        assert surface_distances(prediction, truth, spacing_mm) == pytest.approx(
            brute_force(prediction, truth, spacing_mm), abs=1e-9)


def test_few_outliers_leave_the_95th_percentile_and_move_the_maximum():
    """At most 5 % of the outline far away: scikit-image's Hausdorff distance, of all pixels, sees them."""
    truth, prediction = disc(30), disc(30)
    prediction[2, 2:6] = True
    assert hausdorff_distance(segmentation_metrics._boundary(prediction), segmentation_metrics._boundary(truth)) > 20
    assert surface_distances(prediction, truth)['hausdorff_95_mm'] == 0
    # With the same distance everywhere no percentile matters.
    assert surface_distances(square(3, 4, 1), square(9, 12, 1))['hausdorff_95_mm'] == pytest.approx(
        hausdorff_distance(square(3, 4, 1), square(9, 12, 1)))


def test_boundaries_are_where_scikit_image_finds_them():
    from skimage.segmentation import find_boundaries
    for seed in range(10):
        mask = np.pad(blob(seed), 1)  # at the image's border the two differ
        np.testing.assert_array_equal(segmentation_metrics._boundary(mask), find_boundaries(mask, mode='inner'))


def test_an_empty_mask_has_no_distance():
    empty = np.zeros((40, 50), bool)
    for pair in ((empty, square(1, 1)), (square(1, 1), empty), (empty, empty)):
        assert surface_distances(*pair) is None


@pytest.mark.parametrize('apd, good', [(0.0, True), (4.999, True), (5.0, False), (50.0, False), (None, False)])
def test_a_good_contour_is_less_than_5_mm_away(apd, good):
    assert segmentation_metrics.good_contour(apd) is good


# One case, and their summary.

def test_measure_is_about_the_classes_but_the_background_and_can_be_written_as_json():
    truth = square(5, 5) + 2 * square(20, 20)
    prediction = square(5, 5) + 2 * square(20, 24)
    case = measure(prediction.astype(np.uint8), truth.astype(np.uint8), THREE, (1.0, 1.5))
    assert json.loads(json.dumps(case)) == case
    assert case['dice'] == {'ventricle': 1.0, 'muscle': 0.6} and case['iou'] == {'ventricle': 1.0, 'muscle': 60 / 140}
    assert case['accuracy'] == 1 - 80 / 2000
    assert case['truth_pixels'] == case['prediction_pixels'] == {'ventricle': 100, 'muscle': 100}
    assert case['hausdorff_95_mm'] == {'ventricle': 0.0, 'muscle': 6.0}
    assert case['apd_mm']['ventricle'] == 0 and 0 < case['apd_mm']['muscle'] < 6
    assert case['good_contour'] == {'ventricle': True, 'muscle': True}


@pytest.mark.parametrize('found, there, spacing, dice, good', [
    (True, True, (1.0, 1.0), 1.0, True),
    (False, True, (1.0, 1.0), 0.0, False),   # missed: not a good contour
    (True, False, (1.0, 1.0), 0.0, None),    # nothing to find: no contour to judge
    (False, False, (1.0, 1.0), None, None),
    (True, True, None, 1.0, None),           # millimetres are not known
    (False, True, None, 0.0, None),
])
def test_what_is_undefined_is_none(found, there, spacing, dice, good):
    masks = [np.uint8(square(5, 5) & flag) for flag in (found, there)]
    case = measure(*masks, NAMES, spacing)
    distance = 0.0 if found and there and spacing else None
    assert case['dice'] == {'ventricle': dice} and case['good_contour'] == {'ventricle': good}
    assert case['hausdorff_95_mm'] == case['apd_mm'] == {'ventricle': distance}


def case_of(dice, iou, hd, apd, good, names=('ventricle',)):
    values = {'dice': dice, 'iou': iou, 'hausdorff_95_mm': hd, 'apd_mm': apd, 'good_contour': good}
    case = {key: dict(zip(names, value if isinstance(value, tuple) else (value,))) for key, value in values.items()}
    pixels = dict.fromkeys(names, 0)  # of which no pooled score can be made
    return case | {'right_pixels': pixels, 'truth_pixels': pixels, 'prediction_pixels': pixels, 'background': 0.9}


def test_summary_by_hand():
    cases = [case_of(0.9, 0.8, 4.0, 2.0, True), case_of(0.7, 0.5, 20.0, 6.0, False),
             case_of(0.8, 0.7, 6.0, 4.0, True),
             case_of(0.0, 0.0, None, None, False),  # missed
             case_of(0.0, 0.0, None, None, None),   # something found where nothing was
             case_of(None, None, None, None, None)]
    assert summarize(cases, NAMES) == pytest.approx({
        'dice': 2.4 / 5, 'iou': 2.0 / 5, 'hausdorff_95_mm': 10.0, 'apd_mm': 4.0, 'good_contours': 2 / 4,
        'dice_good_contours': 0.85, 'background_accuracy': 0.9})


def test_several_classes_have_their_own_means_too():
    names = THREE[1:]
    cases = [case_of((0.9, 0.5), (0.8, 0.4), (1.0, 3.0), (1.0, 2.0), (True, True), names),
             case_of((0.7, None), (0.6, None), (None, None), (None, None), (None, None), names)]
    found = summarize(cases, THREE)
    assert found == pytest.approx({
        'dice': 0.7, 'iou': 0.6, 'dice_ventricle': 0.8, 'iou_ventricle': 0.7, 'dice_muscle': 0.5, 'iou_muscle': 0.4,
        'hausdorff_95_mm': 2.0, 'apd_mm': 1.5, 'good_contours': 1.0, 'dice_good_contours': 0.7,
        'background_accuracy': 0.9})
    pooled = {'pooled_dice', 'pooled_iou'}
    assert tuple(found) == tuple(name for name in segmentation_metrics.summary_names(THREE) if name not in pooled)


def test_pooled_scores_count_pixels_of_all_images_together():
    """Two images with 8 and 2 pixels of truth, of which 6 and 0 are found, and one pixel too many in the second."""
    truth, found = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    truth[0, :2], found[0, 0], found[0, 1, :2] = 1, 1, 1
    truth[1, 0, :2], found[1, 3, 3] = 1, 1
    summary = summarize([measure(*masks, NAMES) for masks in zip(found, truth)], NAMES)
    assert summary['pooled_dice'] == pytest.approx(2 * 6 / (10 + 7))
    assert summary['pooled_iou'] == pytest.approx(6 / (10 + 7 - 6))
    assert summary['dice'] == pytest.approx((2 * 6 / (8 + 6) + 0) / 2)
    assert summary['background_accuracy'] == pytest.approx((8 + 14) / 32)


def test_a_mean_over_nothing_is_left_out():
    assert summarize([], NAMES) == {}
    assert summarize([case_of(None, None, None, None, None)], NAMES) == {'background_accuracy': 0.9}
    no_spacing = [case_of(0.9, 0.8, None, None, None)]
    assert summarize(no_spacing, NAMES) == pytest.approx({'dice': 0.9, 'iou': 0.8, 'background_accuracy': 0.9})


def test_a_metrics_name_has_no_slash_of_a_class():
    names = ('background', 'left/right', 'other')
    assert not any('/' in name for name in segmentation_metrics.summary_names(names))
    masks = np.uint8(square(5, 5))
    assert summarize([measure(masks, masks, names)], names)['dice_left_right'] == 1


def test_summary_of_measured_images_gives_floats_under_the_names_announced():
    truth, near, far = (np.uint8(square(5, left)) for left in (5, 6, 30))
    found = summarize([measure(near, truth, NAMES, (1.0, 1.0)), measure(far, truth, NAMES, (1.0, 1.0))], NAMES)
    assert tuple(found) == segmentation_metrics.summary_names(NAMES)
    assert all(type(value) is float for value in found.values())
    assert found['good_contours'] == 0.5 and found['dice_good_contours'] == 0.9 and found['dice'] == 0.45
