"""Arrays by path: nothing that is missing, left over or of another shape goes unnoticed."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from practicum.common.errors import UserError
from practicum.training import array_paths

PARAMS = {'conv': {'kernel': np.ones((3, 2)), 'bias': np.zeros(2)}, 'empty': {}, 'head': {'kernel': np.ones((2, 5))}}


def test_a_pytree_is_flattened_and_filled_again():
    tree = {'params': PARAMS, 'opt_state': optax.adam(0.1).init(PARAMS), 'step': np.array(3)}
    flat = array_paths.flatten(tree)
    assert {'params/conv/kernel', 'opt_state/0/mu/head/kernel', 'step'} < set(flat)
    filled = array_paths.fill(tree, {path: leaf + 1 for path, leaf in flat.items()} | {'other': np.ones(1)})
    assert type(filled['opt_state'][0]) is type(tree['opt_state'][0]) and filled['params']['empty'] == {}
    assert filled['step'] == 4 and np.all(filled['opt_state'][0].nu['conv']['bias'] == 1)
    assert array_paths.flatten(np.ones(2)).keys() == {''} and array_paths.flatten({}) == {}


def test_every_difference_is_found():
    there = {'a': np.ones(2), 'b': jnp.ones((2, 3)), 'd': np.ones(())}
    needed = {'c': np.ones(1), 'b': np.ones((3, 2)), 'a': np.zeros(2)}
    difference = array_paths.compare(there, needed)
    assert (difference.missing, difference.left_over) == (['c'], ['d'])
    assert difference.shapes == {'b': ((2, 3), (3, 2))}
    assert array_paths.compare(there, there) == array_paths.Difference([], [], {})


def test_patterns_select_whole_paths_and_none_is_without_effect():
    paths = array_paths.flatten(PARAMS)
    assert array_paths.select(('conv/.*', '.*/kernel'), paths, 'x') == {'conv/kernel', 'conv/bias', 'head/kernel'}
    assert array_paths.select((), paths, 'x') == set()
    for pattern, text in (('conv', "config.optimizer.freeze: 'conv' matches nothing; did you mean conv/bias"),
                          ('(', 'is not a regular expression'), (3, 'config.optimizer.freeze: 3 is not a regular')):
        with pytest.raises(UserError) as error:
            array_paths.select(('.*/bias', pattern), paths, 'optimizer.freeze')
        assert text in str(error.value)
