"""Sources of examples: a length, what is known of the data set, and random access by index.

A source reads the same for the same index, from any thread. Features are named alike everywhere:
  image              uint8, uint16 or float32 [n, height, width, channels]; of videos [n, frames, height, ...]
  label              int32 [n]
  labels             several of them, float32 [n, classes] of 0 and 1
  segmentation_mask  uint8 [n, height, width], the class of every pixel
  boxes              float32 [n, data.max_boxes, 4], left, top, right, bottom of every object in pixels of the image as
                     it is read: 0 is the left edge of the first pixel, the width the right edge of the last
  box_labels         int32 [n, data.max_boxes], their classes; -1 where there is no box
  box_crowd          uint8 [n, data.max_boxes], 1 for what is neither to be found nor an error to find: a crowd (COCO),
                     or an object that is hard to make out (Pascal VOC's 'difficult')
  captions           int32 [n, captions, length], token ids; see input_pipeline/captions.py
  tokens             int32 [n, length], those of a text that has a label or is translated; see input_pipeline/texts.py
  story, question    int32 [n, sentences, words] and [n, words], token ids; see input_pipeline/story_source.py
  centre, context    int32 [n], words that stand near each other; see input_pipeline/word_pairs.py
  x                  float32 [n, ...], inputs that are no images
  y                  float32 [n] or [n, targets], numbers to be predicted
Texts come as streams of tokens instead, see input_pipeline/text_source.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, some

Examples = dict[str, np.ndarray]


class Source:
    """What every source has; a new one provides `info`, `name`, `__len__` and `read`, and what else it can.

    Attributes:
      info: what is known of the data set; it travels in checkpoints.
      name: for messages.
      unit: what it has, for messages.
      frames: images of a video; 1 for single images, None for videos of any length.
      has_masks: whether examples have a segmentation mask.
      has_boxes: whether examples have boxes; `describe` then knows 'width' and 'height' of each image in its own size.
      has_captions: whether `describe` knows 'captions', a list of str for each example.
      has_texts: whether `describe` knows 'text' of each example, which is to be classified or translated.
      needs_rng: whether `read` makes use of random numbers, such as for the part of an image that it crops.
      random_access: whether single examples can be read without reading all, as streaming takes.
      streams: how many contiguous streams an evaluation reads side by side; 0 for examples that stand alone.
      can_be_unreadable: whether single examples may be damaged: `read` then raises UserError, and `blank`, `check` and
        `files_identity` are there to find out which.
      identity: what JSON can hold and what changes whenever an example does, to cache them under; None: not cached.
      files_identity: the same of the files alone, however they are read.
      labels: int32 [n] where they are known without reading the examples, else None.
      taken: of which whole splits it has which examples, see `splits.Taken`; () where that is not known.
      left_out: the source of the whole split and which of its examples, int [n], are not among these because they
        cannot be read, see `unreadable.reasons`; None where all can be, or nobody has looked.
    """
    info: DatasetInfo = DatasetInfo()
    name: str = ''
    unit: str = 'images'
    frames: int | None = 1
    has_masks: bool = False
    has_boxes: bool = False
    has_captions: bool = False
    has_texts: bool = False
    needs_rng: bool = False
    random_access: bool = True
    streams: int = 0
    can_be_unreadable: bool = False
    identity: Any = None
    files_identity: Any = None
    labels: np.ndarray | None = None
    taken: tuple = ()
    left_out: 'tuple[Source, np.ndarray] | None' = None

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """Returns examples.

        Args:
          indices: int [n].
          uniforms: random numbers in [0, 1), [n, 4], for sources with `needs_rng`; None: nothing is left to chance.

        Returns:
          feature name -> array [n, ...].
        """
        raise NotImplementedError

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns the metadata of examples, int [n], such as their files: dicts that JSON can hold."""
        return [{} for _ in indices]

    def blank(self, indices: np.ndarray) -> Examples:
        """Returns what `read` does, of black images."""
        raise NotImplementedError

    def check(self, index: int, *, pixels: bool) -> None:
        """Raises UserError if an example cannot be read; without `pixels` only headers of files are looked at."""
        raise NotImplementedError

    def select(self, indices: np.ndarray | None = None, *, features: Mapping[str, np.ndarray] | None = None,
               info: DatasetInfo | None = None, change: Callable[[Examples], Examples] | None = None) -> 'Source':
        """Returns a source made of this one, see `IndexedSource`."""
        return IndexedSource(self, indices, features=features, info=info, change=change)


class IndexedSource(Source):
    """Some examples of another source in a given order, with other features beside or in place of theirs.

    Args:
      source: where they are read from.
      indices: int [n], which; None for all.
      features: feature name -> array [n, ...].
      info: of the new data set; None for the old one.
      change: what is done to examples when they have been read; gets and returns feature name -> array.
    """

    def __init__(self, source: Source, indices: np.ndarray | None = None, *,
                 features: Mapping[str, np.ndarray] | None = None, info: DatasetInfo | None = None,
                 change: Callable[[Examples], Examples] | None = None):
        self._source, self._features, self._change = source, dict(features or {}), change
        self._indices = np.arange(len(source)) if indices is None else np.asarray(indices)
        self.info = source.info if info is None else info
        self.name, self.frames, self.needs_rng = source.name, source.frames, source.needs_rng
        self.has_masks, self.has_captions, self.has_boxes = source.has_masks, source.has_captions, source.has_boxes
        self.has_texts, self.unit = source.has_texts, source.unit

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def labels(self) -> np.ndarray | None:
        """See `Source`."""
        if 'label' in self._features:
            return self._features['label']
        return None if self._source.labels is None else self._source.labels[self._indices]

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """See `Source`."""
        examples = self._source.read(self._indices[indices], uniforms)
        examples |= {name: values[indices] for name, values in self._features.items()}
        return examples if self._change is None else self._change(examples)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `Source`."""
        return self._source.describe(self._indices[indices])


class ConcatenatedSource(Source):
    """Several sources one after the other, as if they were one.

    Args:
      sources: of one kind.

    Raises:
      UserError: they have other classes, or one has what the others have not.
    """

    def __init__(self, sources: Sequence[Source]):
        first = sources[0]
        for other in sources[1:]:
            if other.info.class_names != first.info.class_names:
                raise UserError(f'{first.name} and {other.name} cannot be put together, they have other classes: '
                                f'{some(first.info.class_names or ())} and {some(other.info.class_names or ())}')
            if other.info.targets != first.info.targets or other.frames != first.frames:
                raise UserError(f'{first.name} and {other.name} cannot be put together: their examples differ in shape')
        self._sources = sources
        self._ends = np.cumsum([len(source) for source in sources])
        self.info, self.frames = first.info, first.frames
        self.name = ' + '.join(source.name for source in sources)
        self.has_masks, self.has_captions, self.has_boxes = first.has_masks, first.has_captions, first.has_boxes
        self.has_texts = first.has_texts
        self.needs_rng, self.can_be_unreadable = first.needs_rng, first.can_be_unreadable
        self.random_access = all(source.random_access for source in sources)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def identity(self) -> Any:
        """See `Source`."""
        identities = [source.identity for source in self._sources]
        return None if None in identities else ['concatenated', *identities]

    @property
    def files_identity(self) -> Any:
        """See `Source`."""
        return [source.files_identity for source in self._sources]

    @property
    def labels(self) -> np.ndarray | None:
        """See `Source`."""
        labels = [source.labels for source in self._sources]
        return None if any(part is None for part in labels) else np.concatenate(labels)

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """See `Source`."""
        def read(source: Source, own: np.ndarray, rows: np.ndarray) -> Examples:
            return source.read(own, None if uniforms is None else uniforms[rows])
        return self._gather(np.asarray(indices), read)

    def blank(self, indices: np.ndarray) -> Examples:
        """See `Source`."""
        return self._gather(np.asarray(indices), lambda source, own, rows: source.blank(own))

    def check(self, index: int, *, pixels: bool) -> None:
        """See `Source`."""
        number = int(np.searchsorted(self._ends, index, side='right'))
        self._sources[number].check(index - self._begin(number), pixels=pixels)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `Source`."""
        found: list[dict[str, Any]] = [{} for _ in indices]
        for source, own, rows in self._split(np.asarray(indices)):
            for row, metadata in zip(rows, source.describe(own)):
                found[row] = metadata
        return found

    def _begin(self, number: int) -> int:
        return int(self._ends[number]) - len(self._sources[number])

    def _split(self, indices: np.ndarray) -> list[tuple[Source, np.ndarray, np.ndarray]]:
        """Returns for every source that is asked: itself, its own indices and the rows they are of."""
        numbers = np.searchsorted(self._ends, indices, side='right')
        return [(self._sources[number], indices[rows] - self._begin(number), rows)
                for number in np.unique(numbers) for rows in [np.flatnonzero(numbers == number)]]

    def _gather(self, indices: np.ndarray, read: Callable[[Source, np.ndarray, np.ndarray], Examples]) -> Examples:
        parts = [(rows, read(source, own, rows)) for source, own, rows in self._split(indices)]
        if len(parts) == 1:
            return parts[0][1]
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return {name: np.concatenate([examples[name] for _, examples in parts])[order] for name in parts[0][1]}
