"""Found boxes in the formats of other tools: COCO results, Pascal VOC, YOLO, and rows of a table.

All boxes are cut at the borders of their image, and what is nothing after that is left out.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..common.errors import printable
from ..common.files import write_text
from .formats import format_csv

FORMATS = ('coco', 'csv', 'yolo', 'voc')
DEFAULT_FORMATS = ('coco', 'csv')
CSV_COLUMNS = ('file', 'class', 'score', 'x1', 'y1', 'x2', 'y2')


@dataclasses.dataclass(frozen=True)
class FoundBoxes:
    """What was found in one image.

    Attributes:
      file: the image's name.
      width, height: of the image in its own size.
      boxes: float [n, 4], left, top, right, bottom in pixels of that size; 0 is the left edge of the first pixel, the
        width the right edge of the last.
      scores: float [n].
      classes: int [n]; -1 for what fills up the arrays.
      channels: of the image.
    """
    file: str
    width: int
    height: int
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    channels: int = 3

    def above(self, score: float) -> 'FoundBoxes':
        """Returns what has at least this score."""
        there = self.scores >= score
        return dataclasses.replace(self, boxes=self.boxes[there], scores=self.scores[there],
                                   classes=self.classes[there])

    def items(self) -> Iterable[tuple[int, float, list[float]]]:
        """Returns class, score and box, cut at the image's borders, of everything that has an area."""
        boxes = np.clip(self.boxes.astype(np.float64), 0, [self.width, self.height] * 2)
        for kind, score, box in zip(self.classes, self.scores, boxes.tolist()):
            left, top, right, bottom = box
            if kind >= 0 and left < right and top < bottom:  # never of NaN
                yield int(kind), float(score), box


def write(folder: Path, images: Mapping[str, FoundBoxes], class_names: Sequence[str], shown_score: float,
          formats: Sequence[str] = DEFAULT_FORMATS) -> set[Path]:
    """Writes what was found and returns the files.

    Args:
      folder: of all files: detections.json in COCO's results format, with everything that was found, which metrics
        need; detections.csv; <name>.txt in YOLO's format, as labels to train on, with classes.txt, and <name>.xml in
        Pascal VOC's, of each image. These have what has at least `shown_score`.
      images: name of an image, without suffix -> what was found in it.
      class_names: of the data set.
      shown_score: see above.
      formats: some of FORMATS.
    """
    shown = {name: image.above(shown_score) for name, image in images.items()}
    texts = {}
    if 'coco' in formats:
        texts['detections.json'] = json.dumps(coco_results(list(images.values()))) + '\n'
    if 'csv' in formats:
        texts['detections.csv'] = format_csv(csv_rows(shown.values(), class_names), CSV_COLUMNS)
    if 'yolo' in formats:
        texts['classes.txt'] = ''.join(f'{name}\n' for name in class_names)
        texts |= {f'{name}.txt': yolo_text(image, with_scores=False) for name, image in shown.items()}
    if 'voc' in formats:
        texts |= {f'{name}.xml': voc_xml(image, class_names) for name, image in shown.items()}
    for name, text in texts.items():
        write_text(folder / name, text)
    return {folder / name for name in texts}


def image_ids(files: Sequence[str]) -> list[int]:
    """Returns a number for every file: that of its name, such as COCO's 000000000139.jpg, where all have one of their
    own; else 1, 2, 3 and so on."""
    stems = [PurePath(file).stem for file in files]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) <= 18]
    return numbers if len(set(numbers)) == len(files) else list(range(1, 1 + len(files)))


def coco_results(images: Sequence[FoundBoxes], *, ids: Sequence[int] | None = None,
                 category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Returns COCO's results format, which pycocotools' `loadRes` and labelling tools read.

    Args:
      images: all of them.
      ids: 'image_id' of each; None: see `image_ids`.
      category_ids: 'category_id' of each class; None: 1, 2, 3 and so on, as COCO begins to count.

    Returns:
      Dicts of 'image_id', 'file_name' (not COCO's, but so that the file says what it is about), 'category_id', 'bbox',
      left, top, width and height in pixels to 4 digits, and 'score' to 6.
    """
    ids = image_ids([image.file for image in images]) if ids is None else ids
    return [{'image_id': number, 'file_name': image.file,
             'category_id': kind + 1 if category_ids is None else category_ids[kind],
             'bbox': [round(value, 4) for value in (left, top, right - left, bottom - top)], 'score': round(score, 6)}
            for number, image in zip(ids, images, strict=True)
            for kind, score, (left, top, right, bottom) in image.items()]


def csv_rows(images: Iterable[FoundBoxes], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a row of CSV_COLUMNS for every box: corners in pixels of the image's own size, to 2 digits."""
    return [dict(zip(CSV_COLUMNS, (image.file, class_names[kind], round(score, 6), *(round(edge, 2) for edge in box))))
            for image in images for kind, score, box in image.items()]


def yolo_text(image: FoundBoxes, *, with_scores: bool = True) -> str:
    """Returns a line 'class centre_x centre_y width height score' for every box, in shares of the image's size.

    Args:
      image: what was found.
      with_scores: labels to train with have none.
    """
    lines = []
    for kind, score, (left, top, right, bottom) in image.items():
        shares = ((left + right) / 2 / image.width, (top + bottom) / 2 / image.height, (right - left) / image.width,
                  (bottom - top) / image.height, *([score] if with_scores else []))
        lines.append(' '.join([str(kind), *(f'{share:.6f}' for share in shares)]) + '\n')
    return ''.join(lines)


def voc_xml(image: FoundBoxes, class_names: Sequence[str]) -> str:
    """Returns an annotation as of Pascal VOC, with 'confidence' besides.

    VOC counts pixels from 1 and names the first and the last that are within: left and top are 1 more than ours, right
    and bottom are the same. Labelling tools take whole numbers only, so edges move to the nearest border of pixels.
    """
    root = ElementTree.Element('annotation')
    path = PurePath(image.file)
    _add(root, {'folder': path.parent.name, 'filename': path.name})
    _add(ElementTree.SubElement(root, 'size'), {'width': image.width, 'height': image.height, 'depth': image.channels})
    _add(root, {'segmented': 0})
    for kind, score, (left, top, right, bottom) in image.items():
        found = ElementTree.SubElement(root, 'object')
        _add(found, {'name': class_names[kind], 'pose': 'Unspecified', 'truncated': 0, 'difficult': 0,
                     'confidence': f'{score:.6f}'})
        (left, right), (top, bottom) = _whole(left, right, image.width), _whole(top, bottom, image.height)
        edges = {'xmin': left + 1, 'ymin': top + 1, 'xmax': right, 'ymax': bottom}
        _add(ElementTree.SubElement(found, 'bndbox'), edges)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode') + '\n'


def _whole(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(round(low), size - 1)
    return first, max(round(high), first + 1)


def _add(parent: ElementTree.Element, texts: Mapping[str, Any]) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = printable(str(text))  # XML has no control characters
