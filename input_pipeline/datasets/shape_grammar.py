"""Scenes of coloured shapes, and a small English for them in which every sentence is either true or false.

A scene is data that JSON can hold: {'shapes': [shape, ...]}, where a shape has 'shape', 'colour' and 'size' of SHAPES,
COLOURS and SIZES, 'row' and 'column' 0, 1 or 2 of a grid of 3x3 cells, and 'motion', None or a key of MOTIONS: in a
video it moves to the neighbouring cell on that side. What is said of places must hold in the first and in the last
frame, and so in all: shapes move in straight lines. Shapes of different rows are clearly above one another, those of
one row are not.

The language, without case and punctuation, is

  caption     = listing | clause {('and' | 'while') clause}
  listing     = ['there is' | 'a picture of'] a-thing [{a-thing} 'and' a-thing]
  clause      = a-thing ('is' where | movement [where])
              | 'the' thing ('is' (where | quality [['and'] quality]) | movement [where])
              | 'there is' a-thing [where] | place 'there is' a-thing
              | 'there is one' thing | 'there are' number things
  a-thing     = 'a' thing          thing = [size] [colour] noun          quality = size | colour
  where       = place | relation a-thing
  movement    = ('moves' | 'is moving') direction | 'stands still'

with the places, relations, directions and nouns below. 'a' is at least one, 'the' is the only one, a number is exact;
what a listing lists are different shapes, and so are the two of a relation.
"""

import dataclasses
import itertools
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

SHAPES = ('circle', 'cross', 'square', 'star', 'triangle')
COLOURS = ('blue', 'green', 'purple', 'red', 'white', 'yellow')
SIZES = ('small', 'large')
MOTIONS = {'left': (0, -1), 'right': (0, 1), 'up': (-1, 0), 'down': (1, 0)}  # rows and columns it moves by
CELLS = 3  # rows, and columns
MOST_SHAPES = 3
CAPTIONS = 5  # of each scene

Scene = Mapping[str, Any]

_ANY = 'shape'  # the noun of every shape
_NOUNS = {noun: noun + ('es' if noun == 'cross' else 's') for noun in (*SHAPES, _ANY)}  # singular -> plural
_NUMBERS = {'two': 2, 'three': 3}
# Phrase -> (row, column), None for any.
_PLACES = {'in the top left corner': (0, 0), 'in the top right corner': (0, 2), 'in the bottom left corner': (2, 0),
           'in the bottom right corner': (2, 2), 'in the middle': (1, 1), 'at the top': (0, None),
           'at the bottom': (2, None), 'on the left': (None, 0), 'on the right': (None, 2)}
_RELATIONS = {'above': 'above', 'below': 'below', 'under': 'below', 'to the left of': 'left', 'left of': 'left',
              'to the right of': 'right', 'right of': 'right'}
_DIRECTIONS = {'to the left': 'left', 'to the right': 'right', 'up': 'up', 'upwards': 'up', 'down': 'down',
               'downwards': 'down'}


# --- scenes ---

def draw_scene(generator: random.Random, *, moving: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a random scene of one to three shapes in reading order, no two of which ever share a cell.

    Args:
      generator: where chance comes from.
      moving: at least one of the shapes moves.
    """
    while True:
        shapes = [{'shape': generator.choice(SHAPES), 'colour': generator.choice(COLOURS),
                   'size': generator.choice(SIZES), 'row': generator.randrange(CELLS),
                   'column': generator.randrange(CELLS),
                   'motion': generator.choice((None, *MOTIONS)) if moving else None}
                  for _ in range(generator.choice((1, 2, 2, 2, 3, 3, 3)))]
        if moving and not any(shape['motion'] for shape in shapes):
            continue
        cells = [set(_ends(shape)) for shape in shapes]
        inside = all(0 <= i < CELLS for ends in cells for cell in ends for i in cell)
        if inside and not any(a & b for a, b in itertools.combinations(cells, 2)):
            return {'shapes': sorted(shapes, key=lambda shape: (shape['row'], shape['column']))}


def tags(scene: Scene) -> str:
    """Returns what is in a scene as labels, each colour and shape once, by the alphabet: 'blue circle red square'."""
    return ' '.join(sorted({f"{shape['colour']} {shape['shape']}" for shape in scene['shapes']}))


def _ends(shape: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns its cells, (row, column), in the first and in the last frame."""
    row, column = shape['row'], shape['column']
    rows, columns = MOTIONS[shape['motion']] if shape['motion'] else (0, 0)
    return (row, column), (row + rows, column + columns)


def _is_at(shape: Mapping[str, Any], place: tuple[int | None, int | None]) -> bool:
    return all(wanted is None or i == wanted for cell in _ends(shape) for i, wanted in zip(cell, place))


def _is_related(shape: Mapping[str, Any], relation: str, other: Mapping[str, Any]) -> bool:
    sides = {'above': (0, 1), 'below': (0, -1), 'left': (1, 1), 'right': (1, -1)}  # axis, sign
    axis, sign = sides[relation]
    return all(sign * (there[axis] - here[axis]) > 0 for here, there in zip(_ends(shape), _ends(other)))


# --- from a scene to captions ---

def describe(scene: Scene, generator: random.Random) -> list[str]:
    """Returns five different true captions of a scene, phrased at random; the first lists all of its shapes."""
    writer = _Writer(scene, generator)
    found = [writer.listing()]
    for _ in range(1000):
        text = writer.caption()
        if text and text not in found:
            found.append(text)
        if len(found) == CAPTIONS:
            return found
    raise ValueError(f'no {CAPTIONS} captions in 1,000 attempts: {scene}')


class _Writer:
    """Makes true sentences; a method returns '' where its kind of sentence has nothing to say."""

    def __init__(self, scene: Scene, generator: random.Random):
        self._shapes, self._random = list(scene['shapes']), generator
        self._moving = any(shape['motion'] for shape in self._shapes)

    def listing(self) -> str:
        things = ['a ' + self._thing(shape) for shape in self._shapes]
        text = things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"
        return self._random.choice(('', '', 'there is ', 'a picture of ')) + text

    def caption(self) -> str:
        kinds = [(self._placed, 3), (self._related, 4), (self._counted, 1), (self._the_one, 1), (self._both, 2)]
        if self._moving:
            kinds = [(self._moves, 10), *kinds]
        methods, weights = zip(*kinds)
        return self._random.choices(methods, weights)[0]()

    def _thing(self, shape: Mapping[str, Any]) -> str:
        """Its noun, mostly with its colour, sometimes with its size."""
        words = [shape['size']] * (self._random.random() < 0.4) + [shape['colour']] * (self._random.random() < 0.8)
        return ' '.join([*words, shape['shape']])

    def _placed(self) -> str:
        shape = self._random.choice(self._shapes)
        thing, place = 'a ' + self._thing(shape), self._place(shape)
        forms = (f'{thing} is {place}', f'there is {thing} {place}', f'{place} there is {thing}')
        return self._random.choice(forms) if place else ''

    def _related(self) -> str:
        if len(self._shapes) < 2:
            return ''
        shape = self._random.choice(self._shapes)
        thing, relation = 'a ' + self._thing(shape), self._relation(shape, ('above', 'below', 'left', 'right'))
        return self._random.choice((f'{thing} is {relation}', f'there is {thing} {relation}')) if relation else ''

    def _counted(self) -> str:
        kind = self._random.choice((None, 'shape', 'colour'))
        value = self._random.choice(self._shapes)[kind] if kind else None
        count = sum(kind is None or shape[kind] == value for shape in self._shapes)
        noun = value if kind == 'shape' else _ANY
        colour = f'{value} ' if kind == 'colour' else ''
        if count == 1:
            return f'there is one {colour}{noun}'
        number = next(word for word, n in _NUMBERS.items() if n == count)
        return f'there are {number} {colour}{_NOUNS[noun]}'

    def _the_one(self) -> str:
        """Says of the only circle, or the only red circle, what its name leaves open."""
        shape = self._random.choice(self._shapes)
        by_colour = self._random.random() < 0.5
        name = ('colour', 'shape') if by_colour else ('shape',)
        if sum(all(other[key] == shape[key] for key in name) for other in self._shapes) > 1:
            return ''
        said = (shape['size'],) if by_colour else (shape['colour'], f"{shape['size']} and {shape['colour']}")
        return f"the {' '.join(shape[key] for key in name)} is {self._random.choice(said)}"

    def _moves(self) -> str:
        shape = self._random.choice(self._shapes)
        if not shape['motion']:
            thing = 'a ' + self._thing(shape)
            return f'{thing} stands still'
        phrase = self._random.choice([text for text, motion in _DIRECTIONS.items() if motion == shape['motion']])
        # 'moves up to the left of', but not 'moves to the left to the right of'.
        across = ('above', 'below') if shape['motion'] in ('left', 'right') else ('left', 'right')
        where = self._random.choice(('', self._relation(shape, across), self._relation(shape, across),
                                     self._place(shape)))
        verb = self._random.choice(('moves', 'is moving'))
        return f"a {self._thing(shape)} {verb} {phrase} {where}".strip()

    def _both(self) -> str:
        first, second = (self._random.choice((self._moves if self._moving else self._placed, self._placed,
                                              self._related))() for _ in range(2))
        joined = first and second and second != first
        return f"{first} {self._random.choice(('and', 'while'))} {second}" if joined else first

    def _place(self, shape: Mapping[str, Any]) -> str:
        true = [phrase for phrase, place in _PLACES.items() if _is_at(shape, place)]
        return self._random.choice(true) if true else ''

    def _relation(self, shape: Mapping[str, Any], allowed: tuple[str, ...]) -> str:
        true = [(phrase, other) for other in self._shapes for phrase, relation in _RELATIONS.items()
                if other is not shape and relation in allowed and _is_related(shape, relation, other)]
        if not true:
            return ''
        phrase, other = self._random.choice(true)
        return f'{phrase} a {self._thing(other)}'


# --- from a caption to statements, and to their truth ---

@dataclasses.dataclass(frozen=True)
class _Thing:
    """What words say of one shape; None: nothing."""
    shape: str | None = None
    colour: str | None = None
    size: str | None = None

    def fits(self, shape: Mapping[str, Any]) -> bool:
        return all(said in (None, shape[field]) for field, said in dataclasses.asdict(self).items())


@dataclasses.dataclass(frozen=True)
class _Listed:
    """There are different shapes that each fit one of the things."""
    things: tuple[_Thing, ...]

    def holds(self, shapes: list[Mapping[str, Any]]) -> bool:
        return any(all(thing.fits(shape) for thing, shape in zip(self.things, chosen))
                   for chosen in itertools.permutations(shapes, len(self.things)))


@dataclasses.dataclass(frozen=True)
class _Counted:
    """Just so many shapes fit."""
    number: int
    thing: _Thing

    def holds(self, shapes: list[Mapping[str, Any]]) -> bool:
        return sum(map(self.thing.fits, shapes)) == self.number


@dataclasses.dataclass(frozen=True)
class _Said:
    """A shape that fits, or the only one, is so, moves so, is at the place and in the relation to another."""
    subject: _Thing
    only: bool = False
    quality: _Thing = _Thing()
    motion: str | None = ''  # None: it stands still, '': nothing is said
    place: tuple[int | None, int | None] = (None, None)
    relation: tuple[str, _Thing] | None = None

    def holds(self, shapes: list[Mapping[str, Any]]) -> bool:
        meant = [shape for shape in shapes if self.subject.fits(shape)]
        return (not self.only or len(meant) == 1) and any(self._is_true_of(shape, shapes) for shape in meant)

    def _is_true_of(self, shape: Mapping[str, Any], shapes: list[Mapping[str, Any]]) -> bool:
        if not self.quality.fits(shape) or self.motion not in ('', shape['motion']) or not _is_at(shape, self.place):
            return False
        if self.relation is None:
            return True
        relation, thing = self.relation
        return any(thing.fits(other) and _is_related(shape, relation, other)
                   for other in shapes if other is not shape)


def is_true(caption: str, scene: Scene) -> bool:
    """Whether a caption belongs to the language and every statement in it is true of a scene."""
    statements = parse(caption)
    return statements is not None and all(statement.holds(list(scene['shapes'])) for statement in statements)


def parse(caption: str) -> list[_Listed | _Counted | _Said] | None:
    """Returns the statements of a caption, whatever its case and punctuation; None outside of the language."""
    words = re.sub(r'[.,;:!]', ' ', caption.lower()).split()
    return next(itertools.chain(_Parser(words).listing(), _Parser(words).clauses()), None)


class _Parser:
    """Recursive descent; each method reads what it is named after and steps on, or raises _NoSentence."""

    def __init__(self, words: list[str]):
        self._words, self._at = words, 0

    def listing(self) -> Iterator[list[_Listed]]:
        """Yields the statements if all of the words are a listing."""
        try:
            self._any_of('there is', 'a picture of')
            things = [self._a_thing()]
            while not self._at_end() and not self._any_of('and'):
                things.append(self._a_thing())
            if self._words[self._at - 1] == 'and':
                things.append(self._a_thing())
            elif len(things) > 1:  # 'and' is missing
                return
            if self._at_end():
                yield [_Listed(tuple(things))]
        except _NoSentence:
            return

    def clauses(self) -> Iterator[list[_Counted | _Said | _Listed]]:
        """Yields the statements if all of the words are clauses."""
        try:
            statements = [self._clause()]
            while self._any_of('and', 'while'):
                statements.append(self._clause())
            if self._at_end():
                yield statements
        except _NoSentence:
            return

    def _clause(self) -> _Counted | _Said:
        if self._any_of('there is one'):
            return _Counted(1, self._thing(_NOUNS))
        if self._any_of('there are'):
            number = _NUMBERS[self._one_of(_NUMBERS)]
            return _Counted(number, self._thing({plural: noun for noun, plural in _NOUNS.items()}))
        if self._any_of('there is'):
            return _Said(self._a_thing(), **self._where())
        if place := self._any_of(*_PLACES):
            self._one_of(('there is',))
            return _Said(self._a_thing(), place=_PLACES[place])
        only = bool(self._any_of('the'))
        subject = self._thing(_NOUNS) if only else self._a_thing()
        if self._any_of('stands still'):
            return _Said(subject, only, motion=None, **self._where())
        if self._any_of('moves', 'is moving'):
            return _Said(subject, only, motion=self._direction(), **self._where())
        self._one_of(('is',))
        if only and (quality := self._quality()):
            return _Said(subject, only, quality)
        where = self._where()
        if not where:
            raise _NoSentence
        return _Said(subject, only, **where)

    def _where(self) -> dict[str, Any]:
        if place := self._any_of(*_PLACES):
            return {'place': _PLACES[place]}
        if relation := self._any_of(*_RELATIONS):
            return {'relation': (_RELATIONS[relation], self._a_thing())}
        return {}

    def _direction(self) -> str:
        phrase = self._one_of(_DIRECTIONS)
        if self._any_of('of'):  # 'moves to the left of' says where and not whither
            raise _NoSentence
        return _DIRECTIONS[phrase]

    def _quality(self) -> _Thing | None:
        size, before = self._any_of(*SIZES), self._at
        if size and self._any_of('and') and self._peek() not in COLOURS:
            self._at = before  # the next clause's 'and'
        colour = self._any_of(*COLOURS)
        if colour and not size:
            before = self._at
            self._any_of('and')
            size = self._any_of(*SIZES)
            if not size:
                self._at = before
        return _Thing(None, colour, size) if size or colour else None

    def _a_thing(self) -> _Thing:
        self._one_of(('a',))
        return self._thing(_NOUNS)

    def _thing(self, nouns) -> _Thing:
        """`nouns`: those that may stand here; a mapping of plurals gives their singulars."""
        size, colour = self._any_of(*SIZES), self._any_of(*COLOURS)
        word = self._one_of(nouns)
        noun = word if word in _NOUNS else nouns[word]
        return _Thing(None if noun == _ANY else noun, colour, size)

    def _peek(self) -> str | None:
        return None if self._at_end() else self._words[self._at]

    def _at_end(self) -> bool:
        return self._at == len(self._words)

    def _any_of(self, *phrases: str) -> str | None:
        """Reads the longest of the phrases that comes next, if one does."""
        for phrase in sorted(phrases, key=len, reverse=True):
            words = phrase.split()
            if self._words[self._at:self._at + len(words)] == words:
                self._at += len(words)
                return phrase
        return None

    def _one_of(self, phrases) -> str:
        phrase = self._any_of(*phrases)
        if phrase is None:
            raise _NoSentence
        return phrase


class _NoSentence(Exception):
    """The words are not in the language."""
