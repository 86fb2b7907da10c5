"""Predicting from a checkpoint alone: config, class names and preprocessing travel in it."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import tasks
from input_pipeline import images, preprocessing
from training import checkpoints
from training import config as config_lib
from training.components import build_model
from training.errors import UserError
from training.progress import Ticker

_BATCH = 64


class Predictor:
    """A trained model with everything it needs to look at pictures.

    Args:
      workdir: of a run.
      step: 'best', 'last' or a number. 'best' is the last one where no metric ranks them.

    Raises:
      UserError: no such checkpoint, or one whose arrays do not fit its config.
    """

    def __init__(self, workdir: Path, step: str | int = 'best'):
        checkpoint = checkpoints.read(workdir, step)
        self.step = checkpoint.step
        self.config = config_lib.from_dict(checkpoint.meta['config'])
        self.task = tasks.build(self.config.task, checkpoint.meta['data'])
        self.variables = checkpoint.variables
        model = build_model(self.config, self.task)
        prepare = preprocessing.build(self.config.image)

        def apply(variables, batch):
            return model.apply(variables, *self.task.inputs(prepare(batch, None)), train=False)
        self._apply = jax.jit(apply)

    def __call__(self, pictures: np.ndarray, top_k: int = 5) -> list[dict[str, Any]]:
        """Predicts pictures of the model's size.

        Args:
          pictures: uint8 [n, height, width, channels].
          top_k: how many classes to return of each.
        """
        results = []
        for begin in range(0, len(pictures), _BATCH):
            part = pictures[begin:begin + _BATCH]
            padded = np.concatenate([part, np.zeros((_BATCH - len(part), *part.shape[1:]), part.dtype)])
            outputs = np.asarray(self._apply(self.variables, {'image': padded}))[:len(part)]
            results += self.task.predict(outputs, top_k)
        return results


def predict_files(workdir: Path, inputs: Sequence[str], *, step: str | int = 'best', top_k: int = 3,
                  invert: bool = False, output: Path | None = None, form: str = 'table') -> int:
    """Predicts picture files and prints or writes the result.

    Args:
      inputs: pictures and folders of pictures.
      invert: predict 255 - picture, for dark on light where the model learned light on dark.
      output: file to write; '.csv' and '.json' choose the form.
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
    size, channels = tuple(predictor.config.image.size), predictor.config.image.channels
    files, unreadable = [], []
    for text in inputs:
        try:
            files += images.find_images(Path(text))
        except UserError as error:
            unreadable.append(str(error))
    pictures, read = [], []
    tick = Ticker('reading pictures', len(files))
    for number, file in enumerate(files):
        try:
            pictures.append(images.resize(images.read_image(file, channels=channels), size))
            read.append(file)
        except UserError as error:
            unreadable.append(str(error))
        tick(number)
    rows = []
    if pictures:
        stacked = np.stack(pictures)
        predictions = predictor(255 - stacked if invert else stacked, top_k)
        rows = [{'file': str(file), **prediction} for file, prediction in zip(read, predictions)]
    if output is not None and rows:
        form = {'.csv': 'csv', '.json': 'json'}.get(output.suffix, form)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(format_predictions(rows, form))
        except OSError as error:
            raise UserError(f'cannot write {output}: {error.strerror}') from error
        print(f'{len(rows)} prediction(s) of step {predictor.step:,} written to {output}')
    elif rows:
        print(format_predictions(rows, form), end='')
    for line in unreadable:
        print(f'error: {line}', file=sys.stderr)
    return 2 if unreadable else 0


def format_predictions(rows: list[dict[str, Any]], form: str) -> str:
    """Formats predictions as 'table' ("2 : 96.27 %"), 'csv' or 'json'."""
    if form == 'json':
        return json.dumps(rows, indent=2) + '\n'
    if form == 'csv':
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        ranks = len(rows[0]['classes']) if rows else 0
        writer.writerow(['file', *(f'{field}_{i + 1}' for i in range(ranks) for field in ('class', 'percent'))])
        for row in rows:
            pairs = zip(row['classes'], row['percent'])
            writer.writerow([row['file'], *(cell for name, share in pairs for cell in (name, f'{share:.2f}'))])
        return text.getvalue()
    width = max((len(row['file']) for row in rows), default=0)
    return ''.join(f"{row['file']:<{width}}  " + '   '.join(
        f'{name} : {share:.2f} %' for name, share in zip(row['classes'], row['percent'])) + '\n' for row in rows)
