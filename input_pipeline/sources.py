"""Sources of examples: a length, facts, and random access by index.

A source has
  info               a DatasetInfo, which travels in checkpoints
  __len__()          number of examples
  read(indices)      int [n] -> {feature: array [n, ...]}
  describe(indices)  int [n] -> what is known of each example, such as its file: dicts that JSON can hold
and reads the same for the same index, from any thread. One that chooses at random, such as which part of an image it
crops, has `needs_rng` set; its read(indices, draws) does so by the numbers it is given. Features are named alike
everywhere:
  image              uint8 [n, height, width, channels]
  label              int32 [n]
  segmentation_mask  uint8 [n, height, width], the class of every pixel
  captions           int32 [n, captions, length], token ids; see input_pipeline/captions.py
Texts come as streams of tokens instead, see input_pipeline/text_source.py.
Add one: a file here and a line in SOURCES.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from ..common.vocabulary import Vocabulary
from . import (
    caption_source,
    captions,
    folder_source,
    images,
    mask_folder_source,
    memory,
    relabelling,
    text_source,
    tfds_source,
    unreadable,
)
from .arrays import ArraySource
from .selection import Inverted, Part, Selected
from .text_source import TokenStream


class Source(Protocol):
    """See the top of this file."""
    info: DatasetInfo

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]: ...

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]: ...


def _open_arrays(data: Mapping[str, Any], image: Mapping[str, Any], split: str) -> ArraySource:
    """Numbers written in the config; every split name is the same few examples."""
    del image, split
    return ArraySource({name: np.asarray(values, np.float32) for name, values in data['arrays'].items()}, DatasetInfo())


SOURCES = {
    'arrays': _open_arrays,
    'caption_folder': caption_source.open_split,
    'folder': folder_source.open_split,
    'mask_folder': mask_folder_source.open_split,
    'tfds': tfds_source.open_split,
}


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, *, invert: bool = False,
               training: bool = False, text: Mapping[str, Any] | None = None, vocabulary: Vocabulary | None = None
               ) -> Source | TokenStream:
    """Opens a split of the data set that config.data names.

    Args:
      data: config.data.
      image: config.image; images come in its size and number of channels.
      split: 'train', or a part of it: 'train[:10%]', 'train[-5000:]', 'train[10%:90%]'.
      invert: read 255 - image.
      training: config.data.random_resized_crop applies, and an image that turns out to be damaged late may be replaced
        by another. Otherwise each example is there exactly once, and is known to be sound before the first is read.
      text: config.text, for data with texts; None leaves captions out.
      vocabulary: that texts are read in; None to build it from this split.

    Raises:
      UserError: unknown source, data that are not there, unknown split, an empty or impossible part, classes to merge
        that do not exist, too many images that cannot be read.
    """
    known = (*SOURCES, *text_source.READERS)
    if data['source'] not in known:
        raise UserError(f"config.data.source = {data['source']!r}; {nearest(data['source'], known)}")
    _check_fields(data)
    name, first, last = _parse(split)
    if data['source'] in text_source.READERS:
        lines = text_source.read_lines(data, name)
        begin, end = _bounds(split, name, first, last, len(lines))
        return text_source.open_stream(lines[begin:end], text or {}, vocabulary)
    source = SOURCES[data['source']](data, image, name)
    _check_resize(image, source)
    begin, end = _bounds(split, name, first, last, len(source))
    area = tuple(data['random_resized_crop']) if training else ()
    if area:
        source.crop_area = area
    if isinstance(source, ArraySource) or not area and _megabytes(source, image) <= data['memory_limit_mb']:
        opened = _in_memory(source, begin, end, data)
    else:
        opened = _streaming(source, begin, end, data, training)
    if text is not None and getattr(source, 'has_captions', False):
        opened = captions.tokenize(opened, text, vocabulary)
    if invert and isinstance(opened, ArraySource):
        return ArraySource(opened.arrays | {'image': 255 - opened.arrays['image']}, opened.info, opened.metadata)
    return Inverted(opened) if invert else opened


def _in_memory(source: Source, begin: int, end: int, data: Mapping[str, Any]) -> ArraySource:
    may_be_unreadable = hasattr(source, 'blank')
    loaded = source
    if not isinstance(source, ArraySource):
        loaded = memory.load(unreadable.BlankUnreadable(source) if may_be_unreadable else source)
    if (begin, end) != (0, len(loaded)):
        loaded = loaded.part(begin, end)
    if may_be_unreadable:
        loaded = unreadable.leave_out(loaded, source, begin, data['max_unreadable'])
    if data['merge_classes']:
        relabelling.check_labels(loaded)
        loaded = relabelling.merge(loaded, loaded.arrays['label'], data['merge_classes'], source.name)
    return loaded


def _streaming(source: Source, begin: int, end: int, data: Mapping[str, Any], training: bool) -> Source:
    may_be_unreadable = hasattr(source, 'blank')
    opened = Part(source, begin, end) if (begin, end) != (0, len(source)) else source
    kept = np.arange(end - begin)
    if may_be_unreadable:
        kept = unreadable.readable(source, begin, end, data['max_unreadable'], pixels=not training,
                                   workers=data['workers'])
        if len(kept) < end - begin:
            opened = Selected(opened, kept)
    if data['merge_classes']:
        relabelling.check_labels(source)
        labels = relabelling.read_labels(source)[begin:end][kept]
        opened = relabelling.merge(opened, labels, data['merge_classes'], source.name)
    if may_be_unreadable and training:
        opened = unreadable.Replacing(opened, source.name, data['max_unreadable'], end - begin - len(kept))
    return opened


def _check_fields(data: Mapping[str, Any]) -> None:
    if not 0 <= data['max_unreadable'] <= 1:
        raise UserError(f"config.data.max_unreadable = {data['max_unreadable']}: it is a share, from 0 to 1")
    area = data['random_resized_crop']
    if not area:
        return
    if len(area) != 2 or not all(isinstance(share, (int, float)) for share in area) or not 0 < area[0] <= area[1] <= 1:
        raise UserError(f'config.data.random_resized_crop = {area}: it is the smallest and the largest share of a '
                        "image's area, such as (0.08, 1.0), or ()")
    if data['source'] != 'folder':
        raise UserError(f"config.data.random_resized_crop: it is for config.data.source = 'folder', not "
                        f"{data['source']!r}; config.augment.zoom and shift crop on the device")


def _check_resize(image: Mapping[str, Any], source: Source) -> None:
    how = image.get('resize', 'stretch')
    if how not in images.RESIZES:
        raise UserError(f'config.image.resize = {how!r}; {nearest(str(how), images.RESIZES)}')
    if how != 'stretch' and getattr(source, 'has_masks', False):
        raise UserError(f"config.image.resize = {how!r} would cut off a part of every mask: use 'stretch'")


def _megabytes(source: Source, image: Mapping[str, Any]) -> float:
    height, width = image['size']
    frames = getattr(source, 'frames', 1) or 1
    return len(source) * frames * height * width * (image['channels'] + getattr(source, 'has_masks', False)) / 2**20


_SPLIT = re.compile(r'(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?')


def _parse(split: str) -> tuple[str, str | None, str | None]:
    match = _SPLIT.fullmatch(split)
    if not match:
        raise UserError(f"split {split!r} is not understood: write 'train', 'train[:10%]' or 'train[-5000:]'")
    return match.groups()


def _bounds(split: str, name: str, first: str | None, last: str | None, total: int) -> tuple[int, int]:
    begin, end = _bound(first, total, 0), _bound(last, total, total)
    if begin >= end:
        raise UserError(f'split {split!r} is empty: {name} has {total} examples')
    return begin, end


def _bound(text: str | None, total: int, default: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * total / 100) if text.endswith('%') else int(text)
    return min(total, max(0, value + total if value < 0 else value))
