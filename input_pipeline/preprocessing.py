"""What happens to a batch inside the step, on the device: to float, augment, normalise."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError
from . import augmentation


def build(image: Mapping[str, Any], augment: Mapping[str, Any] | None = None) -> Callable:
    """Returns `prepare(batch, keys) -> batch`.

    Args:
      image: config.image; the model sees (pixel - mean) / std, with `local_mean` even_out(pixel) in its place, where
        pixels are divided by 255 if they are uint8 and by 65535 if they are uint16; floats are taken as they are.
      augment: config.augment, for training only.

    The batch's 'image', [batch, height, width, channels] of one of these types, becomes float32; keys are one PRNG key
    per example and not used without augmentation. 'segmentation_mask', uint8 [batch, height, width], and 'boxes' with
    'box_labels' and 'box_crowd' move with the image; other features pass unchanged.
    """
    channels = image['channels']
    if channels < 1:
        raise UserError(f'config.image.channels = {channels}: it is 1 (grey), 3 (colour) or more')
    try:
        mean, std = np.asarray(image['mean'], np.float32), np.asarray(image['std'], np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f'config.image.mean and config.image.std are numbers: {error}') from error
    for field, values in (('mean', mean), ('std', std)):
        if values.shape not in ((1,), (channels,)):
            raise UserError(f'config.image.{field} has {values.size} numbers for {channels} channel(s)')
    if not (std > 0).all():
        raise UserError('config.image.std must be above 0')
    block = image['local_mean']
    if block < 0:
        raise UserError(f'config.image.local_mean = {block}: it is a number of pixels, or 0')
    change = augmentation.build(augment) if augment is not None else None

    def prepare(batch: Mapping[str, jax.Array], keys: jax.Array | None) -> dict[str, jax.Array]:
        if 'image' not in batch:
            return dict(batch)
        batch = {**batch, 'image': scale(batch['image'])}
        if change is not None:
            batch = augmentation.apply(change, keys, batch)
        images = even_out(batch['image'], block) if block else batch['image']
        return batch | {'image': (images - mean) / std}

    return prepare


def scale(images: jax.Array) -> jax.Array:
    """Returns images as float32, those of integers in [0, 1].

    Raises:
      UserError: neither uint8, uint16 nor floats.
    """
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(jnp.float32)
    if images.dtype not in (jnp.uint8, jnp.uint16):
        raise UserError(f'images of type {images.dtype}: give uint8 (0 to 255), uint16 (0 to 65535) or floats')
    return images.astype(jnp.float32) / jnp.iinfo(images.dtype).max


def even_out(images: jax.Array, block: int) -> jax.Array:
    """Divides by the brightness around each pixel, so that what lies far from a coil looks like what lies near.

    A multiplicative bias field cancels where it varies slowly (homomorphic filtering, as in Brinkmann et al. 1998,
    "Optimized homomorphic unsharp masking for MR grayscale inhomogeneity correction").

    Args:
      images: float32 [batch, height, width, channels] in [0, 1].
      block: side in pixels of the squares whose means are interpolated to the brightness.

    Returns:
      float32 of the same shape, around 1, in [0, 4].
    """
    batch, height, width, channels = images.shape
    coarse = (batch, -(-height // block), -(-width // block), channels)
    around = jax.image.resize(jax.image.resize(images, coarse, 'linear'), images.shape, 'linear')
    return jnp.clip(images / (around + 0.02), 0, 4)  # 0.02: the black around a body stays black
