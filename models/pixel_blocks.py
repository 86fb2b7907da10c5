"""Blocks of pixels as channels, and back."""

import jax


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """[batch, height, width, block * block * channels] -> [batch, height * block, width * block, channels]."""
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, block, block, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * block, width * block, -1)


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """The inverse of `depth_to_space`; height and width must be multiples of block."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // block, block, width // block, block, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // block, width // block, block * block * channels)
