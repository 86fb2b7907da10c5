"""Stories drawn by a program, with a question each, of the kind of the bAbI tasks (Weston et al. 2015, "Towards
AI-complete question answering: a set of prerequisite toy tasks"). What the answer is follows from what was drawn.

    one_fact   bAbI 1: Mary moved to the garden. ... Where is Mary? garden
    two_facts  bAbI 2: Mary moved to the garden. Mary took the milk there. ... Where is the milk? garden
    paths      bAbI 19: The kitchen is south of the hallway. ... How do you go from the kitchen to the hall? north, east
"""

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence

STORIES = {'train': 10_000, 'validation': 1000, 'test': 1000}
SENTENCES = 12  # of a story in which people move

_PEOPLE = ('Mary', 'John', 'Daniel', 'Sandra')
_PLACES = ('bathroom', 'bedroom', 'garden', 'hallway', 'kitchen', 'office')
_THINGS = ('apple', 'football', 'milk')
_GO = ('moved to', 'went to', 'went back to', 'journeyed to', 'travelled to')
_TAKE = ('took', 'got', 'grabbed', 'picked up')
_DROP = ('dropped', 'left', 'put down', 'discarded')
_STEPS = {'north': (0, 1), 'east': (1, 0), 'south': (0, -1), 'west': (-1, 0)}
_OPPOSITE = {'north': 'south', 'south': 'north', 'east': 'west', 'west': 'east'}
_MOST_MOVES = 0.6  # probability that somebody walks, rather than taking or dropping something


@dataclasses.dataclass(frozen=True)
class Question:
    """A question, and the story that it is about.

    Attributes:
      story: sentences, the earliest first.
      question: one more sentence.
      answer: one answer, of several words where these belong together; None where it is not known.
      supporting: which sentences the answer follows from, counted from 1; () where that is not known.
      line: of the file it was read from; 0 if it was drawn.
    """
    story: tuple[str, ...]
    question: str
    answer: str | None
    supporting: tuple[int, ...] = ()
    line: int = 0


@functools.cache
def draw(kind: str, split: str) -> tuple[Question, ...]:
    """Returns the questions of a split, drawn independently; always the same.

    Args:
      kind: one of KINDS.
      split: one of STORIES.
    """
    generator = random.Random(f'{kind} {split}')
    return tuple(KINDS[kind][0](generator) for _ in range(STORIES[split]))


def answers(kind: str) -> tuple[str, ...]:
    """Returns all answers that questions of a kind can have, sorted."""
    return KINDS[kind][1]


def _one_fact(generator: random.Random) -> Question:
    """Four people walk around; where is one of them?"""
    story, known = [], {}
    for number in range(1, SENTENCES + 1):
        person, place = generator.choice(_PEOPLE), generator.choice(_PLACES)
        known[person] = place, number
        story.append(f'{person} {generator.choice(_GO)} the {place}.')
    person = generator.choice(sorted(known))
    place, number = known[person]
    return Question(tuple(story), f'Where is {person}?', place, (number,))


def _two_facts(generator: random.Random) -> Question:
    """Four people walk around with three things, which they take and drop; where is one of those?"""
    while True:
        question = _story_of_things(generator)
        if question is not None:
            return question


def _story_of_things(generator: random.Random) -> Question | None:
    """Returns a story; None if nothing was ever taken."""
    story: list[str] = []
    places: dict[str, tuple[str, int]] = {}  # of people, and the sentence that says so
    holders: dict[str, tuple[str, int]] = {}  # of things
    lying: dict[str, tuple[str, tuple[int, int]]] = {}  # things that were dropped: where, and both sentences
    for number in range(1, SENTENCES + 1):
        person = generator.choice(_PEOPLE)
        place = places.get(person, ('', 0))[0]
        held = [thing for thing, (holder, _) in holders.items() if holder == person]
        free = [thing for thing in _THINGS if thing not in holders and lying.get(thing, (place, ()))[0] == place]
        can = [] if not place else [*(('drop', thing) for thing in held), *(('take', thing) for thing in free)]
        if not can or generator.random() < _MOST_MOVES:
            place = generator.choice([other for other in _PLACES if other != place])
            places[person] = place, number
            story.append(f'{person} {generator.choice(_GO)} the {place}.')
            continue
        what, thing = generator.choice(can)
        if what == 'take':
            holders[thing] = person, number
            lying.pop(thing, None)
            story.append(f'{person} {generator.choice(_TAKE)} the {thing} there.')
        else:
            del holders[thing]
            lying[thing] = place, (places[person][1], number)
            story.append(f'{person} {generator.choice(_DROP)} the {thing} there.')
    asked = sorted({*holders, *lying})
    if not asked:
        return None
    thing = generator.choice(asked)
    if thing in lying:
        place, supporting = lying[thing]
    else:
        holder, taken = holders[thing]
        place, moved = places[holder]
        supporting = taken, moved
    return Question(tuple(story), f'Where is the {thing}?', place, tuple(sorted(supporting)))


def _paths(generator: random.Random) -> Question:
    """Six rooms on a grid, five of whose borders are told; how does one go from one to another, two steps away?"""
    rooms = generator.sample(_PLACES, len(_PLACES))
    cells, borders = {rooms[0]: (0, 0)}, []  # borders: room, direction from it, room
    while len(cells) < len(rooms):
        room, direction = generator.choice(list(cells)), generator.choice(list(_STEPS))
        x, y = (a + b for a, b in zip(cells[room], _STEPS[direction]))
        if (x, y) not in cells.values():
            other = rooms[len(cells)]
            cells[other] = x, y
            borders.append((room, direction, other))
    generator.shuffle(borders)
    story, ways = [], []
    for number, (room, direction, other) in enumerate(borders, start=1):
        back = _OPPOSITE[direction]
        told = (other, direction, room) if generator.random() < 0.5 else (room, back, other)
        story.append(f'The {told[0]} is {told[1]} of the {told[2]}.')
        ways += [(room, direction, other, number), (other, back, room, number)]
    pairs = [(first, second) for first in ways for second in ways if first[2] == second[0] and first[3] != second[3]]
    first, second = generator.choice(pairs)
    return Question(tuple(story), f'How do you go from the {first[0]} to the {second[2]}?',
                    f'{first[1]}, {second[1]}', tuple(sorted((first[3], second[3]))))


# Kind -> what draws a story, and the answers there are.
KINDS: dict[str, tuple[Callable[[random.Random], Question], Sequence[str]]] = {
    'one_fact': (_one_fact, _PLACES),
    'two_facts': (_two_facts, _PLACES),
    'paths': (_paths, tuple(sorted(f'{first}, {second}' for first in _STEPS for second in _STEPS
                                   if second != _OPPOSITE[first]))),
}
