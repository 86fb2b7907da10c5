"""ROUGE-L: the longest words in the same order that generated texts share with their references."""

from collections.abc import Sequence

import numpy as np

BETA = 1.2  # recall counts more than precision; of coco-caption


def rouge_l(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
            ) -> tuple[float, np.ndarray]:
    """Scores texts one by one, see `rouge_l_of`.

    Args:
      candidates: tokens of a text for each example; there may be none.
      references: for each example at least one text.

    Returns:
      The mean over examples, 0 for none, and the score of each, float64 [examples].

    Raises:
      ValueError: not as many groups of references as candidates, or a group without a reference.
    """
    scores = np.array([rouge_l_of(candidate, group) for candidate, group in zip(candidates, references, strict=True)])
    return (float(scores.mean()) if len(scores) else 0.0), scores


def rouge_l_of(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Scores one text by the F-measure of longest common subsequences (Lin 2004, section 3.1), in [0, 1].

    As coco-caption does, it takes the best precision and the best recall, which may be of two references, and an empty
    text for one with an empty word.
    """
    candidate = list(candidate) or ['']
    groups = [list(reference) or [''] for reference in references]
    common = [longest_common_subsequence(candidate, reference) for reference in groups]
    precision = max(length / len(candidate) for length in common)
    recall = max(length / len(reference) for length, reference in zip(common, groups))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns its length: the most tokens, not necessarily neighbours, that both texts have in the same order."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for i, other in enumerate(second, start=1):
            above = row[i]
            row[i] = diagonal + 1 if token == other else max(above, row[i - 1])
            diagonal = above
    return row[-1]
