"""Boxes on images: where, in which colour, readable."""

import numpy as np
import pytest

from practicum.tasks.box_drawing import COLOURS, draw_boxes, draw_marked

NAMES = tuple(f'kind {i}' for i in range(9))
GREY = 130


def ground(height=60, width=100, channels=3):
    return np.full((height, width, channels), GREY, np.uint8)


def where(picture, colour):
    """Left, top, right, bottom of the pixels of a colour, the ends of the last ones."""
    rows, columns = np.nonzero(np.all(picture == colour, axis=-1))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_box_ends_where_its_coordinates_say():
    """Edges of pixels: of 20 to 40 the pixels 20 to 39 are within."""
    picture = draw_marked(ground(), np.array([[20, 10, 40.4, 29.6]]), [(255, 0, 0)], [''], side=100)
    assert picture.shape == (60, 100, 3) and picture.dtype == np.uint8
    assert where(picture, (255, 0, 0)) == [20, 10, 40, 30]
    assert where(picture, (0, 0, 0)) == [19, 9, 41, 31]  # a dark line around
    assert (picture[15:25, 25:35] == GREY).all() and (picture[:8] == GREY).all()


def test_small_images_are_enlarged_and_boxes_with_them():
    picture = draw_marked(ground(), np.array([[20, 10, 40, 30]]), [(255, 0, 0)], [''])
    assert picture.shape == (300, 500, 3)
    assert where(picture, (255, 0, 0)) == [100, 50, 200, 150]
    assert draw_boxes(ground(600, 700), np.zeros((0, 4)), [], class_names=NAMES).shape == (600, 700, 3)


def test_lines_and_letters_grow_with_the_image():
    widths, heights = [], []
    for size in (512, 2048):
        picture = draw_boxes(ground(size, size), np.array([[0.2, 0.2, 0.8, 0.8]]) * size, [1], [0.5], class_names=NAMES)
        middle = np.all(picture[size // 2] == COLOURS[1], axis=-1)
        widths.append(middle.sum() / 2)
        heights.append(0.2 * size - where(picture, COLOURS[1])[1])
    assert 3 <= widths[1] / widths[0] <= 5 and 3 <= heights[1] / heights[0] <= 5
    assert widths[0] >= 2 and heights[0] >= 11


@pytest.mark.parametrize('shape', [(40, 50), (40, 50, 1), (40, 50, 3)])
def test_one_channel_or_three_and_the_image_stays_as_it_was(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = image.copy()
    picture = draw_boxes(image, np.zeros((0, 4)), [], class_names=NAMES, side=50)
    assert np.array_equal(picture, np.broadcast_to(image.reshape(40, 50, -1), (40, 50, 3)))
    draw_boxes(image, np.array([[1, 1, 20, 20]]), [0], [1.0], class_names=NAMES, side=50)
    assert np.array_equal(image, before)


def test_classes_have_colours_of_their_own_and_the_eighth_the_first_again():
    assert len(set(COLOURS)) == 7
    boxes = np.array([[10, 30, 30, 50], [60, 30, 80, 50]], float)
    picture = draw_boxes(ground(), boxes, [2, 7], [0.9, 0.8], class_names=NAMES)
    assert where(picture, COLOURS[2])[2] <= 5 * 60 <= where(picture, COLOURS[0])[0]


def test_the_highest_score_is_on_top_whatever_the_order():
    boxes = np.array([[10, 10, 50, 50]] * 2, float)
    for labels, scores in (((0, 1), (0.9, 0.2)), ((1, 0), (0.2, 0.9))):
        picture = draw_boxes(ground(), boxes, labels, scores, class_names=NAMES)
        assert not np.all(picture == COLOURS[1], axis=-1).any() and np.all(picture == COLOURS[0], axis=-1).any()


@pytest.mark.parametrize('box', [(0, 0, 100, 60), (-50, -50, 200, 200), (95, 55, 100, 60), (0, 0, 3, 3),
                                 (99, 0, 100, 60)])
def test_texts_stay_within_the_image(box):
    """What a text changes is as large as in the middle, but for the box's own line below it."""
    def size_of_text(box):
        with_text, without = (draw_marked(ground(), np.array([box], float), [COLOURS[0]], [text])
                              for text in ('kind 0 0.90', ''))
        rows, columns = np.nonzero((with_text != without).any(axis=-1))
        return np.ptp(columns), np.ptp(rows)
    np.testing.assert_allclose(size_of_text(box), size_of_text((30, 30, 60, 50)), atol=4)


@pytest.mark.parametrize('box', [(np.nan, 0, 10, 10), (0, 0, np.inf, 10), (200, 10, 220, 30), (30, 30, 20, 40),
                                 (20, 20, 20, 40)])
def test_what_is_nowhere_is_not_drawn(box):
    picture = draw_boxes(ground(), np.array([box], float), [0], [0.9], class_names=NAMES)
    assert (picture == GREY).all()


def test_long_and_foreign_names_are_written():
    names = ('a' * 300, 'Łódź Ελλάδα Ж', '')
    boxes = np.array([[10, 30, 30, 50], [40, 30, 60, 50], [70, 30, 90, 50]], float)
    picture = draw_boxes(ground(), boxes, [0, 1, 2], [0.9, 0.8, 0.7], class_names=names)
    left, _, right, _ = where(picture, COLOURS[0])
    assert right - left < 0.8 * picture.shape[1]
    draw_boxes(ground(), boxes, [0, 1, 2], class_names=names)
