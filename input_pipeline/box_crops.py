"""Windows of images with boxes, as class folders: what a classifier learns from that is slid over images.

Windows are squares within an image, as those of inference/heat_map.py are. One that overlaps an object well enough to
count as a find, with an intersection over union of 0.5 and nearly as well as any square can, is of that object's class;
one that overlaps all objects by less than 0.4 is background, also where it shows a part of one: so the classifier
learns where an object ends (Girshick et al. 2014, "Rich feature hierarchies for accurate object detection", section
2.3). Those between are left out.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common import box_overlaps
from ..common.console import ProgressLog
from ..common.errors import UserError, file_error, some
from ..common.files import replacing_folder
from . import sources

BACKGROUND = 'background'
_FOUND, _MISSED = 0.5, 0.4  # overlap with an object from which on a window shows it, and below which it does not
_AS_WELL = 0.85  # overlap that a window needs, as a share of that of the window that fits best
_TRIED = 2000  # windows of an image that are looked at
_QUALITY = 95  # of JPEGs


def write_crops(data: Mapping[str, Any], image: Mapping[str, Any], splits: Mapping[str, str], output: Path, *,
                side: int = 256, per_object: int = 8, background: int = 16, smallest: float = 0.3, seed: int = 0
                ) -> dict[str, dict[str, int]]:
    """Writes <output>/<name>/<class>/*.jpg, for the source 'folder'; the folder is there as a whole or not at all.

    Args:
      data, image: config.data and config.image, of data with boxes; windows are cut out of images as they are read, but
        in their own proportions.
      splits: name of a folder -> split.
      output: new folder.
      side: of the crops, in pixels.
      per_object: windows of each object, at most; the one that fits best is always among them.
      background: windows of each image that show no object, at most.
      smallest: side of a window, as a share of the image's shorter side.
      seed: of the windows.

    Returns:
      name -> class -> windows.

    Raises:
      UserError: data without boxes, a number out of its range, or what cannot be written.
    """
    for name, value in (('side', side), ('per_object', per_object), ('background', background)):
        if value < 1:
            raise UserError(f'--{name} {value}: it must be at least 1')
    if not 0 < smallest <= 1:
        raise UserError(f'--smallest {smallest:g}: it is a share of the shorter side, above 0 and at most 1')
    if output.exists():
        raise UserError(f'{output} is there already: give --output a new folder')
    opened = {name: sources.open_split(data, image, split) for name, split in splits.items()}
    counts = {}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(output) as folder:
            for name, source in opened.items():
                _check(source, image)
                counts[name] = _write(source, folder / name, (side, per_object, background, smallest, seed))
    except OSError as error:
        raise file_error(error.filename or output, f'cannot be written: {error.strerror}') from error
    return counts


def draw_windows(boxes: np.ndarray, size: tuple[int, int], smallest: float, random: np.random.Generator
                 ) -> tuple[np.ndarray, np.ndarray]:
    """Returns squares within an image, float64 [n, 4], and their overlap with each box, float64 [n, boxes].

    Args:
      boxes: float [boxes, 4], left, top, right, bottom in pixels.
      size: height and width of the image.
      smallest: side of a square, as a share of the shorter side of the image.
      random: where they are, and how large: small factors are as likely at any size.
    """
    sides = min(size) * smallest ** random.random(_TRIED)
    top, left = ((length - sides) * random.random(_TRIED) for length in size)
    windows = np.stack([left, top, left + sides, top + sides], axis=-1)
    return windows, box_overlaps.iou(windows, boxes)


def _check(source: Any, image: Mapping[str, Any]) -> None:
    if not source.has_boxes:
        raise UserError(f'{source.name} has no boxes: crops are cut out of images with boxes')
    if image['bits'] != 8 or image['channels'] not in (1, 3):
        raise UserError('crops are JPEGs: config.image.bits must be 8 and config.image.channels 1 or 3')
    for name in source.info.class_names:
        if name == BACKGROUND or '/' in name or name.startswith('.'):
            raise UserError(f'a class is called {name!r}: the crops of a class are in a folder of that name, beside '
                            f'{BACKGROUND!r}')


def _write(source: Any, folder: Path, settings: tuple[int, int, int, float, int]) -> dict[str, int]:
    side, per_object, background, smallest, seed = settings
    counts = dict.fromkeys((*source.info.class_names, BACKGROUND), 0)
    without, tick = 0, ProgressLog(f'cutting windows out of {source.name}', len(source))
    for index in range(len(source)):
        indices = np.asarray([index])
        example = {name: values[0] for name, values in source.read(indices).items()}
        about = source.describe(indices)[0]
        height, width, channels = example['image'].shape
        own = about.get('height', height), about.get('width', width)
        factors = np.tile([own[1] / width, own[0] / height], 2)
        there = example['box_labels'] >= 0
        labels, crowd = example['box_labels'][there], example['box_crowd'][there] > 0
        random = np.random.Generator(np.random.Philox(key=[seed, index]))
        windows, overlaps = draw_windows(example['boxes'][there] * factors, own, smallest, random)
        best = overlaps.max(axis=1, initial=0.0)
        chosen = [(BACKGROUND, i) for i in np.flatnonzero(best < _MISSED)[:background]]
        for box in np.flatnonzero(~crowd):
            least = max(_FOUND, _AS_WELL * overlaps[:, box].max())
            found = np.flatnonzero((overlaps[:, box] >= least) & (overlaps[:, box] == best))
            without += not len(found)
            found = sorted(found, key=lambda i: i != overlaps[:, box].argmax())[:per_object]
            chosen += [(source.info.class_names[labels[box]], i) for i in found]
        picture = Image.fromarray(example['image'] if channels == 3 else example['image'][..., 0])
        stem = Path(str(about.get('file', index))).with_suffix('').as_posix().replace('/', '-')
        for number, (name, i) in enumerate(chosen):
            crop = picture.resize((side, side), Image.Resampling.BICUBIC, tuple((windows[i] / factors).tolist()))
            (folder / name).mkdir(parents=True, exist_ok=True)
            crop.save(folder / name / f'{stem}-{index}-{number}.jpg', quality=_QUALITY)
            counts[name] += 1
        tick(index)
    if without:
        logging.warning('%s: no square window shows %d of the objects well: they are too long, or too small for '
                        '--smallest %g', source.name, without, smallest)
    if empty := [name for name, count in counts.items() if not count]:
        logging.warning('%s: no crop of %s, and no folder for %s: a classifier learns from these crops and is '
                        'evaluated on those of other sets only if all have the same classes', source.name, some(empty),
                        'them' if len(empty) > 1 else 'it')
    return counts
