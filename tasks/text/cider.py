"""CIDEr-D: how much generated texts agree with their references in what is rare elsewhere."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .bleu import ORDER, count_ngrams

SIGMA = 6.0  # width of the penalty for another length, in tokens


def cider_d(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
            ) -> tuple[float, np.ndarray]:
    """Scores texts by the cosine of tf-idf vectors of n-grams, clipped (Vedantam et al. 2015, sections 4 and 6).

    An n-gram counts the more the fewer examples have it in their references. These are the references that are given,
    so scores of different sets do not compare, and one example alone scores 0.

    Args:
      candidates: tokens of a text for each example; there may be none.
      references: for each example at least one text.

    Returns:
      The mean over examples, 0 for none, and the score of each, float64 [examples]; in [0, 10].

    Raises:
      ValueError: not as many groups of references as candidates, or a group without a reference.
    """
    counts = [[count_ngrams(reference) for reference in group] for group in references]
    frequency = Counter(ngram for group in counts for ngram in set().union(*group))
    examples = math.log(max(1, len(counts)))

    def rarity(ngram: tuple[str, ...]) -> float:
        return examples - math.log(max(1, frequency[ngram]))

    scores = np.zeros(len(counts))
    for row, (candidate, group) in enumerate(zip(candidates, counts, strict=True)):
        if not group:
            raise ValueError(f'text {row} has no reference')
        vector = _Vector.of(count_ngrams(candidate), rarity)
        scores[row] = 10 * sum(_similarity(vector, _Vector.of(reference, rarity)) for reference in group) / len(group)
    return (float(scores.mean()) if len(scores) else 0.0), scores


class _Vector(NamedTuple):
    """A text's tf-idf weights, their norms for n-grams of each n, and the text's length."""
    weights: dict[tuple[str, ...], float]
    norms: list[float]
    length: int

    @classmethod
    def of(cls, counts: Counter[tuple[str, ...]], rarity: Callable[[tuple[str, ...]], float]) -> '_Vector':
        weights = {ngram: count * rarity(ngram) for ngram, count in counts.items()}
        squares, bigrams = [0.0] * ORDER, 0
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
            if len(ngram) == 2:
                bigrams += counts[ngram]
        # In bigrams, as in coco-caption: a difference between two texts is the same but for empty ones.
        return cls(weights, [math.sqrt(square) for square in squares], bigrams)


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """The mean over n of the clipped cosine, times the penalty for another length."""
    products = [0.0] * ORDER
    for ngram, weight in candidate.weights.items():
        other = reference.weights.get(ngram, 0.0)
        products[len(ngram) - 1] += min(weight, other) * other
    cosines = [product / (a * b) for product, a, b in zip(products, candidate.norms, reference.norms) if a and b]
    return math.exp(-(candidate.length - reference.length)**2 / (2 * SIGMA**2)) * sum(cosines) / ORDER
