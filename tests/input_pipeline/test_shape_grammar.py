"""The language of shapes: what it says is true, what is changed is false just where the scene says so, else nothing."""

import itertools
import json
import random

import pytest

from practicum.input_pipeline.datasets import shape_grammar as grammar


def shape(kind, colour, size, row, column, motion=None):
    return {'shape': kind, 'colour': colour, 'size': size, 'row': row, 'column': column, 'motion': motion}


# A large red circle top left, a small blue square in the middle, a small red circle bottom left.
SCENE = {'shapes': [shape('circle', 'red', 'large', 0, 0), shape('square', 'blue', 'small', 1, 1),
                    shape('circle', 'red', 'small', 2, 0)]}
# A green star moves to the right along the top, above a white cross that stands and left of a triangle on its way down.
MOVING = {'shapes': [shape('star', 'green', 'large', 0, 0, 'right'), shape('triangle', 'white', 'large', 0, 2, 'down'),
                     shape('cross', 'white', 'small', 2, 1)]}


@pytest.mark.parametrize('caption', [
    'A red circle is above a small blue square.', 'a circle is above a circle', 'a red circle',
    'a small red circle and a large red circle', 'a circle, a circle and a square', 'a picture of a square',
    'there is a blue square to the right of a large circle', 'there is a circle left of a square',
    'the square is small', 'the square is blue', 'the square is small and blue', 'the blue shape is in the middle',
    'the large circle is red and a square is under a circle', 'in the top left corner there is a large red circle',
    'there are three shapes', 'there are two circles', 'there are two red shapes', 'there is one blue shape',
    'there is one large circle', 'a circle is on the left while a circle is at the bottom',
    'a square stands still', 'the square is blue and small',
    'there is a circle', 'there is a circle and there is a square', 'there is one square and there are two circles',
])
def test_true_of_a_scene_by_hand(caption):
    assert grammar.is_true(caption, SCENE)


@pytest.mark.parametrize('caption', [
    'a blue circle is above a red square', 'a square is above a square', 'a circle, a square, a circle and a star',
    'a circle a circle and a circle', 'a blue square and a square', 'there are three circles', 'there are two shapes',
    'there is one circle', 'the circle is red', 'the circle is on the left', 'the star is red', 'the square is large',
    'the square is small and red', 'a small red circle is above a square', 'a circle is right of a square',
    'a large circle is left of a small circle', 'a square moves up', 'a square is at the top',
    'a circle is in the middle',
    'a red circle is above a blue square while a blue square is above a large circle',
    'a blue square is above a large circle and a red circle is above a blue square', 'there is a star',
])
def test_false_of_a_scene_by_hand(caption):
    assert grammar.parse(caption) and not grammar.is_true(caption, SCENE)


@pytest.mark.parametrize('caption, true', [
    ('a green star moves to the right', True), ('a green star is moving to the right at the top', True),
    ('a star moves to the right above a small cross', True), ('a triangle moves down right of a cross', True),
    ('a white triangle is moving downwards on the right', True), ('a cross stands still below a star', True),
    ('the star moves to the right', True), ('a green star moves to the left', False), ('a star stands still', False),
    ('a star is above a triangle', False),      # only in the last frame
    ('a star is on the left', False),           # only in the first
    ('a star is to the left of a cross', False), ('a star is left of a triangle', True),
    ('a triangle moves down at the top', False), ('a star moves to the right while a cross moves up', False),
    ('a star moves', False), ('a star moves to the left of a triangle', False), ('a star moves at the top', False),
])
def test_what_moves_must_be_so_all_of_the_way(caption, true):
    assert grammar.is_true(caption, MOVING) == true


@pytest.mark.parametrize('caption', [
    '', '.', 'a', 'the', 'a red', 'circle', 'red circle', 'a circle red', 'a red blue circle', 'a red large circle',
    'a circle a square', 'a circle and', 'and a circle', 'a circle is', 'a circle is above', 'a circle is above square',
    'a circle is above the', 'a circle above a square', 'there is', 'there are two', 'there are two circle',
    'there is one circles', 'there are one circle', 'there are zero circles', 'a circles', 'a red circle is red',
    'a circle is above a square and', 'a circle is above a square while', 'a circle is above a square a circle',
    'a circle is above a square and a circle', 'a circle and a square is at the top', 'in the middle', 'above a square',
    'a circle is in the top left', 'a circle is is at the top', 'there there is a circle', 'a dog runs on the grass',
    '<unk>', 'a <unk> circle', 'a circle <end>', 'there are two circles and', 'blue square red circle',
    'a circle is at the top on the left', 'a circle and a square and a star', 'a ' * 1000, 'a circle and ' * 500,
])
def test_what_is_no_sentence_is_not_true(caption):
    assert grammar.parse(caption) is None
    assert not grammar.is_true(caption, SCENE) and not grammar.is_true(caption, MOVING)


# --- thousands of scenes, and an independent count of facts ---

@pytest.fixture(scope='module')
def scenes():
    generator = random.Random(1)
    return [grammar.draw_scene(generator, moving=i % 2 == 1) for i in range(2000)]


@pytest.fixture(scope='module')
def described(scenes):
    generator = random.Random(2)
    return [(caption, scene) for scene in scenes for caption in grammar.describe(scene, generator)]


def test_scenes_are_data_within_the_grid_and_never_meet(scenes):
    for number, scene in enumerate(scenes):
        assert json.loads(json.dumps(scene)) == scene and 1 <= len(scene['shapes']) <= grammar.MOST_SHAPES
        assert any(s['motion'] for s in scene['shapes']) == (number % 2 == 1)
        paths = [track(s) for s in scene['shapes']]
        for path in paths:
            assert all(0 <= x <= 2 and 0 <= y <= 2 for x, y in path)
        for one, other in itertools.combinations(paths, 2):
            assert all(max(abs(a - c), abs(b - d)) > 0.99 for (a, b), (c, d) in zip(one, other))


def test_five_different_true_captions_of_thousands_of_scenes(scenes, described):
    for i, scene in enumerate(scenes):
        captions = [caption for caption, _ in described[5 * i:5 * i + 5]]
        assert len(set(captions)) == 5
        for caption in captions:
            assert grammar.is_true(caption, scene), (caption, scene)
    assert len({caption for caption, _ in described}) > 4000


def test_captions_survive_a_tokenizer_that_drops_punctuation_and_case(described):
    for caption, scene in described[:1000]:
        assert grammar.is_true(' '.join(caption.replace(',', '').split()), scene)
        assert grammar.is_true(caption.upper() + ' .', scene)


def test_every_word_and_phrase_of_the_language_is_used(described):
    used = ' ' + ' . '.join(caption.replace(',', '') for caption, _ in described) + ' '
    for phrase in [*grammar.SHAPES, *grammar.COLOURS, *grammar.SIZES, *grammar._PLACES, *grammar._RELATIONS,
                   *grammar._DIRECTIONS, *grammar._NUMBERS, 'one', 'shapes', 'stands still', 'while', 'and', 'crosses']:
        assert f' {phrase} ' in used, phrase


def track(s) -> list[tuple[float, float]]:
    """x and y of a shape over time, in cells."""
    dx, dy = {None: (0, 0), 'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}[s['motion']]
    return [(s['column'] + dx * t / 4, s['row'] + dy * t / 4) for t in range(5)]


def facts(scene) -> dict[str, bool]:
    """Every relation, place, movement and number there is a sentence for, by counting; -> whether it is so."""
    kinds = [''.join(words) for words in itertools.product(('', 'small ', 'large '), ('', 'red ', 'blue ', 'white '),
                                                           ('circle', 'square', 'shape'))]
    fits = {kind: [i for i, s in enumerate(scene['shapes'])
                   if all(word in (s['size'], s['colour'], s['shape'], 'shape') for word in kind.split())]
            for kind in kinds}
    tracks = [track(s) for s in scene['shapes']]
    found = {}

    def always(i, j, test):
        return i != j and all(test(*a, *b) for a, b in zip(tracks[i], tracks[j]))
    relations = {'above': lambda x, y, u, v: v - y > 0.5, 'below': lambda x, y, u, v: y - v > 0.5,
                 'to the left of': lambda x, y, u, v: u - x > 0.5, 'right of': lambda x, y, u, v: x - u > 0.5}
    for (word, test), a, b in itertools.product(relations.items(), kinds, kinds):
        found[f'a {a} is {word} a {b}'] = any(always(i, j, test) for i in fits[a] for j in fits[b])
    places = {'at the top': lambda x, y: y == 0, 'on the right': lambda x, y: x == 2,
              'in the bottom left corner': lambda x, y: (x, y) == (0, 2), 'in the middle': lambda x, y: x == y == 1}
    for (word, test), a in itertools.product(places.items(), kinds):
        there = {i for i in fits[a] if all(test(*at) for at in tracks[i])}
        found[f'a {a} is {word}'] = found[f'{word} there is a {a}'] = bool(there)
        found[f'the {a} is {word}'] = bool(there) and len(fits[a]) == 1
    for a in kinds:
        ends = [(tracks[i][-1][0] - tracks[i][0][0], tracks[i][-1][1] - tracks[i][0][1]) for i in fits[a]]
        for phrase, way in (('moves to the left', (-1, 0)), ('is moving down', (0, 1)), ('stands still', (0, 0))):
            found[f'a {a} {phrase}'] = way in ends
        found[f'there is one {a}'] = len(fits[a]) == 1
        found[f'there are two {a}s'] = len(fits[a]) == 2
        for b in kinds:
            found[f'a {a} and a {b}'] = len(set(fits[a]) | set(fits[b])) > 1 and bool(fits[a] and fits[b])
    return found


def test_every_sentence_is_true_just_where_counting_says_so():
    """Scenes of few kinds of shapes, so that many sentences hold."""
    generator, checked = random.Random(3), {True: 0, False: 0}
    for number in range(10):
        scene = grammar.draw_scene(generator, moving=number % 2 == 1)
        for s in scene['shapes']:
            s['shape'], s['colour'] = generator.choice(('circle', 'square')), generator.choice(('red', 'blue'))
        for caption, true in generator.sample(sorted(facts(scene).items()), 1000):
            assert grammar.is_true(caption, scene) == true, (caption, scene)
            checked[true] += 1
    assert checked[True] > 300


def test_two_clauses_are_true_when_both_are():
    generator = random.Random(4)
    scene = grammar.draw_scene(generator, moving=True)
    while len(scene['shapes']) < 3:
        scene = grammar.draw_scene(generator, moving=True)
    single = [(caption, true) for caption, true in facts(scene).items() if ' and ' not in caption]
    for word in ('and', 'while'):
        for _ in range(1000):
            (one, first), (two, second) = generator.choices(single, k=2)
            assert grammar.is_true(f'{one} {word} {two}', scene) == (first and second)


SWAPS = [grammar.COLOURS, grammar.SHAPES, grammar.SIZES, ('above', 'below'), ('left', 'right'), ('up', 'down'),
         ('top', 'bottom'), ('upwards', 'downwards'), ('one', 'two', 'three')]


def test_a_changed_word_is_noticed(described):
    """Most single changes make a caption false; which ones, the count of facts above decides."""
    false = total = 0
    for caption, scene in described[::20]:
        words = caption.replace(',', '').split()
        for at, word in enumerate(words):
            for other in next((group for group in SWAPS if word in group), ()):
                changed = ' '.join([*words[:at], other, *words[at + 1:]])
                if other != word and grammar.parse(changed):
                    total += 1
                    false += not grammar.is_true(changed, scene)
    assert total > 1000 and false / total > 0.85


@pytest.mark.parametrize('words, axis', [({'left': 'right', 'right': 'left'}, 'column'),
                                         ({'above': 'below', 'below': 'above', 'under': 'above', 'up': 'down',
                                           'down': 'up', 'upwards': 'downwards', 'downwards': 'upwards',
                                           'top': 'bottom', 'bottom': 'top'}, 'row')])
def test_the_mirrored_caption_is_true_of_the_mirrored_scene(described, words, axis):
    for caption, scene in described[:3000]:
        mirrored = {'shapes': [s | {axis: 2 - s[axis], 'motion': words.get(s['motion'], s['motion'])}
                               for s in scene['shapes']]}
        assert grammar.is_true(' '.join(words.get(word, word) for word in caption.replace(',', '').split()), mirrored)


def test_colours_change_places_with_their_names(described):
    names = dict(zip(grammar.COLOURS, (*grammar.COLOURS[1:], grammar.COLOURS[0])))
    for caption, scene in described[:3000]:
        changed = {'shapes': [s | {'colour': names[s['colour']]} for s in scene['shapes']]}
        assert grammar.is_true(' '.join(names.get(word, word) for word in caption.replace(',', '').split()), changed)


def test_tags_are_sorted_and_each_there_once():
    assert grammar.tags(SCENE) == 'blue square red circle'
    assert grammar.tags(MOVING) == 'green star white cross white triangle'
    assert grammar.tags({'shapes': SCENE['shapes'][::-1]}) == grammar.tags(SCENE)


def test_descriptions_depend_on_scene_and_generator_alone():
    assert grammar.describe(SCENE, random.Random(5)) == grammar.describe(SCENE, random.Random(5))
    assert grammar.describe(SCENE, random.Random(5)) != grammar.describe(SCENE, random.Random(6))
