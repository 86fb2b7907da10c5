"""The LSTM language model: its equations in numpy, its carry, and where it drops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models.lstm import LSTM

ROWS, STEPS, WORDS = 3, 5, 7
TOKENS = np.random.default_rng(0).integers(0, WORDS, (ROWS, STEPS)).astype(np.int32)


def build(**fields) -> LSTM:
    return LSTM(**{'vocabulary_size': WORDS, 'hidden': 4, 'embedding': 3, 'layers': 2, **fields})


@functools.partial(jax.jit, static_argnums=0)
def run(model, variables, tokens, carry=None, dropout_key=None):
    """model.apply, compiled; in training where there is a key."""
    how = {} if dropout_key is None else {'train': True, 'rngs': {'dropout': dropout_key}}
    return model.apply(variables, tokens, carry, **how)


def init(model, seed=0):
    """Parameters, all of them random so that no bias is zero."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: model.init(jax.random.key(seed), TOKENS[:1])))
    generator = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [generator.normal(0, 0.5, leaf.shape).astype(np.float32) for leaf in leaves])


def assert_close(found, wanted, tolerance=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, wanted)


# The equations of Zaremba et al. 2014, section 3, one row and one step at a time.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(params, tokens, carry=None):
    """Returns logits [rows, steps, words] and the carry [(c, h)] of the last step, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    names = sorted(name for name in params if name.startswith('lstm'))
    hidden = params[names[0]]['hi']['bias'].size
    rows, steps = tokens.shape
    carry = carry or [(np.zeros((rows, hidden)), np.zeros((rows, hidden))) for _ in names]
    embedding = params['embedding']['embedding'] if 'embedding' in params else np.eye(WORDS)
    logits = []
    for step in range(steps):
        x, carry, before = embedding[tokens[:, step]], [], carry
        for name, (c, h) in zip(names, before):
            gate = {g: x @ params[name][f'i{g}']['kernel'] + h @ params[name][f'h{g}']['kernel']
                    + params[name][f'h{g}']['bias'] for g in 'ifgo'}
            c = sigmoid(gate['f']) * c + sigmoid(gate['i']) * np.tanh(gate['g'])
            x = sigmoid(gate['o']) * np.tanh(c)
            carry.append((c, x))
        if 'logits' in params:
            logits.append(x @ params['logits']['kernel'] + params['logits']['bias'])
        else:
            logits.append(x @ embedding.T + params['logits_bias'])
    return np.stack(logits, axis=1), tuple(carry)


@pytest.mark.parametrize('fields', [{}, {'layers': 1}, {'inputs': 'one_hot'}, {'tied': True, 'embedding': 4}], ids=str)
def test_it_is_the_lstm_of_the_equations(fields):
    model = build(**fields)
    variables = init(model)
    found = run(model, variables, TOKENS)
    logits, carry = numpy_lstm(variables['params'], TOKENS)
    assert found['logits'].shape == (ROWS, STEPS, WORDS) and found['logits'].dtype == jnp.float32
    assert_close(found['logits'], logits, 1e-5)
    assert_close(found['carry'], carry, 1e-5)
    going_on = run(model, variables, TOKENS[:, ::-1], found['carry'])
    assert_close(going_on['logits'], numpy_lstm(variables['params'], TOKENS[:, ::-1], carry)[0], 1e-5)


def count(variables) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_parameter_counts_by_hand():
    layers = 4 * (3 * 4 + 4 * 4 + 4) + 4 * (4 * 4 + 4 * 4 + 4)  # 4 gates of x, h and bias
    assert count(init(build())) == 7 * 3 + layers + (4 * 7 + 7) == 328
    # One-hot: the first layer reads 7 numbers, and there is no table.
    assert count(init(build(inputs='one_hot'))) == 4 * (7 * 4 + 4 * 4 + 4) + 4 * (4 * 4 + 4 * 4 + 4) + (4 * 7 + 7)
    # Tied: the table is 7 x 4 and the logits have a bias alone.
    assert count(init(build(tied=True, embedding=4))) == 7 * 4 + 2 * 4 * (4 * 4 + 4 * 4 + 4) + 7


def test_the_small_network_of_the_paper_has_its_parameters():
    """Zaremba et al. 2014, section 4.1: 10,000 words, 2 layers of 200."""
    model = LSTM(vocabulary_size=10_000)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    assert count(shapes) == 10_000 * 200 + 2 * 4 * (200 * 200 * 2 + 200) + 200 * 10_000 + 10_000


# Windows


@pytest.mark.parametrize('cut', [0, 2, STEPS - 1, STEPS])
def test_windows_with_their_carry_are_one_long_window(cut):
    model = build()
    variables = init(model)
    whole = run(model, variables, TOKENS)
    first = run(model, variables, TOKENS[:, :cut])  # possibly of no token at all
    second = run(model, variables, TOKENS[:, cut:], first['carry'])
    assert_close(np.concatenate([first['logits'], second['logits']], axis=1), whole['logits'])
    assert_close(second['carry'], whole['carry'])
    if 0 < cut < STEPS:  # and the carry says something
        forgotten = run(model, variables, TOKENS[:, cut:])
        assert np.abs(forgotten['logits'] - second['logits']).max() > 1e-2


def test_no_carry_is_a_carry_of_zeros():
    model = build()
    variables = init(model)
    zeros = jax.tree.map(jnp.zeros_like, run(model, variables, TOKENS)['carry'])
    assert_close(run(model, variables, TOKENS, zeros), run(model, variables, TOKENS), 0)


def test_rows_know_nothing_of_each_other_and_steps_nothing_of_later_ones():
    model = build()
    variables = init(model)
    logits = run(model, variables, TOKENS)['logits']
    changed = TOKENS.copy()
    changed[1, 2] = (changed[1, 2] + 1) % WORDS
    moved = np.any(np.abs(run(model, variables, changed)['logits'] - logits) > 1e-5, axis=-1)
    wanted = np.zeros((ROWS, STEPS), bool)
    wanted[1, 2:] = True
    np.testing.assert_array_equal(moved, wanted)


# Kinds of inputs


def test_one_hot_is_an_embedding_that_is_the_identity():
    one_hot, table = build(inputs='one_hot'), build(embedding=WORDS)
    variables = init(one_hot)
    params = dict(variables['params'], embedding={'embedding': np.eye(WORDS, dtype=np.float32)})
    assert_close(run(one_hot, variables, TOKENS), run(table, {'params': params}, TOKENS))


def test_tied_logits_move_with_the_embedding():
    model = build(tied=True, embedding=4)
    params = init(model)['params']
    assert sorted(params) == ['embedding', 'logits_bias', 'lstm1', 'lstm2']
    outputs = run(model, {'params': params}, TOKENS)
    logits = outputs['carry'][-1][1] @ params['embedding']['embedding'].T + params['logits_bias']
    assert_close(outputs['logits'][:, -1], logits, 1e-5)


# Dropout


def captured(model, variables, tokens, key):
    """Returns the outputs of every submodule in training, name -> value."""
    _, found = jax.jit(functools.partial(model.apply, train=True, capture_intermediates=True,
                                         mutable=['intermediates']))(variables, tokens, rngs={'dropout': key})
    return {name: value['__call__'][0] for name, value in found['intermediates'].items() if name != '__call__'}


def test_dropout_is_on_every_input_of_a_layer_and_of_the_logits_and_drawn_anew_at_every_step():
    model = build(dropout=0.5, hidden=64, embedding=64)
    variables = init(model)
    same = np.full((ROWS, STEPS), 2, np.int32)  # so that embeddings are alike at all steps
    dropped = captured(model, variables, same, jax.random.key(1))
    for name in ('input_dropout', 'dropout1', 'dropout2'):
        zero = np.asarray(dropped[name]) == 0
        assert zero.shape == (ROWS, STEPS, 64)
        assert 0.4 < zero.mean() < 0.6, name
        for a, b in itertools.combinations(range(STEPS), 2):
            assert not np.array_equal(zero[:, a], zero[:, b]), (name, a, b)
        for a, b in itertools.combinations(range(ROWS), 2):
            assert not np.array_equal(zero[a], zero[b]), (name, a, b)
    embedded = variables['params']['embedding']['embedding'][2]
    kept = np.asarray(dropped['input_dropout'])
    np.testing.assert_allclose(kept, np.where(kept == 0, 0, np.broadcast_to(2 * embedded, kept.shape)), rtol=1e-6)


def test_there_is_none_on_what_a_layer_hands_to_its_next_step():
    """With weights of the inputs at zero nothing but the recurrent path is left, and dropout changes nothing in it."""
    model = build(dropout=0.5)
    variables = init(model)
    params = jax.tree.map(np.copy, variables['params'])
    for layer, gate in itertools.product(('lstm1', 'lstm2'), 'ifgo'):
        params[layer][f'i{gate}']['kernel'] *= 0
    begin = run(model, variables, TOKENS)['carry']
    quiet = run(model, {'params': params}, TOKENS, begin)['carry']
    for seed in range(3):
        key = jax.random.key(seed)
        assert_close(run(model, {'params': params}, TOKENS, begin, key)['carry'], quiet, 1e-7)
        with_inputs = run(model, variables, TOKENS, begin, key)['carry']
        assert np.abs(with_inputs[0][1] - run(model, variables, TOKENS, begin)['carry'][0][1]).max() > 1e-3


def test_dropout_of_one_layer_does_not_reach_its_own_carry():
    """One-hot inputs are not dropped, so the carry of a single layer is that without dropout; the logits are not."""
    model = build(dropout=0.5, inputs='one_hot', layers=1)
    variables = init(model)
    quiet = run(model, variables, TOKENS)
    noisy = run(model, variables, TOKENS, None, jax.random.key(0))
    assert_close(noisy['carry'], quiet['carry'], 1e-7)
    assert np.abs(noisy['logits'] - quiet['logits']).max() > 1e-2


def test_without_training_nothing_is_dropped():
    variables = init(build())
    assert_close(run(build(dropout=0.9), variables, TOKENS), run(build(), variables, TOKENS), 0)


# Beginnings, precision, mistakes


def test_init_scale_bounds_kernels_and_embeddings_and_leaves_biases_at_zero():
    def init_params(**fields):
        return jax.jit(build(hidden=32, embedding=32, **fields).init)(jax.random.key(0), TOKENS)['params']
    params = init_params(init_scale=0.05)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == 'bias':
            assert not np.any(leaf), path
            continue
        assert 0.04 < np.abs(leaf).max() <= 0.05, path
        assert np.std(leaf) == pytest.approx(0.05 / np.sqrt(3), rel=0.15), path
    assert np.abs(init_params()['lstm1']['hi']['kernel']).max() > 0.1


def test_bfloat16_computes_near_it_and_carries_float32():
    variables = init(build())
    config = {'name': 'lstm', 'hidden': 4, 'embedding': 3, 'layers': 2}
    found = run(models.build(config, precision='bfloat16', vocabulary_size=WORDS), variables, TOKENS)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype('float32')}
    wanted = run(build(), variables, TOKENS)
    assert 0 < np.abs(found['logits'] - wanted['logits']).max() < 0.1


@pytest.mark.parametrize('fields, message', [
    ({'inputs': 'onehot'}, "config.model.inputs = 'onehot'; did you mean one_hot"),
    ({'tied': True}, 'config.model.tied'),
    ({'tied': True, 'inputs': 'one_hot', 'embedding': 4}, 'config.model.tied'),
    ({'init_scale': -0.1}, 'config.model.init_scale = -0.1'),
    ({'hidden': 0}, 'config.model.hidden = 0'),
    ({'layers': 0}, 'config.model.layers = 0'),
    ({'dropout': 1.0}, 'dropout is 1.0')])
def test_mistakes_are_one_line(fields, message):
    with pytest.raises(UserError) as caught:
        model = models.build({'name': 'lstm', 'hidden': 4, 'embedding': 3, **fields}, vocabulary_size=WORDS)
        rngs = {'params': jax.random.key(0), 'dropout': jax.random.key(0)}
        jax.eval_shape(lambda: model.init(rngs, TOKENS, train=True))
    assert message in str(caught.value) and '\n' not in str(caught.value)
