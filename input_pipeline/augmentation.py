"""Random augmentation of whole batches, on the device, inside the jitted train step.

    augment = augmentation.build({'flip_horizontal': 0.5, 'random_crop': 4})
    images = augment(keys, images)                    # or
    images, masks = augment(keys, images, masks)      # both move together

Every example has its own key, and each operation folds its own fixed number into that key. The picture an example
becomes therefore depends on neither the rest of the batch, nor the device, nor on which other operations are on.
"""

import math
import numbers
from collections.abc import Callable, Mapping

import dm_pix
import jax
import jax.numpy as jnp
from jax.scipy import ndimage

from training.config import nearest
from training.errors import UserError

# Listed in the order in which they are applied. Every field is off at its default.
DEFAULTS = {
    'flip_horizontal': 0.0,  # probability of swapping left and right
    'flip_vertical': 0.0,    # probability of swapping top and bottom
    'shift': 0.0,            # moved by up to this fraction of the height and of the width
    'rotation': 0.0,         # turned by up to this many degrees, either way
    'zoom': 0.0,             # scaled about the centre by a factor in [1 - zoom, 1 + zoom]
    'shear': 0.0,            # slanted sideways by up to this many degrees, either way
    'fill': 'edge',          # what the four above show outside the image: 'edge' repeats it, '0' to '1' are grey values
    'random_crop': 0,        # pixels of zeros added on each side before a crop of the original size
    'invert': 0.0,           # probability of x -> 1 - x
    'contrast': 0.0,         # distance to the channel's mean times a factor in [1 - contrast, 1 + contrast]
    'brightness': 0.0,       # a number in +-brightness added to the image
    'channel_shift': 0.0,    # a number in +-channel_shift added to each channel
    'cutout': 0,             # side in pixels of a square of zeros with a random centre (DeVries & Taylor 2017)
}

# Beyond these an image holds nothing of the original, or the transformation has no inverse.
_LARGEST = {'flip_horizontal': 1, 'flip_vertical': 1, 'shift': 1, 'rotation': 180, 'zoom': 0.9, 'shear': 60,
            'random_crop': math.inf, 'invert': 1, 'contrast': 1, 'brightness': 1, 'channel_shift': 1,
            'cutout': math.inf}

# Folded into the example's key. Never renumber: a new operation takes the next number, or old runs change their draws.
_KEY_NUMBER = {'flip_horizontal': 0, 'flip_vertical': 1, 'shift': 2, 'rotation': 3, 'zoom': 4, 'shear': 5,
               'random_crop': 6, 'invert': 7, 'contrast': 8, 'brightness': 9, 'channel_shift': 10, 'cutout': 11}


def build(config: Mapping) -> Callable:
    """Makes the augmentation that a config asks for.

    Args:
        config: any of the fields of `DEFAULTS` (dict or ConfigDict); those left out are off.

    Returns:
        augment(keys, images, masks=None) -> images, or (images, masks) if masks were given.
            keys: PRNG keys [batch], one per example.
            images: float32 [batch, height, width, channels] in [0, 1]; so is the result.
            masks: integer [batch, height, width]; moved with the image, each pixel taking the nearest label. What comes
                in from outside the image is 0 (background), or the edge's label where fill is 'edge'.
        With everything off it returns its arguments and adds nothing to the program.

    Raises:
        UserError: an unknown field or a value out of range; and, when called, a size the images are too small for.
    """
    settings = _checked(config)
    if not any(settings[name] for name in _KEY_NUMBER):
        return _identity

    def augment(keys, images, masks=None):
        for name in ('random_crop', 'cutout'):
            if settings[name] >= min(images.shape[1:3]):
                raise UserError(f'augmentation: {name}={settings[name]} needs larger images than '
                                f'{images.shape[1]}x{images.shape[2]}')
        images, masks = jax.vmap(lambda key, image, mask: _augment_example(settings, key, image, mask))(
            keys, images, masks)
        return images if masks is None else (images, masks)

    return augment


def affine_coordinates(height: int, width: int, *, shift_y=0.0, shift_x=0.0, rotation=0.0, scale=1.0, shear=0.0):
    """Where each pixel of a moved image comes from: shear, then scale, then rotation about the centre, then shift.

    Args:
        shift_y, shift_x: pixels down and to the right.
        rotation: radians, counterclockwise as seen.
        scale: above 1 makes the content larger.
        shear: radians; positive slants the lower half to the right.

    Returns:
        float32 [2, height, width]: row and column in the source image.
    """
    # The four steps undone in reverse order. Written out rather than as a product of matrices, because a GPU may round
    # the factors of a float32 matrix product to TF32: 11 bits, a visible part of a pixel far from the centre.
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - centre_y - shift_y
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - centre_x - shift_x
    cosine, sine = jnp.cos(rotation) / scale, jnp.sin(rotation) / scale
    source_y = cosine * y + sine * x
    source_x = cosine * x - sine * y - jnp.tan(shear) * source_y
    return jnp.stack([source_y + centre_y, source_x + centre_x])


def _augment_example(settings, key, image, mask):
    """One example through every operation that is on; image [height, width, channels], mask [height, width] or None."""
    on = {name for name in _KEY_NUMBER if settings[name]}
    keys = {name: jax.random.fold_in(key, _KEY_NUMBER[name]) for name in on}
    # dm_pix wants channels. Image and mask get the same key, hence the same draw; a mask that is None stays None.
    example = image, None if mask is None else mask[..., None]

    if 'flip_horizontal' in on:
        example = jax.tree.map(lambda array: dm_pix.random_flip_left_right(
            keys['flip_horizontal'], array, probability=settings['flip_horizontal']), example)
    if 'flip_vertical' in on:
        example = jax.tree.map(lambda array: dm_pix.random_flip_up_down(
            keys['flip_vertical'], array, probability=settings['flip_vertical']), example)
    if on & {'shift', 'rotation', 'zoom', 'shear'}:
        example = _affine(settings, keys, *example)
    if 'random_crop' in on:
        pad = settings['random_crop']
        example = jax.tree.map(lambda array: dm_pix.random_crop(
            keys['random_crop'], jnp.pad(array, ((pad, pad), (pad, pad), (0, 0))), array.shape), example)

    image, mask = example
    if 'invert' in on:
        image = jnp.where(jax.random.bernoulli(keys['invert'], settings['invert']), 1 - image, image)
    if 'contrast' in on:
        image = dm_pix.random_contrast(keys['contrast'], image, 1 - settings['contrast'], 1 + settings['contrast'])
    if 'brightness' in on:
        image = dm_pix.random_brightness(keys['brightness'], image, settings['brightness'])
    if 'channel_shift' in on:
        image = image + _symmetric(keys['channel_shift'], settings['channel_shift'], image.shape[-1:])
    image = jnp.clip(image, 0, 1)  # Once, at the end; it also mends the rounding of the interpolation.
    if 'cutout' in on:
        image = _cutout(keys['cutout'], image, settings['cutout'])
    return image, None if mask is None else mask[..., 0]


def _affine(settings, keys, image, mask):
    """Shift, rotation, zoom and shear as one resampling: bilinear for the image, nearest for the mask."""
    height, width, _ = image.shape
    draws = {}
    if 'shift' in keys:
        shift = _symmetric(keys['shift'], settings['shift'], (2,))
        draws |= {'shift_y': shift[0] * height, 'shift_x': shift[1] * width}
    if 'rotation' in keys:
        draws['rotation'] = _symmetric(keys['rotation'], math.radians(settings['rotation']))
    if 'zoom' in keys:
        draws['scale'] = 1 + _symmetric(keys['zoom'], settings['zoom'])
    if 'shear' in keys:
        draws['shear'] = _symmetric(keys['shear'], math.radians(settings['shear']))
    coordinates = affine_coordinates(height, width, **draws)

    edge = settings['fill'] == 'edge'

    def resample(array, order, outside):
        # Not dm_pix.affine_transform: it interpolates between channels too and is 20 to 50 times slower on two cores
        # (64x28x28x1: 4.3 ms against 0.2 ms; 128x32x32x3: 28 ms against 0.5 ms).
        return jax.vmap(lambda channel: ndimage.map_coordinates(
            channel, coordinates, order=order, mode='nearest' if edge else 'constant', cval=outside),
            in_axes=-1, out_axes=-1)(array)

    image = resample(image, 1, 0.0 if edge else settings['fill'])
    return image, None if mask is None else resample(mask, 0, 0)


def _cutout(key, image, side):
    """Zeros in a square whose centre is any pixel, so that part of it may lie outside the image."""
    height, width, _ = image.shape
    key_y, key_x = jax.random.split(key)
    top = jax.random.randint(key_y, (), 0, height) - side // 2
    left = jax.random.randint(key_x, (), 0, width) - side // 2
    y, x = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
    return jnp.where((y >= top) & (y < top + side) & (x >= left) & (x < left + side), 0, image)


def _symmetric(key, largest, shape=()):
    return jax.random.uniform(key, shape, minval=-largest, maxval=largest)


def _identity(keys, images, masks=None):
    del keys
    return images if masks is None else (images, masks)


def _checked(config):
    """The config over the defaults; UserError for what no image can be augmented with."""
    settings = dict(DEFAULTS)
    for name, value in config.items():
        if name not in DEFAULTS:
            raise UserError(f'augmentation has no field {name!r}; {nearest(name, DEFAULTS)}')
        if name == 'fill':
            value = _number_or_text(value)
            if value != 'edge' and not _is_number_in(value, 1):
                raise UserError(f"augmentation: fill is {value!r}; it must be 'edge' or a number from 0 to 1")
        elif isinstance(DEFAULTS[name], int):
            if not _is_number_in(value, _LARGEST[name]) or value != int(value):
                raise UserError(f'augmentation: {name} is {value!r}; it must be a whole number of pixels, 0 or more')
            value = int(value)
        elif not _is_number_in(value, _LARGEST[name]):
            raise UserError(f'augmentation: {name} is {value!r}; it must be a number from 0 to {_LARGEST[name]}')
        settings[name] = value
    return settings


def _number_or_text(value):
    """Config fields keep their type, so a grey value may come as text: '0.5'."""
    try:
        return float(value)
    except ValueError:
        return value


def _is_number_in(value, largest):
    return (isinstance(value, numbers.Real) and not isinstance(value, bool)
            and math.isfinite(value) and 0 <= value <= largest)
