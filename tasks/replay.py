"""A replay memory: the latest so many transitions, from which batches are drawn (Lin 1992; Mnih et al. 2015)."""

from typing import Any

import flax
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Replay:
    """A ring buffer.

    Attributes:
      rows: a pytree of arrays [capacity, ...].
      place: where the next row goes, int32 scalar.
      filled: how many rows there are, int32 scalar.
    """
    rows: Any
    place: jax.Array
    filled: jax.Array

    @classmethod
    def empty(cls, row: Any, capacity: int) -> 'Replay':
        """Returns one without rows; row: a pytree of arrays or shapes, such as one row is."""
        zero = jnp.zeros((), jnp.int32)
        return cls(jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), row), zero, zero)

    def add(self, rows: Any) -> 'Replay':
        """Returns the memory with new rows, [n, ...], n at most the capacity; the oldest make room for them."""
        capacity, count = (len(jax.tree.leaves(tree)[0]) for tree in (self.rows, rows))
        places = (self.place + jnp.arange(count)) % capacity
        kept = jax.tree.map(lambda old, new: old.at[places].set(new, unique_indices=True), self.rows, rows)
        return Replay(kept, (self.place + count) % capacity, jnp.minimum(self.filled + count, capacity))

    def draw(self, keys: jax.Array) -> Any:
        """Returns a row for each of some PRNG keys, [n, ...], every one equally likely; there must be rows."""
        places = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.filled))(keys)
        return jax.tree.map(lambda leaf: leaf[places], self.rows)
