"""What happens to a batch inside the step, on the device: to float, augment, normalise."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from . import augmentation, whitening

# Of an image that is standardised, its deviation over its root mean square: below are a single grey and rounding.
_LEAST_CONTRAST = 1e-4


def build(image: Mapping[str, Any], augment: Mapping[str, Any] | None = None, *, info: DatasetInfo | None = None
          ) -> Callable:
    """Returns `prepare(batch, keys) -> batch`.

    Args:
      image: config.image; the model sees (pixel - mean) / std, with `local_mean` even_out(pixel) in its place, where
        pixels are divided by 255 if they are uint8 and by 65535 if they are uint16; floats are taken as they are.
        `samplewise_center` and `samplewise_std` come before that, `zca_epsilon` after it.
      augment: config.augment, for training only.
      info: of the data that the model was trained on; images are whitened with what is known there, see whitening.py.

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
    whiten = _whitening(image, info)

    def prepare(batch: Mapping[str, jax.Array], keys: jax.Array | None) -> dict[str, jax.Array]:
        if 'image' not in batch:
            return dict(batch)
        batch = {**batch, 'image': scale(batch['image'])}
        if change is not None:
            batch = augmentation.apply(change, keys, batch)
        images = even_out(batch['image'], block) if block else batch['image']
        if image['samplewise_center'] or image['samplewise_std']:
            images = standardised(images, image['samplewise_center'], image['samplewise_std'])
        return batch | {'image': whiten((images - mean) / std)}

    return prepare


def unwhitened(image: Mapping[str, Any]) -> dict[str, Any]:
    """Returns config.image without the whitening, for what that is learned from."""
    return {**image, 'zca_epsilon': 0.0}


def unstandardised(image: Mapping[str, Any]) -> dict[str, Any]:
    """Returns config.image without what a picture of it would have to undo and cannot."""
    return {**image, 'samplewise_center': False, 'samplewise_std': False, 'zca_epsilon': 0.0}


def standardised(images: jax.Array, center: bool, std: bool) -> jax.Array:
    """Returns images, float32 [..., height, width, channels], each minus its own mean, over its own deviation, or both.

    Mean and standard deviation are those of all numbers of an image, its channels together. An image of a single grey
    has no deviation to be divided by: it becomes zeros.
    """
    axes = (-3, -2, -1)
    centred = images - images.mean(axes, keepdims=True)
    found = centred if center else images
    if not std:
        return found
    deviation = jnp.std(centred, axes, keepdims=True)
    varies = deviation > _LEAST_CONTRAST * jnp.sqrt(jnp.square(images).mean(axes, keepdims=True))
    return jnp.where(varies, found / jnp.where(varies, deviation, 1), 0)


def _whitening(image: Mapping[str, Any], info: DatasetInfo | None) -> Callable:
    """Returns what whitens images, float32 [batch, height, width, channels]."""
    if not image['zca_epsilon']:
        return lambda images: images
    whitening.check(image)
    if info is None:
        raise ValueError('images are whitened with what was learned: give the info of the training data')
    if info.whitening is None:
        raise UserError(f'config.image.zca_epsilon = {image["zca_epsilon"]}: this run has learned no whitening, train '
                        'one with it')
    epsilon = info.whitening['epsilon']
    if image['zca_epsilon'] != epsilon:
        raise UserError(f'config.image.zca_epsilon = {image["zca_epsilon"]}: this run has learned to whiten with '
                        f'{epsilon}, which cannot be changed afterwards (0 leaves images as they are)')
    mean, matrix = whitening.arrays(info.whitening)
    shape = tuple(info.whitening['shape'])

    def whiten(images: jax.Array) -> jax.Array:
        if images.shape[1:] != shape:
            raise UserError(f'config.image.zca_epsilon: this run whitens images of {"x".join(map(str, shape))} alone, '
                            f'not {"x".join(map(str, images.shape[1:]))}')
        # Not rounded to TF32 by a GPU: what varies least is multiplied by most.
        # images.shape[0] may be a symbol, in an export for batches of any size, which len() cannot return.
        flat = jnp.dot(images.reshape(images.shape[0], -1) - mean, matrix, precision=jax.lax.Precision.HIGHEST)
        return flat.reshape(images.shape)

    return whiten


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
