"""BLEU: how many of the n-grams of generated texts are in their references."""

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4  # the longest n-grams


def bleu(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
         ) -> tuple[float, float, float, float]:
    """Scores a corpus as one, by its sums of n-grams (Papineni et al. 2002, section 2).

    n-grams are clipped by their largest count in any one reference. For the brevity penalty the reference of the
    closest length counts, of equally close ones the shorter. There is no smoothing, as in sacrebleu with 'none': BLEU-n
    is 0 where no n-gram is right. (coco-caption puts 1e-15 in the place of no match and 1e-9 of no n-gram, so such
    corpora, tiny ones or very bad ones, get a little there.)

    Args:
      candidates: tokens of a text for each example; there may be none.
      references: for each example at least one text.

    Returns:
      BLEU-1 to BLEU-4 in [0, 1]; 0 for a corpus without tokens.

    Raises:
      ValueError: not as many groups of references as candidates, or a group without a reference.
    """
    right, total = [0] * ORDER, [0] * ORDER
    length = reference_length = 0
    for candidate, group in zip(candidates, references, strict=True):
        most = Counter()
        for reference in group:
            most |= count_ngrams(reference)
        for ngram, count in count_ngrams(candidate).items():
            right[len(ngram) - 1] += min(count, most[ngram])
            total[len(ngram) - 1] += count
        length += len(candidate)
        reference_length += min((abs(len(reference) - len(candidate)), len(reference)) for reference in group)[1]
    if not right[0]:
        return 0.0, 0.0, 0.0, 0.0
    penalty = min(0.0, 1 - reference_length / length)
    scores = []
    for n in range(1, ORDER + 1):
        logarithms = [math.log(r / t) if r else -math.inf for r, t in zip(right[:n], total[:n])]
        scores.append(math.exp(penalty + sum(logarithms) / n))
    return tuple(scores)


def count_ngrams(tokens: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Returns how often each n-gram of 1 to ORDER tokens is in a text."""
    return Counter(tuple(tokens[begin:begin + n]) for n in range(1, ORDER + 1)
                   for begin in range(len(tokens) - n + 1))
