"""Answers to questions in files of stories, printed or written."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..common.errors import UserError, some
from ..input_pipeline.datasets.stories import Question
from ..input_pipeline.story_source import cut_stories, encode, read_questions
from .formats import format_csv, format_json
from .prediction import check_output, form_of, format_predictions, report_unreadable, write_output
from .run import Run

_BATCH = 64


def answer_questions(run: Run, questions: Sequence[Question], *, top_k: int = 3) -> list[dict[str, Any]]:
    """Returns for each question 'question', 'classes' and 'percent', the likeliest answer first, and 'looked_at'.

    Args:
      run: of the task question_answering.
      questions: about stories.
      top_k: how many answers to tell.

    'looked_at' is the sentence with the most attention of each hop; 'answer' is there where the true one is known.

    Raises:
      UserError: a sentence has no words, or more than the network reads.
    """
    task, text = run.task, run.config.text
    unknown = list(dict.fromkeys(word for one in questions for line in (*one.story, one.question)
                                 for word in task.vocabulary.unknown(line)))
    if unknown:
        logging.warning('warning: the model does not know %s: read as <unk>', some(list(map(repr, unknown))))
    if cut := cut_stories([one.story for one in questions], text):
        logging.warning('warning: %s', cut)
    features = encode([(one.story, one.question) for one in questions], text, task.vocabulary)
    apply = jax.jit(lambda variables, batch: run.model.apply(variables, *task.inputs(batch), train=False))
    rows = []
    for begin in range(0, len(questions), _BATCH):
        part = questions[begin:begin + _BATCH]
        batch = {name: np.zeros((_BATCH, *values.shape[1:]), values.dtype) for name, values in features.items()}
        for name, values in features.items():
            batch[name][:len(part)] = values[begin:begin + _BATCH]
        outputs = jax.device_get(apply(run.variables, batch))
        for row, one in enumerate(part):
            said = task.predict(outputs['logits'][row], None, {}, top_k).row
            read = one.story[-text.max_sentences:]
            looked = [read[int(hop[:len(read)].argmax())] for hop in outputs['attention'][row]]
            rows.append({'question': one.question, **said, 'looked_at': looked}
                        | ({} if one.answer is None else {'answer': one.answer}))
    return rows


def predict_stories(run: Run, inputs: Sequence[str], *, top_k: int | None = None, output: Path | None = None,
                    form: str = 'table') -> int:
    """Answers the questions in files of stories, see input_pipeline/story_source.py, and prints or writes the result.

    Args:
      inputs: text files.
      top_k: answers to each question; None: 1.
      output: file to write: .csv, .json or .txt.
      form: 'table', 'csv' or 'json' for the console.

    Returns:
      Exit code: 2 if some files could not be read, else 0.
    """
    top_k = 1 if top_k is None else top_k
    if top_k < 1:
        raise UserError(f'--top_k {top_k}: it must be at least 1')
    check_output(output, form)
    unreadable: list[str] = []
    places, questions = [], []
    for name in inputs:
        try:
            if Path(name).is_dir():
                raise UserError(f'{name} is a folder; {run.workdir} answers questions in text files: name them')
            found = read_questions(Path(name), answered=False)
        except UserError as error:
            unreadable.append(str(error))
            continue
        places += [f'{name}:{one.line}' for one in found]
        questions += found
    rows = [{'file': place, **row} for place, row in zip(places, answer_questions(run, questions, top_k=top_k))
            ] if questions else []
    if rows and output is not None:
        write_output(output, _format(rows, form_of(output), run.task))
    if rows and output is None:
        print(_format(rows, form, run.task), end='')
        logging.info('%s of %s', run.chosen, run.workdir)
    elif rows:
        print(f'{len(rows)} answer(s) of {run.chosen} written to {output}')
    known = [row for row in rows if 'answer' in row]
    if known:
        right = sum(row['answer'] == row['classes'][0] for row in known)
        print(f'{right:,} of {len(known):,} answers as in the files: {100 * right / len(known):.1f} %',
              file=sys.stderr)
    return report_unreadable(unreadable)


def _format(rows: list[dict[str, Any]], form: str, task: Any) -> str:
    if form == 'json':
        return format_json(rows)
    if form == 'csv':
        return format_csv([{'file': row['file'], 'question': row['question'], **task.flatten(row),
                            'answer': row.get('answer', '')} for row in rows])
    return format_predictions([{**row, 'file': f"{row['file']}  {row['question']}"} for row in rows], form, task)
