"""Texts that are made without a download, of config.data.name: sentences with a class, or with their translation.

The truth of each is known exactly, since the text was made from it; no text is in two splits.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..common.errors import UserError, nearest
from .arrays import ArraySource
from .datasets import dates, made_language, reviews
from .text_examples import labelled, paired


def _vel_to_english(split: str) -> list[tuple[str, str]]:
    return [(vel, english) for english, vel in made_language.pairs(split)]


# Name -> its splits, and split -> (text, what is written for it) pairs.
_PAIRS: dict[str, tuple[Sequence[str], Callable[[str], list[tuple[str, str]]]]] = {
    'dates': (tuple(dates.TEXTS), dates.pairs),
    'english_to_vel': (tuple(made_language.SENTENCES), made_language.pairs),
    'vel_to_english': (tuple(made_language.SENTENCES), _vel_to_english),
}
_LABELLED = {'reviews': (tuple(reviews.REVIEWS), reviews.texts, reviews.CLASSES)}


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> ArraySource:
    """Opens a split, see the top of this file. Raises UserError if there is none of that name, or no such texts."""
    del image, crop_area
    name, known = data['name'], (*_PAIRS, *_LABELLED)
    if name not in known:
        raise UserError(f"config.data.source = 'made_texts': config.data.name = {name!r}; {nearest(name, known)}")
    splits = (_PAIRS.get(name) or _LABELLED[name])[0]
    if split not in splits:
        raise UserError(f'{name} has no split {split!r}; {nearest(split, splits)}')
    return _open(name, split)


@functools.cache
def _open(name: str, split: str) -> ArraySource:
    where = f'{name}/{split}'
    if name in _PAIRS:
        return paired(*zip(*_PAIRS[name][1](split)), where)
    texts, classes = zip(*_LABELLED[name][1](split))
    names = _LABELLED[name][2]
    return labelled(texts, [names.index(one) for one in classes], names, where)
