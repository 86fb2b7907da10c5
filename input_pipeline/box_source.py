"""Images with boxes around their objects: what the sources of Pascal VOC, COCO, YOLO and tfds have in common.

A reader of one format turns its files into `Annotations`; `BoxSource` looks at the images, says what is wrong with the
boxes, and makes of them the arrays that input_pipeline/source.py describes, the same ones for every format.

Boxes are of the image as it is shown, turned upright by its EXIF data: browsers and today's labelling tools show it so.
An annotation that was made of the image lying, by a tool that does not look at EXIF data, has width and height
exchanged, and is refused with what to do.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common.console import warn_once
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, printable
from ..common.json_cache import cached_json
from ..common.threads import parallel_map
from . import folder_source, images, memory
from .image_files import ImageFilesSource
from .source import Examples

_NAMED = 3  # in messages
_CHUNK = 256  # images whose headers are looked at per task
_LEAST_SIDE = 1e-3  # pixels, of what is left of a box inside its image
_OVER_EDGE = 1.0  # pixels that boxes reach over the edge without a word: by rounding, or by counting from 0
_ROUNDED, _SHARES = 0.01, 0.5  # beyond 1; share of boxes within it from which on they are no pixels
_MISTAKEN = 0.2  # share of boxes that reach farther, from which on all of them are taken to be misread


class Box(NamedTuple):
    """One object.

    Attributes:
      number: of the object within its annotation, for messages, see `Annotations.each`.
      label: its class.
      corners: left, top, right, bottom in pixels of the image's own size, or in shares of it, as float64 or float.
      crowd: see 'box_crowd' in source.py.
    """
    number: int
    label: int
    corners: tuple[float, float, float, float]
    crowd: bool = False


@dataclasses.dataclass(slots=True)
class Annotated:
    """What is said of one image.

    Attributes:
      name: path of the image below the folder of images, with '/': its name, and its place in the order.
      file: the image.
      where: the file of the annotation, for messages.
      boxes: of its objects; none for an image that is known to have none.
      size: (width, height) in pixels that the annotation says the image has; None: it does not.
      entry: where in that file this is said, where it is of many images.
    """
    name: str
    file: Path
    where: str
    boxes: list[Box] = dataclasses.field(default_factory=list)
    size: tuple[int, int] | None = None
    entry: str = ''


@dataclasses.dataclass
class Annotations:
    """What a reader found of a split.

    Attributes:
      kind: name of the source.
      name: of the split, for messages.
      images: in any order.
      class_names: in the order of their labels.
      missing: why annotations are left out that have no image.
      each: how `Box.number` is said, such as 'line {}'.
      shares: whether boxes are in shares of width and height rather than pixels.
      mistake: says what looks wrong with all boxes together, or ''; gets their corners, float64 [boxes, 4], and own
        (width, height), float64 [boxes, 2], both in pixels.
    """
    kind: str
    name: str
    images: list[Annotated]
    class_names: tuple[str, ...]
    missing: list[str]
    each: str
    shares: bool = False
    mistake: Callable[[np.ndarray, np.ndarray], str] = lambda corners, own: ''


class BoxSource(ImageFilesSource):
    """One split of images with boxes, from files.

    The order is the fixed pseudo-random one of `folder_source`, by the path below the folder of images. What is left
    out is counted and named in one line of the log, up to the limit config.data.max_unreadable of each kind:
    annotations whose image is not there, or of another size than they say; boxes that are not finite, have no area or
    lie outside of their image. Boxes that reach over the edge are cut off there.

    Args:
      found: by a reader.
      max_boxes: config.data.max_boxes.
      image: see `ImageFilesSource`.
      limit: config.data.max_unreadable.

    Raises:
      UserError: no images; more left out than the limit; boxes that look like another format's; more boxes in an image
        than there is room for.
    """
    has_boxes = True

    def __init__(self, found: Annotations, max_boxes: int, image: Any, limit: float):
        if not found.images:
            raise UserError(f'{found.name} has no image with annotations'
                            + (f': {_some(found.missing)}' if found.missing else ''))
        annotated = sorted(found.images, key=lambda one: folder_source.order(Path(one.name), Path()))
        own, self._unknown = _own_sizes([one.file for one in annotated])
        wrong = [_wrong_size(one, size) for one, size in zip(annotated, own)]
        if reasons := [*found.missing, *filter(None, wrong)]:
            report(reasons, len(annotated) + len(found.missing), 'annotations', found.name, limit)
        kept = [i for i, reason in enumerate(wrong) if not reason]
        self._unknown = {row: self._unknown[i] for row, i in enumerate(kept) if i in self._unknown}
        self._names = [annotated[i].name for i in kept]
        self._own = np.asarray([own[i] or (0, 0) for i in kept], np.int64).reshape(-1, 2)
        self._kind = found.kind
        features = _arrays(found, [annotated[i] for i in kept], self._own, tuple(image['size']), max_boxes, limit)
        info = DatasetInfo(class_names=found.class_names, input_size=tuple(image['size']))
        super().__init__(found.name, Path(), [annotated[i].file for i in kept], features, info, image)

    @property
    def identity(self) -> list:
        """See `Source`; of the annotations it is what was understood of them."""
        digest = hashlib.sha256()
        for name in ('boxes', 'box_labels', 'box_crowd'):
            digest.update(self._features[name])
        return [self._kind, self._size, self._channels, self.info.to_json(), self._features['boxes'].shape,
                digest.hexdigest(), self._names, *self.files_identity, *images.more_identity(self._resize, self._bits)]

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """Returns 'image', 'boxes', 'box_labels' and 'box_crowd', see source.py.

        Raises:
          UserError: an image cannot be read.
        """
        for i in indices if self._unknown else ():
            self._check_known(int(i))
        return super().read(indices, uniforms)

    def check(self, index: int, *, pixels: bool) -> None:
        """See `Source`."""
        self._check_known(index)
        super().check(index, pixels=pixels)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'file', its path below the folder of images, and its own 'width' and 'height' in pixels."""
        return [{'file': printable(self._names[i])}
                | ({} if i in self._unknown else dict(zip(('width', 'height'), self._own[i].tolist())))
                for i in np.asarray(indices).tolist()]

    def _check_known(self, index: int) -> None:
        """Without its size it is not known where in an image the boxes are."""
        if index in self._unknown:
            raise UserError(self._unknown[index])


def pad(boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray, rows: np.ndarray, count: int, max_boxes: int
        ) -> Examples:
    """Returns the features 'boxes', 'box_labels' and 'box_crowd' of some examples, see source.py.

    Args:
      boxes: [boxes, 4] of all of them, one example after the other.
      labels: [boxes].
      crowd: [boxes].
      rows: int [boxes], the example of each.
      count: of examples.
      max_boxes: room in each; no example has more.
    """
    counts = np.bincount(rows, minlength=count)
    slots = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    padded = {'boxes': np.zeros((count, max_boxes, 4), np.float32),
              'box_labels': np.full((count, max_boxes), -1, np.int32),
              'box_crowd': np.zeros((count, max_boxes), np.uint8)}
    for name, values in (('boxes', boxes), ('box_labels', labels), ('box_crowd', crowd)):
        padded[name][rows, slots] = values
    return padded


def check_room(most: int, max_boxes: int, where: str) -> None:
    """Raises UserError if an image, `where`, has more boxes than config.data.max_boxes.

    Args:
      most: boxes of the image that has most of them.
      max_boxes: config.data.max_boxes.
      where: that image.
    """
    if max_boxes < 1:
        raise UserError(f'config.data.max_boxes = {max_boxes}: it must be at least 1')
    if most > max_boxes:
        raise UserError(f'{where} has {most:,} boxes: set config.data.max_boxes = {most}, it is {max_boxes}')


def report(reasons: Sequence[str], total: int, what: str, name: str, limit: float) -> None:
    """Warns, once, of what is left out.

    Args:
      reasons: why, of each.
      total: how many there are, used and left out.
      what: they are, 'boxes'.
      name: of the data set.
      limit: config.data.max_unreadable.

    Raises:
      UserError: they are more than `limit` of `total`, or all.
    """
    text = f'{len(reasons):,} of {total:,} {what} in {name}'
    if len(reasons) > limit * total or len(reasons) == total:
        raise UserError(f'{text} cannot be used, more than config.data.max_unreadable = {limit} allows: '
                        f'{_some(reasons)}')
    warn_once(f'{text} cannot be used and are left out: {_some(reasons)}')


def _arrays(found: Annotations, annotated: Sequence[Annotated], own: np.ndarray, size: tuple[int, int],
            max_boxes: int, limit: float) -> Examples:
    """Returns the boxes of images as features, in pixels of the size (height, width).

    Args:
      own: int [images, 2], width and height of each image; 0 where they are not known, and their boxes left out.
    """
    entries = [(row, box) for row, one in enumerate(annotated) if own[row].all() for box in one.boxes]
    rows = np.fromiter((row for row, _ in entries), np.int64, len(entries))
    corners = np.asarray([box.corners for _, box in entries], np.float64).reshape(-1, 4)
    labels = np.fromiter((box.label for _, box in entries), np.int32, len(entries))
    crowd = np.fromiter((box.crowd for _, box in entries), np.uint8, len(entries))
    sides = np.tile(own[rows], 2).astype(np.float64)  # width, height, width, height
    corners = corners * sides if found.shares else corners
    _check_format(found, corners, sides[:, :2])
    clipped = np.clip(corners, 0, sides)
    faults = {}
    for text, wrong in (('is not finite', ~np.isfinite(corners).all(1)),
                        ('has no area', (corners[:, 2:] <= corners[:, :2]).any(1)),
                        ('lies outside of the image', ~(clipped[:, 2:] - clipped[:, :2] >= _LEAST_SIDE).all(1))):
        for i in np.flatnonzero(wrong).tolist():
            faults.setdefault(i, text)
    if faults:
        reasons = [_fault(found, annotated[rows[i]], entries[i][1], corners[i], own[rows[i]], faults[i])
                   for i in sorted(faults)]
        report(reasons, len(entries), 'boxes', found.name, limit)
    kept = np.setdiff1d(np.arange(len(entries)), list(faults)).astype(np.int64)
    _warn_of_cut(corners[kept], sides[kept], found.name)
    counts = np.bincount(rows[kept], minlength=len(annotated))
    fullest = int(counts.argmax())
    check_room(int(counts[fullest]), max_boxes, f'{found.name}: {annotated[fullest].name}')
    scale = np.tile(size[::-1], 2) / sides[kept]
    return pad(clipped[kept] * scale, labels[kept], crowd[kept], rows[kept], len(annotated), max_boxes)


def _check_format(found: Annotations, corners: np.ndarray, own: np.ndarray) -> None:
    """Raises UserError for boxes that seem to be written in another form than the format's."""
    finite = np.isfinite(corners).all(1)
    corners, own = corners[finite], own[finite]
    if not len(corners):
        return
    mistake = found.mistake(corners, own)
    tiny = (corners <= 1 + _ROUNDED).all(1) & (own > 1).all(1)
    if not found.shares and tiny.mean() > _SHARES:
        how_many = 'no coordinate' if tiny.all() else f'no coordinate of {tiny.sum():,} of {len(tiny):,} boxes'
        mistake = f'{how_many} is above 1: these look like shares of width and height, as YOLO has them, not pixels'
    if mistake:
        raise UserError(f'{found.name}: {mistake}')


def reaching_out(corners: np.ndarray, own: np.ndarray) -> float:
    """Returns the share of boxes that reach over an edge of their image by more than 1 % of its side and a pixel.

    Args:
      corners: float64 [boxes, 4], in pixels.
      own: float64 [boxes, 2], width and height of their images.
    """
    over = np.maximum(-corners[:, :2], corners[:, 2:] - own)
    return float((over > 0.01 * own + _OVER_EDGE).any(1).mean())


def are_many(share: float) -> bool:
    """Whether so large a share of all boxes is wrong that the format is, rather than they."""
    return share > _MISTAKEN


def _fault(found: Annotations, one: Annotated, box: Box, corners: np.ndarray, own: np.ndarray, text: str) -> str:
    sides = ', '.join(f'{name} {value:.7g}' for name, value in zip(('left', 'top', 'right', 'bottom'), corners))
    size = f' of {own[0]}x{own[1]} pixels' if 'outside' in text else ''
    return printable(f'{one.where}: {found.each.format(box.number)} ({found.class_names[box.label]}) {text}{size} '
                     f'({sides})')


def _warn_of_cut(corners: np.ndarray, sides: np.ndarray, name: str) -> None:
    over = np.maximum(-corners, corners - sides).max(1, initial=0)
    if cut := int((over > _OVER_EDGE).sum()):
        warn_once(f'{cut:,} of {len(corners):,} boxes in {name} reach over the edge of their image, by up to '
                  f'{over.max():.4g} pixels, and are cut off there')


def _wrong_size(one: Annotated, own: tuple[int, int] | None) -> str:
    """Returns what is to be said of an annotation of another image's size; '' if it is right or not known."""
    if one.size is None or own is None or tuple(one.size) == tuple(own):
        return ''
    where = f'{one.where}: {one.entry}' if one.entry else one.where
    text = f'{where} is of an image of {one.size[0]}x{one.size[1]} pixels, {one.name} has {own[0]}x{own[1]}'
    if tuple(one.size) == tuple(own[::-1]) and images.is_turned(one.file):
        text += (' when its EXIF data have turned it upright: it was labelled lying; remove them with exiftool '
                 '-Orientation= FILE')
    return printable(text)


def _own_sizes(files: Sequence[Path]) -> tuple[list[tuple[int, int] | None], dict[int, str]]:
    """Returns (width, height) of every image, None of those that cannot be read, and why by index."""
    def size(file: Path) -> tuple[int, int] | str:
        try:
            return images.upright_size(file)[::-1]
        except UserError as error:
            return str(error)

    def compute() -> list[list[int] | None]:
        chunks = [files[i:i + _CHUNK] for i in range(0, len(files), _CHUNK)]
        return [None if isinstance(one, str) else [int(side) for side in one]
                for sizes in parallel_map(lambda chunk: list(map(size, chunk)), chunks) for one in sizes]

    found = cached_json('sizes', [[str(file.absolute()) for file in files], memory.fingerprint(files)], compute,
                        'looking at the sizes of images')
    unknown = {}
    for i, known in enumerate(found):
        if known is None:  # again: permissions may have changed
            again = size(files[i])
            found[i] = None if isinstance(again, str) else again
            if isinstance(again, str):
                unknown[i] = again
    return [None if one is None else tuple(one) for one in found], unknown


def _some(names: Sequence[str]) -> str:
    return '; '.join(names[:_NAMED]) + ('; ...' if len(names) > _NAMED else '')
