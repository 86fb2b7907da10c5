"""What reads texts: padding means nothing, order does; what writes: one step after the other is all at once."""

import functools

import jax
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError

TEXTS = np.array([[4, 5, 6, 0], [7, 4, 0, 0], [8, 0, 0, 0]], np.int32)
WRITTEN = np.array([[[1, 4, 5, 2]], [[1, 6, 2, 0]], [[1, 5, 5, 4]]], np.int32)
BODY = {'name': 'text_lstm', 'hidden': 6, 'embedding': 5}
FACTS = {'input_vocabulary_size': 10, 'num_classes': 3, 'vocabulary_size': 7}


def built(config, *inputs):
    """A model and variables for it, drawn and not initialised, which would take longer to compile than all else."""
    model, generator = models.build(config, **FACTS), np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return model, jax.tree.map(lambda leaf: generator.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope='module')
def translator():
    return built({'name': 'translator', 'hidden': 8, 'embedding': 5, 'dropout': 0.0, 'body': BODY}, TEXTS, WRITTEN)


def longer(texts: np.ndarray) -> np.ndarray:
    return np.pad(texts, ((0, 0), (0, 5)))


def test_a_translation_does_not_depend_on_padding(translator):
    model, variables = translator

    @jax.jit
    def apply(texts):
        return (model.apply(variables, texts, WRITTEN),
                model.apply(variables, texts, WRITTEN, method='attention_weights'))
    padded = longer(TEXTS)
    (logits, weights), (others, more) = apply(TEXTS), apply(padded)
    np.testing.assert_allclose(others, logits, atol=1e-5)
    assert weights.shape == (3, 1, 3, 4) and more.shape == (3, 1, 3, 9)
    np.testing.assert_allclose(np.sum(more, -1), 1, rtol=1e-5)
    assert (np.asarray(more)[np.broadcast_to((padded == 0)[:, None, None], more.shape)] == 0).all()


def test_steps_write_what_a_call_does(translator):
    model, variables = translator
    whole = np.asarray(jax.jit(model.apply)(variables, TEXTS, WRITTEN))
    state = jax.jit(functools.partial(model.apply, method='start'))(variables, TEXTS)
    step = jax.jit(functools.partial(model.apply, method='step'))
    for place in range(3):
        state, logits = step(variables, state, WRITTEN[:, 0, place])
        np.testing.assert_allclose(logits, whole[:, 0, place], atol=1e-5)


def test_without_attention_one_vector_is_all_there_is():
    model = models.build({'name': 'translator', 'hidden': 8, 'attention': False, 'body': BODY}, **FACTS)
    variables = jax.eval_shape(model.init, jax.random.key(0), TEXTS, WRITTEN)
    assert not any('attention' in name for name in variables['params'])
    state = jax.eval_shape(functools.partial(model.apply, method='start'), variables, TEXTS)
    assert state['seen']['summary'].shape == (3, 1, 12)
    with pytest.raises(UserError, match='no weights'):
        jax.eval_shape(functools.partial(model.apply, method='attention_weights'), variables, TEXTS, WRITTEN)


def test_a_body_of_images_is_refused():
    model = models.build({'name': 'translator', 'endpoint': 'hidden1', 'body': {'name': 'bag_of_words'}}, **FACTS)
    with pytest.raises(UserError, match='endpoint'):
        jax.eval_shape(model.init, jax.random.key(0), TEXTS, WRITTEN)
    model = models.build({'name': 'translator', 'endpoint': 'summary', 'body': BODY}, **FACTS)
    with pytest.raises(UserError, match='text_lstm'):
        jax.eval_shape(model.init, jax.random.key(0), TEXTS, WRITTEN)


def test_a_text_is_read_in_both_directions_and_padding_in_none():
    model, variables = built(BODY, TEXTS)

    @jax.jit
    def apply(variables, texts):
        read = model.apply(variables, texts, features='states')
        summary = model.apply(variables, read, begin='states', features='summary')
        return read['states'], summary, model.apply(variables, summary, begin='summary')
    texts = longer(TEXTS)
    states, summary, logits = map(np.asarray, apply(variables, texts))
    assert states.shape == (3, 9, 12) and not states[texts == 0].any() and states[texts > 0].all()
    np.testing.assert_array_equal(summary[0, :6], states[0, 2, :6])
    np.testing.assert_array_equal(summary[0, 6:], states[0, 0, 6:])
    texts[1] = [5, 6, 4, 0, 0, 0, 0, 0, 0]  # the first one in another order
    texts[2, 1:] = 3  # and words where there was padding
    other = np.asarray(apply(variables, texts)[2])
    np.testing.assert_allclose(other[0], logits[0], atol=1e-6)
    assert np.abs(other[1] - logits[0]).max() > 1e-3 < np.abs(other[2] - logits[2]).max()


def test_a_bag_of_words_has_no_order():
    model, variables = built({'name': 'bag_of_words', 'embedding': 5, 'hidden': (4,)}, TEXTS)
    apply = jax.jit(model.apply)
    texts = np.concatenate([longer(TEXTS), np.zeros((1, 9), np.int32)])
    logits = np.asarray(apply(variables, texts))
    np.testing.assert_allclose(apply(variables, texts[:, ::-1]), logits, atol=1e-6)
    assert logits.shape == (4, 3) and np.isfinite(logits).all(), 'the last text has no words'
