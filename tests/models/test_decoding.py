"""Decoding finds what it says, compared with an enumeration of all texts and with exact distributions."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from practicum.common.errors import UserError
from practicum.models import decoding

PAD, START, END = 0, 1, 2
VOCABULARY = 4


class RecurrentModel:
    """A random network whose next token depends on all before it, twice: compiled in steps, and in NumPy by text."""

    def __init__(self, seed, rows, size=6):
        random = np.random.default_rng(seed)
        self.rows, self.hidden = rows, random.normal(size=(rows, size))
        self.recurrent = random.normal(size=(size, size))
        self.outputs = random.normal(size=(size, VOCABULARY), scale=1.5)
        self.inputs = random.normal(size=(VOCABULARY, size), scale=1.5)

    def next_log_probs(self, row, text):
        """Log-probabilities [vocabulary] of the token after a text of a row."""
        hidden = self.hidden[row]
        for token in (START, *text):
            hidden = np.tanh(hidden @ self.recurrent + self.inputs[token])
        logits = hidden @ self.outputs
        return logits - np.log(np.exp(logits).sum())

    def log_probability(self, row, text):
        return sum(self.next_log_probs(row, text[:i])[token] for i, token in enumerate(text))

    def all_texts(self, row, length, banned=()):
        """All texts without padding that end, or are cut, within `length` tokens."""
        allowed = [token for token in range(VOCABULARY) if token not in banned]
        words = [token for token in allowed if token != END]
        return [(*text, last) for n in range(length) for text in itertools.product(words, repeat=n)
                for last in (allowed if n + 1 == length else [END])]

    def decode(self, how, *key, **arguments):
        weights = {name: jnp.asarray(getattr(self, name)) for name in ('recurrent', 'outputs', 'inputs')}
        state = {'hidden': jnp.asarray(self.hidden), 'count': jnp.zeros((self.rows, 1, 2), jnp.int32)}
        return decode(how, weights, state, *key, **arguments)

    def search(self, **arguments):
        return self.decode('beam_search', **arguments)

    def greedy(self, **arguments):
        return self.decode('greedy', **arguments)

    def sample(self, seed=0, **arguments):
        return self.decode('sample', jax.random.key(seed), **arguments)


@functools.partial(jax.jit, static_argnums=0,
                   static_argnames=('length', 'beam_size', 'banned', 'temperature', 'top_k', 'top_p'))
def decode(how, weights, state, *key, **arguments):
    def step(state, tokens):
        hidden = jnp.tanh(state['hidden'] @ weights['recurrent'] + weights['inputs'][tokens])
        return {'hidden': hidden, 'count': state['count'] + 1}, hidden @ weights['outputs']
    return getattr(decoding, how)(step, state, first(len(state['hidden'])), *key, end=END, **arguments)


def first(rows):
    return jnp.full(rows, START)


def padded(text, length):
    return list(text) + [PAD] * (length - len(text))


def normalized(total, text, length_penalty):
    return total / ((5 + len(text)) / 6) ** length_penalty


# --- beam search ---


@pytest.mark.parametrize('seed, length_penalty, banned', [
    (0, 0.0, ()), (1, 0.0, (START, PAD)), (2, 0.7, ()), (3, 1.5, (START, PAD)), (4, 3.0, ()),
])
def test_a_wide_beam_is_exhaustive(seed, length_penalty, banned):
    """All texts of all rows in order of their scores; some have ended early and some are cut."""
    length, rows = 4, 3
    beam_size = VOCABULARY ** (length - 1)
    model = RecurrentModel(seed, rows)
    tokens, scores = model.search(beam_size=beam_size, length=length, length_penalty=length_penalty, banned=banned)
    for row in range(rows):
        texts = [(text, normalized(model.log_probability(row, text), text, length_penalty))
                 for text in model.all_texts(row, length, banned)]
        best = sorted(texts, key=lambda item: -item[1])[:beam_size]
        assert len({len(text) for text, _ in best}) > 2
        np.testing.assert_allclose(scores[row, :len(best)], [score for _, score in best], rtol=1e-4, atol=1e-5)
        assert tokens[row, :len(best)].tolist() == [padded(text, length) for text, _ in best]
        assert np.all(np.isneginf(scores[row, len(best):])) and not np.any(tokens[row, len(best):])


def test_length_penalty_favours_longer_texts():
    short, long = (RecurrentModel(5, 3).search(beam_size=64, length=4, length_penalty=penalty)[0][:, 0]
                   for penalty in (0.0, 4.0))
    assert np.count_nonzero(short) < np.count_nonzero(long)


def beam_of_lists(model, row, beam_size, length, length_penalty):
    """Beam search that computes every text from its beginning, so that it has no state to mix up."""
    beams = [((), 0.0)]
    for _ in range(length):
        grown = [(text, score) for text, score in beams if END in text]
        grown += [((*text, token), normalized(model.log_probability(row, (*text, token)), (*text, token),
                                              length_penalty))
                  for text, _ in beams if END not in text for token in range(VOCABULARY)]
        beams = sorted(grown, key=lambda item: -item[1])[:beam_size]
    return beams


@pytest.mark.parametrize('length_penalty', [0.0, 0.8])
def test_a_narrow_beam_equals_one_made_of_lists(length_penalty):
    """Texts and scores are right only if each text goes on with the state of its parent."""
    model = RecurrentModel(6, rows=8)
    tokens, scores = model.search(beam_size=3, length=5, length_penalty=length_penalty)
    for row in range(8):
        beams = beam_of_lists(model, row, 3, 5, length_penalty)
        assert tokens[row].tolist() == [padded(text, 5) for text, _ in beams]
        np.testing.assert_allclose(scores[row], [score for _, score in beams], rtol=1e-4)


def test_one_beam_is_greedy():
    model = RecurrentModel(7, rows=8)
    tokens, _ = model.search(beam_size=1, length=5, length_penalty=0.6, banned=(PAD,))
    greedy = model.greedy(length=5, banned=(PAD,))
    assert tokens[:, 0].tolist() == greedy.tolist()
    assert len({tuple(text) for text in greedy.tolist()}) > 1


@pytest.mark.parametrize('decoded', [
    lambda model: model.search(beam_size=3, length=5, length_penalty=0.5)[0],
    lambda model: model.greedy(length=5, banned=(PAD,)),
    lambda model: model.sample(length=5, banned=(PAD, START)),
], ids=['beam_search', 'greedy', 'sample'])
def test_rows_do_not_depend_on_each_other(decoded):
    model = RecurrentModel(8, rows=8)
    together = decoded(model)
    model.rows, model.hidden = 2, model.hidden[:2]
    assert together[:2].tolist() == decoded(model).tolist()
    assert len(np.unique(together, axis=0)) > 1


# --- greedy ---


def test_greedy_takes_the_most_probable_token_and_stops_at_the_end():
    model = RecurrentModel(9, rows=8)
    tokens = model.greedy(length=5).tolist()
    for row, text in enumerate(tokens):
        written = text[:text.index(END) + 1] if END in text else text
        assert written == [int(np.argmax(model.next_log_probs(row, text[:i]))) for i in range(len(written))]
        assert not any(text[len(written):])
    assert 0 < sum(END in text for text in tokens) < 8


@pytest.mark.parametrize('how', ['greedy', 'sample', 'beam_search'])
def test_stops_when_all_rows_have_ended(how):
    """A text of two tokens takes two steps, however long it might have been."""
    calls = []

    def step(state, tokens):
        jax.debug.callback(lambda: calls.append(1))
        state = state + 1
        return state, 30.0 * jax.nn.one_hot(jnp.where(state[:, 0] >= 2, END, 3), VOCABULARY)
    arguments = {'greedy': {}, 'sample': {'key': jax.random.key(0), 'top_k': 1}, 'beam_search': {'beam_size': 1}}[how]
    found = getattr(decoding, how)(step, jnp.zeros((2, 1)), first(2), length=50, end=END, **arguments)
    tokens = found[0][:, 0] if how == 'beam_search' else found
    assert tokens[:, :4].tolist() == [[3, END, PAD, PAD]] * 2 and not np.any(tokens[:, 4:])
    jax.effects_barrier()
    assert len(calls) == 2


# --- sampling ---

LOGITS = np.log([0.05, 0.3, 0.1, 0.35, 0.2])


@pytest.mark.parametrize('arguments, kept', [
    ({}, [0, 1, 2, 3, 4]),
    ({'top_k': 2}, [1, 3]),
    ({'top_k': 1}, [3]),
    ({'top_k': 9}, [0, 1, 2, 3, 4]),
    ({'top_p': 0.34}, [3]),
    ({'top_p': 0.36}, [1, 3]),
    ({'top_p': 0.84}, [1, 3, 4]),
    ({'top_p': 0.01}, [3]),
    ({'top_k': 3, 'top_p': 0.7}, [1, 3]),  # of three with mass 0.85, two have 0.76
])
def test_keeps_the_right_tokens(arguments, kept):
    found = np.asarray(decoding.truncate(jnp.asarray(LOGITS, jnp.float32)[None], **arguments)[0])
    assert np.flatnonzero(np.isfinite(found)).tolist() == kept
    np.testing.assert_allclose(found[kept], LOGITS[kept], rtol=1e-6)


@pytest.mark.parametrize('arguments, kept', [
    ({}, [0, 1, 2, 3, 4]),
    ({'temperature': 0.5, 'banned': (3,)}, [0, 1, 2, 4]),
    ({'temperature': 2.0, 'top_p': 0.34}, [1, 3]),  # flatter: the first has 0.28
    ({'top_k': 3, 'banned': (1,)}, [2, 3, 4]),
])
def test_frequencies_are_those_of_the_distribution(arguments, kept):
    def step(state, tokens):
        return state, jnp.broadcast_to(jnp.asarray(LOGITS, jnp.float32), (len(tokens), len(LOGITS)))
    tokens = decoding.sample(step, (), first(20_000), jax.random.key(3), length=1, end=END, **arguments)
    counts = np.bincount(np.asarray(tokens[:, 0]), minlength=5)
    exact = np.zeros(5)
    exact[kept] = np.exp(LOGITS[kept] / arguments.get('temperature', 1.0))
    exact *= counts.sum() / exact.sum()
    assert counts[exact == 0].sum() == 0
    assert scipy.stats.chisquare(counts[kept], exact[kept]).pvalue > 1e-3


def test_nucleus_is_the_smallest_set_with_the_mass():
    """By trying all sets, for random distributions."""
    random = np.random.default_rng(0)
    for _ in range(20):
        logits, top_p = random.normal(size=(1, 5), scale=2), random.uniform(0.05, 0.99)
        probabilities = np.exp(logits[0]) / np.exp(logits).sum()
        sets = [chosen for size in range(1, 6) for chosen in itertools.combinations(range(5), size)
                if probabilities[list(chosen)].sum() >= top_p]
        smallest = [chosen for chosen in sets if len(chosen) == len(sets[0])]
        best = max(smallest, key=lambda chosen: probabilities[list(chosen)].sum())
        found = np.asarray(decoding.truncate(jnp.asarray(logits), top_p=top_p)[0])
        assert tuple(np.flatnonzero(np.isfinite(found))) == best
        np.testing.assert_allclose(found[list(best)], logits[0][list(best)], rtol=1e-6)


def test_ties_leave_exactly_k():
    assert np.isfinite(decoding.truncate(jnp.zeros((2, 6)), top_k=4)).tolist() == [[True] * 4 + [False] * 2] * 2


def test_texts_have_the_probabilities_of_the_model():
    """Whole texts: each row goes on with what was drawn."""
    model = RecurrentModel(11, rows=20_000)
    model.hidden[:] = model.hidden[0]
    counts = {text: 0 for text in model.all_texts(0, 2)}
    for text in model.sample(seed=1, length=2).tolist():
        counts[tuple(text[:1] if text[0] == END else text)] += 1
    exact = {text: model.rows * np.exp(model.log_probability(0, text)) for text in counts}
    common = [text for text in counts if exact[text] > 5]
    rare = [text for text in counts if exact[text] <= 5]
    assert len(common) > 8 and sum(counts[text] for text in rare) < 60
    observed = np.array([counts[text] for text in common])
    expected = np.array([exact[text] for text in common])
    assert scipy.stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_temperature_zero_is_greedy():
    model = RecurrentModel(12, rows=8)
    assert model.sample(length=5, temperature=0.0).tolist() == model.greedy(length=5).tolist()


def test_banned_tokens_never_appear():
    """The exhaustive search above has the same promise for beams."""
    texts = [RecurrentModel(13, rows=8).greedy(length=5, banned=(PAD,)),
             *(RecurrentModel(13, rows=8).sample(seed, length=5, banned=(PAD, START)) for seed in range(4))]
    for text, banned in ((text, (PAD, START) if number else (PAD,)) for number, part in enumerate(texts)
                         for text in part.tolist()):
        written = text[:text.index(END) + 1] if END in text else text
        assert not set(written) & set(banned) and not any(text[len(written):])


@pytest.mark.parametrize('how, arguments, message', [
    ('sample', {'temperature': -1.0}, 'temperature = -1.0: it must be at least 0'),
    ('sample', {'top_k': -1}, 'top_k = -1: it must be at least 0'),
    ('sample', {'top_p': 0.0}, r'top_p = 0.0: it must be in \(0, 1\]'),
    ('sample', {'top_p': 1.1}, r'top_p = 1.1: it must be in \(0, 1\]'),
    ('search', {'beam_size': 0}, 'beam_size = 0: it must be at least 1'),
    ('search', {'beam_size': 2, 'length': 0}, 'length = 0: it must be at least 1'),
    ('greedy', {'length': 0}, 'length = 0: it must be at least 1'),
])
def test_mistakes(how, arguments, message):
    with pytest.raises(UserError, match=message):
        getattr(RecurrentModel(0, rows=1), how)(**{'length': 3} | arguments)
