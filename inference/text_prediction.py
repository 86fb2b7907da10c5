"""Predictions of texts, printed or written: their classes, or their translations."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError, printable, shortened
from ..tasks.translation_examples import draw_attention
from .formats import format_csv, format_json
from .prediction import TOP_K, check_output, check_top_k, form_of, report_unreadable, write_output
from .text_reader import TABLE, encode, read_inputs

_PICTURE = '.png'
_ERROR = 'error'
_SHOWN = 80  # letters of a text beside what is said of it


def predict_texts(run: Any, inputs: Sequence[str], *, column: str | None = None, top_k: int | None = None,
                  output: Path | None = None, form: str = 'table') -> int:
    """Classifies or translates texts, and prints or writes the result.

    In csv and JSON every text has its row, in the order they were given in; 'error' says why one has no answer.

    Args:
      run: of a task on texts.
      inputs: see `read_inputs`.
      column: of tables, with the texts; None for that which the run was trained on, 'source' or 'text'.
      top_k: classes of each; None: 3.
      output: file to write, .csv, .json or .txt; .png for a picture of which words translations were made of.
      form: 'table', 'csv' or 'json' for the console.

    Returns:
      Exit code: 2 if some texts could not be read (all others are predicted all the same), else 0.
    """
    task, network = run.task, run.network()
    check_top_k(run, top_k)
    draws = output is not None and output.suffix.lower() == _PICTURE
    if not draws:
        check_output(output, form)
    elif not (task.generates and getattr(run.model, 'attention', False)):
        raise UserError(f'--output {output}: this model has no attention to draw; end it in .csv, .json or .txt')
    if output is not None and any(output.resolve() == Path(name).resolve() for name in inputs
                                  if name.lower().endswith(TABLE)):
        raise UserError(f'--output {output} is the table itself: name another file')
    unreadable: list[str] = []
    asked: list[dict[str, Any]] = []  # a row for each text; those without an answer say why

    def examples() -> Iterator[tuple[int, np.ndarray, dict[str, Any]]]:
        for text, where in read_inputs(inputs, unreadable, _columns(run) if column is None else (column,)):
            asked.append({'text': text, 'unknown': []})
            try:
                yield len(asked) - 1, encode(run, text), {'text': text}
            except UserError as error:
                asked[-1][_ERROR] = str(error)
                unreadable.append(f'{where}: {error}' if where else str(error))

    rows = []
    for number, prediction in run.predictions(network, examples(), TOP_K if top_k is None else top_k):
        asked[number] |= {'unknown': task.input_vocabulary.unknown(asked[number]['text']), **prediction.row, _ERROR: ''}
        rows.append(asked[number])
    if rows and draws:
        _save(draw_attention([row for row in rows if row['symbols']] or rows), output)
    elif rows and output is not None:
        write_output(output, _format(asked, form_of(output), task))
    if rows and (output is None or draws):
        print(_format(asked, form, task), end='')
    if rows and output is not None:
        print(f'{len(rows)} prediction(s) of {run.chosen} written to {output}')
    elif rows:
        logging.info('%s of %s', run.chosen, run.workdir)
    return report_unreadable(unreadable)


def _columns(run: Any) -> tuple[str, ...]:
    """Returns where a table has its texts: in the first of these columns that is there."""
    named = tuple(run.config.data.columns)[:1] if run.config.data.source == 'texts' else ()
    return tuple(dict.fromkeys((*named, *(('source', 'text') if run.task.generates else ('text', 'source')))))


def _format(asked: Sequence[dict[str, Any]], form: str, task: Any) -> str:
    if form == 'json':
        return format_json(asked)
    rows = [row for row in asked if not row[_ERROR]]
    if form == 'csv':
        columns = list(task.flatten(rows[0]))
        return format_csv([{'text': row['text'], 'unknown': ' '.join(row['unknown']),
                            **(dict.fromkeys(columns, '') if row[_ERROR] else task.flatten(row)), _ERROR: row[_ERROR]}
                           for row in asked])
    texts = [printable(shortened(row['text'], _SHOWN)) for row in rows]
    width = max(map(len, texts))
    return ''.join(f'{text:<{width}}  {printable(task.describe(row))}\n' for text, row in zip(texts, rows))


def _save(figure: Any, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=120)
    except OSError as error:
        raise UserError(f'cannot write {output}: {error.strerror}') from error
