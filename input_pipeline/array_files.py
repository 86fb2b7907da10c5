"""Arrays as they are: .npz files of numpy, and numbers written in a config.

<name>/<split>.npz is a split, or <name>.npz with arrays train_image, train_label, test_image and so on; an .npz without
such prefixes is all 'train'. The arrays of a split have equally many examples and are called
  image        uint8, uint16 or floats [n, height, width] or [n, height, width, channels], see preprocessing.py
  x            numbers [n, ...], for inputs that are no images
  label        whole numbers from 0 on, or texts, [n]: one class each
  labels       0 and 1, [n, classes]: any number of classes each
  y            numbers [n] or [n, targets], to be predicted
  boxes        numbers [n, boxes, 4]: left, top, right, bottom in pixels of image, from 0 to its width and height
  box_labels   whole numbers [n, boxes], from 0 on, -1 where there is no box; box_crowd, 0 and 1, may lie beside them
  class_names  texts, one per class, of label, labels or box_labels; without it, the numbers or the texts themselves
and any other, of numbers or texts [n], is metadata of the examples, such as the patient for config.data.group_by.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, file_error, nearest, printable
from ..common.files import digest
from . import box_source, images, memory
from .arrays import ArraySource
from .splits import file_of_split

_FEATURES = ('image', 'x', 'label', 'labels', 'y', 'boxes', 'box_labels', 'box_crowd')
_CLASS_NAMES = 'class_names'
_BOXES = {'boxes', 'box_labels', 'box_crowd'}


def open_config(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
                ) -> ArraySource:
    """Numbers written in config.data.arrays; every split name is the same few examples.

    Raises:
      UserError: features of different lengths, or that are no numbers.
    """
    del split, crop_area
    arrays = {}
    for name, values in data['arrays'].items():
        where = f'config.data.arrays.{name}'
        try:
            arrays[name] = np.asarray(values)
        except ValueError:
            raise UserError(f'{where}: its examples differ in shape') from None
        if name not in (*_FEATURES, _CLASS_NAMES):
            arrays[name] = _numbers(arrays[name], where)
    if not arrays:
        raise UserError("config.data.arrays is empty: give features, such as {'x': (1.0, 2.0), 'y': (3.0, 5.0)}")
    return make(arrays, image, 'config.data.arrays', max_boxes=data['max_boxes'])


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> ArraySource:
    """Opens a split of an .npz file or a folder of them, see the top of this file.

    Raises:
      UserError: no such file or split, or arrays that do not fit together.
    """
    del crop_area
    file, others = _find(data, split)
    with _opened(file) as archive:
        keys = list(archive)
        prefix = f'{split}_'
        divided = any(key.startswith(prefix) for key in keys)
        if not divided and file not in others and split != 'train':
            prefixes = sorted({key.removesuffix(f'_{name}').removesuffix('_box') for key in keys for name in _FEATURES
                               if key.endswith(f'_{name}')})
            raise UserError(f"{file} has no split {split!r}: {nearest(split, [name for name in prefixes if name])}; "
                            "without such arrays as test_image all of it is 'train'")
    taken = {key.removeprefix(prefix): key for key in keys if not divided or key.startswith(prefix)}
    if _CLASS_NAMES in keys:
        taken[_CLASS_NAMES] = _CLASS_NAMES

    def read() -> ArraySource:
        with _opened(file) as archive:
            arrays = {name: archive[key] for name, key in taken.items()}
        found = []
        classes = next((name for name in ('label', 'box_labels') if name in arrays), None)
        if _CLASS_NAMES not in arrays and classes:  # the classes are those of all splits
            for other in others or (file,):
                with _opened(other) as archive:
                    found += [archive[key] for key in archive if key == classes or key.endswith(f'_{classes}')]
        return make(arrays, image, printable(f'{file}' + (f', {prefix}*' if divided else '')), found,
                    data['max_boxes'])

    identity = ['npz', str(file.absolute()), split, list(image['size']), image['channels'],
                image.get('resize', 'stretch'), memory.fingerprint([file, *others]), data['max_boxes']]
    return memory.shared(digest(identity), read)


def make(arrays: Mapping[str, np.ndarray], image: Mapping[str, Any], where: str,
         all_labels: Sequence[np.ndarray] = (), max_boxes: int = 0) -> ArraySource:
    """Checks arrays and makes a source of them.

    Args:
      arrays: see the top of this file.
      image: config.image.
      where: they are from, for messages.
      all_labels: the labels of all splits, if the classes are to be found out from them.
      max_boxes: config.data.max_boxes.

    Raises:
      UserError: one line that names the array and what is wrong.
    """
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    names = arrays.pop(_CLASS_NAMES, None)
    for name, values in arrays.items():
        if not values.ndim or not len(values):
            raise UserError(f'{where}: {name} holds no examples')
    found: dict[str, np.ndarray] = {}
    class_names = None if names is None else tuple(str(name) for name in np.ravel(names))
    targets = None
    if 'image' in arrays:
        found['image'] = _images(arrays['image'], image, f'{where}: image')
    if 'x' in arrays:
        found['x'] = _numbers(arrays['x'], f'{where}: x')
    if 'label' in arrays:
        class_names = class_names or _class_names([arrays['label'], *all_labels])
        found['label'] = _labels(arrays['label'], class_names, f'{where}: label')
    if 'labels' in arrays:
        found['labels'], class_names = _several_labels(arrays['labels'], class_names, f'{where}: labels')
    if 'y' in arrays:
        found['y'] = _numbers(arrays['y'], f'{where}: y')
        targets = math.prod(found['y'].shape[1:])
    metadata: list[dict[str, Any]] | None = None
    if _BOXES & arrays.keys():
        class_names = class_names or _class_names([arrays.get('box_labels', np.zeros(1)), *all_labels])
        boxes, metadata = _boxes(arrays, found.get('image'), max_boxes, where)
        found |= boxes
    for name, values in arrays.items():
        if name in found:
            continue
        if where.startswith('config'):
            found[name] = values
        elif values.ndim > 1 or values.dtype.kind not in 'biufUS':
            raise UserError(f'{where}: {name} is no feature; {nearest(name, (*_FEATURES, _CLASS_NAMES))} Others are '
                            'metadata, numbers or texts [n]')
        else:
            metadata = metadata or [{} for _ in values]
            if len(metadata) != len(values):
                raise UserError(f'{where}: {name} has {len(values):,} examples, others have {len(metadata):,}')
            for example, value in zip(metadata, values.tolist()):
                example[name] = value.decode(errors='replace') if isinstance(value, bytes) else value
    if not found:
        raise UserError(f"{where} has none of the arrays {', '.join(_FEATURES)}")
    info = DatasetInfo(class_names=class_names, targets=targets,
                       input_size=found['image'].shape[1:3] if 'boxes' in found else None)
    source = ArraySource(found, info, metadata, where)
    if metadata is not None and len(metadata) != len(source):
        raise UserError(f'{where}: the metadata are of {len(metadata):,} examples, the features of {len(source):,}')
    return source


def _numbers(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in 'biuf':
        raise UserError(f'{where} holds {_kind(values)}, not numbers')
    return values.astype(np.float32)


def _images(values: np.ndarray, image: Mapping[str, Any], where: str) -> np.ndarray:
    if values.ndim not in (3, 4):
        raise UserError(f'{where} has the shape {values.shape}; it is [n, height, width] or [n, height, width, '
                        'channels]')
    if values.dtype.kind == 'f':
        values = values.astype(np.float32, copy=False)
    elif values.dtype not in (np.uint8, np.uint16):
        raise UserError(f'{where} holds {_kind(values)}; it is of uint8 (0 to 255), uint16 (0 to 65535) or floats')
    values = values[..., None] if values.ndim == 3 else values
    if values.shape[3] != image['channels']:
        raise UserError(f"{where} has {values.shape[3]} channel(s), not config.image.channels = {image['channels']}")
    size = tuple(image['size'])
    if values.shape[1:3] == size:
        return values
    return np.stack([images.fit(one, size, image.get('resize', 'stretch')) for one in values])


def _class_names(labels: Sequence[np.ndarray]) -> tuple[str, ...] | None:
    """Returns the names of all classes that occur, or of all numbers up to the largest."""
    if all(part.dtype.kind in 'biu' for part in labels):
        return tuple(str(number) for number in range(1 + max(int(part.max()) for part in labels if part.size)))
    if all(part.dtype.kind in 'US' for part in labels):
        return tuple(sorted({_text(value) for part in labels for value in np.unique(part)}))
    return None


def _labels(values: np.ndarray, class_names: tuple[str, ...] | None, where: str) -> np.ndarray:
    if values.ndim != 1 or values.dtype.kind not in 'biuUS' or class_names is None:
        raise UserError(f'{where} holds {_kind(values)} of shape {values.shape}; it is of whole numbers or texts [n] '
                        "(numbers to be predicted are called 'y')")
    if values.dtype.kind in 'US':
        numbers = {name: number for number, name in enumerate(class_names)}
        unknown = sorted({_text(value) for value in np.unique(values)} - set(numbers))
        if unknown:
            raise UserError(f'{where}: {unknown[0]!r} is not in {_CLASS_NAMES}; {nearest(unknown[0], class_names)}')
        return np.asarray([numbers[_text(value)] for value in values], np.int32)
    if values.min() < 0 or values.max() >= len(class_names):
        raise UserError(f'{where} is from {values.min()} to {values.max()}, but there are {len(class_names)} classes, '
                        f'0 to {len(class_names) - 1}')
    return values.astype(np.int32)


def _several_labels(values: np.ndarray, class_names: tuple[str, ...] | None, where: str
                    ) -> tuple[np.ndarray, tuple[str, ...]]:
    if values.ndim != 2 or values.dtype.kind not in 'biuf' or not np.isin(values, (0, 1)).all():
        raise UserError(f'{where} of shape {values.shape}: it is [n, classes] of 0 and 1')
    class_names = class_names or tuple(str(number) for number in range(values.shape[1]))
    if len(class_names) != values.shape[1]:
        raise UserError(f'{where} has {values.shape[1]} columns for {len(class_names)} classes')
    return values.astype(np.float32), class_names


def _boxes(arrays: Mapping[str, np.ndarray], images_: np.ndarray | None, max_boxes: int, where: str
           ) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Returns the features of boxes, in pixels of the images as they are read, and the images' own sizes."""
    boxes, labels = arrays.get('boxes'), arrays.get('box_labels')
    if boxes is None or labels is None or images_ is None:
        raise UserError(f'{where}: boxes need the arrays image, boxes [n, boxes, 4] and box_labels [n, boxes]')
    crowd = arrays.get('box_crowd', np.zeros(labels.shape, np.uint8))
    if boxes.ndim != 3 or boxes.shape[2] != 4 or not boxes.shape[:2] == labels.shape == crowd.shape:
        raise UserError(f'{where}: boxes of shape {boxes.shape}, box_labels {labels.shape} and box_crowd {crowd.shape} '
                        'should be [n, boxes, 4], [n, boxes] and [n, boxes]')
    if labels.dtype.kind in 'iu' and labels.min(initial=-1) < -1:
        raise UserError(f'{where}: box_labels hold {labels.min()}; they are from 0 on, and -1 where there is no box')
    if labels.dtype.kind not in 'iu' or crowd.dtype.kind not in 'biu' or len(boxes) != len(images_):
        raise UserError(f'{where}: there should be as many boxes as images, with whole numbers as box_labels and '
                        f'box_crowd; there are {len(boxes):,} of {len(images_):,}, {_kind(labels)}, {_kind(crowd)}')
    there = labels >= 0
    fullest = int(there.sum(1).argmax())
    box_source.check_room(int(there[fullest].sum()), max_boxes, f'{where}: example {fullest:,}')
    (height, width), (new_height, new_width) = arrays['image'].shape[1:3], images_.shape[1:3]
    scaled = _numbers(boxes, f'{where}: boxes')[there] * np.tile([new_width / width, new_height / height], 2)
    rows = np.nonzero(there)[0]
    padded = box_source.pad(scaled, labels[there], crowd[there], rows, len(boxes), max_boxes)
    return padded, [{'width': width, 'height': height} for _ in boxes]


def _kind(values: np.ndarray) -> str:
    kinds = {'U': 'texts', 'S': 'texts', 'O': 'objects', 'M': 'dates', 'm': 'durations', 'b': 'true and false'}
    return kinds.get(values.dtype.kind, str(values.dtype))


def _text(value: Any) -> str:
    return value.decode(errors='replace') if isinstance(value, bytes) else str(value)


def _find(data: Mapping[str, Any], split: str) -> tuple[Path, list[Path]]:
    """Returns the file a split is in, and all files of the data set if they are one per split."""
    if not data['name']:
        raise UserError('config.data.name is empty: give an .npz file, or a folder with train.npz')
    root = Path(data['name']).expanduser()
    if root.is_dir():
        return file_of_split(root, split, '.npz')
    for file in (root, root.parent / f'{root.name}.npz'):
        if file.is_file():
            return file, []
    raise UserError(f"config.data.name = {data['name']!r} is neither an .npz file nor a folder of them")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Opens an .npz; whatever is wrong with it becomes a UserError."""
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(member.file_size for member in archive.infolist())
        if total > os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'):
            raise file_error(file, f'holds {total / 2**30:,.1f} GiB of arrays, more than this machine has')
        with np.load(file, allow_pickle=False) as archive:
            yield archive
    except UserError:
        raise
    # What a damaged zip trips zlib, zipfile and numpy into is a long list, and only they run here.
    except Exception as error:
        reason = 'it holds Python objects' if 'allow_pickle' in str(error) else str(error) or type(error).__name__
        raise file_error(file, f'cannot be read as an .npz of numpy: {reason}') from None
