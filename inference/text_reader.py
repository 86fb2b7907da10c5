"""Texts as a run takes them: from the command line, from files of lines or from tables, and as token ids."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError, file_error, shortened, some
from ..input_pipeline.csv_source import Table
from ..input_pipeline.text_source import read_text
from ..input_pipeline.texts import pad

TABLE = '.csv'
_FILES = ('.txt', TABLE, '.tsv', '.json', '.jsonl', '.md', '.gz')  # what ends in these was meant as a file
_PLACES = ('/', './', '../', '~')


def encode(run: Any, text: str) -> np.ndarray:
    """Returns a text as the model takes it, int32 [run.longest_text]; what it does not know is said in the log.

    Raises:
      UserError: no words, or more than the run translates.
    """
    vocabulary = run.task.input_vocabulary
    ids, most = vocabulary.encode(text), run.longest_text
    named = repr(shortened(text, 60))
    if not ids:
        raise UserError(f'{named} has no words' if text.strip() else 'an empty text')
    if len(ids) > most and run.task.generates:
        raise UserError(f'{named} has {len(ids):,} words; at most {most} are translated, config.text.source.max_length '
                        'of the training')
    if len(ids) > most:
        logging.warning('warning: %s has %s words: the first %d are read, as in training', named, f'{len(ids):,}', most)
    unknown = vocabulary.unknown(text)
    if unknown:
        words = some([repr(shortened(word, 40)) for word in unknown])
        logging.warning('warning: the model does not know %s of %s: read as <unk>', words, named)
    return pad([ids], most)[0]


def read_inputs(inputs: Sequence[str], unreadable: list[str], columns: Sequence[str] = ('text',)
                ) -> Iterator[tuple[str, str]]:
    """Yields (text, where it is from): an input is a text, a file with a text on each line, or a table, a .csv.

    Args:
      inputs: as they were given.
      unreadable: what cannot be read is added to it.
      columns: the texts of a table are in the first of these that it has.
    """
    for number, text in enumerate(inputs, start=1):
        path = Path(text)
        try:
            is_file, is_folder = path.is_file(), path.is_dir() and bool(text.strip())
        except (OSError, ValueError):  # too long for a name
            is_file = is_folder = False
        if is_folder:
            unreadable.append(f'{text}: is a folder; give a text, or a file with a text on each line')
        elif is_file:
            try:
                if path.suffix.lower() == TABLE:
                    yield from _read_table(path, columns)
                    continue
                lines = read_text(path).replace('\r\n', '\n').removesuffix('\n').split('\n')
            except UserError as error:
                unreadable.append(str(error))
                continue
            for line, content in enumerate(lines, start=1):
                yield content, f'{path}, line {line}'
        elif _is_path(text):
            unreadable.append(str(file_error(text, 'there is no such file')))
        else:
            yield text, f'text {number}' if len(inputs) > 1 else ''


def _read_table(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (text, where it is from) of the rows of a table."""
    table = Table(file)
    column = next((name for name in columns if name in table.header), None)
    if column is None:
        raise file_error(file, f"its columns are {some(table.header)}, none is called {' or '.join(columns)}: name the "
                               'one of texts with --column, or save a file with a text on each line as .txt')
    for cell, line in zip(table.column(column, '--column'), table.lines):
        yield cell, f'{file}, line {line}'


def _is_path(text: str) -> bool:
    """Whether what is neither a file nor a folder was meant to be one; '12/05/1998' and 'and/or' are texts."""
    path = Path(text)
    is_named = path.suffix.lower() in _FILES
    if not text.strip() or '\n' in text:
        return False
    if len(text.split()) == 1 and (is_named or text.startswith(_PLACES)):
        return True
    try:
        return '/' in text and (is_named or len(text.split()) == 1) and path.parent.is_dir()
    except (OSError, ValueError):  # too long for a name
        return False
