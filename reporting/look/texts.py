"""Words of a set: captions of images, or a text that is read as one stream."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...common.console import ProgressLog
from ...common.errors import UserError, nearest
from ...common.vocabulary import END, SPECIAL, UNKNOWN, Vocabulary
from ...input_pipeline import sources
from .data_sets import DataSet

MOST_WORDS = 30  # that are listed
_EXCERPTS = 12
_LEAST_TOKENS = {'characters': 30}  # of a line that is not there twice by chance; of words:
_LEAST_WORDS = 6


@dataclasses.dataclass
class Words:
    """Tokens of some texts.

    Attributes:
      texts: captions or lines with tokens.
      tokens, distinct: how many tokens, and different ones.
      unknown: tokens that the vocabulary does not have.
      frequent, unknown_words: (token, how often), the most frequent first, at most 30.
      lengths: int [texts], tokens of each.
    """
    texts: int
    tokens: int
    distinct: int
    unknown: int
    frequent: list[tuple[str, int]]
    unknown_words: list[tuple[str, int]]
    lengths: np.ndarray


def texts_of(data_set: DataSet) -> list[str]:
    """Returns the captions of a set, the lines of its text, or its texts that are read."""
    if data_set.source.streams:
        return sources.read_lines(data_set.data, data_set.split)
    described = data_set.source.describe(np.arange(len(data_set.source)))
    if data_set.source.has_texts:
        return [facts['text'] for facts in described]
    return [text for facts in described for text in facts.get('captions', ())]


def count_words(texts: Sequence[str], vocabulary: Vocabulary, where: str) -> Words:
    """Counts the tokens of texts.

    Args:
      texts: of a set.
      vocabulary: of the training texts.
      where: the set's name, for the line about progress.
    """
    counts, lengths, tick = Counter[str](), [], ProgressLog(f'counting the words of {where}', len(texts))
    for number, text in enumerate(texts):
        tokens = vocabulary.split(text)
        if tokens:
            counts.update(tokens)
            lengths.append(len(tokens))
        tick(number)
    known = set(vocabulary.entries[len(SPECIAL):]) | {SPECIAL[END]}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    unknown = [(token, count) for token, count in ranked if token not in known]
    return Words(len(lengths), counts.total(), len(counts), sum(count for _, count in unknown), ranked[:MOST_WORDS],
                 unknown[:MOST_WORDS], np.array(lengths, np.int64))


def repeated_texts(texts: Sequence[str], others: Sequence[str], vocabulary: Vocabulary) -> tuple[int, int]:
    """Returns how many texts of at least 6 words, or 30 characters, are among others, and how many there are."""
    least = _LEAST_TOKENS.get(vocabulary.kind, _LEAST_WORDS)

    def keys(texts: Sequence[str]) -> list[int]:
        return [hash(tuple(tokens)) for text in texts if len(tokens := vocabulary.split(text)) >= least]
    known, asked = set(keys(others)), keys(texts)
    return sum(key in known for key in asked), len(asked)


def excerpts(stream: Any, vocabulary: Vocabulary, word: str, seed: int) -> tuple[list[list[tuple[str, str]]], int]:
    """Returns windows of a text as the network gets them, drawn from the seed, and how many there are to draw from.

    Args:
      stream: see input_pipeline/text_source.py.
      vocabulary: of the training text.
      word: that they hold; '' for any.
      seed: of the experiment.

    Returns:
      Of each window (text, 'unknown', 'chosen' or '') pieces.

    Raises:
      UserError: the vocabulary does not have the word, or the text does not hold it.
    """
    chosen, windows = -1, np.arange(len(stream))
    if word:
        tokens = vocabulary.split(word)
        if len(tokens) != 1 or tokens[0] not in vocabulary.entries[len(SPECIAL):]:
            raise UserError(f'--class {word}: the vocabulary has no such word; '
                            f'{nearest(word, vocabulary.entries[len(SPECIAL):])}')
        chosen = vocabulary.entries.index(tokens[0])
        windows = np.unique(np.flatnonzero(stream.tokens[:-1] == chosen) // stream.num_steps)
        if not len(windows):
            raise UserError(f'--class {word}: this text does not hold that word')
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    drawn = np.sort(generator.permutation(windows)[:_EXCERPTS])
    shown = [_pieces(row, vocabulary, chosen) for row in stream.read(drawn)['tokens']]
    return shown, len(windows)


def examples_of(data_set: DataSet, places: np.ndarray, vocabulary: Vocabulary) -> list[list[tuple[str, str]]]:
    """Returns texts with their class or translation, as (text, 'unknown' or '') pieces.

    Args:
      data_set: of texts.
      places: int [n], examples of it.
      vocabulary: that they are read in.
    """
    names, found = data_set.source.info.class_names, []
    gap = ' ' * (vocabulary.kind == 'characters')  # words have one behind them
    examples = data_set.source.read(places)
    for row, facts in enumerate(data_set.source.describe(places)):
        pieces = _pieces(examples['tokens'][row], vocabulary, -1)
        said = facts['captions'][0] if 'captions' in facts else names[int(examples['label'][row])]
        found.append([*pieces, (f'{gap}\u2192 {said}', '')])
    return found


def _pieces(ids: np.ndarray, vocabulary: Vocabulary, chosen: int) -> list[tuple[str, str]]:
    between = '' if vocabulary.kind == 'characters' else ' '
    pieces: list[tuple[str, str]] = []
    for number in ids.tolist():
        kind = 'unknown' if number == UNKNOWN else 'chosen' if number == chosen else ''
        text = '\u21b5\n' if number == END else '' if number < UNKNOWN else vocabulary.entries[number]
        if number >= UNKNOWN:
            text += between
        if pieces and pieces[-1][1] == kind == '':
            pieces[-1] = (pieces[-1][0] + text, '')
        else:
            pieces.append((text, kind))
    return pieces


def with_word(arrays: dict[str, np.ndarray], vocabulary: Vocabulary, word: str, feature: str = 'captions'
              ) -> np.ndarray:
    """Returns which examples have a word in a caption, or in another feature of token ids, int [n].

    Raises:
      UserError: the vocabulary does not have the word, or no caption.
    """
    unit = 'caption' if feature == 'captions' else 'text'
    tokens = vocabulary.split(word)
    if len(tokens) != 1 or tokens[0] not in vocabulary.entries[len(SPECIAL):]:
        raise UserError(f'--class {word}: {unit}s have no such word; '
                        f'{nearest(word, vocabulary.entries[len(SPECIAL):])}')
    rows = np.flatnonzero((arrays[feature].reshape(len(arrays[feature]), -1) == vocabulary.entries.index(
        tokens[0])).any(1))
    if not len(rows):
        raise UserError(f'--class {word}: no {unit} of this set has that word')
    return rows
