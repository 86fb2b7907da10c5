"""RandAugment (Cubuk et al. 2020): operations chosen at random, all of one strength.

Ranges are those of the paper's reference code, where a magnitude of 10 is the most; signs are random where there are
two directions, also for color, contrast, brightness and sharpness (factor 1 +- 0.9).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

OPERATIONS = ('identity', 'rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y', 'autocontrast', 'equalize',
              'solarize', 'posterize', 'color', 'contrast', 'brightness', 'sharpness')  # never reorder
STRONGEST = 10  # magnitude
_GEOMETRIC = 6  # the first so many move pixels, or nothing at all


def apply(key: jax.Array, example: Any, count: int, magnitude: float, resample: Callable) -> Any:
    """Applies `count` operations to one example, each chosen anew from `OPERATIONS`.

    Args:
      key: PRNG key of the example.
      example: a NamedTuple with 'image', float32 [height, width, channels] in [0, 1], and what moves with it; so is the
        result.
      count: of operations.
      magnitude: from 0 to `STRONGEST`.
      resample: (example, source) -> example; source: (row, column) -> (row, column) that a pixel comes from.
    """
    def one(example, key):
        key_which, key_sign = jax.random.split(key)
        which = jax.random.randint(key_which, (), 0, len(OPERATIONS))
        sign = jnp.where(jax.random.bernoulli(key_sign), 1.0, -1.0)
        return operate(which, sign * (magnitude / STRONGEST), example, resample), None
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(count))
    return jax.lax.scan(one, example, keys)[0]


def operate(which: jax.Array, level: jax.Array, example: Any, resample: Callable) -> Any:
    """Applies one operation.

    Args:
      which: index into `OPERATIONS`.
      level: from -1 to 1; the sign matters where there are two directions.
      example, resample: see `apply`.
    """
    # One resampling for all that move pixels: under vmap every branch of a switch is computed for every example.
    example = resample(example, source(which, level, *example.image.shape[:2]))
    branches = [lambda image, level: image, autocontrast, equalize, solarize, posterize, color, contrast, brightness,
                sharpness]
    image = jax.lax.switch(jnp.maximum(which - _GEOMETRIC + 1, 0), branches, example.image, level)
    return example._replace(image=jnp.clip(image, 0, 1))


def source(which: jax.Array, level: jax.Array, height: int, width: int) -> Callable:
    """Returns (row, column) -> (row, column) that a pixel comes from: itself, unless the operation moves pixels."""
    def amount(name, largest):
        return jnp.where(which == OPERATIONS.index(name), level * largest, 0.0)
    angle = amount('rotate', math.radians(30))
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2

    def comes_from(row, column):
        y, x = row - centre_y, column - centre_x
        # Only one of them is not 0, so they need no order. 0.45: the paper's 150 pixels of 331.
        source_y = (jnp.cos(angle) * y + jnp.sin(angle) * x - amount('shear_y', 0.3) * x
                    - amount('translate_y', 0.45 * height))
        source_x = (jnp.cos(angle) * x - jnp.sin(angle) * y - amount('shear_x', 0.3) * y
                    - amount('translate_x', 0.45 * width))
        return source_y + centre_y, source_x + centre_x

    return comes_from


def autocontrast(image: jax.Array, level: jax.Array) -> jax.Array:
    """Stretches every channel to [0, 1]."""
    del level
    low, high = image.min((0, 1)), image.max((0, 1))
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1), image)


def equalize(image: jax.Array, level: jax.Array) -> jax.Array:
    """Spreads every channel's 256 brightnesses evenly, as PIL does."""
    del level

    def channel(values):
        bins = jnp.zeros(256, jnp.int32).at[values].add(1)
        last = jnp.max(jnp.where(bins > 0, jnp.arange(256), 0))
        step = (values.size - bins[last]) // 255
        table = (step // 2 + jnp.cumsum(bins) - bins) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.clip(table, 0, 255), jnp.arange(256))[values]
    return jax.vmap(channel, in_axes=-1, out_axes=-1)(_bytes(image)) / 255


def solarize(image: jax.Array, level: jax.Array) -> jax.Array:
    """Inverts what is brighter than a threshold, which is 0 at the strongest."""
    return jnp.where(image < 1 - jnp.abs(level), image, 1 - image)


def posterize(image: jax.Array, level: jax.Array) -> jax.Array:
    """Keeps the upper 8 to 4 bits of every brightness."""
    dropped = jnp.round(4 * jnp.abs(level)).astype(jnp.int32)
    return ((_bytes(image) >> dropped) << dropped) / 255


def color(image: jax.Array, level: jax.Array) -> jax.Array:
    """Towards grey or away from it."""
    return _blend(_grey(image), image, level) if image.shape[-1] == 3 else image


def contrast(image: jax.Array, level: jax.Array) -> jax.Array:
    """Towards the mean brightness or away from it."""
    return _blend(_grey(image).mean(), image, level)


def brightness(image: jax.Array, level: jax.Array) -> jax.Array:
    """Towards black or away from it."""
    return _blend(0.0, image, level)


def sharpness(image: jax.Array, level: jax.Array) -> jax.Array:
    """Towards a smoothed image or away from it; pixels at the edge stay."""
    height, width, _ = image.shape
    if height < 3 or width < 3:
        return image
    around = sum(image[i:height - 2 + i, j:width - 2 + j] for i in range(3) for j in range(3))
    smooth = (around + 4 * image[1:-1, 1:-1]) / 13
    return _blend(image.at[1:-1, 1:-1].set(smooth), image, level)


def _blend(less, image, level):
    return less + (1 + 0.9 * level) * (image - less)


def _grey(image):
    if image.shape[-1] != 3:
        return image.mean(-1, keepdims=True)
    red, green, blue = image[..., 0:1], image[..., 1:2], image[..., 2:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _bytes(image):
    return jnp.clip(jnp.round(image * 255), 0, 255).astype(jnp.int32)
