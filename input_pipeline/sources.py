"""Sources of examples: a length, facts, and random access by index.

A source has
  meta               dict of facts that travel in checkpoints, such as 'class_names'
  __len__()          number of examples
  read(indices)      int [n] -> {feature: array [n, ...]}
  describe(indices)  int [n] -> what is known of each example, such as its file: dicts that JSON can hold
and reads the same for the same index, from any thread. Features are named alike everywhere:
  image              uint8 [n, height, width, channels]
  label              int32 [n]
  segmentation_mask  uint8 [n, height, width], the class of every pixel
Add one: a file here and a line in SOURCES.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from input_pipeline import folder_source, mask_folder_source, memory, tfds_source
from input_pipeline.arrays import ArraySource
from training.config import nearest
from training.errors import UserError


class Source(Protocol):
    """See the top of this file."""
    meta: dict[str, Any]

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]: ...

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]: ...


def _open_arrays(data: Mapping[str, Any], image: Mapping[str, Any], split: str) -> ArraySource:
    """Numbers written in the config; every split name is the same few examples."""
    del image, split
    return ArraySource({name: np.asarray(values, np.float32) for name, values in data['arrays'].items()}, {})


SOURCES = {
    'arrays': _open_arrays,
    'folder': folder_source.open_split,
    'mask_folder': mask_folder_source.open_split,
    'tfds': tfds_source.open_split,
}


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, *, invert: bool = False) -> Source:
    """Opens a split of the data set that config.data names.

    Args:
      data: config.data.
      image: config.image; pictures come in its size and number of channels.
      split: 'train', or a part of it: 'train[:10%]', 'train[-5000:]', 'train[10%:90%]'.
      invert: read 255 - picture.

    Raises:
      UserError: unknown source, data that are not there, unknown split, an empty or impossible part.
    """
    if data['source'] not in SOURCES:
        raise UserError(f"config.data.source = {data['source']!r}; {nearest(data['source'], list(SOURCES))}")
    name, first, last = _parse(split)
    source = SOURCES[data['source']](data, image, name)
    if not isinstance(source, ArraySource) and _megabytes(source, image) <= data['memory_limit_mb']:
        source = memory.load(source)
    begin, end = _bound(first, len(source), 0), _bound(last, len(source), len(source))
    if begin >= end:
        raise UserError(f'split {split!r} is empty: {name} has {len(source)} examples')
    if (begin, end) != (0, len(source)):
        source = source.part(begin, end) if isinstance(source, ArraySource) else Part(source, begin, end)
    if invert and isinstance(source, ArraySource):
        return ArraySource(source.arrays | {'image': 255 - source.arrays['image']}, source.meta, source.facts)
    return Inverted(source) if invert else source


class Part:
    """Examples begin..end-1 of another source."""

    def __init__(self, source: Source, begin: int, end: int):
        self.meta, self._source, self._begin, self._end = source.meta, source, begin, end

    def __len__(self) -> int:
        return self._end - self._begin

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """See `Source`."""
        return self._source.read(indices + self._begin)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `Source`."""
        return self._source.describe(indices + self._begin)


class Inverted:
    """Another source with 255 - picture."""

    def __init__(self, source: Source):
        self.meta, self._source = source.meta, source

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """See `Source`."""
        examples = self._source.read(indices)
        return examples | {'image': 255 - examples['image']}

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `Source`."""
        return self._source.describe(indices)


def _megabytes(source: Source, image: Mapping[str, Any]) -> float:
    height, width = image['size']
    return len(source) * height * width * (image['channels'] + getattr(source, 'has_masks', False)) / 2**20


_SPLIT = re.compile(r'(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?')


def _parse(split: str) -> tuple[str, str | None, str | None]:
    match = _SPLIT.fullmatch(split)
    if not match:
        raise UserError(f"split {split!r} is not understood: write 'train', 'train[:10%]' or 'train[-5000:]'")
    return match.groups()


def _bound(text: str | None, total: int, default: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * total / 100) if text.endswith('%') else int(text)
    return min(total, max(0, value + total if value < 0 else value))
