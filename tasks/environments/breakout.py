"""Breakout on 10x10 cells, as pixels: a paddle, a ball that flies along diagonals, and three rows of bricks.

The rules are those of MinAtar (Young and Tian 2019, "MinAtar: an Atari-inspired testbed for thorough and reproducible
reinforcement learning experiments"): a reward of 1 for a brick; new bricks when the last one is gone; the episode ends
when the ball comes down beside the paddle. Every tenth action is the one before instead of the one chosen.
"""

import flax
import jax
import jax.numpy as jnp

from .environment import Environment

SIZE = 10
STICKY = 0.1  # probability that the action before is done again
_TOP, _ROWS = 1, 3  # of the bricks
_LAST = SIZE - 1
_CELL = 12  # pixels of a cell where it is drawn
_BACK, _PADDLE, _BALL, _TRAIL = (24, 28, 36), (90, 170, 255), (255, 255, 255), (84, 92, 108)
_BRICKS = ((224, 88, 72), (232, 152, 56), (232, 200, 72))


@flax.struct.dataclass
class State:
    """Cells are counted from the top left.

    Attributes:
      row, column: of the ball, int8.
      down, right: where it flies, int8: 1, or -1 for up and left.
      last_row, last_column: where it was, int8.
      paddle: column of the paddle, in the last row, int8.
      bricks: bool [3, 10], those that are left; the first of their rows is row 1.
      inside: whether the ball has just hit a brick and hits no other until it is out of them, bool.
      action: the latest, int8.
    """
    row: jax.Array
    column: jax.Array
    down: jax.Array
    right: jax.Array
    last_row: jax.Array
    last_column: jax.Array
    paddle: jax.Array
    bricks: jax.Array
    inside: jax.Array
    action: jax.Array


class Breakout(Environment):
    """Four planes of pixels are seen: paddle, ball, where the ball was, bricks."""
    actions = ('stay', 'left', 'right')
    limit = 1000
    seconds = 0.08

    def reset(self, key):
        """Returns a state with all bricks; the ball flies down from the left or the right edge."""
        from_right = jax.random.bernoulli(key)
        column = jnp.where(from_right, _LAST, 0).astype(jnp.int8)
        row = jnp.int8(_TOP + _ROWS - 1)
        return State(row=row, column=column, down=jnp.int8(1), right=jnp.where(from_right, -1, 1).astype(jnp.int8),
                     last_row=row, last_column=column, paddle=jnp.int8(4), bricks=jnp.ones((_ROWS, SIZE), bool),
                     inside=jnp.zeros((), bool), action=jnp.int8(0))

    def step(self, state, action, key):
        """Moves the paddle, then the ball; see `Environment`."""
        action = jnp.where(jax.random.bernoulli(key, STICKY), state.action, action).astype(jnp.int8)
        paddle = jnp.clip(state.paddle + (action == 2) - (action == 1), 0, _LAST).astype(jnp.int8)
        row, column = state.row + state.down, state.column + state.right
        # Walls and ceiling.
        right = jnp.where((column < 0) | (column > _LAST), -state.right, state.right)
        column = jnp.clip(column, 0, _LAST)
        at_ceiling = row < 0
        # Bricks: the ball breaks one and flies back; through others beside it, it flies as if they were not there.
        brick_row = jnp.clip(row - _TOP, 0, _ROWS - 1)
        meets = (row >= _TOP) & (row < _TOP + _ROWS) & state.bricks[brick_row, column]
        breaks = meets & ~state.inside
        bricks = state.bricks.at[brick_row, column].set(state.bricks[brick_row, column] & ~breaks)
        # The paddle: a ball that it is under flies back up, one that comes to it from the side back where it came from.
        at_bottom = row == _LAST
        bricks = bricks | (at_bottom & ~bricks.any())
        under = at_bottom & (state.column == paddle)
        beside = at_bottom & ~under & (column == paddle)
        turns = breaks | under | beside
        down = jnp.where(at_ceiling | turns, -state.down, state.down)
        row = jnp.where(turns, state.row, jnp.maximum(row, 0))
        after = State(row=row, column=column, down=down, right=jnp.where(beside, -right, right), last_row=state.row,
                      last_column=state.column, paddle=paddle, bricks=bricks, inside=meets, action=action)
        return after, breaks.astype(jnp.float32), at_bottom & ~under & ~beside

    def observe(self, state):
        """Returns 0 and 1, float32 [10, 10, 4]."""
        cells = jnp.arange(SIZE)

        def point(row, column):
            return (cells[:, None] == row) & (cells == column)
        bricks = jnp.zeros((SIZE, SIZE), bool).at[_TOP:_TOP + _ROWS].set(state.bricks)
        return jnp.stack([point(_LAST, state.paddle), point(state.row, state.column),
                          point(state.last_row, state.last_column), bricks], axis=-1).astype(jnp.float32)

    def draw(self, state):
        """Returns the game in colours, uint8 [120, 120, 3]."""
        seen = self.observe(state)
        of_rows = jnp.zeros((SIZE, 1, 3)).at[_TOP:_TOP + _ROWS, 0].set(jnp.asarray(_BRICKS, jnp.float32))
        picture = jnp.broadcast_to(jnp.asarray(_BACK, jnp.float32), (SIZE, SIZE, 3))
        for plane, colour in ((3, of_rows), (2, _TRAIL), (1, _BALL), (0, _PADDLE)):
            picture = jnp.where(seen[..., plane, None] > 0, jnp.asarray(colour, jnp.float32), picture)
        picture = picture.repeat(_CELL, 0).repeat(_CELL, 1)
        line = jnp.arange(SIZE * _CELL) % _CELL == 0
        return jnp.where((line[:, None] | line)[..., None], jnp.asarray(_BACK, jnp.float32), picture).astype(jnp.uint8)
