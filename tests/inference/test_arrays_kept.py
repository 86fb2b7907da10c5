"""Arrays reach the model as training takes them: of their own type, and in a range that the run knows."""

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.inference.arrays import as_uint8, to_images


def test_types_are_kept_where_channels_are():
    for values in (np.full((4, 4, 5), 60_000, np.uint16), np.full((4, 4, 5), 0.25, np.float32)):
        [image] = to_images(values, 5)
        assert image.dtype == values.dtype and np.array_equal(image, values)


def test_floats_beyond_one_are_for_runs_that_were_trained_on_such():
    scan = np.linspace(-1000, 1000, 16, dtype=np.float32).reshape(4, 4, 1)
    with pytest.raises(UserError, match='-1000 to 1000'):
        to_images(scan, 1)
    assert np.array_equal(to_images(scan, 1, any_range=True)[0], scan)


def test_images_of_several_types_are_refused():
    with pytest.raises(UserError, match='different types'):
        to_images([np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float32)], 1)


def test_pixels_to_look_at_have_eight_bits():
    assert as_uint8(np.array([0, 257, 65_535], np.uint16)).tolist() == [0, 1, 255]
    assert as_uint8(np.array([-1, 0.5, 2], np.float32)).tolist() == [0, 128, 255]
