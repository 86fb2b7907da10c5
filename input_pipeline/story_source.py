"""Stories with questions: drawn by datasets/stories.py, or read from files in the format of the bAbI tasks.

Lines are numbered one by one, each story from 1 on; a line with a tab is a question about the story so far, with its
answer and the numbers of the lines that say so:

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary? 	bathroom	1

<name>/<split>.txt is a split; the files as they come, qa1_single-supporting-fact_train.txt and ..._test.txt, are those
of the name 'FOLDER/qa1_single-supporting-fact'. A single file is all 'train'. An answer of several parts, 's,e', is one
answer; the answers are those of all splits. Examples have 'story', int32 [n, sentences, words] of token ids with <pad>
after the last word and after the last sentence, 'question', int32 [n, words], and 'label', int32 [n].
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, file_error, nearest
from ..common.vocabulary import Vocabulary
from .arrays import ArraySource
from .datasets import stories
from .datasets.stories import Question
from .source import Source
from .text_source import read_text

_LINE = re.compile(r'(\d{1,9})[ \t]+(.*\S)')
_WORD = re.compile(r'\w')
_SUFFIX = '.txt'


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> ArraySource:
    """Opens a split, see the top of this file; its examples are texts, of which `tokenize` makes token ids.

    Raises:
      UserError: no such stories or split, or a line that is not understood.
    """
    del image, crop_area
    name = data['name']
    if name in stories.KINDS:
        if split not in stories.STORIES:
            raise UserError(f'stories {name!r} have no split {split!r}; {nearest(split, list(stories.STORIES))}')
        return _source(stories.draw(name, split), stories.answers(name), f'stories {name!r}')
    file, others = _find(name, split)
    questions = {other: read_questions(other) for other in {file, *others}}
    answers = tuple(sorted({question.answer for found in questions.values() for question in found}))
    return _source(questions[file], answers, str(file))


def read_questions(file: Path, *, answered: bool = True) -> tuple[Question, ...]:
    """Returns the questions of a file in the format of the bAbI tasks.

    Args:
      answered: whether every question must have an answer.

    Raises:
      UserError: the file cannot be read or holds no question, or a line is not understood; the message names it.
    """
    found, story, numbers = [], [], []  # numbers: those of the lines of the story's sentences
    last = 0  # number of the line before
    for place, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.rstrip())
        if not match:
            raise file_error(file, f"line {place} is not understood: {line.strip()[:60]!r}; it is a number and a "
                                   "sentence, such as '1 Mary moved to the bathroom.'")
        number, (text, *rest) = int(match.group(1)), match.group(2).split('\t')
        if number == 1:
            story, numbers = [], []
        elif number != last + 1:
            after = f'{last + 1} follows {last}, and ' if last else ''
            raise file_error(file, f'line {place} has the number {number}: {after}a story begins with 1')
        last, text, rest = number, text.strip(), [cell.strip() for cell in rest]
        if not _WORD.search(text):
            raise file_error(file, f'line {place} has no words: {text[:60]!r}')
        if not rest and not text.endswith('?'):
            story.append(text)
            numbers.append(number)
            continue
        answer = rest[0] if rest and rest[0] else None
        if answer is None and answered:
            raise file_error(file, f'line {place}: the question {text[:60]!r} has no answer: they are parted by a tab, '
                                   "as in '3 Where is Mary?\\tbathroom\\t1'")
        if not story:
            raise file_error(file, f'line {place}: the question {text[:60]!r} comes before any sentence of its story')
        found.append(Question(tuple(story), text, answer and answer.replace(',', ', '),
                              _supporting(rest[1] if len(rest) > 1 else '', numbers, file, place), place))
    if not found:
        raise file_error(file, "holds no question: such as '3 Where is Mary?\\tbathroom\\t1' after its story")
    return tuple(found)


def _supporting(cell: str, numbers: Sequence[int], file: Path, place: int) -> tuple[int, ...]:
    """Returns which sentences of a story are meant by the numbers of their lines."""
    try:
        return tuple(1 + numbers.index(int(number)) for number in cell.split())
    except ValueError:
        raise file_error(file, f'line {place}: {cell[:60]!r} are not the numbers of sentences before it') from None


def _find(name: str, split: str) -> tuple[Path, list[Path]]:
    """Returns the file of a split, and those of all splits."""
    if not name:
        raise UserError(f"config.data.name is empty: give one of {', '.join(stories.KINDS)}, or a folder or file of "
                        'stories in the format of bAbI')
    root = Path(name).expanduser()
    if root.is_file():
        if split != 'train':
            raise UserError(f"{root} is one file: all of it is 'train'; take parts of that instead of {split!r}, such "
                            "as --config.data.train='train[:80%]' --config.evaluation.sets.test.split='train[80%:]'")
        return root, []
    if root.is_dir():
        found = {file.stem: file for file in sorted(root.glob(f'*{_SUFFIX}'))}
    else:
        prefix = f'{root.name}_'
        found = {file.stem.removeprefix(prefix): file for file in sorted(root.parent.glob(f'*{_SUFFIX}'))
                 if file.name.startswith(prefix)}
    if not found:
        raise UserError(f'config.data.name = {name!r} is neither a file nor a folder of stories, nor the beginning of '
                        f'such files as {root.name}_train{_SUFFIX}, nor one of the drawn kinds; '
                        f'{nearest(name, list(stories.KINDS))}')
    if split not in found:
        tasks = [stem.removesuffix(f'_{split}') for stem in found if stem.endswith(f'_{split}')]
        hint = f'did you mean {root / tasks[0]}?' if tasks else nearest(split, list(found))
        raise UserError(f'config.data.name = {name!r} has no {split}{_SUFFIX}; {hint}')
    return found[split], list(found.values())


def _source(questions: Sequence[Question], answers: Sequence[str], name: str) -> ArraySource:
    numbers = {answer: number for number, answer in enumerate(answers)}
    metadata = [{'story': list(one.story), 'question': one.question, 'answer': one.answer,
                 'supporting': list(one.supporting)} | ({'line': one.line} if one.line else {}) for one in questions]
    labels = np.asarray([numbers[one.answer] for one in questions], np.int32)
    return ArraySource({'label': labels}, DatasetInfo(class_names=tuple(answers)), metadata, name)


def tokenize(source: Source, text: Mapping[str, Any], vocabulary: Vocabulary | None) -> Source:
    """Adds 'story' and 'question' as token ids to a source that `open_split` made.

    Args:
      source: of stories.
      text: config.text: of each story the last `max_sentences` are read, of at most `max_length` words.
      vocabulary: of the training stories; None to build it from these.

    Raises:
      UserError: a field of config.text that does not fit.
    """
    described = source.describe(np.arange(len(source)))
    if vocabulary is None:
        vocabulary = Vocabulary.build((line for one in described for line in (*one['story'], one['question'])),
                                      text['tokens'], lowercase=text['lowercase'], min_count=text['min_count'],
                                      max_size=text['max_size'])
    if cut := cut_stories([one['story'] for one in described], text):
        logging.info('%s', cut)
    features = encode([(one['story'], one['question']) for one in described], text, vocabulary)
    return source.select(features=features, info=source.info.replace(vocabulary=vocabulary.to_meta()))


def cut_stories(told: Sequence[Sequence[str]], text: Mapping[str, Any]) -> str:
    """Returns in words how many stories are not read from their beginning, '' if all are."""
    cut = sum(len(story) > text['max_sentences'] for story in told)
    if not cut:
        return ''
    return (f"{cut:,} of {len(told):,} stories are longer than config.text.max_sentences = {text['max_sentences']}: "
            'their last sentences are read')


def encode(questions: Sequence[tuple[Sequence[str], str]], text: Mapping[str, Any], vocabulary: Vocabulary
           ) -> dict[str, np.ndarray]:
    """Returns 'story' and 'question', see the top of this file, of (sentences, question) pairs.

    Raises:
      UserError: a sentence has no words or is longer than config.text.max_length, or a field is out of range.
    """
    most, length = text['max_sentences'], text['max_length']
    for field in ('max_sentences', 'max_length'):
        if text[field] < 1:
            raise UserError(f'config.text.{field} = {text[field]}: it must be at least 1')
    known: dict[str, list[int]] = {}
    story = np.zeros((len(questions), most, length), np.int32)
    asked = np.zeros((len(questions), length), np.int32)
    for row, (sentences, question) in enumerate(questions):
        for place, sentence in enumerate((*sentences[-most:], question)):
            ids = known.get(sentence)
            if ids is None:
                ids = known[sentence] = vocabulary.encode(sentence)
                if not ids:  # it would be taken for padding, which is after the last sentence
                    raise UserError(f'a sentence of a story has no words: {sentence[:80]!r}')
                if len(ids) > length:
                    raise UserError(f'config.text.max_length = {length}: a sentence has {len(ids)} words: '
                                    f'{sentence[:80]!r}')
            out = asked[row] if place == min(most, len(sentences)) else story[row, place]
            out[:len(ids)] = ids
    return {'story': story, 'question': asked}
