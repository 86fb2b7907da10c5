"""Predicting from a checkpoint alone: config, class names and preprocessing travel in it."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import tasks
from input_pipeline import contours, dicom, images, preprocessing
from tasks.prediction import Prediction
from training import checkpoints
from training import config as config_lib
from training.components import build_model
from training.errors import UserError
from training.progress import Ticker

_LARGEST_BATCH = 64
_BATCH_PIXELS = 2**19  # a network's intermediate results may take a thousand bytes for each

_FORMS = {'.csv': 'csv', '.json': 'json', '.txt': 'table'}


class Predictor:
    """A trained model with everything it needs to look at pictures.

    Args:
      workdir: of a run.
      step: 'best', 'last' or a number. 'best' is the last one where no metric ranks them.

    Attributes:
      size, channels: of the pictures it takes.
      batch_size: how many of them it looks at together.

    Raises:
      UserError: no such checkpoint, or one whose arrays do not fit its config.
    """

    def __init__(self, workdir: Path, step: str | int = 'best'):
        checkpoint = checkpoints.read(workdir, step)
        self.step = checkpoint.step
        self.config = config_lib.from_dict(checkpoint.meta['config'])
        self.task = tasks.build(self.config.task, checkpoint.meta['data'])
        self.variables = checkpoint.variables
        self.size, self.channels = tuple(self.config.image.size), self.config.image.channels
        self.batch_size = max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // (self.size[0] * self.size[1])))
        model = build_model(self.config, self.task)
        prepare = preprocessing.build(self.config.image)

        def apply(variables, batch):
            return model.apply(variables, *self.task.inputs(prepare(batch, None)), train=False)
        self._apply = jax.jit(apply)

    def outputs(self, pictures: np.ndarray) -> np.ndarray:
        """Returns the model's outputs for at most `batch_size` pictures, uint8 [n, height, width, channels]."""
        n = len(pictures)
        padded = np.concatenate([pictures, np.zeros((self.batch_size - n, *pictures.shape[1:]), pictures.dtype)])
        return np.asarray(self._apply(self.variables, {'image': padded}))[:n]

    def __call__(self, pictures: np.ndarray, top_k: int = 5) -> list[dict[str, Any]]:
        """Predicts pictures of the model's size.

        Args:
          pictures: uint8 [n, height, width, channels].
          top_k: how many classes to return of each.
        """
        parts = [pictures[begin:begin + self.batch_size] for begin in range(0, len(pictures), self.batch_size)]
        return [self.task.predict(output, picture, {}, top_k).row
                for part in parts for output, picture in zip(self.outputs(part), part)]


def predict_files(workdir: Path, inputs: Sequence[str], *, step: str | int = 'best', top_k: int = 3,
                  invert: bool = False, output: Path | None = None, form: str = 'table') -> int:
    """Predicts picture files and prints or writes the result.

    Args:
      inputs: pictures and folders of pictures.
      invert: predict 255 - picture, for dark on light where the model learned light on dark.
      output: file to write; '.csv' and '.json' choose the form. For a task whose predictions are files, such as
        segmentation, the folder for them; <workdir>/predictions by default.
      form: 'table', 'csv' or 'json' for the console.

    Returns:
      Exit code: 2 if some pictures could not be read (all others are predicted and written all the same), else 0.
    """
    if top_k < 1:
        raise UserError(f'--top_k {top_k}: it must be at least 1')
    predictor = Predictor(workdir, step)
    if predictor.config.data.source == 'arrays':
        raise UserError(f'{predictor.config.experiment} in {workdir} was trained on numbers, it cannot look at '
                        'pictures')
    task = predictor.task
    folder = None
    if task.writes_files:
        folder = output or workdir / 'predictions'
        if any(Path(text).is_dir() and Path(text).resolve() == folder.resolve() for text in inputs):
            raise UserError(f'--output {folder}: the pictures are there; give the predictions a folder of their own')
        if folder.suffix in _FORMS or folder.is_file():
            raise UserError(f'--output {folder}: {predictor.config.task.name} writes files for each picture, give it a '
                            'folder')
    elif output is not None and (output.suffix not in _FORMS or output.suffix == '.txt' and form != 'table'):
        raise UserError(f'--output {output}: it ends in .csv or .json, or in .txt for a table')
    unreadable: list[str] = []
    rows = []
    try:
        for file, name, prediction in _predictions(predictor, _find(inputs, folder, unreadable), top_k, invert,
                                                    unreadable):
            rows.append({'file': str(file), **prediction.row})
            if folder is not None:
                rows[-1]['files'] = _write_files(folder / name, prediction.files)
        if folder is not None and rows:
            (folder / 'predictions.json').write_text(format_predictions(rows, 'json', task))
        if output is not None and folder is None and rows:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(format_predictions(rows, _FORMS[output.suffix], task))
    except OSError as error:
        raise UserError(f'cannot write {folder or output}: {error.strerror}') from error
    if rows and (output is None or folder is not None):
        print(format_predictions(rows, form, task), end='')
    if rows and (folder or output):
        print(f'{len(rows)} prediction(s) of step {predictor.step:,} written to {folder or output}',
              file=sys.stdout if folder is None else sys.stderr)
    for line in unreadable:
        print(f'error: {line}', file=sys.stderr)
    return 2 if unreadable else 0


def format_predictions(rows: list[dict[str, Any]], form: str, task: Any) -> str:
    """Formats predictions as 'table' ("2 : 96.27 %"), 'csv' or 'json'."""
    if form == 'json':
        return json.dumps(rows, indent=2) + '\n'
    if form == 'csv':
        flat = [{'file': row['file'], **task.flatten(row)} for row in rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(flat[0]) if flat else ['file'], lineterminator='\n')
        writer.writeheader()
        writer.writerows(flat)
        return text.getvalue()
    width = max((len(row['file']) for row in rows), default=0)
    return ''.join(f"{row['file']:<{width}}  {task.describe(row)}\n" for row in rows)


def _find(inputs: Sequence[str], output: Path | None, unreadable: list[str]) -> dict[Path, str]:
    """Returns picture file -> a name for it, unique, without suffix: its path below the folder it was found in.

    The name begins with that folder's own where there are several. Files below the folder `output` are left out: they
    are predictions of an earlier call.
    """
    found: dict[Path, str] = {}
    names = set()
    several = sum(Path(text).is_dir() for text in inputs) > 1
    for text in inputs:
        root = Path(text)
        try:
            files = images.find_images(root)
        except UserError as error:
            unreadable.append(str(error))
            continue
        for file in files:
            if output is not None and root.is_dir() and file.resolve().is_relative_to(output.resolve()):
                continue
            below = file.relative_to(root.parent if several else root) if root.is_dir() else Path(file.name)
            stem = below.with_suffix('').as_posix()
            name, number = stem, 1
            while name in names:
                number += 1
                name = f'{stem}-{number}'
            if file not in found:
                found[file] = name
                names.add(name)
    return found


def _predictions(predictor: Predictor, files: dict[Path, str], top_k: int, invert: bool,
                 unreadable: list[str]) -> Iterator[tuple[Path, str, Prediction]]:
    """Yields (file, name, prediction), batch by batch; what cannot be read is added to `unreadable`."""
    tick = Ticker('predicting', len(files))
    waiting: list[tuple[Path, np.ndarray]] = []

    def predict_waiting():
        resized = np.stack([images.resize(picture, predictor.size) for _, picture in waiting])
        for (file, picture), output in zip(waiting, predictor.outputs(resized)):
            spacing = dicom.pixel_spacing(file) if dicom.is_dicom(file) else None
            yield file, files[file], predictor.task.predict(output, picture, {'spacing_mm': spacing}, top_k)

    for number, file in enumerate(files):
        try:
            picture = images.read_image(file, channels=predictor.channels)
            waiting.append((file, 255 - picture if invert else picture))
        except UserError as error:
            unreadable.append(str(error))
        if len(waiting) == predictor.batch_size:
            yield from predict_waiting()
            waiting = []
        tick(number)
    if waiting:
        yield from predict_waiting()


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
