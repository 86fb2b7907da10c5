"""Promises of input_pipeline/contours.py and tasks/outlines.py, each the other's inverse."""

import numpy as np
import pytest
from scipy import ndimage

from practicum.common.errors import UserError
from practicum.input_pipeline import contours
from practicum.tasks import outlines

TRIANGLE = np.array([[1.25, 1.0], [6.5, 1.0], [1.25, 5.75]])


def blob(seed, threshold=0.52, shape=(24, 31)):
    """One smooth random region without holes, often at the border; 8-connected."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).uniform(size=shape), 2.0, mode='wrap')
    mask = noise > np.quantile(noise, threshold)
    regions, _ = ndimage.label(mask, np.ones((3, 3)))
    largest = regions == np.bincount(regions[mask]).argmax()
    return ndimage.binary_fill_holes(np.pad(largest, 1))[1:-1, 1:-1]


def error_of(path):
    with pytest.raises(UserError) as error:
        contours.read_contour(path)
    message = str(error.value)
    assert '\n' not in message and path.name in message
    return message


# Files.

def test_a_written_contour_is_read_back(tmp_path):
    contours.write_contour(tmp_path / 'a.txt', TRIANGLE)
    assert (tmp_path / 'a.txt').read_text() == '1.25 1.00\n6.50 1.00\n1.25 5.75\n'
    contour = contours.read_contour(tmp_path / 'a.txt')
    assert contour.dtype == np.float64
    np.testing.assert_array_equal(contour, TRIANGLE)


def test_tabs_blank_lines_and_windows_line_ends_are_read(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'\xef\xbb\xbf1.25\t1\r\n 6.5  1.00 \r\n\r\n1.25 5.75')
    np.testing.assert_array_equal(contours.read_contour(tmp_path / 'a.txt'), TRIANGLE)


@pytest.mark.parametrize('content, says', [
    (b'', '0 different points'), (b'1 2\n3 4\n', '2 different points'), (b'1 1\n' * 9, '1 different points'),
    (b'1 1\n5 1\nnan 5\n', 'finite'), (b'1 1\n5 1\n1 inf\n', 'finite'), (b'1 1\n5 1\n1 five\n', 'line 3'),
    (b'1 1 0\n5 1 0\n1 5 0\n', 'line 1'), (b'1,1\n5,1\n1,5\n', 'line 1'), (b'\xff\xfe\x00', 'text')])
def test_unusable_files_are_named(tmp_path, content, says):
    (tmp_path / 'a.txt').write_bytes(content)
    assert says in error_of(tmp_path / 'a.txt')


def test_missing_files_and_folders_are_named(tmp_path):
    assert 'no such file' in error_of(tmp_path / 'missing.txt')
    assert 'no such file' in error_of(tmp_path)


# Masks.

def test_x_is_the_column_and_centres_are_at_integers():
    mask = contours.rasterize(TRIANGLE, (8, 9))
    expected = np.zeros((8, 9), bool)
    expected[1, 2:7] = expected[2, 2:6] = expected[3, 2:5] = expected[4, 2:4] = expected[5, 2] = True
    # By hand: the slanted side is at x = 6.5 - 5.25 / 4.75 * (y - 1), so 6.5, 5.39, 4.29, 3.18, 2.08 for y = 1 to 5.
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == bool


def test_centres_on_the_edge_count_left_and_top_only():
    square = np.array([[1, 1], [4, 1], [4, 4], [1, 4]], float)
    expected = np.zeros((7, 7), bool)
    expected[1:4, 1:4] = True
    np.testing.assert_array_equal(contours.rasterize(square, (7, 7)), expected)
    np.testing.assert_array_equal(contours.rasterize(square[::-1], (7, 7)), expected)


def test_neighbours_share_an_edge_and_no_pixel():
    diagonal = np.array([[1, 1], [6, 6]], float)
    above = contours.rasterize(np.vstack([diagonal, [[6, 1]]]), (8, 8))
    below = contours.rasterize(np.vstack([diagonal, [[1, 6]]]), (8, 8))
    square = contours.rasterize(np.array([[1, 1], [6, 1], [6, 6], [1, 6]], float), (8, 8))
    assert not np.any(above & below)
    np.testing.assert_array_equal(above | below, square)


def test_the_area_is_unbiased_on_a_half_pixel_grid():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    errors = []
    for radius in np.linspace(5, 20, 40):
        contour = np.round(2 * (30 + radius * np.stack([np.cos(angle), np.sin(angle)], 1))) / 2
        x, y = contour.T
        area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
        errors.append(contours.rasterize(contour, (60, 60)).sum() / area - 1)
    assert abs(np.mean(errors)) < 0.005  # 0.05 if every centre on the edge counted.


def test_what_is_outside_the_image_is_cut():
    big = np.array([[-9, -9], [30, -9], [30, 30], [-9, 30]], float)
    assert contours.rasterize(big, (4, 6)).all()


def test_a_contour_may_touch_the_border_and_not_leave_the_image():
    whole = np.array([[-0.5, -0.5], [8.5, -0.5], [8.5, 7.5], [-0.5, 7.5]])
    contours.check_inside(whole, (8, 9), 'a.txt')
    for shape in ((7, 9), (8, 8)):
        with pytest.raises(UserError, match=f'a.txt: leaves the image of {shape[1]}x{shape[0]} pixels'):
            contours.check_inside(whole, shape, 'a.txt')
    with pytest.raises(UserError, match='x from -1 to 8'):
        contours.check_inside(whole - 0.5, (8, 9), 'a.txt')


# Contours of masks.

@pytest.mark.parametrize('seed', range(30))
def test_a_region_without_holes_comes_back_exactly_even_from_a_file(tmp_path, seed):
    mask = blob(seed, threshold=0.4 + 0.02 * seed)
    contour, = outlines.trace(mask)
    np.testing.assert_array_equal(contours.rasterize(contour, mask.shape), mask)
    contours.check_inside(contour, mask.shape, 'a.txt')
    contours.write_contour(tmp_path / 'a.txt', contour)
    np.testing.assert_array_equal(contours.rasterize(contours.read_contour(tmp_path / 'a.txt'), mask.shape), mask)


def test_the_blobs_of_the_test_above_touch_every_border():
    masks = [blob(seed, threshold=0.4 + 0.02 * seed) for seed in range(30)]
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert any(mask[side].any() for mask in masks)


@pytest.mark.parametrize('pixels', [[(0, 0)], [(5, 6)], [(2, 3)], [(1, 1), (2, 2)], [(2, 1), (1, 2), (0, 3)]])
def test_single_pixels_corners_and_pixels_that_touch_by_a_corner_come_back(pixels):
    mask = np.zeros((6, 7), bool)
    mask[tuple(zip(*pixels))] = True
    contour, = outlines.trace(mask)
    np.testing.assert_array_equal(contours.rasterize(contour, mask.shape), mask)


def test_a_full_mask_comes_back():
    mask = np.ones((4, 5), bool)
    np.testing.assert_array_equal(contours.rasterize(outlines.trace(mask)[0], mask.shape), mask)


def test_regions_come_largest_first_and_holes_do_not_count():
    mask = np.zeros((20, 20), bool)
    mask[1:4, 1:4] = mask[6:18, 6:18] = True
    mask[15:, :4] = True
    mask[9:15, 9:15] = False
    traced = outlines.trace(mask)
    assert len(traced) == 3
    sizes = [contours.rasterize(contour, mask.shape).sum() for contour in traced]
    assert sizes == [144, 20, 9]  # The first with its hole filled.


def test_an_empty_mask_has_no_contour():
    assert outlines.trace(np.zeros((5, 5), bool)) == []
