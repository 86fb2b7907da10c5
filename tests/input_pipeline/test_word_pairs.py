"""Pairs of words: which there are, how often each, and that random numbers alone decide."""

from collections import Counter

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.common.vocabulary import Vocabulary
from practicum.input_pipeline import sources
from practicum.input_pipeline.batches import eval_batches, train_batches
from practicum.input_pipeline.word_pairs import WordPairs
from practicum.training.defaults import base

LINES = ['a b c d', 'a a e', 'e']  # the last one has no pair
WORDS = Vocabulary.build(LINES, 'words')


def pairs(window=2, subsample=0.0, lines=LINES):
    return WordPairs([WORDS.encode(line) for line in lines], WORDS, window, subsample)


def by_hand(window, keep):
    """Expected count of each pair."""
    found = Counter()
    for line in LINES:
        words = line.split()
        for i, centre in enumerate(words):
            for j, context in enumerate(words):
                if 0 < abs(i - j) <= window:
                    found[centre, context] += (window + 1 - abs(i - j)) / window * keep[centre] * keep[context]
    return found


@pytest.mark.parametrize('window, subsample', [(1, 0.0), (2, 0.0), (2, 0.1), (5, 0.2)])
def test_pairs_are_as_frequent_as_windows_and_subsampling_say(window, subsample):
    source = pairs(window, subsample)
    share = {word: Counter(' '.join(LINES[:2]).split())[word] / 7 for word in 'abcde'}
    keep = {word: min(1, np.sqrt(subsample / share[word])) if subsample else 1 for word in share}
    wanted = by_hand(window, keep)
    total = sum(wanted.values())
    assert len(source) == max(1, round(total))
    drawn = source.read(np.zeros(40_000, int), np.random.default_rng(0).random((40_000, 4)))
    found = Counter((WORDS.entries[a], WORDS.entries[b]) for a, b in zip(drawn['centre'], drawn['context']))
    assert set(found) == set(wanted)
    for pair, count in wanted.items():
        assert found[pair] / 40_000 == pytest.approx(count / total, abs=0.008)
    listed = Counter()
    for centre, context, count in zip(*source.counted()):
        listed[WORDS.entries[centre], WORDS.entries[context]] += count
    assert listed == pytest.approx(wanted)


def test_batches_are_a_function_of_seed_and_step():
    """However they are divided; evaluations need no random numbers, and see all of the text."""
    batches = train_batches(pairs(), 16, seed=3)
    again, other = train_batches(pairs(), 16, seed=3), train_batches(pairs(), 16, seed=4)
    whole = batches(5)
    np.testing.assert_array_equal(whole['context'], again(5)['context'])
    assert not np.array_equal(whole['context'], other(5)['context'])
    assert not np.array_equal(whole['centre'], batches(6)['centre'])
    half = train_batches(pairs(), 16, seed=3, rows=slice(8, 16))(5)
    np.testing.assert_array_equal(half['centre'], whole['centre'][8:])
    evaluated = eval_batches(pairs(1), 10)(0)
    assert Counter(evaluated['centre'][evaluated['mask'] > 0].tolist()) == Counter(
        {WORDS.encode('b')[0]: 2, WORDS.encode('c')[0]: 2, WORDS.encode('a')[0]: 4, WORDS.encode('e')[0]: 1,
         WORDS.encode('d')[0]: 1})


def opened(tmp_path, split='train', **text):
    (tmp_path / 'train.txt').write_text('\n'.join(LINES) + '\n')
    config = base()
    config.data.source, config.data.name = 'text', str(tmp_path / 'train.txt')
    config.text.update({'window': 2, 'subsample': 0.0, **text})
    return sources.open_split(config.data, config.image, split, text=config.text)


def test_a_text_with_a_window_is_pairs_of_its_part(tmp_path):
    source = opened(tmp_path)
    assert isinstance(source, WordPairs) and source.info.other['word_counts'] == [0, 0, 0, 0, 3, 1, 1, 1, 1]
    assert len(opened(tmp_path, 'train[1:]')) == len(pairs(lines=LINES[1:]))
    # What is unknown is left out before windows are: e follows a.
    source = WordPairs([Vocabulary('words', WORDS.entries[:6]).encode('a c d e')], WORDS, 1, 0.0)
    assert set(zip(*map(np.ndarray.tolist, source.counted()[:2]))) == {(4, 5), (5, 4)}


@pytest.mark.parametrize('text, parts', [
    ({'window': -1}, ('config.text.window = -1',)), ({'subsample': 2.0}, ('config.text.subsample = 2.0',)),
    ({'tokens': 'characters'}, ('config.text.window', "'words'"))])
def test_fields_that_do_not_fit(text, parts, tmp_path):
    with pytest.raises(UserError) as caught:
        opened(tmp_path, **text)
    assert '\n' not in str(caught.value) and all(part in str(caught.value) for part in parts)


def test_a_text_without_pairs():
    with pytest.raises(UserError, match='no line of the text has two words'):
        pairs(lines=['a', 'x b', ''])
