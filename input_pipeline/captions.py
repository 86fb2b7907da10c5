"""Captions as token ids beside their images."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..common.errors import UserError
from ..common.vocabulary import END, START, Vocabulary
from .source import Source


def tokenize(source: Source, text: Mapping[str, Any], vocabulary: Vocabulary | None) -> Source:
    """Adds 'captions' to a source whose `describe` has them as texts: int32 [n, captions, length], <start>, words,
    <end>, <pad> ...

    Args:
      source: of images.
      text: config.text.
      vocabulary: of the training captions; None to build it from these.

    Raises:
      UserError: a field of config.text that does not fit.
    """
    if text['max_length'] < 1:
        raise UserError(f"config.text.max_length = {text['max_length']}: it must be at least 1 word")
    texts = [facts['captions'] for facts in source.describe(np.arange(len(source)))]
    if vocabulary is None:
        vocabulary = Vocabulary.build((caption for captions in texts for caption in captions), text['tokens'],
                                      lowercase=text['lowercase'], min_count=text['min_count'],
                                      max_size=text['max_size'])
    encoded = [[vocabulary.encode(caption) for caption in captions] for captions in texts]
    total = sum(map(len, encoded))
    wordless = sum(not words for captions in encoded for words in captions)
    if wordless:
        logging.warning('%s of %s captions have no words and are left out', f'{wordless:,}', f'{total:,}')
    cut = sum(len(words) > text['max_length'] for captions in encoded for words in captions)
    if cut:
        logging.info('%s of %s captions are longer than config.text.max_length = %d words and end there', f'{cut:,}',
                     f'{total:,}', text['max_length'])
    longest = min(text['max_length'], max((len(words) for captions in encoded for words in captions), default=0))
    most = max(map(len, encoded))
    if not longest:
        raise UserError('these images have no captions: config.data')
    ids = np.zeros((len(encoded), most, longest + 2), np.int32)
    for row, captions in zip(ids, encoded):
        for out, words in zip(row, filter(None, captions)):  # one of punctuation alone has no words
            # A caption that is cut has no <end>: it does not end there.
            tokens = [START, *words[:longest], *([END] if len(words) <= longest else [])]
            out[:len(tokens)] = tokens
    info = source.info.replace(
        vocabulary=vocabulary.to_meta(), caption_length=longest,
        tokens_per_example=float(np.mean(np.count_nonzero(ids[..., 1:], axis=(1, 2)))))
    return source.select(features={'captions': ids}, info=info)
