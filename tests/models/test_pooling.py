"""Pooling to a fixed size."""

import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.models.pooling import adaptive_average_pool, global_pool


def test_windows_are_those_of_a_hand_worked_example():
    """Five pixels in three windows, [0, 2), [1, 4), [3, 5); two pixels in three, [0, 1), [0, 2), [1, 2)."""
    rows = np.asarray([0.0, 1.0, 5.0, 9.0, 20.0])
    columns = np.asarray([1.0, 3.0])
    x = jnp.asarray(rows[:, None] * columns)[None, :, :, None]
    expected = np.asarray([0.5, 5.0, 14.5])[:, None] * np.asarray([1.0, 2.0, 3.0])
    np.testing.assert_allclose(adaptive_average_pool(x, 3)[0, :, :, 0], expected, rtol=1e-6)


def test_whole_windows_are_plain_means():
    x = np.random.default_rng(0).random((2, 6, 12, 5))
    expected = x.reshape(2, 3, 2, 3, 4, 5).mean(axis=(2, 4))
    np.testing.assert_allclose(adaptive_average_pool(jnp.asarray(x), 3), expected, rtol=1e-5)


def test_a_map_of_that_size_is_left_alone():
    x = jnp.ones((1, 4, 4, 2))
    assert adaptive_average_pool(x, 4) is x


def test_global_pool_by_hand():
    x = jnp.asarray([[[[1.0, 5.0], [3.0, -1.0]]]])
    np.testing.assert_array_equal(global_pool(x, 'average'), [[2, 2]])
    np.testing.assert_array_equal(global_pool(x, 'max'), [[3, 5]])
    np.testing.assert_array_equal(global_pool(x, 'average_max'), [[2, 2, 3, 5]])
    with pytest.raises(UserError, match="global_pool = 'avg'"):
        global_pool(x, 'avg')
