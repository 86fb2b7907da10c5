"""Images of shapes and the boxes around them, for detectors: drawn without a download."""

import functools
import math

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

from . import shape_scenes

SIZE = 128  # pixels, height and width
CLASSES = ('circle', 'square', 'triangle')
EXAMPLES = {'train': 1500, 'validation': 300, 'test': 400}
MOST = 6  # shapes of an image
SIDES = 10, 56  # pixels, the longer side of a shape's box
_SEED = 2016
_EMPTY = 0.05  # share of images without shapes
_TURN = math.radians(15)  # either way
_MOST_HIDDEN = 0.5  # share of a shape that others may cover
_LEAST_CONTRAST = 45  # of the most different channel, 0 to 255: nobody can outline what cannot be seen
_VISIBLE = 0.25  # share of a pixel, from which on it belongs to a shape's box
_TRIES = 20  # places for a shape before it is given up
_SUPERSAMPLING = 4


class ShapeBoxes(tfds.core.GeneratorBasedBuilder):
    """Up to six circles, squares and triangles of any colour and 10 to 56 pixels, on uneven ground under noise.

    They may cover one another, but none by more than half; the later ones lie on top. A box is that of the visible
    pixels. One image in twenty has no shape.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict({
                'image': tfds.features.Image(shape=(SIZE, SIZE, 3)),
                'objects': tfds.features.Sequence({
                    'bbox': tfds.features.BBoxFeature(),
                    'label': tfds.features.ClassLabel(names=CLASSES)})}),
            supervised_keys=('image', 'objects'))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in EXAMPLES}

    def _generate_examples(self, split: str):
        """Yields (number, example)."""
        for index in range(EXAMPLES[split]):
            image, boxes, labels = example(split, index)
            yield index, {'image': image, 'objects': [
                {'bbox': tfds.features.BBox(*(boxes[i, [1, 0, 3, 2]] / SIZE).tolist()), 'label': CLASSES[labels[i]]}
                for i in range(len(labels))]}


def example(split: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns one example, the same whenever it is asked for.

    Args:
      split: a key of EXAMPLES.
      index: 0 to the number of examples - 1.

    Returns:
      The image, uint8 [128, 128, 3]; boxes, float32 [n, 4], left, top, right, bottom in pixels, 0 <= n <= 6; their
      classes, int32 [n], as in CLASSES.
    """
    if not 0 <= index < EXAMPLES[split]:
        raise IndexError(f'{split} has no example {index}')
    rng = np.random.default_rng((_SEED, *split.encode(), index))
    image = shape_scenes.background(SIZE, rng)
    image = 255 - image if rng.random() < 0.5 else image
    colours = [image.mean((0, 1))]
    visible, areas, labels = [], [], []  # of each shape: what share of each pixel is seen; pixels of all of it
    for _ in range(0 if rng.random() < _EMPTY else rng.integers(1, MOST + 1)):
        label = int(rng.integers(len(CLASSES)))
        placed = _place(rng, label, visible, areas)
        if placed is None:
            continue
        part, coverage = placed
        for seen in visible:
            seen[part] *= 1 - coverage
        visible.append(np.zeros((SIZE, SIZE), np.float32))
        visible[-1][part] = coverage
        areas.append(coverage.sum())
        labels.append(label)
        colours.append(_colour(rng, colours))
        image[part] += coverage[..., None] * (colours[-1] - image[part])
    grain = rng.uniform(1, 6) * rng.standard_normal((SIZE, SIZE, 1), np.float32)
    grain = grain + 2 * rng.standard_normal((SIZE, SIZE, 3), np.float32)
    boxes = np.asarray([_box(seen) for seen in visible], np.float32).reshape(-1, 4)
    return np.clip(np.round(image + grain), 0, 255).astype(np.uint8), boxes, np.asarray(labels, np.int32)


def _place(rng: np.random.Generator, label: int, visible: list[np.ndarray], areas: list[float]
           ) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Returns the part of the image that a new shape lies in, and what share of each pixel there it covers.

    None: it would hide another one by more than it may, wherever it was tried.
    """
    drawn = _draw(CLASSES[label], rng.uniform(*SIDES), rng.uniform(-_TURN, _TURN))
    totals = [seen.sum() for seen in visible]
    for _ in range(_TRIES):
        top, left = rng.integers(0, SIZE - len(drawn) + 1, 2)
        part = slice(top, top + len(drawn)), slice(left, left + len(drawn))
        if all(total - (seen[part] * drawn).sum() >= (1 - _MOST_HIDDEN) * area
               for seen, total, area in zip(visible, totals, areas)):
            return part, drawn
    return None


def _draw(kind: str, side: float, angle: float) -> np.ndarray:
    """Returns what share of each pixel a shape covers, float32 [n, n], in the middle of a square just large enough."""
    pixels = math.ceil(side) + 1
    mask = Image.new('L', (pixels * _SUPERSAMPLING,) * 2)
    points = _outline(kind, angle) * side * _SUPERSAMPLING + mask.width / 2
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points.tolist()], fill=255)
    return np.asarray(mask.reduce(_SUPERSAMPLING), np.float32) / 255


def _outline(kind: str, angle: float) -> np.ndarray:
    """Returns points of a shape whose box has its middle at 0 and a longer side of 1, float64 [points, 2], x and y."""
    corners = _circle() if kind == 'circle' else shape_scenes.corners(kind)
    points = np.array([(r * math.sin(t + angle), -r * math.cos(t + angle)) for r, t in corners])
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / (high - low).max()


@functools.cache
def _circle() -> tuple[tuple[float, float], ...]:
    return tuple((1.0, 2 * math.pi * i / 48) for i in range(48))


def _colour(rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    """Returns a colour, float32 [3], that differs from those of the ground and of other shapes."""
    while True:
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        if all(np.abs(colour - other).max() >= _LEAST_CONTRAST for other in others):
            return colour


def _box(seen: np.ndarray) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of what is seen of a shape."""
    columns, rows = (np.flatnonzero((seen >= _VISIBLE).any(axis)) for axis in (0, 1))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
