"""Random augmentation of whole batches, on the device, inside the jitted train step.

    augment = augmentation.build({'flip_horizontal': 0.5, 'random_crop': 4})
    images = augment(keys, images)                    # or
    images, masks = augment(keys, images, masks)      # both move together
    images, masks, boxes = augment(keys, images, masks, boxes)

Every example has its own key, and each operation folds its own fixed number into that key. The image an example
becomes therefore depends on neither the rest of the batch, nor the device, nor on which other operations are on.
"""

import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
from jax.scipy import ndimage

from ..common.errors import UserError, nearest
from . import box_moves, homography, rand_augment, region_source


class _Field(NamedTuple):
    """A field of config.augment.

    Attributes:
        off: the default, at which the operation is not in the program; its type is the field's.
        largest: beyond it an image holds nothing of the original, or the transformation has no inverse.
        number: folded into the example's key; None for what is no operation on one example. Never renumber: a new
            operation takes the next number, or old runs change their draws.
    """
    off: float | int | str
    largest: float | None
    number: int | None


# Listed in the order in which they are applied; those from homography to elastic are one resampling.
_FIELDS = {
    'flip_horizontal': _Field(0.0, 1, 0),   # probability of swapping left and right
    'flip_vertical': _Field(0.0, 1, 1),     # probability of swapping top and bottom
    'transpose': _Field(0.0, 1, 17),        # probability of swapping rows and columns, of square images
    'homography': _Field(0.0, 0.15, 16),    # seen from elsewhere: see homography.py
    'shift': _Field(0.0, 1, 2),             # moved by up to this fraction of the height and of the width
    'width_shift': _Field(0.0, 1, 18),      # moved sideways alone, by up to this fraction of the width
    'height_shift': _Field(0.0, 1, 19),     # moved up or down alone, by up to this fraction of the height
    'rotation': _Field(0.0, 180, 3),        # turned by up to this many degrees, either way
    'zoom': _Field(0.0, 0.9, 4),            # scaled about the centre by a factor in 1 +- zoom
    'shear': _Field(0.0, 60, 5),            # slanted sideways by up to this many degrees, either way
    'elastic': _Field(0.0, 0.1, 12),        # std of smooth displacements / side; images fold from 0.04 on
    'fill': _Field('edge', None, None),     # what those above show outside of the image, see FILLS
    'random_crop': _Field(0, math.inf, 6),  # pixels added on each side, zeros or as FILLS, before a crop of its size
    'rand_augment': _Field(0, 14, 15),      # operations per image chosen by RandAugment, see rand_augment.py
    'rand_augment_magnitude': _Field(9, 10, None),  # their strength, of 10
    'invert': _Field(0.0, 1, 7),            # probability of x -> 1 - x
    'gamma': _Field(0.0, 4, 13),            # x -> x ** exponent, log-uniform in [1 / (1 + gamma), 1 + gamma]
    'contrast': _Field(0.0, 1, 8),          # distance to the channel's mean times a factor in 1 +- contrast
    'brightness': _Field(0.0, 1, 9),        # a number in +-brightness added to the image
    'channel_shift': _Field(0.0, 1, 10),    # a number in +-channel_shift added to each channel
    'noise': _Field(0.0, 1, 14),            # Gaussian with std uniform in [0, noise], drawn per pixel and channel
    'cutout': _Field(0, math.inf, 11),      # side in pixels of a square of zeros anywhere (DeVries & Taylor 2017)
    # What mixing.py does to whole batches after all that.
    'mixup': _Field(0.0, math.inf, None),    # alpha of the share of an image's own; 0.2 is usual
    'cutmix': _Field(0.0, math.inf, None),   # alpha of the share of an image's own; 1.0 is usual
    'mix_probability': _Field(1.0, 1, None),  # share of the batches that are mixed, where one of the two is on
}
DEFAULTS = {name: field.off for name, field in _FIELDS.items()}
_OPERATIONS = {name: field for name, field in _FIELDS.items() if field.number is not None}
_RESAMPLED = ('shift', 'width_shift', 'height_shift', 'rotation', 'zoom', 'shear', 'elastic', 'homography')
SHOWS_OUTSIDE = (*_RESAMPLED, 'random_crop', 'rand_augment')  # what config.augment.fill is for
_GEOMETRIC = {*SHOWS_OUTSIDE, 'flip_horizontal', 'flip_vertical', 'transpose'}
# config.augment.fill, beside '0' to '1' for a grey: 'edge' repeats the outermost pixels, aaaa|abcd|dddd; 'reflect'
# mirrors the image, dcba|abcd|dcba; 'wrap' repeats it, abcd|abcd|abcd. The first is for jax's map_coordinates, the
# second for jnp.pad, which random_crop does with zeros otherwise, as ever.
FILLS = {'edge': ('nearest', None), 'reflect': ('reflect', 'symmetric'), 'wrap': ('wrap', 'wrap')}
_MASK = 'segmentation_mask'
MOVING = 'image', _MASK, *box_moves.FEATURES  # features of an example that augmentation changes
_ELASTIC_GRID = 4  # control points on each side of the image, between which displacements are interpolated


class Example(NamedTuple):
    """One image and what moves with it.

    Attributes:
        image: float32 [height, width, channels].
        mask: integer [height, width, 1]; None where there is none.
        outlines: of its boxes, see box_moves.py; None where there are none.
    """
    image: jax.Array
    mask: jax.Array | None = None
    outlines: box_moves.Outlines | None = None


def build(config: Mapping) -> Callable:
    """Makes the augmentation that a config asks for.

    Args:
        config: any of the fields of `DEFAULTS` (dict or ConfigDict); those left out are off.

    Returns:
        augment(keys, images, masks=None, boxes=None) -> images, or (images, masks) if masks were given, or (images,
        masks, boxes) if boxes were given, with or without masks.
            keys: PRNG keys [batch], one per example.
            images: float32 [batch, height, width, channels] in [0, 1]; so is the result.
            masks: integer [batch, height, width]; moved with the image, each pixel taking the nearest label. What comes
                in from outside the image is 0 (background), or the label of the pixel shown where fill repeats them.
            boxes: 'boxes', 'box_labels' and 'box_crowd' of the images, see source.py, or {} for none. They move with
                their image as box_moves.py says and are cut off at its edges. Those of which less than 0.3 is left in
                it are dropped: the label becomes -1, the rest 0. What cutout covers keeps its box.
        With everything off it returns its arguments and adds nothing to the program.

    Raises:
        UserError: an unknown field or a value out of range; and, when called, a size the images are too small for,
            images that are not square for `transpose`, or boxes with an `elastic` that folds images or a `fill` that
            shows objects twice.
    """
    settings = checked(config)
    if not any(settings[name] for name in _OPERATIONS):
        return unchanged

    def augment(keys, images, masks=None, boxes=None):
        for name in ('random_crop', 'cutout'):
            if settings[name] >= min(images.shape[1:3]):
                raise UserError(f'augmentation: {name}={settings[name]} needs larger images than '
                                f'{images.shape[1]}x{images.shape[2]}')
        if settings['transpose'] and images.shape[1] != images.shape[2]:
            raise UserError(f'augmentation: transpose={settings["transpose"]} needs square images, not '
                            f'{images.shape[1]}x{images.shape[2]}')
        if boxes and settings['fill'] in ('reflect', 'wrap') and any(settings[name] for name in SHOWS_OUTSIDE):
            raise UserError(f"augmentation: fill='{settings['fill']}' shows objects again that no box is around: with "
                            "boxes it is 'edge' or a number from 0 to 1")
        if boxes and settings['elastic'] > box_moves.LARGEST_ELASTIC:
            raise UserError(f"augmentation: elastic={settings['elastic']} folds images, and boxes in a fold have no "
                            f'one place: it is at most {box_moves.LARGEST_ELASTIC} with boxes')
        images, masks, moved = jax.vmap(functools.partial(_augment_example, settings))(keys, images, masks, boxes)
        return _given(images, masks, None if boxes is None else moved)

    augment.moving = sorted(name for name in _GEOMETRIC if settings[name])
    return augment


def apply(augment: Callable, keys: jax.Array, features: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns features [batch, ...] with `MOVING` augmented, those of them that there are, and the others as they are.

    Args:
        augment: of `build`.
        keys: PRNG keys [batch].
        features: of examples, see source.py; 'image' is float32 in [0, 1].

    Raises:
        UserError: the image moves, and a feature would have to move with it and cannot.
    """
    if region_source.TARGET in features and getattr(augment, 'moving', ()):
        raise UserError(f'augmentation: {augment.moving[0]} does not know how to move the box of a region '
                        '(config.data.regions); config.cached_features.flip mirrors both')
    boxes = {name: features[name] for name in box_moves.FEATURES if name in features}
    images, masks, boxes = augment(keys, features['image'], features.get(_MASK), boxes)
    return {**features, 'image': images, **({} if masks is None else {_MASK: masks}), **boxes}


def affine_source(height: int, width: int, *, shift_y=0.0, shift_x=0.0, rotation=0.0, scale=1.0, shear=0.0) -> Callable:
    """Where each pixel of a moved image comes from: shear, then scale, then rotation about the centre, then shift.

    Args:
        height, width: of the image.
        shift_y, shift_x: pixels down and to the right.
        rotation: radians, counterclockwise as seen.
        scale: above 1 makes the content larger.
        shear: radians; positive slants the lower half to the right.

    Returns:
        (row, column) of the moved image -> (row, column) of the source image, for arrays that broadcast.
    """
    # The four steps undone in reverse order. Written out rather than as a product of matrices, because a GPU may round
    # the factors of a float32 matrix product to TF32: 11 bits, a visible part of a pixel far from the centre.
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    cosine, sine = jnp.cos(rotation) / scale, jnp.sin(rotation) / scale

    def source(row, column):
        y, x = row - centre_y - shift_y, column - centre_x - shift_x
        source_y = cosine * y + sine * x
        source_x = cosine * x - sine * y - jnp.tan(shear) * source_y
        return source_y + centre_y, source_x + centre_x

    return source


def coordinates_of(source: Callable, height: int, width: int) -> jax.Array:
    """Returns where the pixels of an image come from, float32 [2, height, width]; source: such as `affine_source`."""
    rows, columns = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None, :]
    return jnp.stack(source(rows, columns))


def _augment_example(settings, key, image, mask, boxes):
    """One example through every operation that is on.

    Args:
        settings: of `checked`.
        key: PRNG key of the example.
        image: float32 [height, width, channels].
        mask: integer [height, width], or None.
        boxes: features of `box_moves.FEATURES`, {} or None.

    Returns:
        The three as they have become.
    """
    on = {name for name in _OPERATIONS if settings[name]}
    keys = {name: jax.random.fold_in(key, _OPERATIONS[name].number) for name in sorted(on)}  # one program, always
    moving = bool(boxes) and bool(on & _GEOMETRIC)
    example = Example(image, None if mask is None else mask[..., None],
                      box_moves.outlines(boxes['boxes']) if moving else None)

    if 'flip_horizontal' in on:
        example = _flip(keys['flip_horizontal'], example, settings['flip_horizontal'], axis=1)
    if 'flip_vertical' in on:
        example = _flip(keys['flip_vertical'], example, settings['flip_vertical'], axis=0)
    if 'transpose' in on:
        example = _transpose(keys['transpose'], example, settings['transpose'])
    if not on.isdisjoint(_RESAMPLED):
        example = _resample(settings, keys, example)
    if 'random_crop' in on:
        example = _random_crop(keys['random_crop'], example, settings['random_crop'], settings['fill'])
    if 'rand_augment' in on:
        example = rand_augment.apply(keys['rand_augment'], example, settings['rand_augment'],
                                     settings['rand_augment_magnitude'], resampling(settings['fill']))

    image, mask, outlines = example
    if 'invert' in on:
        image = jnp.where(jax.random.bernoulli(keys['invert'], settings['invert']), 1 - image, image)
    if 'gamma' in on:
        bound = math.log1p(settings['gamma'])
        image = jnp.maximum(image, 0) ** jnp.exp(_symmetric(keys['gamma'], bound))
    if 'contrast' in on:
        image = dm_pix.random_contrast(keys['contrast'], image, 1 - settings['contrast'], 1 + settings['contrast'])
    if 'brightness' in on:
        image = dm_pix.random_brightness(keys['brightness'], image, settings['brightness'])
    if 'channel_shift' in on:
        image = image + _symmetric(keys['channel_shift'], settings['channel_shift'], image.shape[-1:])
    if 'noise' in on:
        key_std, key_pixels = jax.random.split(keys['noise'])
        std = jax.random.uniform(key_std, maxval=settings['noise'])
        image = image + std * jax.random.normal(key_pixels, image.shape)
    image = jnp.clip(image, 0, 1)  # Once, at the end; it also mends the rounding of the interpolation.
    if 'cutout' in on:
        image = _cutout(keys['cutout'], image, settings['cutout'])
    return image, None if mask is None else mask[..., 0], box_moves.boxed(outlines, boxes) if moving else boxes


def _flip(key, example, probability, axis):
    """Swaps top and bottom (axis 0) or left and right (axis 1), or neither."""
    def swapped(example):
        image, mask, outlines = example
        if outlines is not None:
            height, width, _ = image.shape
            y, x = (height - outlines.y, outlines.x) if axis == 0 else (outlines.y, width - outlines.x)
            outlines = box_moves.placed(outlines, y, x, (height, width))
        return Example(*jax.tree.map(lambda pixels: jnp.flip(pixels, axis), (image, mask)), outlines)
    return jax.lax.cond(jax.random.bernoulli(key, probability), swapped, lambda example: example, example)


def _transpose(key, example, probability):
    """Swaps rows and columns of a square image, or does not."""
    def swapped(example):
        image, mask, outlines = example
        if outlines is not None:
            outlines = box_moves.placed(outlines, outlines.x, outlines.y, image.shape[:2])
        return Example(*jax.tree.map(lambda pixels: jnp.swapaxes(pixels, 0, 1), (image, mask)), outlines)
    return jax.lax.cond(jax.random.bernoulli(key, probability), swapped, lambda example: example, example)


def _random_crop(key, example, pad, fill):
    """A window of the original size, of an image with `pad` pixels more on each side."""
    image, mask, outlines = example
    size = image.shape[:2]
    start = [jax.random.randint(one, (), 0, 2 * pad + 1) for one in jax.random.split(key, 3)[:2]]  # the third is unused
    mode = FILLS.get(fill, (None, None))[1] or 'constant'
    image, mask = jax.tree.map(lambda pixels: jax.lax.dynamic_slice(
        jnp.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode), (*start, 0), pixels.shape), (image, mask))
    if outlines is not None:
        outlines = box_moves.placed(outlines, outlines.y + pad - start[0], outlines.x + pad - start[1], size)
    return Example(image, mask, outlines)


def _resample(settings, keys, example):
    """Homography, shifts, rotation, zoom, shear, elastic as one resampling."""
    height, width, _ = example.image.shape
    draws = {}
    if 'shift' in keys:
        shift = _symmetric(keys['shift'], settings['shift'], (2,))
        draws |= {'shift_y': shift[0] * height, 'shift_x': shift[1] * width}
    if 'width_shift' in keys:
        draws['shift_x'] = _symmetric(keys['width_shift'], settings['width_shift']) * width
    if 'height_shift' in keys:
        draws['shift_y'] = _symmetric(keys['height_shift'], settings['height_shift']) * height
    if 'rotation' in keys:
        draws['rotation'] = _symmetric(keys['rotation'], math.radians(settings['rotation']))
    if 'zoom' in keys:
        draws['scale'] = 1 + _symmetric(keys['zoom'], settings['zoom'])
    if 'shear' in keys:
        draws['shear'] = _symmetric(keys['shear'], math.radians(settings['shear']))
    displacements = None
    if 'elastic' in keys:
        displacements = _elastic_displacements(keys['elastic'], settings['elastic'], height, width)
    source, goes = affine_source(height, width, **draws), None
    if 'homography' in keys:
        corners = _symmetric(keys['homography'], settings['homography'], (4, 2))
        source, goes = homography.before(source, corners, height, width)
    return resampling(settings['fill'])(example, source, displacements, goes)


def resampling(fill: str | float) -> Callable:
    """Returns resample(example, source, displacements=None, goes=None) -> example.

    It is bilinear for the image and takes the nearest of the mask.
        source: (row, column) -> (row, column) that a pixel comes from, an affine map unless `goes` is given.
        displacements: float32 [2, height, width] added to that, or None.
        goes: the inverse of `source`; None for it to be found.
        fill: as the field.
    """
    repeats = fill in FILLS
    mode = FILLS[fill][0] if repeats else 'constant'

    def take(array, coordinates, order, outside):
        # Not dm_pix.affine_transform: it interpolates between channels too and is 20 to 50 times slower on two cores
        # (64x28x28x1: 4.3 ms against 0.2 ms; 128x32x32x3: 28 ms against 0.5 ms). One gather of packed neighbours
        # instead of map_coordinates' four is no faster there (256x256x1 image and mask: 1.0 ms against 0.4 ms).
        return jax.vmap(lambda channel: ndimage.map_coordinates(
            channel, coordinates, order=order, mode=mode, cval=outside),
            in_axes=-1, out_axes=-1)(array)

    def resample(example, source, displacements=None, goes=None):
        image, mask, outlines = example
        size = image.shape[:2]
        coordinates = coordinates_of(source, *size)
        if displacements is not None:
            coordinates = coordinates + displacements
        image = take(image, coordinates, 1, 0.0 if repeats else fill)
        mask = None if mask is None else take(mask, coordinates, 0, 0)
        if outlines is not None:
            outlines = box_moves.resampled(outlines, source, size, displacements, goes)
        return Example(image, mask, outlines)

    return resample


def _elastic_displacements(key, std, height, width):
    """Random displacements of pixels that vary smoothly over the image (Simard et al. 2003).

    Gaussian vectors on a coarse grid, interpolated bicubically, as in section 3.1 of the U-Net (Ronneberger et al.
    2015). Added to where a pixel comes from: with an affine operation on, they are displacements in the source image.

    Args:
        std: at the control points, as a fraction of the height for rows and of the width for columns; 0.88 of it in
            the mean over all pixels.

    Returns:
        float32 [2, height, width]: what to add to the row and to the column a pixel comes from, in pixels.
    """
    vectors = std * jax.random.normal(key, (2, _ELASTIC_GRID, _ELASTIC_GRID))
    fractions = jax.image.resize(vectors, (2, height, width), 'cubic')
    return fractions * jnp.array([height, width], jnp.float32)[:, None, None]


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


def unchanged(keys, images, masks=None, boxes=None):
    """What `build` returns where nothing is on."""
    del keys
    return _given(images, masks, boxes)


def _given(images, masks, boxes):
    """Returns what `build` says of what was given."""
    if boxes is not None:
        return images, masks, boxes
    return images if masks is None else (images, masks)


def checked(config: Mapping) -> dict:
    """Returns the fields of a config over the defaults; raises UserError for what no image can be augmented with."""
    settings = dict(DEFAULTS)
    for name, value in config.items():
        if name not in DEFAULTS:
            raise UserError(f'augmentation has no field {name!r}; {nearest(name, DEFAULTS)}')
        largest = _FIELDS[name].largest
        if name == 'fill':
            value = _number_or_text(value)
            if value not in FILLS and not _is_number_in(value, 1):
                raise UserError(f"augmentation: fill is {value!r}; it must be 'edge', 'reflect', 'wrap' or a number "
                                'from 0 to 1')
        elif isinstance(DEFAULTS[name], int):
            if not _is_number_in(value, largest) or value != int(value):
                limits = ' of pixels, 0 or more' if largest == math.inf else f' from 0 to {largest}'
                raise UserError(f'augmentation: {name} is {value!r}; it must be a whole number{limits}')
            value = int(value)
        elif not _is_number_in(value, largest):
            limits = ', 0 or more' if largest == math.inf else f' from 0 to {largest}'
            raise UserError(f'augmentation: {name} is {value!r}; it must be a number{limits}')
        settings[name] = value
    alone = [name for name in ('width_shift', 'height_shift') if settings[name]]
    if settings['shift'] and alone:
        raise UserError(f"augmentation: shift={settings['shift']} moves images both ways already: set it to 0, or "
                        f'leave {" and ".join(alone)} out')
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
