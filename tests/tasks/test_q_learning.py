"""Deep Q-learning: its memory, its targets, who acts when, and what does not fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.tasks.replay import Replay

SEEDS = DatasetInfo(features=('seed',))


def test_the_memory_keeps_the_latest_rows():
    """A ring: rows of several arrays stay together, the oldest make room."""
    add = jax.jit(Replay.add)
    replay = Replay.empty({'a': jax.ShapeDtypeStruct((), np.int32), 'b': jax.ShapeDtypeStruct((2,), np.float32)}, 5)
    for begin in range(0, 12, 3):
        numbers = jnp.arange(begin, begin + 3)
        replay = add(replay, {'a': numbers, 'b': jnp.stack([numbers, -numbers], 1).astype(jnp.float32)})
        kept = np.asarray(replay.rows['a'])[:int(replay.filled)]
        assert sorted(kept) == list(range(max(0, begin - 2), begin + 3))
        np.testing.assert_array_equal(replay.rows['b'][:len(kept)], np.stack([kept, -kept], 1))
    assert int(replay.place) == 2 and int(replay.filled) == 5


def test_only_rows_that_are_there_are_drawn_each_equally_often():
    replay = Replay.empty(jnp.int32(0), 1000).add(jnp.arange(1, 5))
    drawn = np.asarray(replay.draw(jax.random.split(jax.random.key(0), 4000)))
    assert np.unique(drawn).tolist() == [1, 2, 3, 4]
    assert np.bincount(drawn)[1:].min() > 900


def build(**fields):
    return tasks.build({'name': 'q_learning', 'environments': 3, 'replay': 20, 'warmup': 9, **fields}, SEEDS)


def values_of(params, observations):
    """A network for two actions."""
    return jnp.tanh(observations @ params['w']) * params['scale']


def apply(variables, batch, train=False):
    return values_of(variables['params'], batch['observation'])


PARAMS = {'w': jax.random.normal(jax.random.key(1), (4, 2)), 'scale': jnp.array([3.0, 2.0])}
TARGET = {'w': PARAMS['w'][:, ::-1] + 0.1, 'scale': jnp.array([2.0, 5.0])}


@pytest.fixture(scope='module')
def begun():
    """The experience before the first step of a task whose episodes are cut off after four steps."""
    task = build()
    task.environment.limit = 4
    return jax.jit(task.initial_experience)({'params': PARAMS}, jax.random.key(0))


@functools.cache
def collecting(double):
    task = build(exploration_steps=10, exploration=0.0, target_every=7, discount=0.8, double=double)
    task.environment.limit = 4
    batch = {'rng': jax.random.split(jax.random.key(3), 64)}
    return jax.jit(lambda begun, step, key: task.collect(apply, {'params': PARAMS}, begun, batch, step=step, key=key))


def collect(begun, step, *, key=5, double=True):
    """Returns the batch and the experience of a step; every seventh the target takes over."""
    return collecting(double)(begun.replace(target=TARGET), step, jax.random.key(key))


def test_it_begins_with_random_play(begun):
    """Three rounds in three worlds; each transition leads on to the next; nothing is known of targets yet."""
    rows = begun.replay.rows
    assert int(begun.replay.filled) == 9 and set(rows['action'][:9].tolist()) == {0, 1}
    for before, later in ((0, 3), (3, 6)):
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf: leaf[before:before + 3], rows['after']),
                     jax.tree.map(lambda leaf: leaf[later:later + 3], rows['state']))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf: leaf[6:9], rows['after']), begun.states)
    assert not rows['ended'][:9].any() and begun.lengths.tolist() == [3, 3, 3] and begun.returns.tolist() == [3, 3, 3]


def test_the_step_goes_on_with_the_best_actions_and_begins_anew_what_is_over(begun):
    batch, after = collect(begun, step=10)  # exploration has ended
    task = build()
    best = np.argmax(values_of(PARAMS, jax.vmap(task.environment.observe)(begun.states)), axis=1)
    assert int(after.replay.filled) == 12 and after.replay.rows['action'][9:12].tolist() == best.tolist()
    # The fourth step is the last one here: cut off, and not ended.
    assert after.lengths.tolist() == [0, 0, 0] and float(after.recent_return) == 4
    assert not after.replay.rows['ended'].any() and np.abs(after.states.place).max() <= 0.05
    assert (batch['recent_return'] == 4).all()
    _, explored = collect(begun, step=0)
    _, others = collect(begun, step=0, key=6)
    assert explored.replay.rows['action'].tolist() != others.replay.rows['action'].tolist()


@pytest.mark.parametrize('double', [True, False])
def test_targets_are_those_of_the_paper(begun, double):
    """In numpy, from the rows that were drawn; some of them have ended an episode."""
    ended = begun.replay.rows['ended'].at[:4].set(True)
    begun = begun.replace(replay=begun.replay.replace(rows={**begun.replay.rows, 'ended': ended}))
    batch, after = collect(begun, step=9, double=double)
    drawn = jax.tree.map(np.asarray, after.replay.draw(jax.random.split(jax.random.key(3), 64)))
    world = build().environment
    seen = np.asarray(jax.vmap(world.observe)(drawn['after']))
    online, target = (np.tanh(seen @ np.asarray(params['w'])) * np.asarray(params['scale'])
                      for params in (PARAMS, TARGET))
    best = (online if double else target).argmax(axis=1)
    wanted = drawn['reward'] + 0.8 * target[np.arange(64), best] * ~drawn['ended']
    np.testing.assert_allclose(batch['target'], wanted, rtol=1e-5)
    np.testing.assert_array_equal(batch['observation'], jax.vmap(world.observe)(drawn['state']))
    assert 0 < drawn['ended'].sum() < 64 and (online.argmax(1) != target.argmax(1)).any()
    jax.tree.map(np.testing.assert_array_equal, after.target, TARGET)


def test_the_target_takes_over_what_has_been_learned_now_and_then(begun):
    for step, wanted in ((0, PARAMS), (6, TARGET), (7, PARAMS), (8, TARGET)):
        _, after = collect(begun, step)
        jax.tree.map(np.testing.assert_array_equal, after.target, wanted)


@pytest.mark.parametrize('loss, wanted', [('squared', [0.25, 9.0]), ('huber', [0.125, 2.5])])
def test_the_loss_is_of_the_action_taken(loss, wanted):
    batch = {'action': jnp.array([1, 0], jnp.int8), 'target': jnp.array([1.5, 2.0]), 'recent_return': jnp.zeros(2)}
    scores = build(loss=loss).score(jnp.array([[9.0, 2.0], [5.0, 9.0]]), batch)
    np.testing.assert_allclose(scores['loss'], wanted)
    np.testing.assert_allclose(scores['value'], [2, 5])


def test_a_prediction_is_the_best_action():
    """Observations are valued, seeds are played."""
    task = build()
    row = task.predict({'values': np.array([1.5, 2.0])}, np.zeros(4), {}, 1).row
    assert row == {'action': 'right', 'value_left': 1.5, 'value_right': 2.0}


@pytest.mark.parametrize('fields, message', [
    ({'environments': 0}, 'config.task.environments = 0: it is a whole number, at least 1'),
    ({'replay': 2}, 'config.task.replay = 2: it has no room'),
    ({'exploration': 1.5}, 'config.task.exploration = 1.5: it is a number from 0 to 1'),
    ({'loss': 'hubr'}, "config.task.loss = 'hubr'.*huber"),
    ({'target_evry': 5}, 'config.task.target_evry: q_learning has no such field.*target_every'),
])
def test_a_field_that_does_not_fit_is_one_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        build(**fields)
    assert '\n' not in str(caught.value)


def test_data_that_are_no_seeds_are_refused():
    with pytest.raises(UserError, match="set config.data.source = 'seeds'"):
        tasks.build({'name': 'q_learning'}, DatasetInfo(features=('image', 'label')))


@pytest.mark.parametrize('environment, shape', [('cartpole', (4,)), ('breakout', (10, 10, 4))])
def test_the_task_knows_what_its_model_looks_at(environment, shape):
    """So that a run can be exported."""
    assert build(environment=environment).row_shape == shape
