"""Mixup and CutMix: images of a global batch mixed with each other, inside the train step.

    mix = mixing.build(config.augment)                # None if both are off
    batch = mix(key, batch, everyone, rows)

Which images meet, and in which share, is drawn for the whole global batch from a key that all devices have. So results
do not depend on how many devices share a batch.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from ..common.errors import UserError
from . import augmentation

# Folded into the key of a batch. Never renumber, or old runs change their random numbers.
_WHETHER, _WHICH, _SHARE, _PARTNER, _BOX = range(5)


def build(augment: Mapping) -> Callable | None:
    """Makes what mixes the batches that a config asks for.

    Args:
      augment: config.augment. `mixup` and `cutmix`: alpha of the Beta distribution that the share of an image's own
        comes from, 0 for off; where both are on, either has half of the batches. `mix_probability`: share of the
        batches that are mixed at all.

    Returns:
      None if both are off; else mix(key, batch, everyone, rows) -> batch.
        key: PRNG key of this step's global batch, the same on all devices.
        batch: features of this device's examples, prepared for the model: 'image', float [rows, height, width,
          channels], 'label', int [rows], and others, which stay as they are.
        everyone: 'image' and 'label' of the whole global batch, in its order.
        rows: int32 [rows], where the examples of this device are in the global batch.
      The result has the mixed 'image', 'mixed_label', int [rows], of the image that was mixed in, and 'mix', float32
      [rows], the share of the own label in the loss. Only tasks with `takes_mixed_labels` make something of them: the
      caller checks that, see `check_task`.

    Raises:
      UserError: a value out of range; from mix: examples without label.
    """
    settings = augmentation.checked(augment)
    kinds = [kind for name, kind in (('mixup', _mixup), ('cutmix', _cutmix)) if settings[name]]
    alphas = [settings[name] for name in ('mixup', 'cutmix') if settings[name]]
    if not kinds or not settings['mix_probability']:
        return None

    def mix(key, batch, everyone, rows):
        missing = [name for name in ('image', 'label') if name not in everyone]
        if missing:
            raise UserError(f'config.augment: mixup and cutmix need {missing[0]!r} in the examples; they have: '
                            f'{", ".join(batch)}')
        keys = [jax.random.fold_in(key, number) for number in (_WHETHER, _WHICH, _SHARE, _PARTNER, _BOX)]
        images = batch['image']
        partner = jax.random.permutation(keys[_PARTNER], len(everyone['label']))[rows]
        others = everyone['image'][partner]
        which = jax.random.randint(keys[_WHICH], (), 0, len(kinds))
        alpha = jnp.asarray(alphas, jnp.float32)[which]
        share = jax.random.beta(keys[_SHARE], alpha, alpha)
        mixed, shares = zip(*(kind(keys[_BOX], images, others, share) for kind in kinds))
        mixed, share = jax.lax.select_n(which, *mixed), jax.lax.select_n(which, *shares)
        on = jax.random.bernoulli(keys[_WHETHER], settings['mix_probability'])
        return batch | {'image': jnp.where(on, mixed, images), 'mixed_label': everyone['label'][partner],
                        'mix': jnp.full(rows.shape, jnp.where(on, share, 1.0), jnp.float32)}

    return mix


def check_task(mix: Callable | None, task, name: str) -> None:
    """Raises UserError if batches are mixed for a task that does not know labels of mixed images.

    Args:
      mix: of `build`.
      task: see tasks/task.py.
      name: config.task.name, for the message.
    """
    if mix is not None and not task.takes_mixed_labels:
        raise UserError(f'config.augment: mixup and cutmix mix labels, which the task {name} does not take: '
                        'set both to 0')


def _mixup(key, images, others, share):
    """Zhang et al. 2018: every pixel is share * own + (1 - share) * other."""
    del key
    return (share * images + (1 - share) * others).astype(images.dtype), share


def _cutmix(key, images, others, share):
    """Yun et al. 2019: a box of about 1 - share of the area comes from the other image.

    Its centre is any pixel; what lies outside the image is cut off, and the share is that of the pixels left.
    """
    height, width = images.shape[1:3]
    key_y, key_x = jax.random.split(key)
    side = jnp.sqrt(1 - share)

    def inside(key, size):
        centre, half = jax.random.randint(key, (), 0, size), (side * size / 2).astype(jnp.int32)
        position = jnp.arange(size)
        return (position >= centre - half) & (position < centre + half)
    rows, columns = inside(key_y, height), inside(key_x, width)
    box = rows[:, None, None] & columns[None, :, None]
    return jnp.where(box, others, images), 1 - rows.sum() * columns.sum() / (height * width)
