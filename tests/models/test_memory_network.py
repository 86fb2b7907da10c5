"""The memory network beside the paper's formulas in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.models.memory_network import MemoryNetwork

STORY = np.array([[[4, 5, 6, 0], [7, 4, 0, 0], [0] * 4], [[5, 5, 4, 7], [6, 0, 0, 0], [4, 7, 5, 0]]], np.int32)
QUESTION = np.array([[5, 6, 0, 0], [4, 7, 6, 0]], np.int32)


def softmax(values):
    return np.exp(values) / np.exp(values).sum()


def sentence(tokens, words, encoding):
    tokens = tokens[tokens > 0]
    count, width = len(tokens), words.shape[1]
    total = np.zeros(width)
    for j, token in enumerate(tokens, start=1):
        k = np.arange(1, width + 1)
        weight = 1 if encoding == 'bag' else (1 - j / count) - k / width * (1 - 2 * j / count)
        total += weight * words[token]
    return total


def by_hand(params, story, question, encoding, *, linear, nonlinear):
    story = story[story.any(axis=1)]
    state = sentence(question, params['words0'], encoding)
    attentions = []
    for hop in range(2):
        found, said = ([sentence(line, params[f'words{n}'], encoding) + params[f'time{n}'][len(story) - 1 - i]
                        for i, line in enumerate(story)] for n in (hop, hop + 1))
        match = np.array(found) @ state
        attention = match if linear else softmax(match)
        attentions.append(attention)
        state = state + attention @ np.array(said)
        state = np.maximum(state, 0) if nonlinear else state
    return state @ params['answers']['kernel'], attentions


@pytest.mark.parametrize('encoding, linear, nonlinear', [('bag', False, True), ('position', True, False)])
def test_it_is_that_of_the_paper(encoding, linear, nonlinear):
    model = MemoryNetwork(5, 8, width=6, hops=2, encoding=encoding, nonlinear=nonlinear, linear_steps=3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), STORY, QUESTION)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)
    variables['batch_stats']['steps'] = jnp.float32(2 if linear else 3)
    outputs = jax.jit(model.apply)(variables, STORY, QUESTION)
    for row in range(2):
        logits, attentions = by_hand(variables['params'], STORY[row], QUESTION[row], encoding, linear=linear,
                                     nonlinear=nonlinear)
        np.testing.assert_allclose(outputs['logits'][row], logits, rtol=1e-3, atol=1e-3)
        for hop in range(2):
            told = int(STORY[row].any(axis=1).sum())
            np.testing.assert_allclose(outputs['attention'][row, hop, :told], attentions[hop], rtol=1e-3, atol=1e-4)
            assert (outputs['attention'][row, hop, told:] == 0).all()


def test_steps_of_the_linear_start_are_counted_in_training_alone():
    model = MemoryNetwork(5, 8, width=6, hops=2, linear_steps=3)
    variables = {'params': jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), jax.eval_shape(
        model.init, jax.random.key(0), STORY, QUESTION)['params']), 'batch_stats': {'steps': jnp.float32(0)}}
    _, changed = jax.jit(functools.partial(model.apply, train=True, mutable=['batch_stats']))(
        variables, STORY, QUESTION)
    assert float(changed['batch_stats']['steps']) == 1
    jax.eval_shape(model.apply, variables, STORY, QUESTION)  # counts nothing: batch_stats may not change
    without = jax.eval_shape(MemoryNetwork(5, 8, linear_steps=0).init, jax.random.key(0), STORY, QUESTION)
    assert 'batch_stats' not in without


def test_a_story_without_sentences_is_answered():
    model = MemoryNetwork(5, 8, width=6, hops=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), STORY, QUESTION)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    outputs = jax.jit(model.apply)(variables, np.zeros_like(STORY), QUESTION)
    assert np.isfinite(outputs['logits']).all() and not outputs['attention'].any()
