"""What was saved fits every state of the same paths and shapes, on any number of devices, and no other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from practicum.common.errors import UserError
from practicum.training.checkpoints import Checkpoints, flatten, unflatten


def make_state(optimizer, hidden: int = 4) -> dict:
    params = {'dense': {'kernel': jnp.arange(3.0 * hidden).reshape(3, hidden), 'bias': jnp.ones(hidden)}}
    return {'params': params, 'opt_state': optimizer.init(params), 'step': jnp.asarray(5)}


def on_devices(tree, count: int):
    mesh = Mesh(np.array(jax.devices()[:count]), ('batch',))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def test_saved_on_four_devices_restores_on_one_and_two(tmp_path):
    state = on_devices(make_state(optax.adam(0.1)), 4)
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(5, {'params': state['params']}, {'opt_state': state['opt_state'], 'step': state['step']}, {})
    for count in (1, 2):
        with Checkpoints(tmp_path, writable=False) as checkpoints:
            arrays = checkpoints.restore('last').arrays
        restored = on_devices(unflatten(jax.eval_shape(lambda: make_state(optax.adam(0.1))), arrays, what='it'), count)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(restored)):
            assert len(new.sharding.device_set) == count
            assert old.dtype == new.dtype
            np.testing.assert_array_equal(np.asarray(old), np.asarray(new))


@pytest.mark.parametrize('target, message', [
    (lambda: make_state(optax.sgd(0.1, momentum=0.9)), 'the file has no opt_state/0/trace/dense/bias'),
    (lambda: make_state(optax.sgd(0.1)), r'the file has opt_state/0/count \(and 4 more\) that this config does not'),
    (lambda: make_state(optax.adam(0.1), hidden=7),
     r'the file has params/dense/kernel of shape \(3, 4\), this config needs \(3, 7\)'),
    (lambda: {**make_state(optax.adam(0.1)), 'ema': jnp.zeros(3)}, 'the file has no ema'),
])
def test_another_model_or_optimizer_is_one_error_that_names_the_first_path(target, message):
    arrays = flatten(make_state(optax.adam(0.1)))
    with pytest.raises(UserError, match=message) as info:
        unflatten(target(), arrays, what='the file')
    assert '\n' not in str(info.value)
