"""Drawn short-axis slices of hearts with the left ventricle outlined: 550 images of 256x256 pixels, no download.

An image is painted in layers, from the air around the body to the papillary muscles, each a closed curve with a grey
level relative to blood, and then degraded as a scanner would: tissue texture, receiver coil shading, blur, noise,
field of view. Lengths are in mm, x points right and y down, the origin is the middle of the image.
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow_datasets as tfds

SIZE = 256  # pixels
SLICES = 5  # of one heart, from base to apex
# split -> its hearts, as first and last + 1.
HEARTS = {'train': (0, 80), 'validation': (80, 90), 'test': (90, 110)}
_SEED = 2009


class CardiacPhantom(tfds.core.GeneratorBasedBuilder):
    """Synthetic cine MR slices with the mask of the left ventricle's blood pool, for trying out and testing.

    Everything is drawn from random ellipses: no patient, no scanner, no physiology. Scores on it say that a method
    runs and learns, and nothing about patients. As in clinical outlines, papillary muscles count as blood pool.
    110 hearts of 5 slices: 80 train, 10 validate, 20 test; no heart is in two splits.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict({
                'image': tfds.features.Image(shape=(SIZE, SIZE, 1)),
                'segmentation_mask': tfds.features.LabeledImage(
                    labels=['background', 'left_ventricle'], shape=(SIZE, SIZE, 1)),
                'patient': tfds.features.Text(), 'slice': tfds.features.Text(),
                'spacing_mm': tfds.features.Tensor(shape=(2,), dtype=np.float32)}),
            supervised_keys=('image', 'segmentation_mask'))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in HEARTS}

    def _generate_examples(self, split: str):
        """Yields (patient/slice, example)."""
        first, last = HEARTS[split]
        for index in range((last - first) * SLICES):
            drawn = example(split, index)
            yield f"{drawn['patient']}/{drawn['slice']}", drawn


def example(split: str, index: int) -> dict:
    """Returns one example, the same whenever it is asked for.

    Args:
      split: a key of HEARTS.
      index: 0 to 5 x number of hearts - 1; five in a row are one heart, from base to apex.

    Returns:
      'image' and 'segmentation_mask' uint8 [256, 256, 1], the latter 1 where the pixel's centre lies inside the
      endocardium; 'patient' and 'slice' str; 'spacing_mm' float32 [2], row and column.
    """
    first, last = HEARTS[split]
    patient, number = first + index // SLICES, index % SLICES
    if not first <= patient < last:
        raise IndexError(f'{split} has no example {index}')
    heart = _heart(np.random.default_rng((_SEED, patient)))
    anatomy = _slice(np.random.default_rng((_SEED, patient, 1 + number)), heart, number)
    canvas = Canvas(heart.spacing)
    rng = np.random.default_rng((_SEED, patient, 1 + number, 0))
    _paint_body(rng, canvas, heart)
    _paint_heart(rng, canvas, heart, anatomy)
    return {'image': _scan(rng, canvas, heart)[..., None],
            'segmentation_mask': anatomy.endocardium.contains(canvas.x, canvas.y).astype(np.uint8)[..., None],
            'patient': f'phantom-{patient:04}', 'slice': f'slice-{number}',
            'spacing_mm': np.full(2, heart.spacing, np.float32)}


@dataclasses.dataclass(frozen=True)
class Curve:
    """An ellipse whose radius varies by a low-order Fourier series.

    A point centre + rotation(angle) (u width, v height) with polar coordinates (r, t) of (u, v) is inside where
    r < 1 + sum over k = 2, 3, ... of cosines[k - 2] cos(k t) + sines[k - 2] sin(k t).
    """
    centre: tuple[float, float]
    width: float  # half axes, mm
    height: float
    angle: float = 0.0
    cosines: tuple[float, ...] = ()
    sines: tuple[float, ...] = ()

    @property
    def area(self) -> float:
        """In mm^2, exactly: the integral of r^2 / 2 over t, times the determinant of the map."""
        waves = np.square(self.cosines).sum() + np.square(self.sines).sum()
        return np.pi * self.width * self.height * (1 + waves / 2)

    @property
    def reach(self) -> float:
        """No point of the curve is farther from its centre."""
        return max(self.width, self.height) * (1 + np.abs(self.cosines).sum() + np.abs(self.sines).sum())

    def grown(self, millimetres: float) -> 'Curve':
        """A rounder curve about this one, roughly so many millimetres outside it."""
        return dataclasses.replace(self, width=self.width + millimetres, height=self.height + millimetres,
                                   cosines=tuple(0.6 * a for a in self.cosines),
                                   sines=tuple(0.6 * b for b in self.sines))

    def at(self, distance: float, angle: float) -> tuple[float, float]:
        """The point at a share of the ellipse's radius (1 is the border) in a direction."""
        u, v = self.width * distance * np.cos(angle), self.height * distance * np.sin(angle)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.centre[0] + u * c - v * s, self.centre[1] + u * s + v * c

    def contains(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """bool, broadcast from x and y in mm."""
        return self._depth(x, y)[0] > 0

    def coverage(self, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
        """How much of a pixel lies inside: 0 to 1 over `edge` mm across the border."""
        depth, scale = self._depth(x, y)
        return np.clip(depth * (scale / float(edge)) + 0.5, 0, 1)

    def _depth(self, x, y):
        """How far inside in units of the half axes, and mm per unit along the ray from the centre."""
        # Built-in floats leave arrays float32, numpy's would not.
        dx, dy = x - float(self.centre[0]), y - float(self.centre[1])
        c, s = math.cos(self.angle), math.sin(self.angle)
        u = dx * (c / float(self.width)) + dy * (s / float(self.width))
        v = dy * (c / float(self.height)) - dx * (s / float(self.height))
        r = np.sqrt(u * u + v * v) + 1e-9
        border = np.ones_like(r)
        if self.cosines or self.sines:
            z = (u + 1j * v) / r  # exp(i t); its powers are cheaper than cosines of an arctangent
            power = z
            for a, b in zip(self.cosines, self.sines, strict=True):
                power = power * z
                border += (power * complex(a, -b)).real
        return border - r, np.sqrt(dx * dx + dy * dy) / r


class Canvas:
    """An image under work: float32 grey levels [256, 256], blood is about 1."""

    def __init__(self, spacing: float):
        self.spacing = spacing
        axis = (np.arange(SIZE) - (SIZE - 1) / 2) * spacing  # pixel centres
        self.x, self.y = axis[None, :].astype(np.float32), axis[:, None].astype(np.float32)
        self.grey = np.zeros((SIZE, SIZE), np.float32)

    def paint(self, curve: Curve, level: float | np.ndarray, within: np.ndarray | None = None) -> None:
        """Covers the inside of a curve with a grey level, only where `within` [256, 256] has weight if given."""
        rows, columns = (self._span(middle, curve.reach) for middle in (curve.centre[1], curve.centre[0]))
        weight = curve.coverage(self.x[:, columns], self.y[rows], self.spacing)
        if within is not None:
            weight = weight * within[rows, columns]
        level = level[rows, columns] if isinstance(level, np.ndarray) else float(level)
        self.grey[rows, columns] += weight * (level - self.grey[rows, columns])

    def _span(self, middle: float, reach: float) -> slice:
        begin = int((middle - reach) / self.spacing + SIZE / 2) - 2
        end = int((middle + reach) / self.spacing + SIZE / 2) + 3
        return slice(min(max(begin, 0), SIZE), min(max(end, 0), SIZE))


@dataclasses.dataclass(frozen=True)
class Heart:
    """What the slices of one patient share."""
    spacing: float       # mm per pixel
    centre: tuple[float, float]
    radius: float        # of the endocardium at the base, mm
    wall: float          # thickness of the myocardium, mm
    septum: float        # direction from left to right ventricle, radians
    right: float         # size of the right ventricle, relative to the left
    skin: float          # thickness of the fat below it, mm
    myocardium: float    # grey levels relative to blood
    fat: float
    lung: float
    liver: float
    noise: float
    shading: float       # natural logarithm of the coil's brightness over 100 mm
    body: Curve
    view: str            # shape of the field of view


@dataclasses.dataclass(frozen=True)
class Slice:
    """What is at one level of a heart."""
    depth: float         # 0 at the base, 1 at the apex
    endocardium: Curve
    epicardium: Curve


def _heart(rng: np.random.Generator) -> Heart:
    spacing, centre = rng.uniform(1.25, 1.6), (rng.normal(3, 8), rng.normal(0, 8))
    front = np.deg2rad(rng.normal(-135, 14))  # where the chest wall is nearest
    radius = float(np.clip(rng.normal(28, 5.5), 19, 43))
    wall = float(np.clip(rng.normal(10, 2.2) - 0.12 * (radius - 27), 5.5, 16))
    right, skin, depth = rng.uniform(0.8, 1.15), rng.uniform(8, 26), rng.uniform(115, 160)
    near = (0.6 + 1.05 * right) * (radius + wall) + skin + rng.uniform(0, 16)  # to the skin: leaves room for the heart
    body = Curve(tuple(c - n * (depth - near) for c, n in zip(centre, (np.cos(front), np.sin(front)))),
                 depth, depth * rng.uniform(1.15, 1.6), front, *_wobble(rng, 0.04, 5))
    return Heart(spacing=spacing, centre=centre, radius=radius, wall=wall,
                 septum=np.deg2rad(rng.normal(-160, 18)), right=right, skin=skin,
                 myocardium=rng.uniform(0.28, 0.52), fat=rng.uniform(0.9, 1.8), lung=rng.uniform(0.04, 0.11),
                 liver=rng.uniform(0.28, 0.5), noise=rng.uniform(0.015, 0.05), shading=rng.uniform(0.2, 0.9),
                 body=body, view=str(rng.choice(['circle', 'pincushion', 'full'], p=[0.45, 0.4, 0.15])))


def _slice(rng: np.random.Generator, heart: Heart, number: int) -> Slice:
    depth = (number + rng.uniform(0.05, 0.75)) / SLICES
    systole = rng.uniform(0, 1) * (rng.uniform() < 0.5)  # half of the slices are taken with the heart relaxed
    radius = heart.radius * np.sqrt(1 - 0.9 * depth ** 2) * (1 - rng.uniform(0.15, 0.38) * systole)
    wall = heart.wall * (1 - 0.3 * depth ** 2) * (1 + 0.45 * systole)
    centre = tuple(c + rng.normal(0, 2) - 5 * depth * d
                   for c, d in zip(heart.centre, (np.cos(heart.septum), np.sin(heart.septum))))
    aspect = rng.uniform(0.86, 1.0)
    endocardium = Curve(centre, radius / np.sqrt(aspect), radius * np.sqrt(aspect), rng.uniform(0, np.pi),
                        *_wobble(rng, 0.025, 5))
    return Slice(depth, endocardium, endocardium.grown(wall))


def _wobble(rng: np.random.Generator, size: float, orders: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fourier coefficients of orders 2 and up that fall with the order, as (cosines, sines)."""
    sizes = size / np.arange(1, orders + 1)
    return tuple(rng.normal(0, sizes)), tuple(rng.normal(0, sizes))


def _smooth(rng: np.random.Generator, cells: int) -> np.ndarray:
    """A random field [256, 256] of standard deviation about 1 that changes over 256 / cells pixels."""
    first, weights = _splines(cells)
    coarse = rng.standard_normal((cells + 3, cells + 3), np.float32)
    # Four sums rather than a product of matrices, which would start BLAS's threads thousands of times.
    rows = sum(weight[:, None] * coarse[first + k] for k, weight in enumerate(weights))
    return sum(weight * rows.take(first + k, axis=1) for k, weight in enumerate(weights))


@functools.cache
def _splines(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each pixel the first of the four cubic B-splines that reach it, and their values, [256] and [4, 256].

    Scaled so that independent coefficients of standard deviation 1 give values of standard deviation 1.
    """
    first, t = np.divmod(np.arange(SIZE) * cells / SIZE, 1)
    weights = np.stack([(1 - t) ** 3, 3 * t ** 3 - 6 * t ** 2 + 4, -3 * t ** 3 + 3 * t ** 2 + 3 * t + 1, t ** 3])
    return first.astype(int), (weights / np.sqrt(np.square(weights).sum(0))).astype(np.float32)


def _paint_body(rng: np.random.Generator, canvas: Canvas, heart: Heart) -> None:
    """Fat, muscle, ribs, lungs with vessels, and what lies below the diaphragm."""
    muscle = rng.uniform(7, 12)
    canvas.paint(heart.body, heart.fat * (1 + 0.1 * _smooth(rng, 16)))
    chest = dataclasses.replace(heart.body.grown(-heart.skin), angle=heart.body.angle + rng.normal(0, 0.06))
    canvas.paint(chest, rng.uniform(0.25, 0.4) + 0.1 * _smooth(rng, 24))
    for angle in np.arange(0, 2 * np.pi, rng.uniform(0.13, 0.2)):  # marrow of the ribs, fat between the muscles
        canvas.paint(Curve(chest.at(rng.uniform(0.9, 1), angle), rng.uniform(3, 14), rng.uniform(1, 3),
                           angle + heart.body.angle + np.pi / 2 + rng.normal(0, 0.2)), rng.uniform(0.1, 1.2))
    cavity = chest.grown(-muscle)
    canvas.paint(cavity, heart.lung * np.exp(0.35 * _smooth(rng, 9) + 0.25 * _smooth(rng, 40)))
    inside = cavity.coverage(canvas.x, canvas.y, canvas.spacing)
    for _ in range(rng.integers(30, 80)):  # vessels of the lungs
        canvas.paint(Curve((rng.uniform(-150, 150), rng.uniform(-130, 60)), *rng.uniform(0.7, 2.2, 2),
                           rng.uniform(0, np.pi)), rng.uniform(0.15, 0.7), inside)
    if rng.uniform() < 0.6:  # fat about the breast bone
        _blob(rng, canvas, cavity.at(0.93, rng.normal(-0.5, 0.15)), (8, 22), heart.fat * rng.uniform(0.3, 0.9), inside)

    dome = heart.centre[1] + heart.radius + heart.wall + rng.uniform(2, 16)
    top, tilt = heart.centre[0] - rng.uniform(20, 70), rng.uniform(-0.12, 0.22)
    surface = dome + tilt * (canvas.x - heart.centre[0]) + (canvas.x - top) ** 2 / rng.uniform(500, 1200)
    below = np.clip((canvas.y - surface) / canvas.spacing + 0.5, 0, 1) * inside
    canvas.grey += below * (heart.liver * (1 + 0.07 * _smooth(rng, 12) + 0.05 * _smooth(rng, 50)) - canvas.grey)
    for _ in range(rng.integers(2, 7)):  # vessels of the liver
        _blob(rng, canvas, (rng.uniform(-130, -20), dome + rng.uniform(15, 70)), (1.5, 5), rng.uniform(0.5, 0.9), below)
    _paint_abdomen(rng, canvas, heart, dome, below)


def _paint_abdomen(rng: np.random.Generator, canvas: Canvas, heart: Heart, dome: float, below: np.ndarray) -> None:
    """Fat with loops of bowel, stomach, spleen, kidney, and the aorta: a bright disc that is no ventricle."""
    fat, middle = heart.fat * rng.uniform(0.35, 0.7), (rng.uniform(-10, 60), dome + rng.uniform(70, 90))
    _blob(rng, canvas, middle, (60, 90), fat * (1 + 0.25 * _smooth(rng, 20)), below)
    for _ in range(rng.integers(9, 20)):
        middle, size = (rng.uniform(-110, 120), dome + rng.uniform(45, 120)), rng.uniform(8, 19)
        loop = Curve(middle, size, size * rng.uniform(0.6, 1), rng.uniform(0, np.pi), *_wobble(rng, 0.12, 4))
        canvas.paint(loop, rng.uniform(0.1, 0.4), below)
        canvas.paint(loop.grown(-rng.uniform(2, 4)), rng.uniform(0.05, 1.0), below)
    _blob(rng, canvas, (rng.uniform(75, 110), dome + rng.uniform(20, 45)), (18, 34), rng.uniform(0.35, 0.6), below)
    stomach = Curve((rng.uniform(0, 70), dome + rng.uniform(25, 50)), rng.uniform(18, 38), rng.uniform(13, 25),
                    rng.uniform(-0.6, 0.6), *_wobble(rng, 0.1, 4))
    canvas.paint(stomach, rng.uniform(0.25, 0.4), below)  # its wall
    canvas.paint(stomach.grown(-3), rng.choice([0.06, 0.45, 0.9]) * rng.uniform(0.8, 1.2), below)
    kidney = Curve((rng.uniform(-90, 90), dome + rng.uniform(65, 100)), *rng.uniform(15, 25, 2), rng.uniform(0, np.pi))
    canvas.paint(kidney, rng.uniform(0.55, 0.8), below)
    canvas.paint(kidney.grown(-8), rng.uniform(0.35, 0.9), below)
    size = rng.uniform(9, 14)
    aorta = Curve((heart.centre[0] + rng.uniform(-10, 55), dome + rng.uniform(8, 40)), size, size * rng.uniform(0.9, 1))
    canvas.paint(aorta.grown(2.5), 0.3)
    canvas.paint(aorta, rng.uniform(0.85, 1.1))


def _blob(rng, canvas: Canvas, middle: tuple[float, float], sizes: tuple[float, float], level, within=None) -> None:
    canvas.paint(Curve(middle, *rng.uniform(*sizes, 2), rng.uniform(0, np.pi), *_wobble(rng, 0.08, 4)), level, within)


def _paint_heart(rng: np.random.Generator, canvas: Canvas, heart: Heart, at: Slice) -> None:
    """Fat about the heart, right ventricle, great vessels near the base, left ventricle with papillary muscles."""
    left = at.epicardium
    mean = np.sqrt(left.width * left.height)
    size = mean * heart.right * (1.08 - 0.75 * at.depth ** 2)
    toward = np.array([np.cos(heart.septum), np.sin(heart.septum)])
    right = Curve(tuple(left.centre + toward * mean * rng.uniform(0.6, 0.75) * (1 - 0.15 * at.depth)),
                  size * rng.uniform(0.85, 1.05), size * rng.uniform(0.95, 1.2), heart.septum + rng.normal(0, 0.15),
                  *_wobble(rng, 0.06, 4))
    fat = heart.lung + heart.fat * rng.uniform(0.2, 0.7) * np.clip(0.5 + 0.6 * _smooth(rng, 10), 0, 1)
    blood = 1 + 0.07 * _smooth(rng, 28)
    for part, rim in ((right, rng.uniform(4, 9)), (left, rng.uniform(1.5, 5))):
        canvas.paint(part.grown(rim), fat)
    canvas.paint(right.grown(rng.uniform(1.5, 3)), heart.myocardium)
    canvas.paint(right, rng.uniform(0.85, 1.1) * blood)
    _trabeculae(rng, canvas, right, rng.integers(3, 16), (0.55, 1.02), heart.myocardium,
                right.coverage(canvas.x, canvas.y, canvas.spacing))
    if at.depth < 0.3:  # outflow tract, ascending aorta, right atrium
        for _ in range(rng.integers(1, 4)):
            away = heart.septum + rng.uniform(0.5, 1.5)
            vessel = Curve(tuple(left.centre + (mean + rng.uniform(5, 14)) * np.array([np.cos(away), np.sin(away)])),
                           *rng.uniform(9, 15, 2), rng.uniform(0, np.pi))
            canvas.paint(vessel.grown(2.5), heart.myocardium)
            canvas.paint(vessel, rng.uniform(0.85, 1.1) * blood)
    canvas.paint(left, heart.myocardium * (1 + 0.08 * _smooth(rng, 24)))
    pool = at.endocardium
    canvas.paint(pool, blood)
    inside = pool.coverage(canvas.x, canvas.y, canvas.spacing)
    radius = np.sqrt(pool.width * pool.height)
    if at.depth > 0.15:
        for side in (2.2, 4.1):  # the two papillary muscles, away from the septum
            where = pool.at(rng.uniform(0.55, 0.82), heart.septum - pool.angle + side + rng.normal(0, 0.25))
            _blob(rng, canvas, where, (0.09 * radius, 0.21 * radius), rng.uniform(1, 1.4) * heart.myocardium, inside)
    _trabeculae(rng, canvas, pool, rng.integers(3, 16), (0.85, 1.02), heart.myocardium, inside)


def _trabeculae(rng: np.random.Generator, canvas: Canvas, pool: Curve, count: int, where: tuple[float, float],
                level: float, inside: np.ndarray) -> None:
    """Strands of muscle that point to the middle of a ventricle and count as its inside."""
    for angle in rng.uniform(0, 2 * np.pi, count):
        strand = Curve(pool.at(rng.uniform(*where), angle), rng.uniform(1.5, 5), rng.uniform(0.6, 1.8),
                       pool.angle + angle + rng.normal(0, 0.5))
        canvas.paint(strand, rng.uniform(1, 1.8) * level, inside)


def _scan(rng: np.random.Generator, canvas: Canvas, heart: Heart) -> np.ndarray:
    """What the scanner makes of it: texture, shading by the coil, blur, Rician noise, field of view. uint8."""
    from scipy import ndimage
    texture = 0.05 * _smooth(rng, 64) + 0.04 * _smooth(rng, 20)
    front = heart.body.angle + rng.normal(0, 0.3)
    nearer = (canvas.x - heart.centre[0]) * math.cos(front) + (canvas.y - heart.centre[1]) * math.sin(front)
    shading = np.exp(heart.shading * np.minimum(nearer / 100, 1.2) + 0.12 * _smooth(rng, 3))
    signal = ndimage.gaussian_filter(canvas.grey * (1 + texture) * shading, rng.uniform(0.5, 0.95))
    real, imaginary = heart.noise * rng.standard_normal((2, SIZE, SIZE), np.float32)
    signal = np.hypot(signal + real, imaginary)
    brightest = np.percentile(signal, 99.7) * rng.uniform(0.9, 1.25)
    return np.round(255 * np.clip(signal / brightest, 0, 1) * _field_of_view(rng, canvas, heart)).astype(np.uint8)


def _field_of_view(rng: np.random.Generator, canvas: Canvas, heart: Heart) -> np.ndarray:
    """1 where the scanner reports a signal, in the shapes its correction of distorted gradients leaves."""
    x, y = canvas.x / canvas.spacing, canvas.y / canvas.spacing  # pixels
    if heart.view == 'circle':
        return np.hypot(x - rng.uniform(-12, 12), y - rng.uniform(-12, 12)) < rng.uniform(92, 118)
    if heart.view == 'pincushion':
        return np.abs(x) < rng.uniform(112, 122) + rng.uniform(8, 20) * (y / 128) ** 2
    return np.ones((SIZE, SIZE), bool)
