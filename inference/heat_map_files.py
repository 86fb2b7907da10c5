"""Heat maps of image files: pictures and boxes, printed and written."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from ..common.errors import UserError, nearest, printable
from ..common.files import replacing, write_json
from . import output_folder
from .arrays import as_uint8
from .formats import format_csv, format_json
from .heat_map import HeatMap, find_boxes
from .prediction import find_image_files, report_unreadable
from .run import Run

_COLOURS = 'inferno'
_LINE = (0, 255, 120)
_CORNERS = ('left', 'top', 'right', 'bottom')


def predict_heat_maps(run: Run, inputs: Sequence[str], *, class_name: str | None = None,
                      scales: Sequence[float] = (1.0,), windows: bool = False, stride: int = 0, threshold: float = 0.5,
                      invert: bool = False, output: Path | None = None, form: str = 'table') -> int:
    """Writes <name>-heat_map.png, <name>-overlay.png and boxes of each image, and prints the boxes.

    Args:
      inputs: images and folders of images.
      class_name: of what is looked for; of each image its likeliest by default.
      scales: by which images are resized; the heat map shows the largest probability of all.
      windows, stride: see `Run.heat_map`.
      threshold: probability of a box, see `find_boxes`.
      invert: look at 255 - image.
      output: folder to write to; <workdir>/heat_maps by default.
      form: 'table', 'csv' or 'json' for the console.

    Returns:
      Exit code: 2 if some images could not be read, else 0.
    """
    if not 0 < threshold <= 1:
        raise UserError(f'--threshold {threshold:g}: it is a probability, above 0 and at most 1')
    maker = run.heat_map_maker(windows=windows, stride=stride)
    if class_name is not None and class_name not in run.class_names:
        raise UserError(f'--class {class_name}: the run knows no such class; '
                        f'{nearest(class_name, list(run.class_names))}')
    folder = output or run.workdir / 'heat_maps'
    output_folder.check(folder, inputs, '--heat_map', 'the heat maps')
    if reason := maker.differs():
        logging.info('%s may differ from what %s: %s', *(('windows', 'a heat map says of them') if windows else
                                                         ('the heat map', 'each window says by itself')), reason)
    unreadable: list[str] = []
    names = find_image_files(inputs, folder, unreadable)
    rows = []
    try:
        for file, image in run.network().read_files(names, 'looking', unreadable):
            image = np.invert(image) if invert else image
            maps = [maker(image, scale) for scale in scales]
            looked_for = class_name or run.class_names[maps[0].index()]
            boxes = find_boxes(maps, looked_for, threshold=threshold)
            shares = np.max([found.enlarged(looked_for) for found in maps], axis=0)
            stem = folder / names[file]
            pictures = {'heat_map': Image.fromarray(np.round(255 * shares).astype(np.uint8)),
                        'overlay': draw_overlay(as_uint8(image), shares, boxes)}
            row = {'file': str(file), 'class': looked_for,
                   'highest_percent': 100 * float(max(found.probabilities[..., found.index(looked_for)].max()
                                                      for found in maps)),
                   'boxes': boxes, 'maps': [_about(found, scale) for found, scale in zip(maps, scales)],
                   'files': [f'{stem}-{name}.png' for name in pictures]}
            stem.parent.mkdir(parents=True, exist_ok=True)
            for path, picture in zip(row['files'], pictures.values()):
                with replacing(Path(path)) as written:
                    picture.save(written, 'png')
            rows.append(row)
        if rows:
            write_json(folder / 'predictions.json', rows)
            files = {Path(file) for row in rows for file in row['files']}
            output_folder.warn_of_others(folder, files | {folder / 'predictions.json'})
    except OSError as error:
        raise UserError(f'cannot write {folder}: {error.strerror}') from error
    if rows:
        print(_format(rows, form), end='')
        print(f'{len(rows)} heat map(s) of {run.chosen} written to {folder}', file=sys.stderr)
    return report_unreadable(unreadable)


def draw_overlay(image: np.ndarray, probabilities: np.ndarray, boxes: Sequence[dict[str, Any]]) -> Image.Image:
    """Draws probabilities as colours, the brighter the higher, and boxes on a grey version of an image.

    Args:
      image: uint8 [height, width, channels].
      probabilities: float [height, width].
      boxes: see `find_boxes`.
    """
    grey = image[..., :3].mean(axis=-1, keepdims=True)
    colours = 255 * matplotlib.colormaps[_COLOURS](probabilities)[..., :3]
    picture = Image.fromarray(np.round(0.5 * grey + 0.5 * colours).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for box in reversed(boxes):
        left, top, right, bottom = (round(box[side]) for side in _CORNERS)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=_LINE, width=max(1, min(picture.size) // 150))
        pen.text((left + 4, top + 3), f"{box['percent']:.0f} %", fill=_LINE)
    return picture


def _about(found: HeatMap, scale: float) -> dict[str, Any]:
    rows, columns = found.logits.shape[:2]
    return {'scale': scale, 'window': list(found.window), 'stride': found.stride, 'rows': rows, 'columns': columns,
            'seconds': found.seconds}


def _format(rows: Sequence[dict[str, Any]], form: str) -> str:
    if form == 'json':
        return format_json(rows)
    if form == 'csv':
        columns = ('file', 'class', 'percent', *_CORNERS)
        return format_csv([{'file': row['file'], **box, 'percent': f"{box['percent']:.2f}"}
                           for row in rows for box in row['boxes']], columns)
    lines = []
    for row in rows:
        maps, count = row['maps'], len(row['boxes'])
        windows = sum(found['rows'] * found['columns'] for found in maps)
        height, width = maps[0]['window']
        lines.append(f"{row['file']}  {row['class']}: {count or 'no'} box{'' if count == 1 else 'es'}, highest "
                     f"{row['highest_percent']:.2f} %   ({windows:,} windows of {height}x{width} pixels every "
                     f"{maps[0]['stride']} pixels, {sum(found['seconds'] for found in maps):.3f} s)")
        lines += [f"  {box['percent']:6.2f} %  " + '  '.join(f'{side} {box[side]:.0f}' for side in _CORNERS)
                  for box in row['boxes']]
    return ''.join(f'{printable(line)}\n' for line in lines)
