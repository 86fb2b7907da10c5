"""Predicting from a checkpoint alone: config, class names and preprocessing travel in it."""

import csv
import functools
import io
import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from .. import tasks
from ..common.console import ProgressLog
from ..common.errors import UserError
from ..input_pipeline import contours, dicom, images, preprocessing
from ..input_pipeline.views import Views
from ..tasks.prediction import Prediction
from ..training import checkpoints, forward
from ..training import config as config_lib
from ..training.forward import build_model
from ..training.step import apply_model

_LARGEST_BATCH = 64
_BATCH_PIXELS = 2**19  # a network's intermediate results may take a thousand bytes for each

_FORMS = {'.csv': 'csv', '.json': 'json', '.txt': 'table'}


class ImageModel:
    """A checkpoint's network behind one compiled function, which takes a fixed number of images.

    Args:
      checkpoint: its step is remembered.
      config: of the run.
      variables: what `apply` needs of the checkpoint's variables.
      apply: apply(variables, batch) -> [batch, ...], of what preprocessing makes of a batch.
      size: (height, width) that images are brought to; config.image.size by default.
      views: how often `apply` looks at each image.

    Attributes:
      size, channels: of the images it takes.
      frames: of the videos that it takes instead; 1 for images.
      batch_size: how many of them it looks at together.
    """

    def __init__(self, checkpoint: checkpoints.Checkpoint, config: ConfigDict, variables: Any, apply: Callable, *,
                 size: tuple[int, int] | None = None, views: int = 1):
        self.step, self.config = checkpoint.step, config
        self.variables = jax.device_put(variables)
        self.size, self.channels = tuple(size or config.image.size), config.image.channels
        self.frames = checkpoint.info.frames
        pixels = views * self.frames * self.size[0] * self.size[1]
        self.batch_size = max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // pixels))
        prepare = preprocessing.build(config.image)
        self._apply = jax.jit(lambda variables, batch: apply(variables, prepare(batch, None)))

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """Returns a picture of any size, uint8 [(frames,) height, width, channels], in the size it takes."""
        if picture.ndim == 4:
            return np.stack([self.fit(frame) for frame in picture])
        return images.fit(picture, self.size, self.config.image.resize)

    def start(self, pictures: np.ndarray) -> Any:
        """Starts what `outputs` returns, without waiting for it; rows after the first n mean nothing."""
        n = len(pictures)
        padded = np.concatenate([pictures, np.zeros((self.batch_size - n, *pictures.shape[1:]), pictures.dtype)])
        return self._apply(self.variables, {'image': padded})

    def outputs(self, pictures: np.ndarray) -> list[Any]:
        """Returns the outputs for each of at most `batch_size` images, uint8 [n, height, width, channels]."""
        outputs = jax.tree.map(np.asarray, self.start(pictures))
        return [jax.tree.map(lambda values: values[row], outputs) for row in range(len(pictures))]

    def read(self, files: Collection[Path], what: str, unreadable: list[str], *, invert: bool = False
             ) -> Iterator[tuple[Path, np.ndarray]]:
        """Yields (file, image) with progress; what cannot be read is added to `unreadable`.

        Args:
          what: is being done, for the progress.
          invert: yield 255 - image.

        Yields:
          Images in their own size, uint8 [height, width, channels].
        """
        tick = ProgressLog(what, len(files))
        for number, file in enumerate(files):
            try:
                if self.frames > 1:
                    picture = images.read_video(file, frames=self.frames, channels=self.channels)
                else:
                    picture = images.read_image(file, channels=self.channels)
                yield file, 255 - picture if invert else picture
            except UserError as error:
                unreadable.append(str(error))
            tick(number)


class Predictor(ImageModel):
    """A trained model with everything it needs to look at images.

    Args:
      workdir: of a run.
      step: 'best', 'last' or a number. 'best' is the last one where no metric ranks them.
      tta: test-time augmentation, see input_pipeline/views.py.
      overrides: changes of config.task, such as 'task.decisions=...'.

    Raises:
      UserError: no such checkpoint, one whose arrays do not fit its config, or one without a head.
    """

    def __init__(self, workdir: Path, step: str | int = 'best', *, tta: str = 'none', overrides: Sequence[str] = ()):
        for override in overrides:
            if not override.startswith('task.') or override.startswith('task.name='):
                raise UserError(f'--config.{override}: that is for the checkpoint to say; predict takes fields of '
                                'config.task, such as --config.task.decisions')
        checkpoint, config = read_checkpoint(workdir, step)
        for override in overrides:
            config_lib.apply_override(config, override)
        if config.task.name == 'language_model':
            raise UserError(f'{workdir} is a language model, it looks at no images: use launch.py generate')
        if checkpoint.info.class_names == ():
            raise UserError(f'{workdir} is a body without a head, it predicts nothing: train a head on it with '
                            '--config.init_from.workdir, or compare images with launch.py embed')
        self.task = tasks.build(config.task, checkpoint.info)
        views = Views(tta, config.image.size)
        config.image.resize = views.resize(config.image.resize)
        model = build_model(config, self.task)
        if self.task.generates:
            if views.count > 1:
                raise UserError(f"--tta {tta}: {config.task.name} takes 'none' alone")
            apply = functools.partial(self.task.generate, model)
        else:
            apply = forward.in_views(model, self.task, views) if views.count > 1 else apply_model(model, self.task)
            apply = functools.partial(apply, train=False)
        super().__init__(checkpoint, config, checkpoint.variables, apply, size=views.read_size, views=views.count)

    def __call__(self, pictures: np.ndarray, top_k: int = 5) -> list[dict[str, Any]]:
        """Predicts images of the size it takes.

        Args:
          images: uint8 [n, height, width, channels].
          top_k: how many classes to return of each.
        """
        parts = [pictures[begin:begin + self.batch_size] for begin in range(0, len(pictures), self.batch_size)]
        return [self.task.predict(output, picture, {}, top_k).row
                for part in parts for output, picture in zip(self.outputs(part), part)]


def read_checkpoint(workdir: Path, step: str | int) -> tuple[checkpoints.Checkpoint, ConfigDict]:
    """Reads the checkpoint of a run that looks at images.

    Returns:
      The checkpoint and its config.

    Raises:
      UserError: no such checkpoint, or a run on numbers.
    """
    checkpoint = checkpoints.read(workdir, step)
    config = config_lib.from_dict(checkpoint.meta['config'])
    if config.data.source == 'arrays':
        raise UserError(f'{config.experiment} in {workdir} was trained on numbers, it cannot look at images')
    return checkpoint, config


def predict_files(workdir: Path, inputs: Sequence[str], *, step: str | int = 'best', top_k: int = 3,
                  invert: bool = False, output: Path | None = None, form: str = 'table', tta: str = 'none',
                  overrides: Sequence[str] = ()) -> int:
    """Predicts image files and prints or writes the result.

    Args:
      inputs: images and folders of images.
      invert: predict 255 - image, for dark on light where the model learned light on dark.
      output: file to write; '.csv' and '.json' choose the form. For a task whose predictions are files, such as
        segmentation, the folder for them; <workdir>/predictions by default.
      form: 'table', 'csv' or 'json' for the console.
      tta, overrides: see Predictor.

    Returns:
      Exit code: 2 if some images could not be read (all others are predicted and written all the same), else 0.
    """
    if top_k < 1:
        raise UserError(f'--top_k {top_k}: it must be at least 1')
    predictor = Predictor(workdir, step, tta=tta, overrides=overrides)
    task = predictor.task
    folder = None
    if task.writes_files:
        folder = output or workdir / 'predictions'
        if any(Path(text).is_dir() and Path(text).resolve() == folder.resolve() for text in inputs):
            raise UserError(f'--output {folder}: the images are there; give the predictions a folder of their own')
        if folder.suffix in _FORMS or folder.is_file():
            raise UserError(f'--output {folder}: {predictor.config.task.name} writes files for each image, give it a '
                            'folder')
    elif output is not None and (output.suffix not in _FORMS or output.suffix == '.txt' and form != 'table'):
        raise UserError(f'--output {output}: it ends in .csv or .json, or in .txt for a table')
    unreadable: list[str] = []
    rows = []
    try:
        for file, name, prediction in _predictions(predictor, find_pictures(inputs, folder, unreadable), top_k,
                                                    invert, unreadable):
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


def find_pictures(inputs: Sequence[str], output: Path | None, unreadable: list[str]) -> dict[Path, str]:
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
    waiting: list[tuple[Path, np.ndarray]] = []

    def predict_waiting():
        fitted = np.stack([predictor.fit(picture) for _, picture in waiting])
        for (file, picture), output in zip(waiting, predictor.outputs(fitted)):
            spacing = dicom.pixel_spacing(file) if dicom.is_dicom(file) else None
            yield file, files[file], predictor.task.predict(output, picture, {'spacing_mm': spacing}, top_k)

    for pair in predictor.read(files, 'predicting', unreadable, invert=invert):
        waiting.append(pair)
        if len(waiting) == predictor.batch_size:
            yield from predict_waiting()
            waiting = []
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
