"""A text as pairs of words that stand near each other, for word vectors."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.vocabulary import SPECIAL, Vocabulary
from .source import Examples, Source

_GOLDEN = (5 ** 0.5 - 1) / 2  # its multiples, without their whole parts, are spread evenly
_CHUNK = 2**18  # words that are looked at together
WORD_COUNTS = 'word_counts'  # in DatasetInfo.other: how often the text has each token of the vocabulary


class WordPairs(Source):
    """Pairs of a word and one around it, in the proportions of skip-gram (Mikolov et al. 2013, "Distributed
    representations of words and phrases and their compositionality").

    A pair at a distance of d words counts (window - d + 1) / window, as in windows whose size is drawn, and in
    proportion to the probability that both words are kept where frequent ones are subsampled. Unknown words are left
    out before, no pair is of two lines. Pairs are drawn, with replacement: which ones depends on the random numbers
    that `read` is given alone, so that a training's batches are a function of config, seed and step. Without random
    numbers they are spread evenly over the text. Examples are 'centre' and 'context', int32 [n], token ids.

    Args:
      lines: token ids of each line.
      vocabulary: that they are of.
      window: most words between, on each side; config.text.window.
      subsample: a word of the share f of the text is kept with the probability sqrt(subsample / f), 1 at most.

    Attributes:
      tokens: int32 [n], all lines one after the other.
      keep: float64 [vocabulary], the probability that a word is kept.

    Raises:
      UserError: no line has two words.
    """
    needs_rng = True

    def __init__(self, lines: Sequence[Sequence[int]], vocabulary: Vocabulary, window: int, subsample: float):
        known = [[token for token in line if token >= len(SPECIAL)] for line in lines]
        known = [line for line in known if len(line) > 1]
        if not known:
            raise UserError('config.text.window: no line of the text has two words that the vocabulary knows')
        self.tokens = np.concatenate([np.asarray(line, np.int32) for line in known])
        ends = np.cumsum([len(line) for line in known])
        counts = np.bincount(self.tokens, minlength=vocabulary.size)
        share = np.maximum(counts / len(self.tokens), 1e-300)
        self.keep = np.minimum(1, np.sqrt(subsample / share)) if subsample else np.ones(vocabulary.size)
        self._offsets = np.array([*range(-window, 0), *range(1, window + 1)])
        self._likely = (window + 1 - np.abs(self._offsets)) / window
        lengths = np.diff(ends, prepend=0)
        self._begin = np.repeat(ends - lengths, lengths).astype(np.int32)  # of each word's line
        self._end = np.repeat(ends, lengths).astype(np.int32)
        weights = np.zeros(len(self.tokens))
        for begin in range(0, len(weights), _CHUNK):
            places = np.arange(begin, min(begin + _CHUNK, len(weights)))
            weights[places] = self._weights(places)[1].sum(axis=1) * self.keep[self.tokens[places]]
        self._cumulative = np.cumsum(weights)
        self._pairs = max(1, round(float(self._cumulative[-1])))
        facts = {'tokens': len(self.tokens), 'checksum': zlib.crc32(self.tokens)}
        self.info = DatasetInfo(vocabulary=vocabulary.to_meta(),
                                other={WORD_COUNTS: counts.tolist(), 'pairs_of': facts})

    def __len__(self) -> int:
        """The number of pairs that are expected of one pass over the text."""
        return self._pairs

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """See `Source`; with random numbers the indices do not matter."""
        if uniforms is None:
            indices = np.asarray(indices, np.float64)
            which, where = (indices + 0.5) / len(self), indices * _GOLDEN % 1
        else:
            which, where = uniforms[:, 0], uniforms[:, 1]
        places = np.searchsorted(self._cumulative, which * self._cumulative[-1], side='right')
        places = np.minimum(places, len(self.tokens) - 1)
        others, weights = self._weights(places)
        upto = np.cumsum(weights, axis=1)
        chosen = np.argmax(upto > (where * upto[:, -1])[:, None], axis=1)
        return {'centre': self.tokens[places],
                'context': self.tokens[np.take_along_axis(others, chosen[:, None], axis=1)[:, 0]]}

    def counted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns all pairs that can be drawn: centres and contexts, int32 [n], and how much each counts, [n]."""
        centres, contexts, counts = [], [], []
        for begin in range(0, len(self.tokens), _CHUNK):
            places = np.arange(begin, min(begin + _CHUNK, len(self.tokens)))
            others, weights = self._weights(places)
            weights = weights * self.keep[self.tokens[places], None]
            there = weights > 0
            centres.append(np.broadcast_to(self.tokens[places, None], there.shape)[there])
            contexts.append(self.tokens[others][there])
            counts.append(weights[there])
        return np.concatenate(centres), np.concatenate(contexts), np.concatenate(counts)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns nothing: which pair it is, the example says."""
        return [{} for _ in indices]

    def _weights(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the places around each, int [n, 2 window], and how much each counts, 0 for another line's."""
        others = places[:, None] + self._offsets
        inside = (others >= self._begin[places, None]) & (others < self._end[places, None])
        others = np.clip(others, 0, len(self.tokens) - 1)
        return others, self._likely * self.keep[self.tokens[others]] * inside


def open_pairs(lines: Sequence[str], text: Mapping[str, Any], vocabulary: Vocabulary | None) -> WordPairs:
    """Makes pairs of the lines of a text.

    Args:
      lines: of a split, or of a part of one.
      text: config.text.
      vocabulary: of the training text; None to build it from these lines.

    Raises:
      UserError: a field of config.text that does not fit.
    """
    window, subsample = text['window'], text['subsample']
    if window < 1:
        raise UserError(f'config.text.window = {window}: it is a number of words, at least 1, or 0 for running text')
    if not 0 <= subsample <= 1:
        raise UserError(f'config.text.subsample = {subsample}: it is a share of the text, from 0 (off) to 1')
    if text['tokens'] == 'characters':
        raise UserError("config.text.window: pairs are of words: set config.text.tokens to 'words' or 'whitespace'")
    if vocabulary is None:
        vocabulary = Vocabulary.build(lines, text['tokens'], lowercase=text['lowercase'], min_count=text['min_count'],
                                      max_size=text['max_size'])
    return WordPairs([vocabulary.encode(line) for line in lines], vocabulary, window, subsample)
