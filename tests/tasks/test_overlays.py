"""Images of masks: what is drawn where, in which colour."""

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from practicum.tasks import overlays
from practicum.tasks.segmentation_metrics import measure

TRUTH, PREDICTION = (np.array(colour) for colour in overlays.COLOURS[0])


def box(top, left, bottom, right, size=(40, 50), label=1):
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = label
    return mask


def pixels_of(picture, colour):
    return np.all(picture == colour, axis=-1)


def case_of(truth, prediction, names=('background', 'ventricle'), file='patient/slice.png', spacing=(1.0, 1.0)):
    image = np.full((*truth.shape, 1), 60, np.uint8)
    return {'example': {'image': image, 'segmentation_mask': truth}, 'outputs': {'prediction': prediction},
            'scores': {'file': file, 'spacing_mm': spacing, **measure(prediction, truth, names, spacing)}}


def drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def titles(figure):
    return [text.get_text() for text in figure.texts][4:]


# One image.

@pytest.mark.parametrize('shape', [(40, 50), (40, 50, 1), (40, 50, 3)])
def test_without_masks_it_is_the_enlarged_image_in_three_channels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = image.copy()
    picture = overlays.overlay(image)
    assert picture.shape == (400, 500, 3) and picture.dtype == np.uint8  # ten times: eleven would be above 512
    assert np.array_equal(picture[4::10, 5::10], np.broadcast_to(image.reshape(40, 50, -1), (40, 50, 3)))
    assert np.array_equal(image, before)


def test_a_large_image_keeps_its_size():
    assert overlays.overlay(np.zeros((300, 700), np.uint8)).shape == (300, 700, 3)


def test_prediction_is_tinted_and_outlined_just_inside():
    image = np.full((40, 50), 100, np.uint8)
    picture = overlays.overlay(image, prediction=box(10, 20, 20, 40), fill=0.25, side=50)
    line = pixels_of(picture, PREDICTION)
    expected = box(10, 20, 20, 40).astype(bool)
    expected[11:19, 21:39] = False
    np.testing.assert_array_equal(line, expected)
    np.testing.assert_array_equal(picture[15, 30], np.round(0.75 * 100 + 0.25 * PREDICTION))
    assert np.all(picture[box(10, 20, 20, 40) == 0] == 100)


def test_truth_is_outlined_just_outside_and_not_filled():
    picture = overlays.overlay(np.full((40, 50), 100, np.uint8), truth=box(10, 20, 20, 40), side=50)
    line = pixels_of(picture, TRUTH)
    assert line[9, 20:40].all() and line[20, 20:40].all() and line[10:20, 19].all() and line[10:20, 40].all()
    assert line.sum() == 2 * 20 + 2 * 10 and np.all(picture[~line] == 100)


def test_where_truth_and_prediction_agree_both_are_seen():
    mask = box(10, 20, 20, 40)
    both = overlays.overlay(np.zeros((40, 50), np.uint8), mask, mask)
    for alone, colour in ((overlays.overlay(np.zeros((40, 50), np.uint8), truth=mask), TRUTH),
                          (overlays.overlay(np.zeros((40, 50), np.uint8), mask), PREDICTION)):
        np.testing.assert_array_equal(pixels_of(both, colour), pixels_of(alone, colour))


def test_lines_are_as_wide_as_asked_whatever_the_enlargement():
    picture = overlays.overlay(np.zeros((40, 50), np.uint8), box(10, 20, 20, 40), line=3, fill=0)
    assert picture.shape == (400, 500, 3)
    assert pixels_of(picture, PREDICTION)[150].sum() == 6  # left and right


def test_a_mask_that_fills_the_image_has_no_outline_along_its_border():
    full = np.ones((40, 50), np.uint8)
    picture = overlays.overlay(np.zeros((40, 50), np.uint8), full, full, fill=0)
    assert not picture.any()


def test_each_class_has_its_colours_whichever_others_are_there():
    image = np.zeros((40, 50), np.uint8)
    one, two, four = box(5, 5, 15, 15), box(20, 20, 30, 30, label=2), box(5, 30, 15, 40, label=4)
    picture = overlays.overlay(image, one + two + four, one + two, fill=0, side=50)
    for mask, (truth, prediction) in ((one, overlays.COLOURS[0]), (two, overlays.COLOURS[1])):
        # A square of 10 has 36 pixels along its inside, and 40 along its outside without corners.
        assert pixels_of(picture, prediction).sum() == 36 * (2 if mask is one else 1)
        assert pixels_of(picture, prediction)[mask > 0].sum() == 36
        assert pixels_of(picture, truth).sum() == 40
    assert pixels_of(picture, overlays.COLOURS[0][1])[four > 0].sum() == 36  # from the start again
    alone = overlays.overlay(image, two, fill=0, side=50)
    np.testing.assert_array_equal(pixels_of(alone, overlays.COLOURS[1][1]), pixels_of(picture, overlays.COLOURS[1][1]))


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match='does not fit'):
        overlays.overlay(np.zeros((40, 50), np.uint8), truth=np.zeros((50, 40), np.uint8))


def test_truth_and_prediction_are_told_apart_without_red_or_green():
    """Machado et al. 2009, full deuteranopia and protanopia, and lightness alone."""
    simulated = [np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                           [-0.011820, 0.042940, 0.968881]]),
                 np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                           [-0.003882, -0.048116, 1.051998]])]
    for pair in overlays.COLOURS:
        linear = [(np.array(colour) / 255) ** 2.2 for colour in pair]
        for matrix in simulated:
            seen = [np.clip(matrix @ colour, 0, 1) ** (1 / 2.2) for colour in linear]
            assert np.linalg.norm(seen[0] - seen[1]) > 0.3


# The sheet.

def test_a_row_for_each_case_with_its_scores_in_the_order_given():
    # Of b's 56 boundary pixels 6 are 2 mm away on the left, 8 on the right and 2 in the corners; 4 are 1 mm away.
    truth = box(10, 20, 20, 40)
    cases = [case_of(truth, box(10, 22, 20, 42), file='b.png'), case_of(truth, box(0, 0, 0, 0), file='a.png'),
             case_of(box(0, 0, 0, 0), truth, file='c.png'), case_of(truth, truth, file='d.png', spacing=None),
             case_of(box(0, 0, 0, 0), box(0, 0, 0, 0), file='e.png')]
    figure = overlays.draw_examples(cases)
    assert len(figure.axes) == 4 * 5
    assert titles(figure) == ['b.png   Dice 0.900   HD95 2.0 mm   APD 0.6 mm', 'a.png   Dice 0.000   not found',
                              'c.png   Dice 0.000   nothing there', 'd.png   Dice 1.000',
                              'e.png   nothing there, nothing found']


def test_of_several_classes_the_worst_come_first():
    names = ('background', *'abcdef')
    truth = sum(box(5 * i, 0, 5 * i + 4, 10, label=i + 1) for i in range(5))
    prediction = np.where(truth == 3, 0, np.where((truth == 2) & (np.arange(50) < 5), 0, truth)).astype(np.uint8)
    [title] = titles(overlays.draw_examples([case_of(truth, prediction, names)]))
    assert title == 'patient/slice.png   c: Dice 0.000   not found   b: Dice 0.667   a: Dice 1.000   d: Dice 1.000'


def test_more_than_twelve_cases_are_cut_off():
    mask = box(10, 20, 20, 40)
    assert len(overlays.draw_examples([case_of(mask, mask)] * 14).axes) == 4 * 12


def test_a_name_with_dollars_or_of_any_length_is_drawn_as_it_is():
    mask = box(10, 20, 20, 40)
    names = ['$x_$', 'folder/' * 20 + 'end.png']
    figure = overlays.draw_examples([case_of(mask, mask, file=name) for name in names])
    drawn(figure)
    assert titles(figure)[0].startswith('$x_$   Dice')
    assert titles(figure)[1].startswith('…') and 'folder/end.png   Dice' in titles(figure)[1]
    assert len(titles(figure)[1]) < 110


def test_panels_show_truth_prediction_and_a_close_up_of_both():
    truth, prediction = box(10, 20, 20, 30), box(12, 22, 22, 32)
    image, left, right, both = [axes.images[0].get_array() for axes in overlays.draw_examples(
        [case_of(truth, prediction)]).axes]
    assert not pixels_of(image, TRUTH).any() and not pixels_of(image, PREDICTION).any()
    assert pixels_of(left, TRUTH).any() and not pixels_of(left, PREDICTION).any()
    assert pixels_of(right, PREDICTION).any() and not pixels_of(right, TRUTH).any()
    assert pixels_of(both, TRUTH).any() and pixels_of(both, PREDICTION).any()
    # The truth is 10 of 50 pixels wide in the whole image, and at least twice as much of the close-up.
    share = [np.ptp(np.flatnonzero(pixels_of(panel, TRUTH).any(0))) / panel.shape[1] for panel in (left, both)]
    assert share[1] > 2 * share[0]


@pytest.mark.parametrize('marked', [box(0, 0, 3, 3), box(37, 45, 40, 50), box(0, 0, 40, 50), box(0, 0, 40, 1),
                                    box(20, 0, 21, 50), box(5, 5, 6, 6)])
def test_the_close_up_holds_everything_within_the_image_in_its_proportions(marked):
    rows, columns = overlays._close_up(marked > 0)
    assert marked[rows, columns].sum() == marked.sum()
    assert 0 <= rows.start and rows.stop <= 40 and 0 <= columns.start and columns.stop <= 50
    assert (columns.stop - columns.start) / (rows.stop - rows.start) == pytest.approx(50 / 40, rel=0.2)


def test_the_sheet_is_not_blank_and_names_the_columns_in_their_colours():
    mask = box(10, 20, 20, 40)
    figure = overlays.draw_examples([case_of(mask, mask)])
    heads = {text.get_text(): text.get_color() for text in figure.texts[:4]}
    assert list(heads) == ['image', 'truth', 'prediction', 'both, close up']
    hues = {name: matplotlib.colors.rgb_to_hsv(matplotlib.colors.to_rgb(heads[name]))[0]
            for name in ('truth', 'prediction')}
    assert hues == {name: pytest.approx(matplotlib.colors.rgb_to_hsv(colour / 255)[0])
                    for name, colour in (('truth', TRUTH), ('prediction', PREDICTION))}
    picture = drawn(figure).astype(int)
    assert (np.abs(picture - TRUTH).sum(-1) < 60).any() and (np.abs(picture - PREDICTION).sum(-1) < 60).any()
