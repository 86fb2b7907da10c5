"""Images and videos of coloured shapes with five captions each, drawn without a download.

What is in them and what may be said of it is `tasks.text.shape_grammar`; here it is drawn: with shapes a little off the
middle of their cells, turned, of varying size and shade, before an uneven background, under noise.
"""

import hashlib
import json
import math
import random

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

from . import shape_grammar

SIZES = {'still': 64, 'moving': 48}  # pixels
FRAMES = 8
EXAMPLES = {'still': {'train': 8000, 'validation': 500, 'test': 500},
            'moving': {'train': 3000, 'validation': 500, 'test': 500}}
_SHARES = ('validation', 'test', *['train'] * 8)  # of all scenes
_SEED = 2014
_SUPERSAMPLING = 4
_COLOURS = {'blue': (45, 85, 235), 'green': (35, 175, 60), 'purple': (165, 50, 200), 'red': (225, 40, 40),
            'white': (240, 240, 240), 'yellow': (240, 215, 40)}
# Circumradius in cells, before _EXTENTS, which gives all kinds of shapes about the same area.
_RADII = {'small': 0.21, 'large': 0.33}
_EXTENTS = {'circle': 0.95, 'cross': 1.1, 'square': 1.15, 'star': 1.25, 'triangle': 1.25}
# In cells, either way: shapes of one row stay within 0.28 of one another, those of different rows 0.72 apart.
_JITTER = 0.14


class ShapeScenes(tfds.core.GeneratorBasedBuilder):
    """One to three coloured shapes on 3x3 places, and true sentences about them in a language small enough to check.

    No scene is in two splits: a hash of what is in it, jitter and the drawing's chance apart, decides where it belongs.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name='still', description='Images of 64x64 pixels, five captions each.'),
        tfds.core.BuilderConfig(name='moving', description='Videos of 8 frames of 48x48 pixels, five captions each.'),
        tfds.core.BuilderConfig(name='tags', description='The images of still, with one caption, all labels: '
                                                         "'blue circle red square'."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        name = self.builder_config.name
        size = SIZES[_kind(name)]
        if name == 'moving':
            images = {'video': tfds.features.Video(shape=(FRAMES, size, size, 3))}
        else:
            images = {'image': tfds.features.Image(shape=(size, size, 3))}
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict({
                **images, 'captions': tfds.features.Sequence(tfds.features.Text()),
                'scene': tfds.features.Text()}),
            supervised_keys=(next(iter(images)), 'captions'),
            metadata=tfds.core.MetadataDict(grammar='shape_tags' if name == 'tags' else 'shape_scenes'))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in EXAMPLES[_kind(self.builder_config.name)]}

    def _generate_examples(self, split: str):
        """Yields (number, example)."""
        name = self.builder_config.name
        for index in range(EXAMPLES[_kind(name)][split]):
            yield index, example(name, split, index)


def example(name: str, split: str, index: int) -> dict:
    """Returns one example, the same whenever it is asked for.

    Args:
      name: of the configuration: 'still', 'moving' or 'tags'.
      split: 'train', 'validation' or 'test'.
      index: 0 to the number of examples - 1.

    Returns:
      'image' uint8 [64, 64, 3], or 'video' uint8 [8, 48, 48, 3]; 'captions' a list of str; 'scene' str, JSON of what
      `shape_grammar` calls a scene.
    """
    kind = _kind(name)
    if not 0 <= index < EXAMPLES[kind][split]:
        raise IndexError(f'{split} of {name} has no example {index}')
    generator = random.Random(f'{_SEED} {kind} {split} {index}')
    scene = shape_grammar.draw_scene(generator, moving=kind == 'moving')
    while split_of(scene) != split:
        scene = shape_grammar.draw_scene(generator, moving=kind == 'moving')
    captions = [shape_grammar.tags(scene)] if name == 'tags' else shape_grammar.describe(scene, generator)
    drawn = draw(scene, SIZES[kind], FRAMES if kind == 'moving' else 1,
                 np.random.default_rng((_SEED, *split.encode(), index)))
    images = {'video': drawn} if kind == 'moving' else {'image': drawn[0]}
    return {**images, 'captions': captions, 'scene': json.dumps(scene)}


def split_of(scene: shape_grammar.Scene) -> str:
    """Returns the one split that a scene may be in."""
    key = sorted(json.dumps(shape, sort_keys=True) for shape in scene['shapes'])
    return _SHARES[hashlib.md5(''.join(key).encode()).digest()[0] % len(_SHARES)]


def draw(scene: shape_grammar.Scene, size: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a scene.

    Args:
      scene: what is in it.
      size: height and width in pixels.
      frames: those of a video, from the first place of what moves to the last one; 1 for an image.
      rng: where chance comes from.

    Returns:
      uint8 [frames, size, size, 3].
    """
    ground = background(size, rng)
    looks = [_Look(rng, shape) for shape in scene['shapes']]
    images = np.repeat(ground[None], frames, 0)
    for frame, image in enumerate(images):
        for look in looks:
            weight = look.coverage(size, frame / max(1, frames - 1))[..., None]
            image += weight * (look.colour - image)
    grain = rng.uniform(1, 6) * rng.standard_normal((frames, size, size, 1), np.float32)
    grain = grain + 2 * rng.standard_normal((frames, size, size, 3), np.float32)
    return np.clip(np.round(images + grain), 0, 255).astype(np.uint8)


class _Look:
    """How one shape is drawn: the same in every frame.

    Args:
      rng: where chance comes from.
      shape: of a scene.

    Attributes:
      colour: float32 [3], 0 to 255.
    """

    def __init__(self, rng: np.random.Generator, shape: dict):
        self._kind = shape['shape']
        rows, columns = shape_grammar.MOTIONS[shape['motion']] if shape['motion'] else (0, 0)
        self._first = tuple(shape[axis] + 0.5 + rng.uniform(-_JITTER, _JITTER) for axis in ('column', 'row'))
        self._way = columns, rows
        self._radius = _RADII[shape['size']] * _EXTENTS[self._kind] * rng.uniform(0.93, 1.07)
        self._angle = rng.normal(0, 0.12)
        colour = np.array(_COLOURS[shape['colour']]) * rng.uniform(0.85, 1.05) + rng.normal(0, 6, 3)
        self.colour = np.clip(colour, 0, 255).astype(np.float32)

    def coverage(self, size: int, done: float) -> np.ndarray:
        """Returns what share of each pixel it covers, float32 [size, size], when a share `done` of its way is."""
        mask = Image.new('L', (size * _SUPERSAMPLING,) * 2)
        pencil, cell = ImageDraw.Draw(mask), mask.width / shape_grammar.CELLS
        x, y = ((first + way * done) * cell for first, way in zip(self._first, self._way))
        radius = self._radius * cell
        if self._kind == 'circle':
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        else:
            pencil.polygon([(x + radius * r * math.sin(t + self._angle), y - radius * r * math.cos(t + self._angle))
                            for r, t in corners(self._kind)], fill=255)
        return np.asarray(mask.reduce(_SUPERSAMPLING), np.float32) / 255


def corners(kind: str) -> list[tuple[float, float]]:
    """Returns the corners of a shape as (distance, angle clockwise from the top), the farthest at distance 1."""
    if kind == 'cross':
        arm = 0.36  # half of its width, for a length of 1
        inner, outer, turn = arm * math.sqrt(2) / math.hypot(1, arm), 1.0, math.atan(arm)
        return [corner for quarter in range(4) for corner in (
            (outer, quarter * math.pi / 2 - turn), (outer, quarter * math.pi / 2 + turn),
            (inner, quarter * math.pi / 2 + math.pi / 4))]
    if kind == 'star':
        return [(1.0 if i % 2 == 0 else 0.42, i * math.pi / 5) for i in range(10)]
    count = {'square': 4, 'triangle': 3}[kind]
    turn = math.pi / 4 if kind == 'square' else 0
    return [(1.0, turn + 2 * math.pi * i / count) for i in range(count)]


def background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a dark, slightly tinted, uneven ground, float32 [size, size, 3]."""
    coarse = rng.uniform(25, 95) + rng.normal(0, 12, (4, 4, 1)) + rng.normal(0, 5, (4, 4, 3)) + rng.normal(0, 5, 3)
    image = Image.fromarray(np.clip(coarse, 5, 125).astype(np.uint8))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _kind(name: str) -> str:
    """Returns the configuration whose images are those of another."""
    return 'moving' if name == 'moving' else 'still'
