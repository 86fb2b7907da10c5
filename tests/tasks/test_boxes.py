"""Boxes: overlaps, cells of objects, and what greedy algorithms and OpenCV make of many guesses."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from practicum.tasks import boxes as boxes_lib

SQUARE = [0.0, 0.0, 10.0, 10.0]


def random_boxes(rng, count, side=100.0, near=5):
    """Returns boxes in clusters, float32 [count, 4]."""
    middles = rng.uniform(0, side, (near, 4))
    corners = middles[rng.integers(0, near, count)] + rng.normal(0, 4, (count, 4))
    first, second = corners[:, :2], corners[:, :2] + np.abs(corners[:, 2:]) + 1
    return np.concatenate([first, second], axis=1).astype(np.float32)


@pytest.mark.parametrize('other, iou, giou', [
    (SQUARE, 1, 1), ([5, 0, 15, 10], 1 / 3, 1 / 3), ([10, 0, 20, 10], 0, 0), ([20, 0, 30, 10], 0, -1 / 3),
    ([2, 2, 4, 4], 0.04, 0.04), ([5, 5, 5, 5], 0, 0)])
def test_overlaps(other, iou, giou):
    first, second = jnp.array(SQUARE), jnp.array(other, jnp.float32)
    np.testing.assert_allclose(boxes_lib.giou(first, second), (iou, giou), atol=1e-6)
    np.testing.assert_allclose(boxes_lib.pairwise_iou(first[None], second[None]), [[iou]], atol=1e-6)


def test_boxes_without_area_are_no_nan_and_have_no_nan_gradient():
    nothing = jnp.zeros((2, 4))
    assert not boxes_lib.pairwise_iou(nothing, nothing).any()
    slopes = jax.grad(lambda box: sum(value.sum() for value in boxes_lib.giou(box, nothing)))(nothing)
    assert np.isfinite(slopes).all()


def greedy(boxes, scores, classes, threshold):
    """The textbook's loop."""
    overlap = np.asarray(boxes_lib.pairwise_iou(boxes, boxes))
    kept = []
    for i in range(len(boxes)):
        if scores[i] > 0 and not any(overlap[i, j] > threshold and classes[i] == classes[j] for j in kept):
            kept.append(i)
    return np.isin(np.arange(len(boxes)), kept)


def test_non_maximum_suppression_is_the_greedy_algorithm_and_opencv():
    suppress = jax.jit(boxes_lib.non_maximum_suppression)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        boxes, classes = random_boxes(rng, 60), rng.integers(0, 3, 60).astype(np.int32)
        scores = np.sort(rng.uniform(0, 1, 60))[::-1].astype(np.float32)
        scores[-10:] = 0
        kept = np.asarray(suppress(boxes, scores, classes, 0.5))
        np.testing.assert_array_equal(kept, greedy(boxes, scores, classes, 0.5))
        left_top_width_height = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
        theirs = cv2.dnn.NMSBoxesBatched(left_top_width_height.tolist(), scores.tolist(), classes.tolist(), 1e-9, 0.5)
        assert sorted(theirs) == np.flatnonzero(kept).tolist()


def test_suppression_of_a_chain():
    """Each removes the next: the third stays, because the second has gone."""
    boxes = np.array([[x, 0, x + 10, 10] for x in (0, 3, 6, 9, 12)], np.float32)
    kept = boxes_lib.non_maximum_suppression(boxes, np.linspace(1, 0.6, 5), np.zeros(5, np.int32), 0.5)
    assert np.asarray(kept).tolist() == [True, False, True, False, True]


def similar(first, second, tolerance):
    """OpenCV's SimilarRects (modules/objdetect), of boxes by their corners."""
    delta = tolerance * sum(np.minimum(first[2:] - first[:2], second[2:] - second[:2])) / 2
    return (np.abs(first - second) <= delta).all()


def test_clusters_are_the_connected_ones_of_opencvs_rule():
    cluster = jax.jit(functools.partial(boxes_lib.cluster, least=2, tolerance=0.2))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        boxes, classes = random_boxes(rng, 30), rng.integers(0, 2, 30).astype(np.int32)
        scores = np.full(30, 0.5, np.float32)
        scores[25:] = 0
        means, together = map(np.asarray, cluster(boxes, scores, classes))
        alike = [[classes[i] == classes[j] and similar(boxes[i], boxes[j], 0.2) for j in range(25)] for i in range(25)]
        _, names = connected_components(np.array(alike))
        groups = [np.flatnonzero(names == name) for name in range(names.max() + 1) if (names == name).sum() > 1]
        first = [group[0] for group in groups]
        np.testing.assert_array_equal(np.flatnonzero(together), first)
        np.testing.assert_allclose(means[first], [boxes[group].mean(axis=0) for group in groups], rtol=1e-5)
        np.testing.assert_allclose(together[first], [1 - 0.5 ** len(group) for group in groups], rtol=1e-5)


def centres(side=8, stride=4):
    x, y = np.meshgrid(np.arange(side) * stride + stride / 2, np.arange(side) * stride + stride / 2)
    return jnp.asarray(np.stack([x, y], -1).reshape(-1, 2), jnp.float32)


def give(boxes, labels=None, crowd=None, least=1.0):
    count = len(boxes)
    return jax.tree.map(np.asarray, boxes_lib.assign(
        jnp.asarray(boxes, jnp.float32), jnp.asarray([0] * count if labels is None else labels),
        jnp.asarray([0] * count if crowd is None else crowd), centres(), jnp.float32(4), fraction=0.4, least=least))


def test_cells_of_an_object_are_those_around_its_middle():
    given = give([[0, 0, 32, 32]])
    assert given.positive.sum() == 16 and given.share[given.positive].tolist() == [1 / 16] * 16
    middle = np.asarray(centres())[given.positive]
    assert middle.min() == 10 and middle.max() == 22  # 0.4 of 32 about 16


def test_every_object_has_a_cell_and_padding_has_none():
    given = give([[3.9, 3.9, 4.1, 4.1], [28, 28, 31, 31], [0, 0, 0, 0]], labels=[0, 0, -1])
    assert given.positive.sum() == 2 and sorted(given.owner[given.positive]) == [0, 1]


def test_the_smaller_object_has_a_cell_that_two_claim():
    given = give([[0, 0, 32, 32], [14, 14, 22, 22]], least=1.5)
    x, y = np.asarray(centres()).T
    assert (given.owner[(x == 18) & (y == 18)] == 1).all() and given.positive.sum() > (given.owner == 1).sum()
    np.testing.assert_allclose([given.share[given.positive & (given.owner == i)].sum() for i in (0, 1)], 1, rtol=1e-6)


def test_what_lies_in_a_crowd_is_neither():
    given = give([[0, 0, 16, 16], [20, 20, 30, 30]], crowd=[1, 0])
    assert given.ignored.sum() == 16 and not (given.ignored & given.positive).any()
    assert (given.owner[given.positive] == 1).all()


def test_an_image_without_objects():
    given = give([[0, 0, 0, 0]], labels=[-1])
    assert not given.positive.any() and not given.share.any() and not given.ignored.any()
