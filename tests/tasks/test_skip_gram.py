"""Word vectors: the loss by hand, the negatives' frequencies, nearest words and analogies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.common.vocabulary import SPECIAL, Vocabulary
from practicum.tasks.text.analogies import PAIRS, questions
from practicum.tasks.text.word_similarity import WordVectors

NAMES = ('man', 'woman', 'king', 'queen', 'boy')
WORDS = Vocabulary('words', (*SPECIAL, *NAMES))
COUNTS = [0, 0, 0, 0, 16, 81, 1, 0, 256]


def build(**fields):
    info = DatasetInfo.from_json({'vocabulary': WORDS.to_meta(), 'word_counts': COUNTS})
    return tasks.build({'name': 'skip_gram', **fields}, info)


def test_negatives_are_as_frequent_as_a_power_of_the_words():
    task = build(negatives=4)
    batch = {'rng': jax.random.split(jax.random.key(0), 5000), 'centre': jnp.zeros(5000, jnp.int32),
             'context': jnp.zeros(5000, jnp.int32)}
    drawn = np.asarray(jax.jit(task.inputs)(batch)[2])
    assert drawn.shape == (5000, 4)
    np.testing.assert_allclose(np.bincount(drawn.ravel(), minlength=9) / 20_000,
                               np.array([0, 0, 0, 0, 8, 27, 1, 0, 64]) / 100, atol=0.012)


def test_the_loss_by_hand(monkeypatch):
    """A negative that is the context itself does not count."""
    task = build(negatives=2)
    monkeypatch.setattr(task, '_negatives', lambda batch: jnp.array([[4, 5], [6, 5]]))
    outputs = {'positive': jnp.array([1.0, -2.0]), 'negative': jnp.array([[0.5, -1.0], [-3.0, 3.0]])}
    scores = jax.jit(task.score)(outputs, {'context': jnp.array([4, 7])})

    def log(odds):
        return -np.log(1 / (1 + np.exp(-odds)))
    np.testing.assert_allclose(scores['loss'], [log(1) + log(1), log(-2) + log(3) + log(-3)], rtol=1e-5)
    np.testing.assert_allclose(scores['told_apart'], [1, 0.5])


def vectors():
    axes = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0.9, -0.1, 0, 0.3]], np.float32)
    return WordVectors(np.concatenate([np.full((4, 4), 9.0), axes]), WORDS)


def test_nearest_words_and_sums():
    found = vectors().nearest('king - man + woman', 2)
    assert found[0][0] == 'queen' and found[0][1] > found[1][1] and {word for word, _ in found} <= {'queen', 'boy'}
    assert vectors().nearest('Man', 9)[0][0] == 'boy' and len(vectors().nearest('man', 9)) == 4
    with pytest.raises(UserError, match='did you mean queen?'):
        vectors().nearest('quen', 1)


@pytest.mark.parametrize('query, message', [
    ('king - king', "'king - king' leaves nothing"), ('king-man', "blanks around them: 'king - man'"),
    ('King -', 'blanks around them'), ('-king', 'blanks around them'), (' ', 'an empty word')])
def test_sums_that_cannot_be_answered(query, message):
    with pytest.raises(UserError, match=message):
        vectors().nearest(query, 1)


def test_a_large_vocabulary_is_not_listed():
    words = Vocabulary('words', (*SPECIAL, *map(str, range(100)), 'king'))
    with pytest.raises(UserError, match='101 words of the vocabulary; none is spelled alike'):
        WordVectors(np.ones((105, 2)), words).nearest('zebra', 1)


def test_capital_letters_matter_where_a_word_has_them():
    words = Vocabulary('whitespace', (*SPECIAL, 'Turkey', 'turkey', 'Rome', 'bird'))
    near = WordVectors(np.array([[0, 0]] * 4 + [[1, 0], [0, 1], [1, 0.1], [0.1, 1]]), words).nearest
    assert [near(query, 1)[0][0] for query in ('Turkey', 'turkey', 'TURKEY', 'Rome')] == [
        'Rome', 'bird', 'bird', 'Turkey']


def test_analogies_are_asked_both_ways_of_known_words_and_scored():
    asked = questions(vectors().numbers)
    assert asked == {'family': [('man', 'woman', 'king', 'queen'), ('king', 'queen', 'man', 'woman')]}
    assert vectors().score(asked) == {'family': (2, 2)}
    found = vectors().solve([('woman', 'man', 'queen', 'king'), ('man', 'king', 'boy', 'woman')])
    assert found.tolist() == [True, False]
    for pairs in PAIRS.values():
        parts = [pair.split() for pair in pairs.split(', ')]
        assert all(len(pair) == 2 for pair in parts) and len({tuple(pair) for pair in parts}) == len(parts)


def test_what_is_told_of_a_model():
    task = build(words=('king',))
    variables = {'params': {'embedding': {'embedding': np.concatenate([np.zeros((4, 4)), vectors().unit[4:]])}}}
    texts = [row['text'] for row in task.samples(None, variables, ())]
    assert texts[0].startswith('king: queen, ') and texts[1] == '2 of 2 analogies solved: 100.0 %'
    assert set(task.model_figures(None, variables)) == {'word_map', 'analogies'}


@pytest.mark.parametrize('fields, parts', [
    ({'negatives': 0}, ('config.task.negatives = 0',)), ({'power': -1}, ('config.task.power = -1',)),
    ({'words': ('kin',)}, ("'kin'", '5 words')), ({'negative': 5}, ('did you mean negatives?',))])
def test_fields_that_do_not_fit(fields, parts):
    with pytest.raises(UserError) as caught:
        build(**fields)
    assert all(part in str(caught.value) for part in parts)


def test_running_text_has_no_pairs():
    with pytest.raises(UserError, match='config.text.window'):
        tasks.build({'name': 'skip_gram'}, DatasetInfo.from_json({'vocabulary': WORDS.to_meta()}))
