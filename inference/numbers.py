"""Predictions of numbers that are given on the command line, for runs that were trained on numbers."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..common.errors import UserError, printable
from .prediction import TOP_K, check_output, check_top_k, form_of, format_predictions, write_output
from .rows import row_shape
from .run import Run


def predict_numbers(run: Run, inputs: Sequence[str], *, top_k: int | None = None, output: Path | None = None,
                    form: str = 'table') -> int:
    """Predicts examples and prints or writes the result.

    Args:
      run: one that was trained on numbers.
      inputs: an example each: '3.0', or several numbers with commas between them, '0.5,-1'.
      top_k, output, form: see `prediction.predict_files`; each row's 'file' is the example as it was given.

    Returns:
      Exit code, 0.

    Raises:
      UserError: what is no number, too few or too many of them, or a file that cannot be written.
    """
    check_output(output, form)
    network, task = run.network(), run.task
    check_top_k(run, top_k)
    shape = row_shape(run, network)
    examples = [(text, _parse(text), {}) for text in inputs]
    needed = len(examples[0][1]) if shape is None else math.prod(shape)
    for text, example, _ in examples:
        if len(example) != needed:
            raise UserError(f'{printable(text)!r} is {len(example)} number(s), an example has {needed}')
    if shape is None:  # single numbers are examples without dimensions, but for columns of a table
        one = len(examples[0][1]) == 1 and run.config.data.source != 'csv'
        shape = () if one else (len(examples[0][1]),)
    found = run.predictions(network, ((text, example.reshape(shape), facts) for text, example, facts in examples),
                            TOP_K if top_k is None else top_k)
    rows = [{'file': text, **prediction.row} for text, prediction in found]
    if output is None:
        print(format_predictions(rows, form, task), end='')
        return 0
    write_output(output, format_predictions(rows, form_of(output), task))
    print(f'{len(rows)} prediction(s) of {run.chosen} written to {output}')
    return 0


def _parse(text: str) -> np.ndarray:
    """Returns the numbers of an example, float32 [n]."""
    try:
        numbers = np.array([float(part) for part in text.split(',')], np.float32)
    except ValueError:
        numbers = np.array([math.nan])
    if not np.isfinite(numbers).all():
        raise UserError(f'{printable(text)!r} is not a number, and this run was trained on numbers: give them as 3.0, '
                        'or several of one example as 0.5,-1 (after a -- if the first is negative)')
    return numbers
