"""Worlds that are acted in: physics against the published equations, rules by games that are played by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.tasks import environments
from practicum.tasks.environments import breakout, cartpole

STAY, LEFT, RIGHT = 0, 1, 2


# CartPole


def gymnasium_step(state: np.ndarray, action: int) -> tuple[np.ndarray, bool]:
    """The equations of gymnasium's CartPole-v1 in numpy, float64, under its own names."""
    x, x_dot, theta, theta_dot = state
    gravity, masscart, masspole, length, force_mag, tau = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    total_mass, polemass_length = masspole + masscart, masspole * length
    force = force_mag if action == 1 else -force_mag
    costheta, sintheta = math.cos(theta), math.sin(theta)
    temp = (force + polemass_length * theta_dot ** 2 * sintheta) / total_mass
    thetaacc = (gravity * sintheta - costheta * temp) / (length * (4.0 / 3.0 - masspole * costheta ** 2 / total_mass))
    xacc = temp - polemass_length * thetaacc * costheta / total_mass
    x, x_dot = x + tau * x_dot, x_dot + tau * xacc
    theta, theta_dot = theta + tau * theta_dot, theta_dot + tau * thetaacc
    over = x < -2.4 or x > 2.4 or theta < -12 * 2 * math.pi / 360 or theta > 12 * 2 * math.pi / 360
    return np.array([x, x_dot, theta, theta_dot]), over


def test_the_pole_falls_as_in_gymnasium():
    """From many states, near the ends too, with both pushes."""
    world = environments.build('cartpole')
    generator = np.random.default_rng(0)
    states = generator.uniform(-1, 1, (200, 4)) * (2.5, 3, 0.25, 3)
    actions = generator.integers(0, 2, 200)
    step = jax.jit(jax.vmap(lambda state, action: world.step(cartpole.State(*state), action, None)))
    after, rewards, ended = step(jnp.asarray(states, jnp.float32), actions)
    wanted, over = zip(*map(gymnasium_step, states, actions))
    found = np.stack([after.place, after.speed, after.angle, after.turning], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(jax.vmap(world.observe)(after), found / np.float32(cartpole.SCALE), rtol=1e-6)
    np.testing.assert_array_equal(ended, over)
    assert 20 < sum(over) < 180 and (rewards == 1).all() and world.limit == 500


def test_the_pole_begins_near_rest_and_differently_every_time():
    world = environments.build('cartpole')
    states = jax.vmap(lambda seed: world.observe(world.reset(jax.random.key(seed))))(np.arange(300))
    states = states * np.float32(cartpole.SCALE)
    assert np.abs(states).max() < 0.0500001 and len(np.unique(np.asarray(states), axis=0)) == 300
    np.testing.assert_allclose(np.std(states, axis=0), 0.1 / math.sqrt(12), rtol=0.15)


# Breakout


@pytest.fixture(scope='module')
def game():
    """Returns play(actions, **changes of the first state) -> states, rewards, whether it ended at the last action."""
    world = environments.build('breakout')
    breakout_step = jax.jit(world.step)
    calm = next(key for key in map(jax.random.key, range(9)) if not jax.random.bernoulli(key, breakout.STICKY))
    begin = world.reset(next(key for key in map(jax.random.key, range(9)) if not jax.random.bernoulli(key)))

    def play(actions, **changes):
        state = begin.replace(**{name: jnp.asarray(value, getattr(begin, name).dtype)
                                 for name, value in changes.items()})
        states, rewards, ends = [state], [], []
        for action in actions:
            state, reward, ended = breakout_step(state, jnp.int32(action), calm)
            states.append(state)
            rewards.append(float(reward))
            ends.append(bool(ended))
        assert not any(ends[:-1])
        return states, rewards, ends[-1]
    return play


def ball(state) -> tuple[int, int]:
    return int(state.row), int(state.column)


def test_the_ball_is_missed_and_the_game_is_over(game):
    states, rewards, ended = game([STAY] * 6)
    assert [ball(state) for state in states] == [(3, 0), (4, 1), (5, 2), (6, 3), (7, 4), (8, 5), (9, 6)]
    assert ended and sum(rewards) == 0 and (int(states[-1].last_row), int(states[-1].last_column)) == (8, 5)
    assert int(states[-1].paddle) == 4 and bool(states[-1].bricks.all())


def test_the_ball_is_caught_and_breaks_one_brick(game):
    """The paddle gets under the ball, which flies on up to the bricks, breaks one, and comes back down."""
    states, rewards, ended = game([RIGHT] + [STAY] * 13)
    assert int(states[-1].paddle) == 5 and not ended
    assert [ball(state) for state in states[5:]] == [
        (8, 5), (8, 6), (7, 7), (6, 8), (5, 9), (4, 9), (4, 8), (5, 7), (6, 6), (7, 5)]
    assert [place for place, reward in enumerate(rewards) if reward] == [10] and sum(rewards) == 1
    broken = np.argwhere(~np.asarray(states[-1].bricks)).tolist()
    assert broken == [[2, 8]] and not bool(states[-1].inside)  # row 3, the lowest


def test_the_side_of_the_paddle_sends_the_ball_back_where_it_came_from(game):
    states, _, ended = game([STAY] * 2, row=8, column=3, down=1, right=1)
    assert not ended and [ball(state) for state in states] == [(8, 3), (8, 4), (7, 3)]


def test_the_paddle_moves_before_the_ball_and_stays_on_the_screen(game):
    states, _, ended = game([LEFT], row=8, column=3, down=1, right=1, paddle=4)
    assert not ended and int(states[-1].paddle) == 3 and int(states[-1].right) == 1
    states, _, _ = game([LEFT, LEFT], paddle=1)
    assert [int(state.paddle) for state in states] == [1, 0, 0]
    states, _, _ = game([RIGHT, RIGHT], paddle=8)
    assert [int(state.paddle) for state in states] == [8, 9, 9]


def test_walls_and_ceiling_turn_the_ball(game):
    none = np.zeros((3, 10), bool)
    states, _, _ = game([STAY] * 3, row=1, column=9, down=-1, right=1, bricks=none)
    assert [ball(state) for state in states] == [(1, 9), (0, 9), (0, 8), (1, 7)]


def test_a_ball_among_bricks_breaks_one_at_a_time(game):
    """It has just broken one: it flies through the next as if that were not there, and hits again once it is out."""
    one = np.zeros((3, 10), bool)
    one[0, 4] = one[2, 6] = True
    states, rewards, _ = game([STAY] * 4, row=2, column=5, down=-1, right=-1, bricks=one, inside=True)
    assert [ball(state) for state in states] == [(2, 5), (1, 4), (0, 3), (0, 2), (1, 1)] and sum(rewards) == 0
    assert bool(states[1].inside) and not bool(states[2].inside)
    states, rewards, _ = game([STAY], row=2, column=5, down=-1, right=-1, bricks=one)
    assert rewards == [1] and ball(states[-1]) == (2, 4) and int(states[-1].down) == 1


def test_new_bricks_come_when_all_are_gone_and_the_ball_is_down(game):
    none = np.zeros((3, 10), bool)
    states, rewards, ended = game([STAY, STAY], row=7, column=3, down=1, right=1, bricks=none)
    assert not states[1].bricks.any() and states[2].bricks.all() and sum(rewards) == 0 and not ended


def test_every_tenth_action_is_the_one_before():
    world = environments.build('breakout')
    state = world.reset(jax.random.key(0)).replace(action=jnp.int8(LEFT), paddle=jnp.int8(5))
    after = jax.vmap(lambda key: world.step(state, jnp.int32(RIGHT), key)[0].paddle)(jax.random.split(jax.random.key(1),
                                                                                                      2000))
    assert set(after.tolist()) == {4, 6} and 0.08 < (np.asarray(after) == 4).mean() < 0.12


def test_four_planes_are_seen_and_a_picture_is_drawn(game):
    world = environments.build('breakout')
    state = game([STAY])[0][-1]
    seen = np.asarray(world.observe(state))
    assert seen.shape == (10, 10, 4) and seen.dtype == np.float32
    assert [np.argwhere(seen[..., plane]).tolist() for plane in range(3)] == [[[9, 4]], [[4, 1]], [[3, 0]]]
    assert seen[1:4, :, 3].all() and seen[..., 3].sum() == 30
    picture = np.asarray(world.draw(state))
    assert picture.shape == (120, 120, 3) and picture.dtype == np.uint8
    assert tuple(picture[4 * 12 + 6, 12 + 6]) == (255, 255, 255)  # the ball


def test_an_unknown_environment_is_one_line():
    with pytest.raises(UserError, match="config.task.environment = 'pong'.*breakout") as caught:
        environments.build('pong')
    assert '\n' not in str(caught.value)
