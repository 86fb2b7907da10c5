"""Examples of a set as pictures: as the network gets them, and as the train step changes them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ... import tasks
from ...common.vocabulary import Vocabulary
from ...input_pipeline import augmentation, checks, mixing, preprocessing, sources
from ...input_pipeline.batches import TrainBatches
from ...tasks import TASKS, box_drawing, overlays
from ...training.step import prepare_batch
from .. import images
from .classes import Classes
from .data_sets import DataSet, read_sound
from .survey import Pixels, Survey

# How many examples are shown augmented, and in how many versions each.
_AUGMENTED = {'image': (10, 7), 'masks': (6, 5), 'boxes': (6, 3), 'captions': (8, 6), 'video': (4, 2)}
MOST_GROUPS = 24
_OF_ONE_CLASS = 48
_ROOM = {'image': 100, 'masks': 24, 'boxes': 18, 'captions': 24, 'video': 12}  # pictures on the page
_LONGEST_SIDE = 320  # pixels of one
_EMPTY = {'objects': 'no object', 'pixels': 'background alone', 'examples': 'none of them'}


@dataclasses.dataclass
class Tile:
    """One picture, or several of one example.

    Attributes:
      pictures: see `images.embed`.
      lines: texts below.
      title: what is known of the example.
    """
    pictures: list[dict[str, Any]]
    lines: list[str] = dataclasses.field(default_factory=list)
    title: str = ''


@dataclasses.dataclass
class Group:
    """Examples of one class.

    Attributes:
      title: the class; '' where there are none.
      places: int [n], the examples that are drawn of their set.
      total: how many there are of the class.
      tiles, sound: of them, and which those are, since some may be damaged.
    """
    title: str
    places: np.ndarray
    total: int
    tiles: list[Tile] = dataclasses.field(default_factory=list)
    sound: list[int] = dataclasses.field(default_factory=list)


def kind_of(source: Any, features: Any) -> str:
    """Returns what pictures of examples show: 'masks', 'boxes', 'captions', 'video' or 'image'."""
    for kind, there in (('video', source.frames != 1), ('masks', 'segmentation_mask' in features),
                        ('boxes', 'boxes' in features), ('captions', 'captions' in features)):
        if there:
            return kind
    return 'image'


def choose(found: Survey, classes: Classes | None, chosen: str, kind: str, seed: int) -> list[Group]:
    """Returns which examples are shown, some of each class, drawn from the seed.

    Args:
      found: what a look at the set has found.
      classes: of the set, or None.
      chosen: the class of which all are, or ''.
      kind: see `kind_of`.
      seed: of the experiment.

    Raises:
      UserError: no such class.
    """
    if classes is None:
        return [Group('', drawn(found.indices, kind, seed), len(found.indices))]
    if chosen:
        number = classes.number(chosen)
        places = classes.places(number)
        return [Group(chosen, drawn(places, kind, seed, 1 + number), len(places))]
    room = _ROOM[kind]
    numbers = [number for number in range(classes.first, len(classes.names)) if classes.shown_in[number]]
    numbers = numbers[:MOST_GROUPS]
    each = min(20, max(3, room // max(1, len(numbers)))) if len(numbers) > 1 else room * 3 // 4
    groups = []
    for number in numbers:
        places = classes.places(number)
        groups.append(Group(classes.names[number], drawn(places, kind, seed, 1 + number)[:each], len(places)))
    empty = classes.empty_places()
    if len(empty):
        groups.append(Group(_EMPTY[classes.unit], drawn(empty, kind, seed)[:max(3, each // 3)], len(empty)))
    return groups


def drawn(places: np.ndarray, kind: str, seed: int, stream: int = 0) -> np.ndarray:
    """Returns as many of some examples as there is room for, int [n], drawn from the seed."""
    generator = np.random.Generator(np.random.Philox(key=[seed, stream]))
    return generator.permutation(places)[:min(_ROOM[kind], _OF_ONE_CLASS)]


class Display:
    """Turns what the network gets back into pictures.

    Args:
      image: config.image.
      pixels: of the set.

    Attributes:
      note: what a viewer must know of it, or ''.
    """

    def __init__(self, image: ConfigDict, pixels: Pixels):
        self._mean, self._std = np.asarray(image.mean, np.float32), np.asarray(image.std, np.float32)
        self._low, self._high = 0.0, 1.0
        notes = []
        if image.local_mean:
            self._high = max(1.0, min(2.5, pixels.high))
            notes.append(f'divided by the brightness around (config.image.local_mean = {image.local_mean}), white is '
                         f'{self._high:.3g} times that')
        elif pixels.low < checks.LOWEST or pixels.high > checks.HIGHEST:
            self._low, self._high = pixels.low, pixels.high
            notes.append(f'values from {pixels.low:.4g} (black) to {pixels.high:.4g} (white)')
        after = [field for field in ('samplewise_center', 'samplewise_std', 'zca_epsilon') if image[field]]
        if after:
            notes.append(f'as they are before {" and ".join(f"config.image.{field}" for field in after)}')
        self._channels = 3 if image.channels >= 3 else 1
        if image.channels not in (1, 3):
            notes.append(f'of {image.channels} channels the first{" three" if self._channels == 3 else ""} '
                         f'{"are" if self._channels == 3 else "is"} shown')
        self.note = '; '.join(notes)

    def __call__(self, prepared: np.ndarray) -> np.ndarray:
        """Returns uint8 [..., 1 or 3] of images as they go into the network, float32 [..., channels]."""
        values = np.asarray(prepared, np.float32) * self._std + self._mean
        return self.scaled(values[..., :self._channels])

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Returns uint8 of values before mean and std."""
        shares = (values[..., :self._channels] - self._low) / (self._high - self._low)
        return np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def draw_groups(groups: Sequence[Group], data_set: DataSet, display: Display, kind: str) -> None:
    """Gives groups their tiles: examples as the network gets them where nothing is augmented."""
    prepare = preprocessing.build(preprocessing.unstandardised(data_set.image))
    vocabulary = _vocabulary(data_set.source)
    for group in groups:
        for begin in range(0, len(group.places), 16):
            places = group.places[begin:begin + 16]
            examples, places, _ = read_sound(data_set.source, places)
            if examples is None:
                continue
            shown = display(prepare({'image': examples['image']}, None)['image'])
            for row, facts in enumerate(data_set.source.describe(places)):
                example = {name: values[row] for name, values in examples.items()}
                group.sound.append(int(places[row]))
                group.tiles.append(Tile(_pictures(shown[row], example, data_set, kind, beside=True),
                                        _lines(example, facts, vocabulary), _title(facts, places[row])))


def tile(data_set: DataSet, place: int, display: Display) -> Tile:
    """Returns one example without what is drawn on it, and its class."""
    examples = data_set.source.read(np.array([place]))
    prepare = preprocessing.build(preprocessing.unstandardised(data_set.image))
    shown = display(prepare({'image': examples['image']}, None)['image'])[0]
    names = data_set.source.info.class_names
    lines = [names[int(examples['label'][0])]] if names and 'label' in examples else []
    frame = shown[len(shown) // 2] if shown.ndim == 4 else shown
    return Tile([picture(frame)], lines, _title(data_set.source.describe(np.array([place]))[0], place))


def is_augmented(config: ConfigDict) -> bool:
    """Whether the training of a config changes its examples at random."""
    off = augmentation.DEFAULTS
    fields = {name: config.augment[name] for name in off if name not in ('fill', 'rand_augment_magnitude',
                                                                        'mix_probability')}
    return not config.cached_features.endpoint and (
        bool(config.data.random_resized_crop) or any(value != off[name] for name, value in fields.items())
        or bool(task_noise(config)))


def task_noise(config: ConfigDict) -> dict[str, Any]:
    """Returns the fields of config.task that change images at random, such as the noise of denoising."""
    kind = TASKS.get(config.task.name)
    names = () if kind is None else kind.noise_fields
    return {f'task.{name}': config.task[name] for name in names if config.task.get(name)}


def augmentations(config: ConfigDict) -> dict[str, Any]:
    """Returns what changes examples at random: fields of config.augment that differ from their defaults, and others."""
    found = {f'augment.{name}': config.augment[name] for name, off in augmentation.DEFAULTS.items()
             if config.augment[name] != off}
    area = config.data.random_resized_crop
    return found | ({'data.random_resized_crop': list(area)} if area else {}) | task_noise(config)


def augmented(config: ConfigDict, data_set: DataSet, places: np.ndarray, versions: int
              ) -> tuple[dict[str, np.ndarray], list[dict[str, Any]], list[dict[str, np.ndarray]]]:
    """Returns examples as the train step changes them: its own functions do it, with the keys of its first steps.

    Args:
      config: of the experiment.
      data_set: the training set.
      places: int [n], examples of the set, which are a batch.
      versions: how many steps.

    Returns:
      The batch as a source gives it, what is known of its examples, and the batches of the steps as the model gets
      them.
    """
    source = data_set.source
    if config.data.random_resized_crop:
        source = sources.open_split(config.data, config.image, config.data.train, training=True)
        places = places[places < len(source)]
    prepare = preprocessing.build(preprocessing.unstandardised(config.image), config.augment)
    mix = mixing.build(config.augment)
    task = tasks.build(config.task, source.info) if task_noise(config) else None
    seed, rows = np.uint32(config.seed), np.arange(len(places))

    @jax.jit
    def step(number: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), number)
        batch = prepare_batch(prepare, mix, key, batch, rows)
        if task is not None:
            batch['image'] = task.given(batch['image'], batch | {'rng': jax.random.split(key, len(places))})
        return batch

    batches = TrainBatches(source, len(places), config.seed)
    found = []
    for number in range(versions):
        batch = source.read(places, batches.uniforms(number) if source.needs_rng else None)
        found.append(jax.device_get(step(np.int32(number), batch)))
    return source.read(places), source.describe(places), found


def draw_augmented(config: ConfigDict, data_set: DataSet, found: Survey, groups: Sequence[Group], display: Display,
                   kind: str) -> list[tuple[Tile, list[Tile]]]:
    """Returns a tile of each of some examples, and tiles of what training makes of it."""
    most, versions = _AUGMENTED[kind]
    places = _first_places(groups, most)
    shown = len(places)
    if mixing.build(config.augment) is not None:  # with whom they are mixed is not a matter of their class
        others = drawn(found.indices, kind, config.seed)[:shown]
        places = np.concatenate([places, others])
    originals, facts, steps = augmented(config, data_set, places, versions)
    prepare = preprocessing.build(preprocessing.unstandardised(data_set.image))
    plain = display(prepare({'image': originals['image']}, None)['image'])
    changed = [display(step['image']) for step in steps]
    names = data_set.source.info.class_names
    rows = []
    for row, known in enumerate(facts[:shown]):
        example = {name: values[row] for name, values in originals.items()}
        lines = [names[int(example['label'])]] if names and 'label' in example else []
        original = Tile(_pictures(plain[row], example, data_set, kind), lines, _title(known, places[row]))
        made = []
        for pixels, step in zip(changed, steps):
            new = {name: values[row] for name, values in step.items()}
            made.append(Tile(_pictures(pixels[row], new, data_set, kind), _shares(new, names)))
        rows.append((original, made))
    return rows


def picture(pixels: np.ndarray) -> dict[str, Any]:
    """Returns pixels, uint8 [height, width, 1 or 3], for a page; large ones are made smaller."""
    from PIL import Image
    if max(pixels.shape[:2]) > _LONGEST_SIDE:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
    # Few pixels are seen one by one, and a kilobyte of them is exact.
    return images.embed_pixels(pixels, lossless=max(pixels.shape[:2]) <= 96)


def _pictures(pixels: np.ndarray, example: dict[str, Any], data_set: DataSet, kind: str, *, beside: bool = False
              ) -> list[dict[str, Any]]:
    """Returns the pictures of one example; with `beside` the image alone, too, where a mask is drawn on it."""
    if kind == 'video':
        last = len(pixels) - 1
        return [picture(pixels[frame]) for frame in sorted({0, last // 2, last})]
    if kind == 'masks':
        mask = np.asarray(example['segmentation_mask'])
        drawn = overlays.overlay(pixels, truth=mask, side=_LONGEST_SIDE, line=1 if max(mask.shape) > 160 else 2)
        return [picture(pixels)] * beside + [picture(drawn)]
    if kind == 'boxes':
        there = np.asarray(example['box_labels']) >= 0
        drawn = box_drawing.draw_boxes(pixels, np.asarray(example['boxes'])[there],
                                       np.asarray(example['box_labels'])[there].tolist(),
                                       class_names=data_set.source.info.class_names, side=_LONGEST_SIDE)
        return [picture(drawn)]
    return [picture(pixels)]


def _first_places(groups: Sequence[Group], most: int) -> np.ndarray:
    """Returns the first example of every group, then the second ones, up to so many in all."""
    longest = max((len(group.sound) for group in groups), default=0)
    in_turn = [group.sound[turn] for turn in range(longest) for group in groups if turn < len(group.sound)]
    return np.array(list(dict.fromkeys(in_turn))[:most], np.int64)


def _lines(example: dict[str, Any], facts: dict[str, Any], vocabulary: Vocabulary | None) -> list[str]:
    lines = list(map(str, facts.get('captions', ())))
    if not lines and vocabulary is not None and 'captions' in example:
        lines = [vocabulary.decode(caption.tolist()) for caption in example['captions']]
    if 'y' in example:
        lines.append('y = ' + ', '.join(f'{value:.4g}' for value in np.ravel(example['y'])[:4]))
    return lines


def _shares(example: dict[str, Any], names: Sequence[str] | None) -> list[str]:
    """Returns of which classes a mixed image is."""
    if 'mix' not in example or not names or example['mix'] >= 1 - 1e-6:
        return []
    share = float(example['mix'])
    return [f'{100 * share:.0f} % {names[int(example["label"])]}',
            f'{100 * (1 - share):.0f} % {names[int(example["mixed_label"])]}']


def _title(facts: dict[str, Any], place: int) -> str:
    return str(facts.get('file', f'example {int(place):,}'))


def _vocabulary(source: Any) -> Vocabulary | None:
    return None if source.info.vocabulary is None else Vocabulary.from_meta(source.info.vocabulary)
