"""What a language model is scored by, what it carries, and what it writes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models, tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.common.vocabulary import END, SPECIAL, Vocabulary

WORDS = Vocabulary('whitespace', (*SPECIAL, 'a', 'b'))
LETTERS = Vocabulary('characters', (*SPECIAL, 'a', 'b'))


def build(vocabulary=WORDS, **fields):
    info = DatasetInfo.from_json({'vocabulary': vocabulary.to_meta()})
    return tasks.build({'name': 'language_model', **fields}, info)


def probabilities(*rows) -> dict:
    """Outputs of a model that gives the target of each step, 5, these probabilities, and the rest to token 4."""
    targets = np.full((len(rows), len(rows[0])), 5, np.int32)
    logits = np.full((*targets.shape, WORDS.size), -100, np.float32)
    logits[..., 5] = np.log(rows)
    logits[..., 4] = np.log(np.maximum(1 - np.array(rows), 1e-40))
    return {'logits': jnp.asarray(logits)}, targets


def summed(task, scores, mask=None, metrics='eval_metrics') -> dict:
    return getattr(task, metrics).single_from_model_output(mask=mask, **scores).compute()


def test_the_loss_by_hand():
    task = build()
    outputs, targets = probabilities([0.5, 0.25, 0.5], [0.125, 1.0, 0.5])
    scores = task.score(outputs, {'targets': targets})
    np.testing.assert_allclose(scores['nll'], np.log(2) * np.array([4, 4]), rtol=1e-6)
    np.testing.assert_allclose(scores['loss'], np.log(2) * np.array([4, 4]) / 3, rtol=1e-6)
    np.testing.assert_array_equal(scores['tokens'], [3, 3])


@pytest.mark.parametrize('metrics', ['train_metrics', 'eval_metrics'])
def test_perplexity_and_bits_by_hand(metrics):
    """Six tokens of 8 bits together."""
    outputs, targets = probabilities([0.5, 0.25, 0.5], [0.125, 1.0, 0.5])
    words, letters = (summed(task, task.score(outputs, {'targets': targets}), metrics=metrics)
                      for task in (build(), build(LETTERS)))
    assert words == pytest.approx({'loss': 8 / 6 * math.log(2), 'perplexity': 2 ** (8 / 6)}, rel=1e-6)
    assert letters == pytest.approx({'loss': 8 / 6 * math.log(2), 'bits_per_character': 8 / 6}, rel=1e-6)


def test_padding_is_not_scored():
    """Neither within a row nor as a row; every token counts alike, not every row."""
    task = build()
    outputs, targets = probabilities([0.5, 0.25, 0.5], [0.125, 0.1, 0.1], [0.1, 0.1, 0.1])
    targets[1, 1:] = 0
    targets[2] = 0
    scores = task.score(outputs, {'targets': targets})
    np.testing.assert_allclose(scores['nll'], np.log(2) * np.array([4, 3, 0]), rtol=1e-6)
    np.testing.assert_allclose(scores['loss'], np.log(2) * np.array([4 / 3, 3, 0]), rtol=1e-6)
    np.testing.assert_array_equal(scores['tokens'], [3, 1, 0])
    assert summed(task, scores)['perplexity'] == pytest.approx(2 ** (7 / 4), rel=1e-6)
    masked = summed(task, scores, mask=jnp.array([1.0, 0.0, 1.0]))
    assert masked['perplexity'] == pytest.approx(2 ** (4 / 3), rel=1e-6)
    assert math.isnan(summed(task, scores, mask=jnp.zeros(3))['perplexity'])


def test_a_perplexity_beyond_all_floats_is_infinite():
    scores = {'loss': jnp.array([800.0]), 'nll': jnp.array([800.0]), 'tokens': jnp.array([1.0])}
    assert summed(build(), scores) == {'loss': 800.0, 'perplexity': math.inf}


@pytest.mark.parametrize('vocabulary, primary_metric', [
    (WORDS, 'perplexity'), (Vocabulary('words', (*SPECIAL, 'a')), 'perplexity'), (LETTERS, 'bits_per_character')])
def test_the_primary_metric_is_that_of_the_kind(vocabulary, primary_metric):
    task = build(vocabulary)
    assert task.primary_metric == primary_metric and primary_metric in task.eval_metrics.empty().compute()
    assert task.model_fields() == {'vocabulary_size': vocabulary.size}


def test_what_is_carried_is_zeroed_where_a_stream_begins():
    carry = ((jnp.arange(6.0).reshape(3, 2), jnp.ones((3, 2))),)
    batch = {'tokens': jnp.zeros((3, 4), jnp.int32), 'begin': jnp.array([0.0, 1.0, 0.0])}
    task = build()
    assert len(task.inputs(batch)) == 1
    tokens, given = task.inputs(batch | {'carry': carry})
    assert tokens is batch['tokens']
    np.testing.assert_array_equal(given[0][0], [[0, 1], [0, 0], [4, 5]])
    np.testing.assert_array_equal(given[0][1], [[1, 1], [0, 0], [1, 1]])
    assert task.carried({'logits': None, 'carry': carry}) is carry


def test_what_is_carried_may_have_any_number_of_sides():
    batch = {'tokens': jnp.zeros((2, 4), jnp.int32), 'begin': jnp.array([1.0, 0.0])}
    _, given = build().inputs(batch | {'carry': {'past': jnp.ones((2, 3, 1, 2)), 'seen': jnp.ones((2, 3))}})
    assert given['past'].sum(axis=(1, 2, 3)).tolist() == [0, 6] and given['seen'].sum(axis=1).tolist() == [0, 3]


def test_nothing_is_carried_by_models_without_a_past_or_where_windows_are_to_begin_anew():
    assert build().carried({'logits': None}) == {}
    assert build(carry=False).carried({'logits': None, 'carry': (jnp.ones((3, 2)),)}) == {}
    with pytest.raises(UserError, match="config.task.carry = 'no': it is True or False"):
        build(carry='no')


@pytest.mark.parametrize('vocabulary, length', [(WORDS, 40), (LETTERS, 200)])
def test_samples_are_texts_of_the_models_own_words(vocabulary, length):
    task = build(vocabulary)
    model = models.build({'name': 'lstm', 'hidden': 3, 'layers': 1, 'inputs': 'one_hot'}, **task.model_fields())
    variables = model.init(jax.random.key(0), jnp.full((1, 1), END))
    found = task.samples(model, variables, [])
    assert len(found) == 3 and len({row['text'] for row in found}) == 3
    for row in found:
        lines = row['text'].split('\n')
        tokens = [token for line in lines for token in vocabulary.split(line)]
        assert set(tokens) <= {'a', 'b'} and len(tokens) + len(lines) - 1 == length
    assert task.samples(model, variables, []) == found


def test_data_without_texts_are_a_mistake():
    with pytest.raises(UserError) as caught:
        tasks.build({'name': 'language_model'}, DatasetInfo.from_json({'class_names': ['a']}))
    assert "config.data.source is 'text'" in str(caught.value) and '\n' not in str(caught.value)
