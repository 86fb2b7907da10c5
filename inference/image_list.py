"""Predictions of the images that a table lists: paths or addresses in one column, the answers beside all others.

    launch.py predict --workdir RUN list.csv --output answers.csv

Every row of the list comes back, in its order: with its own columns, the prediction, and 'error', which says why where
there is none.
"""

import dataclasses
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError, file_error, printable, some
from ..common.threads import parallel_map
from ..input_pipeline import image_search, sounds
from ..input_pipeline.csv_source import Table
from ..input_pipeline.images import Content
from . import download
from .formats import format_csv, format_json
from .image_reader import ImageReader
from .prediction import TOP_K, check_output, check_top_k, form_of, report_unreadable, write_output
from .run import Run, metadata_of

# Names of the column with paths or addresses that need no --column, in any case of letters.
COLUMNS = ('file', 'path', 'image', 'filename', 'file_name', 'url', 'address', 'link')
ERROR = 'error'
_AT_ONCE = 16  # images that are read, or fetched, side by side


@dataclasses.dataclass
class ImageList:
    """A list of images.

    Attributes:
      file: the table.
      columns: their names.
      rows: the cells of each row, by column.
      lines: where each row ends in the file.
      references: the path or address of each row's image, '' where there is none.
    """
    file: Path
    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]
    references: list[str]


def read_list(file: Path, column: str | None = None) -> ImageList:
    """Reads a table with a column of paths or addresses.

    Args:
      file: a .csv file with a header.
      column: which; None for the one that has a name of `COLUMNS`, or for the only one.

    Raises:
      UserError: it cannot be read, or it is not clear which column is meant.
    """
    table = Table(file)
    first = table.header[0]
    if len(table.header) == 1 and ';' in first:
        raise file_error(file, f'its columns seem to be separated by semicolons ({first}): save it with commas')
    for name in table.header:
        if download.is_address(name) or name.lower().endswith((*image_search.IMAGE_SUFFIXES, *sounds.SUFFIXES)):
            raise file_error(file, f'its first line should name the columns, but {name} is an image: put a line above')
    if column is not None:
        table.column(column, '--column')
    else:
        named = [name for name in table.header if name.lower() in COLUMNS]
        if len(named) != 1 and len(table.header) > 1:
            which = f'{" and ".join(named)} could both be' if named else f'none of {some(table.header)} is called like'
            raise file_error(file, f'{which} the column of paths or addresses: name it with --column')
        column = named[0] if named else table.header[0]
    rows = [dict(zip(table.header, cells)) for cells in table.rows]
    return ImageList(file, table.header, rows, table.lines, [row[column] for row in rows])


def predict_list(run: Run, file: Path, *, column: str | None = None, top_k: int | None = None, invert: bool = False,
                 output: Path | None = None, form: str = 'table', tta: str = 'none') -> int:
    """Predicts the images of a list and prints or writes the list with the answers.

    Args:
      run: of a task that answers in words and numbers, not in files.
      file, column: see `read_list`.
      output: file to write, .csv, .json or .txt.
      top_k, invert, form, tta: see `prediction.predict_files`.

    Returns:
      Exit code: 2 if some images could not be read (all others are predicted and written all the same), else 0.
    """
    run.check_files()
    network, task = run.network(tta), run.task
    if task.writes_files:
        raise UserError(f'{file}: {run.config.task.name} writes files for each image, which a list has no room for: '
                        'give the images themselves')
    check_top_k(run, top_k)
    check_output(output, form)
    if output is not None and output.resolve() == file.resolve():
        raise UserError(f'--output {output} is the list itself: name another file')
    listed = read_list(file, column)
    errors: dict[str, str] = {}
    examples = _examples(listed, network, invert, errors)
    found = {reference: prediction.row for reference, prediction in
             run.predictions(network, examples, TOP_K if top_k is None else top_k)}
    text = _formatted(listed, found, errors, task, form_of(output) if output else form)
    if output is not None:
        # Without a mark spreadsheet programs take UTF-8 for an old code page; where there is nothing to mistake, every
        # reader is better off without it.
        write_output(output, f'\ufeff{text}' if form_of(output) == 'csv' and not text.isascii() else text)
        answered = sum(reference in found for reference in listed.references)
        print(f'{answered:,} of {len(listed.rows):,} row(s) answered by {run.chosen}, written to {output}')
    else:
        print(text, end='')
        logging.info('%s of %s', run.chosen, run.workdir)
    sys.stdout.flush()  # before what is said of those that failed
    return report_unreadable([f'{listed.file}, line {line}: {errors[reference]}'
                              for reference, line in zip(listed.references, listed.lines) if reference in errors])


def _examples(listed: ImageList, network: ImageReader, invert: bool, errors: dict[str, str]
              ) -> Iterator[tuple[str, np.ndarray, Mapping[str, Any]]]:
    """Yields (reference, image, metadata) of each image once; why others cannot be read is noted in `errors`."""
    references = list(dict.fromkeys(listed.references))
    tick = ProgressLog('predicting', len(references))

    def read(reference: str) -> tuple[np.ndarray, Mapping[str, Any]] | str:
        try:
            return _read(listed.file, reference, network)
        except UserError as error:
            return str(error)

    for begin in range(0, len(references), _AT_ONCE):  # no more of them are in memory
        part = references[begin:begin + _AT_ONCE]
        for number, (reference, image) in enumerate(zip(part, parallel_map(read, part, _AT_ONCE)), start=begin):
            if isinstance(image, str):
                errors[reference] = image
            else:
                pixels, metadata = image
                yield reference, np.invert(pixels) if invert else pixels, metadata
            tick(number)


def _read(file: Path, reference: str, network: ImageReader) -> tuple[np.ndarray, Mapping[str, Any]]:
    if not reference or '\0' in reference:
        raise UserError('names no image')
    if not download.is_address(reference):
        if re.match(r'[A-Za-z][A-Za-z0-9+.-]+://', reference):
            raise file_error(reference, 'is neither a path nor an http or https address')
        path = _path(file, reference)
        return network.read_file(path), metadata_of(path)
    content = Content(download.fetch(reference))
    try:
        return network.read_file(content), {'spacing_mm': None}
    except UserError as error:
        raise file_error(reference, str(error).removeprefix(f'{content}: ')) from None


def _path(file: Path, reference: str) -> Path:
    """Returns where a path of a list leads, which is meant from the list's folder."""
    try:
        return file.parent / Path(reference).expanduser()
    except RuntimeError:  # the home of nobody
        return file.parent / reference


def _formatted(listed: ImageList, found: Mapping[str, Mapping[str, Any]], errors: Mapping[str, str], task: Any,
               form: str) -> str:
    """Returns the list with its answers as 'csv', 'json' or 'table'."""
    if form == 'table':
        width = max(len(printable(reference)) for reference in listed.references)
        return ''.join(f'{printable(reference):<{width}}  {printable(task.describe(found[reference]))}\n'
                       for reference in listed.references if reference in found)
    answers = {reference: dict(row) if form == 'json' else task.flatten(row) for reference, row in found.items()}
    names = _free_names([*dict.fromkeys(name for row in answers.values() for name in row), ERROR], listed.columns)
    rows = []
    for row, reference in zip(listed.rows, listed.references):
        answer = {**answers.get(reference, {}), ERROR: errors.get(reference, '')}
        if form == 'json':
            rows.append({**row, **{names[name]: value for name, value in answer.items()}})
        else:
            rows.append({**row, **{own: answer.get(name, '') for name, own in names.items()}})
    if form == 'json':
        return format_json(rows)
    return format_csv(rows, numbers=True)


def _free_names(names: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Returns name -> what a column of the answer is called beside those of the list."""
    found = {}
    for name in names:
        own = name
        while own in taken or own in found.values():
            own = f'predicted_{own}'
        found[name] = own
    return found
