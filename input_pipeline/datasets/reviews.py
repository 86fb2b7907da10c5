"""Reviews of a grammar, each positive, negative or mixed, so that order decides: 'not' and 'although' reach one clause.

A review has one clause or two about parts of a film, each good or bad; 'not', 'never' and 'hardly' turn a clause round.
After 'although', 'even if' and 'while' a clause counts for nothing, before ', but' and ', yet' neither: the other one
is the verdict. With 'and' both count, and the review is mixed where they differ. The same words in another order can be
of another class: a network that only sees which words there are cannot tell all of them.
"""

import functools
import hashlib
import random
from collections.abc import Sequence

REVIEWS = {'train': 10_000, 'validation': 1000, 'test': 1000}
CLASSES = ('mixed', 'negative', 'positive')
_SHARES = ('validation', 'test', *['train'] * 8)  # of all reviews
_SEED = 2004

_PARTS = ('plot', 'acting', 'music', 'ending', 'dialogue', 'pace', 'cast', 'story', 'camera work', 'first half',
          'second half', 'humour')
_GOOD = ('good', 'great', 'clever', 'moving', 'funny', 'brilliant', 'convincing', 'charming', 'fresh', 'superb')
_BAD = ('bad', 'poor', 'dull', 'weak', 'boring', 'silly', 'awful', 'clumsy', 'stale', 'predictable')
_VERBS = ('is', 'was', 'seems', 'felt')
_DEGREES = ('very', 'really', 'quite', 'so')
_TURNS = ('not', 'never', 'hardly')
_ASIDE = ('although', 'even if', 'while')
_AGAINST = ('but', 'yet')


@functools.cache
def texts(split: str) -> list[tuple[str, str]]:
    """Returns the reviews of a split, each with its class, all different; always the same.

    No review is in two splits: a hash of its words decides where it belongs. All classes are equally frequent, give or
    take one review.
    """
    generator, found = random.Random(f'{_SEED} {split}'), {}
    counts = dict.fromkeys(CLASSES, 0)
    most = -(-REVIEWS[split] // len(CLASSES))
    while len(found) < REVIEWS[split]:
        text, verdict = draw(generator)
        if counts[verdict] < most and text not in found and split_of(text) == split:
            found[text] = verdict
            counts[verdict] += 1
    return list(found.items())


def split_of(text: str) -> str:
    """Returns the one split that a review may be in."""
    return _SHARES[hashlib.md5(text.encode()).digest()[0] % len(_SHARES)]


def draw(generator: random.Random) -> tuple[str, str]:
    """Draws a review and its class."""
    if generator.random() < 0.15:
        text, good = _clause(generator)
        return f'{text}.', _verdict([good])
    (first, one), (second, other) = _clause(generator), _clause(generator)
    kind = generator.choice(('and', 'and', 'aside', 'aside behind', 'against'))
    if kind == 'and':
        return f'{first} and {second}.', _verdict([one, other])
    if kind == 'against':
        return f'{first}, {generator.choice(_AGAINST)} {second}.', _verdict([other])
    word = generator.choice(_ASIDE)
    if kind == 'aside':
        return f'{word} {first}, {second}.', _verdict([other])
    return f'{first}, {word} {second}.', _verdict([one])


def _clause(generator: random.Random) -> tuple[str, bool]:
    """Returns a clause, and whether it is good."""
    good, turned = generator.random() < 0.5, generator.random() < 0.4
    words = ['the', generator.choice(_PARTS), generator.choice(_VERBS)]
    words += [generator.choice(_TURNS)] if turned else []
    words += [generator.choice(_DEGREES)] if generator.random() < 0.3 else []
    return ' '.join([*words, generator.choice(_GOOD if good else _BAD)]), good != turned


def _verdict(good: Sequence[bool]) -> str:
    if len(set(good)) > 1:
        return 'mixed'
    return 'positive' if good[0] else 'negative'
