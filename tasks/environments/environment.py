"""What an environment is: the contract between reinforcement learning and a world that is acted in."""

from typing import Any

import jax


class Environment:
    """A world in pure JAX, of one episode at a time; `jax.vmap` makes many of them.

    A state is a pytree of arrays of small types, for a replay memory keeps thousands; whatever the world remembers is
    in it. Time is not: that an episode is cut off after `limit` steps is the business of those who act.

    Attributes:
      actions: their names, in the order of their numbers.
      limit: steps after which an episode is cut off, which is no end of the world: more reward would have come.
      seconds: how long a step lasts where an episode is shown.
    """
    actions: tuple[str, ...] = ()
    limit: int = 1000
    seconds: float = 0.1

    def reset(self, key: jax.Array) -> Any:
        """Returns the state that an episode begins with."""
        raise NotImplementedError

    def step(self, state: Any, action: jax.Array, key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        """Acts.

        Args:
          state: of the world.
          action: its number, int32 scalar.
          key: a PRNG key, for what is left to chance.

        Returns:
          The state afterwards; the reward, float32 scalar; whether the episode has ended, bool scalar.
        """
        raise NotImplementedError

    def observe(self, state: Any) -> jax.Array:
        """Returns what the agent sees of a state, float32."""
        raise NotImplementedError

    def draw(self, state: Any) -> jax.Array:
        """Returns what a person sees of a state, uint8 [height, width, 3]."""
        raise NotImplementedError
