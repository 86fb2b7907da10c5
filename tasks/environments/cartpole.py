"""A pole on a cart that is pushed left or right.

Barto, Sutton and Anderson 1983, "Neuronlike adaptive elements that can solve difficult learning control problems", with
the numbers of gymnasium's CartPole-v1: a reward of 1 for every step, 500 steps at most.
"""

import math

import flax
import jax
import jax.numpy as jnp

from .environment import Environment

GRAVITY = 9.8  # m/s^2
CART, POLE = 1.0, 0.1  # masses, kg
HALF_LENGTH = 0.5  # of the pole, m
FORCE = 10.0  # of a push, N
FAR, TILTED = 2.4, math.radians(12)  # where an episode ends: m from the middle, and radians from upright
SCALE = (FAR, 2.0, TILTED, 2.0)  # of what is seen: of the order of 1, as networks like it

_HEIGHT, _WIDTH, _METRES = 80, 160, 5.4  # of the picture
_GROUND = 62  # row of the track
_BLUE, _BROWN, _GREY = (31, 111, 180), (209, 120, 40), (120, 126, 132)


@flax.struct.dataclass
class State:
    """Float32 scalars: place of the cart in m and its speed in m/s, angle of the pole in radians and its speed."""
    place: jax.Array
    speed: jax.Array
    angle: jax.Array
    turning: jax.Array


class CartPole(Environment):
    """The four numbers of the state are seen, scaled. An episode ends when the cart is far away, or the pole tilted."""
    actions = ('left', 'right')
    limit = 500
    seconds = 0.02

    def reset(self, key):
        """Returns a state near rest: each number is uniform in +-0.05."""
        return State(*jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05))

    def step(self, state, action, key):
        """Pushes for 0.02 s, one step of Euler's method; see `Environment`."""
        del key
        total, sine, cosine = CART + POLE, jnp.sin(state.angle), jnp.cos(state.angle)
        force = jnp.where(action == 1, FORCE, -FORCE)
        pull = (force + POLE * HALF_LENGTH * state.turning ** 2 * sine) / total
        tilting = (GRAVITY * sine - cosine * pull) / (HALF_LENGTH * (4 / 3 - POLE * cosine ** 2 / total))
        pushing = pull - POLE * HALF_LENGTH * tilting * cosine / total
        state = State(place=state.place + self.seconds * state.speed, speed=state.speed + self.seconds * pushing,
                      angle=state.angle + self.seconds * state.turning, turning=state.turning + self.seconds * tilting)
        return state, jnp.ones(()), (jnp.abs(state.place) > FAR) | (jnp.abs(state.angle) > TILTED)

    def observe(self, state):
        """Returns place, speed, angle and turning, each divided by its SCALE, float32 [4]."""
        return jnp.stack([state.place, state.speed, state.angle, state.turning]) / jnp.asarray(SCALE)

    def draw(self, state):
        """Returns cart, pole and track from the side, uint8 [80, 160, 3]."""
        rows, columns = jnp.mgrid[:_HEIGHT, :_WIDTH].astype(jnp.float32)
        pixels = _WIDTH / _METRES
        middle = _WIDTH / 2 + state.place * pixels
        picture = jnp.full((_HEIGHT, _WIDTH, 3), 255.0)
        picture = _paint(picture, jnp.abs(rows - _GROUND) - 0.5, _GREY)
        for side in (-FAR, FAR):
            picture = _paint(picture, jnp.maximum(jnp.abs(columns - _WIDTH / 2 - side * pixels),
                                                  jnp.abs(rows - _GROUND) - 3) - 0.5, _GREY)
        cart = jnp.maximum(jnp.abs(columns - middle) - 9, jnp.abs(rows - _GROUND) - 5)
        picture = _paint(picture, cart, _BLUE)
        x, y = columns - middle, _GROUND - 5 - rows  # from the joint, up is positive
        along = jnp.clip(x * jnp.sin(state.angle) + y * jnp.cos(state.angle), 0, 2 * HALF_LENGTH * pixels)
        distance = jnp.hypot(x - along * jnp.sin(state.angle), y - along * jnp.cos(state.angle))
        return _paint(picture, distance - 2.2, _BROWN).astype(jnp.uint8)


def _paint(picture: jax.Array, distance: jax.Array, colour: tuple[int, int, int]) -> jax.Array:
    """Returns a picture with a shape over it, smooth at its edge; distance: of pixels to it, negative inside."""
    cover = jnp.clip(0.5 - distance, 0, 1)[..., None]
    return picture * (1 - cover) + jnp.asarray(colour, jnp.float32) * cover
