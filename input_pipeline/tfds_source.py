"""Data sets prepared by tensorflow-datasets, read without importing TensorFlow where their file format allows it.

Where they lie, see prepared_data.py. tfds itself is imported only when something is not in the decoded cache.
"""

import io
import itertools
import json
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common import interrupt
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from ..common.json_cache import cached_json
from ..common.threads import parallel_map
from . import box_source, images, memory, plain_jpeg
from .prepared_data import prepared_folder
from .shards import Shards
from .source import Examples, Source

_NUMBERS = ('float16', 'float32', 'float64', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32')
_RANDOM_ACCESS = ('array_record',)
_CHUNK = 256  # examples whose boxes are looked at per task


class TfdsSource(Source):
    """One split of a prepared data set of images, or videos, with a label, a mask, numbers, captions or boxes each.

    Which of them is decided by the second of the data set's supervised keys; without those it is 'label', or else
    'captions' or what holds boxes. That is a sequence of {'bbox', 'label'}, as 'objects' of the data sets voc and
    coco, with 'is_crowd' or 'is_difficult' or neither; boxes without area are left out, see `check_boxes`.
    Numbers are a scalar or a vector that is no class label. Captions are texts, or {'text': texts} as in
    coco_captions, and are metadata of the examples. So are other features that are numbers or texts, such as a
    patient's name. A feature `spacing_mm`, the height and width of a pixel, is that of the resized image, and is left
    out where it is 0, unknown. A text `scene` is JSON.

    Args:
      folder: the prepared version, <data_dir>/<name>/<version>.
      split: a whole split.
      size: (height, width) that images are resized to.
      channels: of the images; of the data set's own number only 1 and 3 are made from each other.
      resize: how they get there, see `images.fit`.
      crop_area: smallest and largest share of an image's area that `read` crops, given random numbers; () for whole
        images.
      max_boxes: config.data.max_boxes.

    Raises:
      UserError: no such split, or classes that the data set does not name.
    """

    def __init__(self, folder: Path, split: str, size: tuple[int, int], channels: int, resize: str = 'stretch',
                 crop_area: Sequence[float] = (), max_boxes: int = 100):
        try:
            info = json.loads((folder / 'dataset_info.json').read_text())
        except ValueError as error:
            raise UserError(f'{folder}/dataset_info.json is damaged ({error}): remove {folder} and prepare it '
                            'again') from error
        splits = {s['name']: sum(int(n) for n in s.get('shardLengths', ())) for s in info['splits']}
        if split not in splits:
            raise UserError(f"{info['name']} has no split {split!r}; {nearest(split, list(splits))}")
        self.name = f"{info['name']}/{split}"
        self._folder, self._split, self._length = folder, split, splits[split]
        self._size, self._channels, self._resize = tuple(size), channels, resize
        self._format = info.get('fileFormat', 'tfrecord')
        self.random_access = self._format in _RANDOM_ACCESS
        features = _features(folder)
        self._image_key, self._target_key = _keys(info, features)
        self.has_masks = 'image' in features.get(self._target_key, {})
        self.has_boxes = _object_features(features.get(self._target_key, {})) is not None
        self.has_captions = not self.has_boxes and bool(
            {'text', 'sequence'} & features.get(self._target_key, {}).keys())
        self.frames = _frames(features.get(self._image_key, {}))
        self._metadata_keys = [key for key, feature in features.items()
                               if key not in (self._image_key, self._target_key)
                               and {'text', 'tensor'} & feature.keys()]
        classes = targets = None
        if not self.has_captions:
            targets = _targets(folder, self._target_key, features)
            _check_boxes(self.name, features.get(self._target_key, {}))
            classes = None if targets else tuple(_class_names(folder, self._target_key, features))
        self._has_numbers = targets is not None
        self.info = DatasetInfo.from_json(_metadata(folder)).replace(
            class_names=classes, targets=targets, frames=self.frames or 1,
            input_size=self._size if self.has_boxes else None)
        self._max_boxes = max_boxes
        self._crop_area = tuple(crop_area)
        self.needs_rng = bool(self._crop_area)
        if self.needs_rng and (self.frames != 1 or self.has_masks or self.has_boxes):
            raise UserError(f'config.data.random_resized_crop: {self.name} has videos, masks or boxes, which are not '
                            'cropped; config.augment.zoom and shift crop on the device')
        self._encoded = 'image' in features.get(self._image_key, {})  # rather than videos
        self._labelled = (self._encoded and self.random_access and 'classLabel' in features.get(self._target_key, {}))
        self._data, self._features, self._opening = None, None, threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what another process opens the same source with."""
        return self.__dict__ | {'_data': None, '_features': None, '_opening': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {'_opening': threading.Lock()}

    @property
    def identity(self) -> list:
        """See `Source`."""
        identity = ['tfds', str(self._folder), self._split, self._size, self._channels,
                    memory.fingerprint(sorted(self._folder.iterdir()))]
        identity += [self._max_boxes] if self.has_boxes else []
        return identity if self._resize == 'stretch' else [*identity, self._resize]

    def __len__(self) -> int:
        return self._length

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """Returns 'image' and 'label' int32 [n], 'y' float32 [n, targets], 'segmentation_mask', boxes or nothing.

        The image is of the data set's own type, uint8 as a rule, [n, height, width, channels]; that of a video is
        [n, frames, height, width, channels].

        Raises:
          UserError: videos of different lengths.
        """
        cropped = uniforms is not None and self.needs_rng
        if self._labelled:
            return self._read_labelled(indices, uniforms if cropped else None)
        examples = self._fetch_crops(indices, uniforms) if cropped else self._fetch(indices)
        lengths = sorted({len(example['image']) for example in examples}) if self.frames != 1 else [1]
        if len(lengths) > 1:
            raise UserError(f'{self.name} has videos of {lengths[0]} to {lengths[-1]} frames; they must all be of one '
                            'length')
        found = {'image': np.stack([example['image'] for example in examples])}
        if self.has_captions:
            return found
        targets = [example['target'] for example in examples]
        if self.has_boxes:
            return found | self._boxes(targets)
        if self.has_masks:
            return found | {'segmentation_mask': np.stack(targets)}
        if self._has_numbers:
            return found | {'y': np.asarray(targets, np.float32).reshape(len(targets), -1)}
        return found | {'label': np.asarray(targets, np.int32)}

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns by name the features that are neither image nor target, and 'captions', a list of str.

        With boxes also the image's own 'width' and 'height', and 'file' if the data set has 'image/filename'.
        """
        if not self._metadata_keys and not self.has_captions and not self.has_boxes:
            return [{} for _ in indices]
        if self._encoded and self.random_access and 'spacing_mm' not in self._metadata_keys:  # that of resized pixels
            return [self._describe(example) for example in self._records(indices)]
        return [example['metadata'] for example in self._fetch(indices)]

    def _fetch(self, indices: np.ndarray) -> list[dict[str, Any]]:
        return [self._fit(example) for example in self._records(indices)] if self.random_access else self._listed(
            indices)

    def _fetch_crops(self, indices: np.ndarray, uniforms: np.ndarray) -> list[dict[str, Any]]:
        """Returns examples with a random part of the image each."""
        return [{'image': self._crop(example[self._image_key], numbers), 'target': example.get(self._target_key)}
                for example, numbers in zip(self._records(indices), uniforms)]

    def _crop(self, encoded: bytes, uniforms: np.ndarray) -> np.ndarray:
        from . import jpeg
        out = np.empty((*self._size, self._channels), np.uint8)
        jpeg.crop(encoded, lambda: self._to_channels(np.asarray(Image.open(io.BytesIO(encoded)))), uniforms,
                  self._crop_area, out)
        return out

    def _read_labelled(self, indices: np.ndarray, uniforms: np.ndarray | None) -> Examples:
        """Reads single images with one class each, past what tfds does for features of all kinds: half of the time."""
        from tensorflow_datasets.proto import tf_example_pb2
        images_, labels = [], np.empty(len(indices), np.int32)
        for row, record in enumerate(self._raw(indices)):
            features = tf_example_pb2.Example.FromString(record).features.feature
            encoded = features[self._image_key].bytes_list.value[0]
            labels[row] = features[self._target_key].int64_list.value[0]
            images_.append(self._fit_image(self._decode(encoded)) if uniforms is None
                           else self._crop(encoded, uniforms[row]))
        return {'image': np.stack(images_), 'label': labels}

    def _records(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns examples whose images, if they are single ones, are the bytes of their files."""
        import tensorflow_datasets as tfds
        skipped = {self._image_key: tfds.decode.SkipDecoding()} if self._encoded else None
        return [self._features.deserialize_example_np(record, decoders=skipped) for record in self._raw(indices)]

    def _raw(self, indices: np.ndarray) -> list[bytes]:
        with self._opening:  # several threads read
            if self._data is None:
                import tensorflow_datasets as tfds
                builder = tfds.builder_from_directory(str(self._folder))
                split = builder.info.splits[self._split]
                self._data = Shards([str(path) for path in split.filepaths], split.shard_lengths)
                self._features = builder.info.features
        return self._data.read(np.asarray(indices))

    def _listed(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns fitted examples of a format that cannot be read but from its beginning."""
        with self._opening:
            if self._data is None:
                import tensorflow_datasets as tfds
                self._data = _Listed(tfds.builder_from_directory(str(self._folder)), self._split, self._fit)
        return self._data.__getitems__([int(i) for i in indices])

    def _decode(self, encoded: bytes) -> np.ndarray:
        """The bytes of an image -> [height, width, channels], as many channels as the data set says it has."""
        feature = self._features[self._image_key]
        channels = feature.shape[-1]
        plain = plain_jpeg.decode(encoded, channels) if channels in (1, 3) else None
        return feature.decode_example_np(encoded) if plain is None else plain

    def _fit(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """Returns image and target in the model's size, and the metadata."""
        image, target = example[self._image_key], example[self._target_key]
        image = self._decode(image) if isinstance(image, bytes) else image
        metadata = self._describe(example)
        if 'spacing_mm' in metadata:
            spacing = images.resized_spacing(metadata.pop('spacing_mm'), image.shape[:2], self._size)
            metadata |= {'spacing_mm': spacing} if spacing else {}
        if self.has_masks:
            target = images.resize_mask(target[..., 0], self._size)
        fitted = self._fit_image(image) if self.frames == 1 else np.stack([self._fit_image(frame) for frame in image])
        return {'image': fitted, 'target': target, 'metadata': metadata}

    def _describe(self, example: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {key: _plain(example[key]) for key in self._metadata_keys}
        if 'scene' in metadata:
            metadata['scene'] = json.loads(metadata['scene'])
        if self.has_captions:
            metadata['captions'] = _texts(example[self._target_key])
        if self.has_boxes:
            metadata |= {'file': metadata['image/filename']} if 'image/filename' in metadata else {}
            metadata |= dict(zip(('width', 'height'), _width_and_height(example[self._image_key])))
        return metadata

    def _boxes(self, targets: Sequence[Mapping[str, np.ndarray]]) -> Examples:
        """Returns the features of boxes, see source.py, of some examples' objects."""
        counts = [len(target['label']) for target in targets]
        rows = np.repeat(np.arange(len(targets)), counts)
        top, left, bottom, right = np.concatenate([np.reshape(target['bbox'], (-1, 4)) for target in targets]).T
        there = ~_is_flat(top, left, bottom, right)
        hard = np.concatenate([np.asarray(target.get('is_crowd', np.zeros(count)), bool)  # without objects: of no type
                               | np.asarray(target.get('is_difficult', np.zeros(count)), bool)
                               for target, count in zip(targets, counts)])
        boxes = np.stack([left, top, right, bottom], 1).astype(np.float64) * np.tile(self._size[::-1], 2)
        labels = np.concatenate([np.asarray(target['label'], np.int32) for target in targets])
        return box_source.pad(boxes[there], labels[there], hard[there], rows[there], len(targets), self._max_boxes)

    def check_boxes(self, limit: float) -> None:
        """Warns of boxes that are left out, see `box_source.report`.

        Args:
          limit: config.data.max_unreadable.

        Raises:
          UserError: too many of them, or more boxes in an image than there is room for.
        """
        identity = [str(self._folder), self._split, memory.fingerprint(sorted(self._folder.iterdir()))]
        most, example, total, flat = cached_json('boxes', identity, self._survey, f'reading the boxes of {self.name}')
        box_source.check_room(most, self._max_boxes, f'{self.name}: example {example:,}')
        if flat:
            box_source.report([f'object {number} ({self.info.class_names[label]}) of example {index:,} has no area'
                               for index, number, label in flat], total, 'boxes', self.name, limit)

    def _survey(self) -> list:
        """Reads all boxes, but no image where that can be helped.

        Returns:
          How many the example has that has most of them, which example that is, how many there are in all, and those
          without area, each [example, number of the object, label].
        """
        logging.info('reading the boxes of %s: %s examples, once', self.name, f'{len(self):,}')

        def targets(chunk: np.ndarray) -> list[Mapping[str, np.ndarray]]:
            if self.random_access:
                return [example[self._target_key] for example in self._records(chunk)]
            return [example['target'] for example in self._listed(chunk)]

        chunks = [np.arange(i, min(i + _CHUNK, len(self))) for i in range(0, len(self), _CHUNK)]
        counts, flat = [], []
        for target in itertools.chain.from_iterable(parallel_map(targets, chunks)):
            numbers = np.flatnonzero(_is_flat(*np.reshape(target['bbox'], (-1, 4)).T))
            flat += [[len(counts), number + 1, int(target['label'][number])] for number in numbers.tolist()]
            counts.append(len(target['label']))
        return [max(counts), int(np.argmax(counts)), sum(counts), flat]

    def _fit_image(self, image: np.ndarray) -> np.ndarray:
        """[height, width, channels], as many channels as there are -> the model's."""
        return images.fit(self._to_channels(image), self._size, self._resize)

    def _to_channels(self, image: np.ndarray) -> np.ndarray:
        image = image[..., None] if image.ndim == 2 else image
        if image.shape[-1] == self._channels:
            return image
        if image.dtype != np.uint8 or self._channels not in (1, 3):
            raise UserError(f'{self.name} has {image.shape[-1]} channel(s), {image.dtype}: config.image.channels = '
                            f'{self._channels}')
        mode = 'L' if self._channels == 1 else 'RGB'
        converted = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert(mode)
        return np.asarray(converted).reshape(*image.shape[:2], self._channels)


class _Listed:
    """A split in a sequential format such as tfrecord, read once through TensorFlow into a list of fitted examples."""

    def __init__(self, builder, split: str, fit: Callable[[Mapping[str, Any]], dict[str, Any]]):
        from ..common.tensorflow import import_tensorflow
        import_tensorflow()
        import tensorflow_datasets as tfds
        config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
        examples = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False, read_config=config))
        self.examples = []
        for example in examples:
            interrupt.check()
            self.examples.append(fit(example))

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self.examples[i] for i in indices]


def _is_flat(top: np.ndarray, left: np.ndarray, bottom: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Whether boxes have no area, bool [boxes]."""
    return ~((right > left) & (bottom > top))


def _width_and_height(image: np.ndarray | bytes) -> tuple[int, int]:
    """Returns the size of an image, or of that in the bytes of a file, as it is stored."""
    if not isinstance(image, bytes):
        return image.shape[1], image.shape[0]
    plain = plain_jpeg.header(image)
    return (plain[1], plain[0]) if plain is not None else Image.open(io.BytesIO(image)).size


def _texts(value: Any) -> list[str]:
    """The captions of an example: texts, one text, or {'text': texts}."""
    value = value['text'] if isinstance(value, Mapping) else value
    return [_plain(text) for text in ([value] if isinstance(value, bytes) else value)]


def _plain(value: Any) -> Any:
    """numpy's numbers and bytes -> what JSON can hold."""
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    return value.tolist() if hasattr(value, 'tolist') else value


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> TfdsSource:
    """Opens a split of the tfds data set `data['name']`, preparing it first if that is possible and allowed.

    Raises:
      UserError: it is not prepared, with where it was looked for and how to get it; what `TfdsSource` and its
        `check_boxes` raise.
    """
    source = TfdsSource(prepared_folder(data), split, image['size'], image['channels'], image.get('resize', 'stretch'),
                        crop_area, data['max_boxes'])
    if source.has_boxes:
        source.check_boxes(data['max_unreadable'])
    return source


def read_texts(data: Mapping[str, Any], split: str) -> list[str]:
    """Returns the feature 'text' of every example of a split, in order, preparing the data set as `open_split` does.

    Raises:
      UserError: the data set is not there, or has no such split or feature.
    """
    return _read_columns(data, split, ('text',))[0]['text']


def read_labelled_texts(data: Mapping[str, Any], split: str) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Returns the features 'text' and 'label' of every example of a split, in order, and the names of the classes.

    Raises:
      UserError: as `read_texts`, or the data set has no 'label'.
    """
    columns, folder = _read_columns(data, split, ('text', 'label'))
    return columns['text'], columns['label'], tuple(_class_names(folder, 'label', _features(folder)))


def _read_columns(data: Mapping[str, Any], split: str, names: Sequence[str]) -> tuple[dict[str, list], Path]:
    """Returns features of every example by name, of which 'text' is a text, and the folder they lie in."""
    folder = prepared_folder(data)
    info = json.loads((folder / 'dataset_info.json').read_text())
    splits = [s['name'] for s in info['splits']]
    if split not in splits:
        raise UserError(f"{info['name']} has no split {split!r}; {nearest(split, splits)}")
    features = _features(folder)
    if 'text' not in features.get('text', {}):
        raise UserError(f"config.data.name: {info['name']} is no data set of texts: it has no feature 'text', "
                        f"but {', '.join(features)}")
    for name in names:
        if name not in features:
            raise UserError(f"config.data.name: {info['name']} has no feature {name!r}; "
                            f'{nearest(name, list(features))}')

    def read() -> list[list]:
        import tensorflow_datasets as tfds
        builder = tfds.builder_from_directory(str(folder))
        if info.get('fileFormat', 'tfrecord') in _RANDOM_ACCESS:
            opened = builder.as_data_source(split)
            examples = opened.__getitems__(list(range(len(opened))))
        else:
            examples = _Listed(builder, split, dict).examples
        return [[_plain(example[name]) for example in examples] for name in names]
    columns = cached_json('texts', [str(folder), split, *names, memory.fingerprint(sorted(folder.iterdir()))], read)
    return dict(zip(names, columns)), folder


def read_metadata(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the builder of a data set noted about it, {} if nothing, preparing it as `open_split` does."""
    return _metadata(prepared_folder(data))


def _features(folder: Path) -> dict[str, Any]:
    return json.loads((folder / 'features.json').read_text()).get('featuresDict', {}).get('features', {})


def _metadata(folder: Path) -> dict[str, Any]:
    file = folder / 'metadata.json'
    return json.loads(file.read_text()) if file.is_file() else {}


def _keys(info: Mapping[str, Any], features: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the names of image and target, from the data set's supervised keys if it has them."""
    items = info.get('supervisedKeys', {}).get('tuple', {}).get('items', ())
    keys = [item.get('featureKey') for item in items]
    if len(keys) == 2 and all(keys):
        return keys[0], keys[1]
    image = 'video' if 'video' in features and 'image' not in features else 'image'
    objects = [key for key, feature in features.items() if _object_features(feature) is not None]
    if objects and not {'label', 'captions'} & features.keys():
        return image, 'objects' if 'objects' in objects else objects[0]
    return image, 'captions' if 'captions' in features and 'label' not in features else 'label'


def _object_features(feature: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the features of each object, if a feature is a sequence of boxes with a class each."""
    found = feature.get('sequence', {}).get('feature', {}).get('featuresDict', {}).get('features', {})
    if 'boundingBox' in found.get('bbox', {}) and 'classLabel' in found.get('label', {}):
        return found
    return None


def _check_boxes(name: str, feature: Mapping[str, Any]) -> None:
    """Raises UserError for boxes in another form than tfds's usual one, top, left, bottom, right in shares."""
    box = (_object_features(feature) or {}).get('bbox', {}).get('boundingBox', {})
    form = box.get('bboxFormat') or 'REL_YXYX'  # earlier versions of tfds knew no other
    if form != 'REL_YXYX':
        raise UserError(f'{name} has boxes in the form {form}; REL_YXYX, the default of BBoxFeature, is read')


def _frames(feature: Mapping[str, Any]) -> int | None:
    """Returns how many images an example has; None: videos of any length."""
    if 'video' in feature:
        count = int(feature['video']['shape']['dimensions'][0])
    elif 'sequence' in feature:
        count = int(feature['sequence']['length'])
    else:
        return 1
    return count if count > 0 else None


def _targets(folder: Path, key: str, features: Mapping[str, Any]) -> int | None:
    """Returns how many numbers the target is; None for a class label or a mask."""
    tensor = features.get(key, {}).get('tensor')
    if tensor is None or tensor.get('dtype') not in _NUMBERS or (folder / f'{key}.labels.txt').is_file():
        return None
    sides = [int(side) for side in tensor.get('shape', {}).get('dimensions', ())]
    if any(side < 1 for side in sides):
        raise UserError(f'{folder.parent.name}: {key!r} has no fixed number of targets')
    return math.prod(sides)


def _class_names(folder: Path, key: str, features: Mapping[str, Any]) -> list[str]:
    feature = features.get(key, {})
    if objects := _object_features(feature):
        key, feature = f'{key}-label', objects['label']
    names = folder / f'{key}.labels.txt'
    if names.is_file():
        return names.read_text().removesuffix('\n').split('\n')
    label = feature.get('classLabel') or feature.get('image', {}).get('label')
    if not label:
        raise UserError(f'{folder.parent.name} has no class labels under {key!r}')
    return [str(i) for i in range(int(label['numClasses']))]
