"""Predictions of image files, printed or written."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.errors import UserError, printable
from ..common.files import write_text
from ..input_pipeline import contours, image_search
from ..tasks.detection import Detection
from . import detection_files, output_folder
from .formats import format_csv, format_json
from .run import Run, metadata_of

_FORMS = {'.csv': 'csv', '.json': 'json', '.txt': 'table'}
TOP_K = 3


def predict_files(run: Run, inputs: Sequence[str], *, top_k: int | None = None, invert: bool = False,
                  output: Path | None = None, form: str = 'table', tta: str = 'none', tile: int = 0,
                  boxes: Sequence[str] | None = None) -> int:
    """Predicts image files and prints or writes the result.

    Args:
      inputs: images and folders of images.
      invert: predict 255 - image, for dark on light where the model learned light on dark.
      output: file to write; '.csv' and '.json' choose the form. For a task whose predictions are files, such as
        segmentation, the folder for them; <workdir>/predictions by default.
      form: 'table', 'csv' or 'json' for the console.
      top_k: classes of each image, see `Run.predict`; None: 3, of tasks that tell several.
      tta, tile: see `Run.predict`.
      boxes: of a detector, the formats that found boxes are written in, see detection_files.py; None: the usual ones.

    Returns:
      Exit code: 2 if some images could not be read (all others are predicted and written all the same), else 0.
    """
    run.check_files()
    network, task = run.network(tta), run.task
    if boxes and not isinstance(task, Detection):
        raise UserError(f'--boxes is for detectors; the task of {run.workdir} is {run.config.task.name}')
    check_top_k(run, top_k)
    folder = None
    if task.writes_files:
        folder = output or run.workdir / 'predictions'
        output_folder.check(folder, inputs, run.config.task.name, 'the predictions')
    else:
        check_output(output, form)
    unreadable: list[str] = []
    names = find_image_files(inputs, folder, unreadable, network.suffixes)
    # Unsigned, 8 or 16 bits: the complement is the negative.
    examples = ((file, np.invert(image) if invert else image, metadata_of(file))
                for file, image in network.read_files(names, 'predicting', unreadable))
    rows, found, files = [], {}, set()
    try:
        for file, prediction in run.predictions(network, examples, TOP_K if top_k is None else top_k, tile=tile):
            rows.append({'file': str(file), **prediction.row})
            if folder is not None:
                rows[-1]['files'] = _write_files(folder / names[file], prediction.files)
                files |= set(map(Path, rows[-1]['files']))
            if prediction.found is not None:
                size = prediction.row['width'], prediction.row['height']
                found[names[file]] = detection_files.FoundBoxes(str(file), *size, **prediction.found)
        if found:
            formats = boxes or detection_files.DEFAULT_FORMATS
            files |= detection_files.write(folder, found, task.class_names, task.shown_score, formats)
        written = folder / 'predictions.json' if folder is not None else output
        if rows and written is not None:
            written.parent.mkdir(parents=True, exist_ok=True)
            write_text(written, format_predictions(rows, form_of(written), task))
        if rows and folder is not None:
            output_folder.warn_of_others(folder, files | {written})
    except OSError as error:
        raise UserError(f'cannot write {folder or output}: {error.strerror}') from error
    if rows and (output is None or folder is not None):
        print(format_predictions(rows, form, task), end='')
    if rows and (folder or output):
        print(f'{len(rows)} prediction(s) of {run.chosen} written to {folder or output}',
              file=sys.stdout if folder is None else sys.stderr)
    elif rows:
        logging.info('%s of %s', run.chosen, run.workdir)
    return report_unreadable(unreadable)


def check_top_k(run: Run, top_k: int | None) -> None:
    """Raises UserError if a task that tells no alternatives is asked for some."""
    if top_k is not None and not run.task.takes_top_k:
        raise UserError(f'--top_k {top_k} is for classifiers; the task of {run.workdir} is {run.config.task.name}')


def form_of(output: Path) -> str:
    """Returns the form that the end of a file's name says, '' if it says none."""
    return _FORMS.get(output.suffix.lower(), '')


def check_output(output: Path | None, form: str) -> None:
    """Raises UserError unless the end of a file's name says a form, and not another one than was asked for."""
    if output is not None and not form_of(output):
        raise UserError(f'--output {output}: it ends in .csv, which spreadsheet programs open, in .json, or in .txt '
                        'for a table')
    if output is not None and form not in ('table', form_of(output)):
        raise UserError(f'--output {output} is for --format {form_of(output)}; end it in .{form}')


def write_output(output: Path, text: str) -> None:
    """Writes predictions into a file, whose folder is made. Raises UserError if that cannot be."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, text)
    except OSError as error:
        raise UserError(f'cannot write {output}: {error.strerror}') from error


def report_unreadable(lines: Sequence[str]) -> int:
    """Prints a line on stderr for each file that could not be read; returns the exit code: 2 if there are any."""
    for line in lines:
        print(f'error: {printable(line)}', file=sys.stderr)
    return 2 if lines else 0


def format_predictions(rows: list[dict[str, Any]], form: str, task: Any) -> str:
    """Formats predictions as 'table' ("2 : 96.27 %"), 'csv' or 'json'."""
    if form == 'json':
        return format_json(rows)
    if form == 'csv':
        return format_csv([{'file': row['file'], **task.flatten(row)} for row in rows])
    files = [printable(row['file']) for row in rows]
    width = max(map(len, files), default=0)
    return ''.join(f'{file:<{width}}  {printable(task.describe(row))}\n' for file, row in zip(files, rows))


def find_image_files(inputs: Sequence[str], output: Path | None, unreadable: list[str],
                     suffixes: tuple[str, ...] = image_search.IMAGE_SUFFIXES) -> dict[Path, str]:
    """Returns image file -> a name for it, unique, without suffix: its path below the folder it was found in.

    The name begins with that folder's own where there are several. Files below the folder `output` are left out: they
    are predictions of an earlier call.
    """
    found: dict[Path, str] = {}
    names = set()
    several = sum(Path(text).is_dir() for text in inputs) > 1
    for text in inputs:
        root = Path(text)
        try:
            files = image_search.find_images(root, suffixes)
        except UserError as error:
            unreadable.append(str(error))
            continue
        for file in files:
            if output is not None and root.is_dir() and file.resolve().is_relative_to(output.resolve()):
                continue
            below = file.relative_to(root.parent if several else root) if root.is_dir() else Path(file.name)
            # '..jpg' without its suffix would name the folder itself, and '...jpg' the one above.
            stem = (below if below.stem in ('.', '..') else below.with_suffix('')).as_posix()
            name, number = stem, 1
            while name in names:
                number += 1
                name = f'{stem}-{number}'
            if file not in found:
                found[file] = name
                names.add(name)
    return found


def _write_files(stem: Path, files: dict[str, np.ndarray | None]) -> list[str]:
    """Writes <stem>-<suffix> for each and returns their names; an earlier one that there is none of now is removed."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, content in files.items():
        path = stem.with_name(f'{stem.name}-{suffix}')
        if content is None:
            path.unlink(missing_ok=True)
            continue
        if content.dtype == np.uint8:
            Image.fromarray(content).save(path)
        else:
            contours.write_contour(path, content)
        written.append(str(path))
    return written
