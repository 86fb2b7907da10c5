"""Words as vectors: which are near others, and analogies."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ...common.errors import UserError, nearest
from ...common.vocabulary import SPECIAL, Vocabulary

_OPERATOR = re.compile(r'\s+([+-])\s+')
_SIGN = re.compile(r'([+-])')
_LONGEST = 40  # letters of a word that is asked for
_LISTED = 60  # words of a vocabulary that is small enough to be listed
_QUESTIONS = 256  # that are answered together
_NOTHING = 1e-5  # length of a sum of unit vectors that cancel each other


class WordVectors:
    """Vectors of the words of a vocabulary, compared by the cosine of their angles.

    Args:
      vectors: float [vocabulary, width].
      vocabulary: their words; special tokens are none.
    """

    def __init__(self, vectors: np.ndarray, vocabulary: Vocabulary):
        vectors = np.asarray(vectors, np.float32)
        self.unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        self.words = vocabulary.entries
        self.numbers = {word: number for number, word in enumerate(self.words) if number >= len(SPECIAL)}

    def nearest(self, query: str, count: int) -> list[tuple[str, float]]:
        """Returns the words nearest to a word or to a sum of words, with their cosines, the nearest first.

        Args:
          query: 'king', or 'king - man + woman' with blanks around the signs; its own words are left out. Capital
            letters matter where the vocabulary has a word with them.
          count: how many.

        Raises:
          UserError: a word that is not in the vocabulary, or a sum that leaves nothing.
        """
        terms = [(sign, self._known(word)) for sign, word in _terms(query)]
        numbers = [self.numbers[word] for _, word in terms]
        wanted = np.sum([sign * self.unit[number] for (sign, _), number in zip(terms, numbers)], axis=0)
        length = float(np.linalg.norm(wanted))
        if len(terms) > 1 and length < _NOTHING:
            raise UserError(f'{query[:80]!r} leaves nothing that words could be near to: its vectors cancel each other')
        similar = self.unit @ (wanted / max(length, 1e-12))
        similar[:len(SPECIAL)] = similar[numbers] = -np.inf
        return [(self.words[number], float(similar[number]))
                for number in np.argsort(-similar, kind='stable')[:min(count, len(self.numbers) - len(set(numbers)))]]

    def _known(self, word: str) -> str:
        """Returns a word as the vocabulary has it: as it is written, or in small letters."""
        for known in (word, word.lower()):
            if known in self.numbers:
                return known
        if not word:
            raise UserError("an empty word: a query is a word or a sum of words, 'king - man + woman'")
        if len(word) >= _LONGEST:
            raise UserError(f'{word[:_LONGEST]!r}... is no word of the vocabulary')
        said = f'{word!r} is not among the {len(self.numbers):,} words of the vocabulary; '
        parts = _SIGN.split(word)
        if len(parts) > 1 and all(part.strip() in self.numbers or part.strip().lower() in self.numbers
                                  for part in parts[::2] if part.strip()):
            raise UserError(f"{said}the signs of a sum stand between words, with blanks around them: 'king - man'")
        hint = nearest(word, list(self.numbers), 0.7)
        raise UserError(said + (hint if len(self.numbers) <= _LISTED or hint.startswith('did') else
                                'none is spelled alike'))

    def solve(self, questions: Sequence[tuple[str, str, str, str]]) -> np.ndarray:
        """Returns which analogies are solved, bool [questions]: is the word nearest to b - a + c, but for these, d?

        Args:
          questions: (a, b, c, d), as in ('man', 'king', 'woman', 'queen'), all of the vocabulary.
        """
        numbers = np.array([[self.numbers[word] for word in question] for question in questions]).reshape(-1, 4)
        found = np.zeros(len(numbers), bool)
        for begin in range(0, len(numbers), _QUESTIONS):
            a, b, c, d = numbers[begin:begin + _QUESTIONS].T
            similar = (self.unit[b] - self.unit[a] + self.unit[c]) @ self.unit.T
            similar[:, :len(SPECIAL)] = -np.inf
            np.put_along_axis(similar, np.stack([a, b, c], axis=1), -np.inf, axis=1)
            found[begin:begin + _QUESTIONS] = similar.argmax(axis=1) == d
        return found

    def score(self, questions: Mapping[str, Sequence[tuple[str, str, str, str]]]) -> dict[str, tuple[int, int]]:
        """Returns kind -> (analogies solved, how many there are)."""
        return {kind: (int(self.solve(asked).sum()), len(asked)) for kind, asked in questions.items()}


def _terms(query: str) -> list[tuple[int, str]]:
    """'king - man + woman' -> [(1, 'king'), (-1, 'man'), (1, 'woman')]."""
    words = _OPERATOR.split(query.strip())
    return [(1, words[0])] + [(1 if sign == '+' else -1, word) for sign, word in zip(words[1::2], words[2::2])]
