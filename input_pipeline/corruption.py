"""Standard corruptions of images, to measure how robust a model is; each has five severities.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations", with
the formulas and levels of the authors' ImageNet-C and CIFAR-10-C; what is random is drawn anew, so results are
comparable, not the same images. Of their kinds, glass, motion and zoom blur, snow, frost, fog, spatter and elastic
deformation are not here.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..common.errors import UserError, nearest

SEVERITIES = 5
_SMALL = 64  # pixels: images whose shorter side is below it have the levels of CIFAR-10-C


def _gaussian_noise(rng, image, std):
    return image + rng.normal(scale=std, size=image.shape)


def _shot_noise(rng, image, photons):
    return rng.poisson(image * photons) / photons


def _impulse_noise(rng, image, share):
    hit, white = rng.random(image.shape) < share, rng.random(image.shape) < 0.5
    return np.where(hit, white, image)


def _speckle_noise(rng, image, std):
    return image + image * rng.normal(scale=std, size=image.shape)


def _gaussian_blur(rng, image, std):
    del rng
    from scipy.ndimage import gaussian_filter
    return gaussian_filter(image, (std, std, 0), mode='nearest')


def _defocus_blur(rng, image, level):
    """Every point becomes a disk of this radius, whose border is smoothed."""
    del rng
    import cv2
    radius, border = level
    reach = max(8, int(radius))
    y, x = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    disk = (x ** 2 + y ** 2 <= radius ** 2).astype(np.float32)
    side = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disk / disk.sum(), (side, side), sigmaX=border)
    return cv2.filter2D(image, -1, kernel).reshape(image.shape)


def _brightness(rng, image, added):
    """Adds to the value of HSV, the largest channel; the others keep their proportion to it."""
    del rng
    value = image.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return np.where(value > 0, image * (brighter / np.maximum(value, 1e-6)), brighter)


def _contrast(rng, image, factor):
    del rng
    mean = image.mean(axis=(0, 1), keepdims=True)
    return mean + factor * (image - mean)


def _saturate(rng, image, level):
    del rng
    from skimage import color
    if image.shape[-1] != 3:
        raise UserError(f'the corruption saturate is for images of 3 channels, these have {image.shape[-1]}')
    factor, added = level
    hsv = color.rgb2hsv(image)
    hsv[..., 1] = np.clip(factor * hsv[..., 1] + added, 0, 1)
    return color.hsv2rgb(hsv)


def _jpeg(rng, image, quality):
    del rng
    from PIL import Image
    if image.shape[-1] not in (1, 3):
        raise UserError(f'the corruption jpeg is for images of 1 or 3 channels, these have {image.shape[-1]}')
    pixels = np.uint8(np.round(image * 255))
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if image.shape[-1] == 1 else pixels).save(file, 'JPEG', quality=quality)
    return np.asarray(Image.open(file), np.float32).reshape(image.shape) / 255


def _pixelate(rng, image, factor):
    del rng
    from PIL import Image
    height, width = image.shape[:2]
    small = max(1, int(width * factor)), max(1, int(height * factor))

    def channel(values):
        reduced = Image.fromarray(values).resize(small, Image.Resampling.BOX)
        return np.asarray(reduced.resize((width, height), Image.Resampling.BOX))
    return np.stack([channel(np.ascontiguousarray(image[..., i])) for i in range(image.shape[-1])], axis=-1)


class _Corruption(NamedTuple):
    """One kind of corruption.

    Attributes:
      function: (rng, image, level) -> image, float [height, width, channels] in [0, 1]; the result is clipped to it.
      large, small: levels of severity 1 to 5, of ImageNet-C and of CIFAR-10-C.
    """
    function: Callable[[np.random.Generator, np.ndarray, Any], np.ndarray]
    large: tuple
    small: tuple


# Applied in this order. Never reorder and add at the end: the place is part of the seed.
_TABLE = {
    # standard deviation
    'gaussian_noise': _Corruption(_gaussian_noise, (.08, .12, .18, .26, .38), (.04, .06, .08, .09, .10)),
    # photons of a white pixel
    'shot_noise': _Corruption(_shot_noise, (60, 25, 12, 5, 3), (500, 250, 100, 75, 50)),
    # share of values that become black or white
    'impulse_noise': _Corruption(_impulse_noise, (.03, .06, .09, .17, .27), (.01, .02, .03, .05, .07)),
    # standard deviation, as a share of the value
    'speckle_noise': _Corruption(_speckle_noise, (.15, .2, .35, .45, .6), (.06, .1, .12, .16, .2)),
    # standard deviation, pixels
    'gaussian_blur': _Corruption(_gaussian_blur, (1, 2, 3, 4, 6), (.4, .6, .7, .8, 1)),
    # radius and border, pixels
    'defocus_blur': _Corruption(_defocus_blur, ((3, .1), (4, .5), (6, .5), (8, .5), (10, .5)),
                                ((.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1))),
    # added to the value of HSV
    'brightness': _Corruption(_brightness, (.1, .2, .3, .4, .5), (.05, .1, .15, .2, .3)),
    # factor of the distance to the mean
    'contrast': _Corruption(_contrast, (.4, .3, .2, .1, .05), (.75, .5, .4, .3, .15)),
    # factor of the saturation of HSV, and what is added
    'saturate': _Corruption(_saturate, ((.3, 0), (.1, 0), (2, 0), (5, .1), (20, .2)),
                            ((.3, 0), (.1, 0), (1.5, 0), (2, .1), (2.5, .2))),
    # libjpeg's quality
    'jpeg': _Corruption(_jpeg, (25, 18, 15, 10, 7), (80, 65, 58, 50, 40)),
    # factor of the resolution
    'pixelate': _Corruption(_pixelate, (.6, .5, .4, .3, .25), (.95, .9, .85, .75, .65)),
}
CORRUPTIONS = tuple(_TABLE)


def build(severities: Mapping[str, int]) -> Callable[[int, np.ndarray], np.ndarray]:
    """Returns `corrupt(position, image) -> image`, float32 [height, width, channels] in [0, 1].

    Args:
      severities: name of a corruption -> 1 to 5, or 0 for off. Several are applied one after the other, in the order of
        `CORRUPTIONS`.

    The position of an example in its set decides what is random, nothing else does.

    Raises:
      UserError: an unknown corruption or severity; and, when called, channels that a corruption is not made for.
    """
    for name, severity in severities.items():
        if name not in _TABLE:
            raise UserError(f'no corruption {name!r}; {nearest(name, CORRUPTIONS)}')
        if type(severity) is not int or not 0 <= severity <= SEVERITIES:
            raise UserError(f'the severity of {name} is {severity!r}; it must be a whole number from 0 (off) to '
                            f'{SEVERITIES}')
    chosen = [(number, _TABLE[name], severities[name] - 1) for number, name in enumerate(CORRUPTIONS)
              if severities.get(name)]

    def corrupt(position: int, image: np.ndarray) -> np.ndarray:
        for number, corruption, severity in chosen:
            rng = np.random.Generator(np.random.Philox(key=[number, position]))
            levels = corruption.small if min(image.shape[:2]) < _SMALL else corruption.large
            image = np.clip(corruption.function(rng, image, levels[severity]), 0, 1).astype(np.float32)
        return image

    return corrupt
