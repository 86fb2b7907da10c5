"""Texts that are read, as token ids beside their class or their translation."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..common.errors import UserError
from ..common.vocabulary import SPECIAL, Vocabulary
from . import captions
from .source import Source


def tokenize(source: Source, text: Mapping[str, Any], vocabulary: Vocabulary | None) -> Source:
    """Adds 'tokens' to a source whose `describe` has texts: int32 [n, length], words, <pad> ...; and 'captions', see
    input_pipeline/captions.py, if it has translations, too.

    Args:
      source: of texts.
      text: config.text; of translations config.text.source is about what is read.
      vocabulary: of the training texts; None to build it from these.

    Raises:
      UserError: a field of config.text that does not fit, or the vocabulary of other texts.
    """
    read, section = (text['source'], 'config.text.source') if source.has_captions else (text, 'config.text')
    if read['max_length'] < 1:
        raise UserError(f"{section}.max_length = {read['max_length']}: it must be at least 1 word")
    texts = [facts['text'] for facts in source.describe(np.arange(len(source)))]
    if vocabulary is not None:
        words = _own(vocabulary, source.has_captions, read, section)
    else:
        words = Vocabulary.build(texts, read['tokens'], lowercase=read['lowercase'], min_count=read['min_count'],
                                 max_size=read['max_size'])
    encoded = [words.encode(one) for one in texts]
    ids = pad(encoded, min(read['max_length'], max(1, *map(len, encoded))))
    _say_what_is_lost(encoded, ids.shape[1], source.name, section)
    info = source.info.replace(vocabulary=words.to_meta())
    if source.has_captions:
        source = captions.tokenize(source, text, vocabulary)
        written = Vocabulary.from_meta(source.info.vocabulary)
        info = source.info.replace(vocabulary=Vocabulary(
            written.kind, written.entries, lowercase=written.lowercase, source=words).to_meta())
    # A source needs some feature, so translations had a number: it is of no use.
    return source.select(features={'tokens': ids}, info=info, change=lambda examples: {
        name: values for name, values in examples.items() if name != 'number'})


def pad(encoded: list[list[int]], length: int) -> np.ndarray:
    """Returns lists of ids as int32 [n, length], cut or with <pad> behind."""
    ids = np.zeros((len(encoded), length), np.int32)
    for row, one in zip(ids, encoded):
        row[:len(one)] = one[:length]
    return ids


def _own(vocabulary: Vocabulary, translates: bool, read: Mapping[str, Any], section: str) -> Vocabulary:
    """Returns the part of a given vocabulary that texts are read in."""
    if translates != (vocabulary.source is not None):
        raise UserError('config.text.vocabulary_from: that run ' + (
            'translates nothing, so its vocabulary is of one text: name a run that does' if translates else
            'translates, so its vocabulary is of two texts: name a run that reads one'))
    words, asked = vocabulary.source or vocabulary, Vocabulary(read['tokens'], SPECIAL, lowercase=read['lowercase'])
    if (words.kind, words.lowercase) != (asked.kind, asked.lowercase):
        raise UserError(f'config.text.vocabulary_from: its texts are split into other tokens: set {section}.tokens='
                        f'{words.kind} and {section}.lowercase={words.lowercase}')
    return words


def _say_what_is_lost(encoded: list[list[int]], length: int, name: str, section: str) -> None:
    cut = sum(len(one) > length for one in encoded)
    if cut:
        logging.info('%s: %s of %s texts are longer than %s.max_length = %d words and are read up to there', name,
                     f'{cut:,}', f'{len(encoded):,}', section, length)
    wordless = sum(not one for one in encoded)
    if wordless:
        logging.warning('%s: %s of %s texts have no words', name, f'{wordless:,}', f'{len(encoded):,}')
