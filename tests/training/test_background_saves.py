"""A save stops the training for a copy only; what its thread finds later ends the run all the same."""

import re
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.training import config as config_lib
from practicum.training import host_arrays
from practicum.training.checkpoint_meta import NonFiniteError
from practicum.training.checkpoints import Checkpoints, flatten
from practicum.training.loop import train
from practicum.training.outputs import Outputs
from practicum.training.preemption import StopRequest
from tests.training.saved_trees import assert_holds, assert_intact, make_trees, save_steps


@pytest.fixture
def workdir(tmp_path) -> Path:
    """A workdir with steps 1, 2 and 3."""
    save_steps(tmp_path, (1, 2, 3), keep=3)
    return tmp_path


def test_a_save_under_way_is_finished_when_an_exception_ends_the_run(workdir):
    with pytest.raises(ZeroDivisionError):
        with Checkpoints(workdir, writable=True) as checkpoints:
            checkpoints.save(4, *make_trees(4), {'note': 'step 4'})
            1 / 0
    assert_intact(workdir, 4)


def test_what_is_saved_is_the_value_at_the_time_of_the_call(tmp_path):
    """The arrays may be overwritten, or donated to the next step, as soon as `save` returns."""
    variables, training = make_trees(1)
    on_device = jax.device_put(variables)
    donate = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, on_device, training, {'note': 'step 1'})
        for _ in range(3):
            on_device = donate(on_device)
        training['opt_state']['mu'] += 1
        jax.block_until_ready(on_device)
    assert_intact(tmp_path, 1)


@pytest.mark.parametrize('noticed_by', ['wait', 'save', 'close', 'check'])
@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('where', ['params', 'opt_state'])
def test_a_nan_is_never_saved(workdir, where, bad, noticed_by):
    """The writer's thread finds it; whoever looks next is told, and a step of that number stays as it was."""
    variables, training = make_trees(3)
    (variables['params']['conv']['kernel'] if where == 'params' else training['opt_state']['mu'])[3] = bad
    path = 'params/conv/kernel' if where == 'params' else 'opt_state/mu'
    with pytest.raises(NonFiniteError, match=f'^{path} of step 3$'):
        with Checkpoints(workdir, writable=True) as checkpoints:
            checkpoints.save(3, variables, training, {}, replace=True)
            if noticed_by == 'wait':
                checkpoints.wait()
            elif noticed_by == 'save':
                checkpoints.save(4, *make_trees(4), {})
            elif noticed_by == 'check':
                assert checkpoints.steps() == [1, 2, 3]
                checkpoints.check()
                raise AssertionError('check said nothing')
    assert_intact(workdir, 3)


def test_half_precision_is_saved_bit_by_bit_and_its_nans_never(tmp_path):
    variables, training = make_trees(1)
    half = jnp.arange(7, dtype=jnp.bfloat16) / 3
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, {'params': {'half': half}}, training, {})
        found = checkpoints.restore('last').arrays['params/half']
        assert found.dtype == half.dtype
        np.testing.assert_array_equal(found.view(np.uint16), np.asarray(half).view(np.uint16))
        checkpoints.save(2, {'params': {'half': half.at[3].set(jnp.nan)}}, training, {})
        with pytest.raises(NonFiniteError, match='params/half of step 2'):
            checkpoints.wait()
        assert checkpoints.steps() == [1]


def test_a_save_returns_before_anything_is_examined_or_written(workdir, monkeypatch):
    """The training goes on after the copy; the rest is done in a thread, one save at a time."""
    go = threading.Event()
    examine = host_arrays.examine

    def wait_first(arrays, step):
        assert go.wait(60)
        return examine(arrays, step)
    monkeypatch.setattr(host_arrays, 'examine', wait_first)
    with Checkpoints(workdir, writable=True) as checkpoints:
        meta = {'note': 'step 4'}
        checkpoints.save(4, *make_trees(4), meta)
        meta['note'] = 'step 5'
        checkpoints.check()
        assert not (checkpoints.folder / '4').exists()
        go.set()
        checkpoints.save(5, *make_trees(5), meta)
        assert_holds(checkpoints.restore(4), 4)
    assert_intact(workdir, 5)


@pytest.mark.parametrize('value', [
    np.arange(3 * 2**20, dtype=np.float32).reshape(3, -1),
    np.asfortranarray(np.arange(2**21, dtype=np.float32).reshape(2, -1)), np.float32(7), np.zeros((0, 3), np.int8),
    np.arange(5 * 2**20, dtype=np.int8)[::2], np.ones((), np.uint32),
], ids=['large', 'fortran', 'scalar', 'empty', 'strided', 'no axis'])
def test_a_copy_shares_nothing(value):
    on_device = jax.device_put(value)
    for original in (value, on_device):
        copy = flatten({'x': original})['x']
        assert copy.dtype == on_device.dtype if original is on_device else value.dtype
        np.testing.assert_array_equal(copy, np.asarray(original))
        assert copy.flags.owndata and copy.flags.c_contiguous
        assert not np.shares_memory(copy, np.asarray(original))


@pytest.mark.parametrize('poisoned, stop', [(8, None), (20, None), (10, 10)], ids=['middle', 'end', 'asked to stop'])
def test_a_parameter_that_is_not_finite_ends_the_run_with_one_line(tmp_path, monkeypatch, poisoned, stop):
    """Also where nobody comes after: at the last step, and at one that is only saved because the run was stopped."""
    original = Outputs.save

    def poison(self, step, state, meta, best):
        if step == poisoned:
            state = state.replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, state.params))
        original(self, step, state, meta, best)
    monkeypatch.setattr(Outputs, 'save', poison)
    polls = iter(range(100))
    monkeypatch.setattr(StopRequest, '__call__', lambda self: next(polls) == stop)
    config = config_lib.load('line', ['parallel.devices=1', 'total=20 steps', 'checkpoint.every=4 steps',
                                      'log_every=1 steps', 'tensorboard=False'])
    with pytest.raises(UserError) as failure:
        train(config, tmp_path)
    last = (poisoned - 1) // 4 * 4
    assert re.fullmatch(rf'params/\S+ of step {poisoned} is not finite \(learning rate 0\.\d+\); the last good '
                        rf'checkpoint is step {last} in {re.escape(str(tmp_path))}', str(failure.value))
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps()[-1] == last
    assert not (tmp_path / 'result.json').exists()
