"""Optimizers equal optax's, schedules take the values that their names promise, regexes reach what they match."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.tasks.classification import Classification
from practicum.training import components
from practicum.training.defaults import base
from practicum.training.durations import to_steps
from practicum.training.optimizer import Optimizer, build_schedule
from tests.tiny import tiny_config

RATE = 0.1


def words(value):
    """The name of a test case."""
    if not isinstance(value, dict):
        return None
    return ', '.join(f'{key} {setting}' for key, setting in value.items()) or 'nothing'


def make_params():
    keys = iter(jax.random.split(jax.random.key(0), 6))
    return {'conv1': {'kernel': jax.random.normal(next(keys), (3, 2)), 'bias': jax.random.normal(next(keys), (2,))},
            'dense1': {'kernel': jax.random.normal(next(keys), (2, 4)), 'bias': jax.random.normal(next(keys), (4,))},
            'logits': {'kernel': jax.random.normal(next(keys), (4, 3)), 'bias': jax.random.normal(next(keys), (3,))}}


def make_gradients(step, params):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(100 + step), len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves)])


def ours(schedule=None, **fields):
    config = base().optimizer
    config.update(fields)
    return Optimizer(config, schedule or optax.constant_schedule(RATE))


def path_of(optimizer, steps=5, gradients=make_gradients):
    """Parameters after each step, an optimizer being ours or optax's."""
    params = make_params()
    state, visited = optimizer.init(params), []
    for step in range(steps):
        updates, state = optimizer.update(gradients(step, params), state, params)
        params = optax.apply_updates(params, updates)
        visited.append(params)
    return visited


def assert_same(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), a, b)


def kernels(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)


@pytest.mark.parametrize('fields, counterpart', [
    (dict(name='sgd', momentum=0.0), optax.sgd(RATE)),
    (dict(name='sgd', momentum=0.9), optax.sgd(RATE, 0.9)),
    (dict(name='sgd', momentum=0.8, nesterov=True), optax.sgd(RATE, 0.8, nesterov=True)),
    (dict(name='adam'), optax.adam(RATE)),
    (dict(name='adam', b1=0.8, b2=0.95, eps=1e-4), optax.adam(RATE, 0.8, 0.95, 1e-4)),
    (dict(name='adamw', weight_decay=0.05), optax.adamw(RATE, weight_decay=0.05, mask=kernels)),
    (dict(name='rmsprop', momentum=0.0), optax.rmsprop(RATE, decay=0.9)),
    (dict(name='rmsprop', momentum=0.9, eps=1e-6), optax.rmsprop(RATE, decay=0.9, eps=1e-6, momentum=0.9)),
    (dict(name='adagrad'), optax.adagrad(RATE)),
    (dict(name='sgd', momentum=0.9, clip_norm=0.5), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(RATE, 0.9))),
    (dict(name='sgd', momentum=0.9, weight_decay=0.01),
     optax.chain(optax.add_decayed_weights(0.01, kernels), optax.sgd(RATE, 0.9))),
], ids=words)
def test_equals_its_optax_counterpart(fields, counterpart):
    for a, b in zip(path_of(ours(**fields)), path_of(counterpart)):
        assert_same(a, b)


def test_the_learning_rate_of_a_step_is_the_schedule_s():
    schedule = optax.linear_schedule(0.0, 1.0, 4)
    unit = path_of(ours(schedule, name='sgd', momentum=0.0), gradients=lambda step, p: jax.tree.map(jnp.ones_like, p))
    moved = [make_params()['conv1']['bias'][0] - params['conv1']['bias'][0] for params in unit]
    np.testing.assert_allclose(moved, np.cumsum([0.0, 0.25, 0.5, 0.75, 1.0]), rtol=1e-5)


# --- schedules ---

def schedule_of(total=100, learning_rate=1.0, **fields):
    config = base().schedule
    config.update(fields)
    return build_schedule(config, learning_rate, total,
                          lambda text, field: to_steps(text, batch_size=10, num_examples=100, field=field))


def values(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_constant():
    assert values(schedule_of(name='constant', learning_rate=0.5), 0, 50, 1000) == [0.5, 0.5, 0.5]


def test_exponential_is_smooth_or_a_staircase():
    smooth = schedule_of(name='exponential', decay_rate=0.5, decay_steps='2 epochs')
    np.testing.assert_allclose(values(smooth, 0, 10, 20, 40), [1, 0.5 ** 0.5, 0.5, 0.25], rtol=1e-6)
    stairs = schedule_of(name='exponential', decay_rate=0.5, decay_steps='20 steps', staircase=True)
    np.testing.assert_allclose(values(stairs, 0, 19, 20, 39, 40), [1, 1, 0.5, 0.5, 0.25], rtol=1e-6)


def test_cosine_ends_at_the_final_factor():
    schedule = schedule_of(name='cosine', learning_rate=2.0, final_factor=0.1)
    np.testing.assert_allclose(values(schedule, 0, 50, 100, 200), [2.0, 1.1, 0.2, 0.2], rtol=1e-6)


def test_piecewise_factors_begin_at_their_boundaries():
    schedule = schedule_of(name='piecewise', learning_rate=2.0, boundaries=('30 steps', '6 epochs'), factors=(0.1, 0.5))
    np.testing.assert_allclose(values(schedule, 0, 29, 30, 59, 60, 99), [2, 2, 0.2, 0.2, 1, 1], rtol=1e-6)


@pytest.mark.parametrize('fields, after', [
    (dict(name='constant'), {100: 1.0}),
    (dict(name='cosine'), {55: 0.5, 100: 0.0}),  # the cosine spans what warm-up leaves
    (dict(name='exponential', decay_rate=0.5, decay_steps='20 steps'), {30: 0.5, 50: 0.25}),
    (dict(name='piecewise', boundaries=('30 steps',), factors=(0.1,)), {29: 1.0, 30: 0.1}),  # counted from step 0
])
def test_warm_up_is_linear_from_zero_to_the_full_rate(fields, after):
    schedule = schedule_of(warmup='1 epochs', **fields)
    np.testing.assert_allclose(values(schedule, 0, 1, 5, 9, 10), [0, 0.1, 0.5, 0.9, 1], rtol=1e-6)
    np.testing.assert_allclose(values(schedule, *after), list(after.values()), rtol=1e-6, atol=1e-6)


def test_a_warmup_as_long_as_the_training_is_told(caplog):
    """It is allowed, for short trials of long recipes."""
    schedule_of(warmup='12 epochs')
    assert 'the learning rate stays below its peak' in caplog.text


@pytest.mark.parametrize('fields, message', [
    (dict(name='cosin'), 'did you mean cosine'),
    (dict(name='exponential', decay_steps=''), 'decay_steps'),
    (dict(name='exponential', decay_rate=0.0), 'decay_rate'),
    (dict(name='piecewise', boundaries=('1 epochs',)), 'same length'),
    (dict(name='piecewise', boundaries=('2 epochs', '1 epochs'), factors=(0.1, 0.2)), 'ascend'),
    (dict(name='piecewise', boundaries=(30,), factors=(0.1,)), 'schedule.boundaries.*unit'),
    (dict(warmup='many'), 'schedule.warmup'),
])
def test_a_schedule_that_cannot_be_is_an_error(fields, message):
    with pytest.raises(UserError, match=message):
        schedule_of(**fields)


# --- clipping, decay, groups ---

def test_clipping_bounds_the_global_norm_and_leaves_small_gradients_alone():
    def one_step(scale):
        start = make_params()
        after = path_of(ours(name='sgd', momentum=0.0, clip_norm=2.0), 1,
                        lambda step, p: jax.tree.map(lambda g: scale * g, make_gradients(step, p)))[0]
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, after, start))) / RATE
    norm = float(optax.tree.norm(make_gradients(0, make_params())))
    assert one_step(100.0) == pytest.approx(2.0, rel=1e-4)
    assert one_step(1.0 / norm) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw', 'rmsprop', 'adagrad'])
def test_weight_decay_only_where_the_regex_says(name):
    def moved(**fields):
        params = path_of(ours(name=name, **fields), 2)[-1]
        return jax.tree.leaves_with_path(params)
    decayed, plain = moved(weight_decay=0.3, weight_decay_on=('dense1/.*', 'logits/kernel')), moved()
    changed = {'/'.join(key.key for key in path) for (path, a), (_, b) in zip(decayed, plain) if not np.allclose(a, b)}
    assert changed == {'dense1/kernel', 'dense1/bias', 'logits/kernel'}


def test_decoupled_decay_shrinks_by_rate_times_decay():
    """adamw: with no gradient at all, a weight loses learning_rate * weight_decay of itself per step."""
    after = path_of(ours(name='adamw', weight_decay=0.5), 1, lambda step, p: jax.tree.map(jnp.zeros_like, p))[0]
    start = make_params()
    np.testing.assert_allclose(after['conv1']['kernel'], start['conv1']['kernel'] * (1 - RATE * 0.5), rtol=1e-5)
    np.testing.assert_array_equal(after['conv1']['bias'], start['conv1']['bias'])


ALL_AT_ONCE = dict(weight_decay=0.1, clip_norm=0.5, learning_rate_scales=(('logits/.*', 3.0),))


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw', 'rmsprop', 'adagrad'])
@pytest.mark.parametrize('more', [{}, dict(weight_decay=0.1), dict(clip_norm=0.5),
                                  dict(learning_rate_scales=(('logits/.*', 3.0),)), ALL_AT_ONCE], ids=words)
def test_frozen_parameters_stay_whatever_else_is_on(name, more):
    """And the others learn as if the frozen ones were not there, which clipping must not see either."""
    optimizer = ours(name=name, freeze=('conv1/.*', '.*1/bias'), **more)
    frozen = {'conv1/kernel', 'conv1/bias', 'dense1/bias'}

    def gradients(step, params):
        found = make_gradients(step, params)
        return jax.tree_util.tree_map_with_path(
            lambda path, g: jnp.zeros_like(g) if '/'.join(key.key for key in path) in frozen else g, found)
    start, after = make_params(), path_of(optimizer, 3, gradients)[-1]
    same = {'/'.join(key.key for key in path) for (path, a), (_, b) in
            zip(jax.tree.leaves_with_path(start), jax.tree.leaves_with_path(after)) if np.array_equal(a, b)}
    assert same == frozen

    alone = {'dense1': {'kernel': start['dense1']['kernel']}, 'logits': start['logits']}
    without = ours(name=name, **more)
    state = without.init(alone)
    for step in range(3):
        part = gradients(step, make_params())
        part = {'dense1': {'kernel': part['dense1']['kernel']}, 'logits': part['logits']}
        updates, state = without.update(part, state, alone)
        alone = optax.apply_updates(alone, updates)
    assert_same(after['logits'], alone['logits'])
    assert_same(after['dense1']['kernel'], alone['dense1']['kernel'])


def test_frozen_parameters_carry_no_optimizer_state():
    def floats(**fields):
        state = ours(name='adam', **fields).init(make_params())
        return sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32)
    params = make_params()
    total, kept = sum(p.size for p in jax.tree.leaves(params)), sum(p.size for p in jax.tree.leaves(params['logits']))
    assert floats() == 2 * total
    assert floats(freeze=('conv1/.*', 'dense1/.*')) == 2 * kept


def test_no_gradient_is_computed_for_frozen_parameters():
    optimizer = ours(freeze=('conv1/.*',))

    def loss(params):
        return sum(jnp.sum(p ** 2) for p in jax.tree.leaves(optimizer.stop_frozen(params)))
    gradients = jax.grad(loss)(make_params())
    assert not np.any(gradients['conv1']['kernel']) and np.all(gradients['logits']['kernel'])


def test_freezing_in_a_whole_training_step():
    config = tiny_config("optimizer.freeze=('dense1/.*',)", 'parallel.devices=1', 'optimizer.weight_decay=0.1')
    training = components.build_training(config)
    state = training.parallel.replicate(training.initial_state())
    before = jax.tree.map(np.array, state.params)
    for step in range(2):
        state, _ = training.train_step(state, training.parallel.shard(training.batches(step)))
    for name in ('kernel', 'bias'):
        np.testing.assert_array_equal(state.params['dense1'][name], before['dense1'][name])
        assert not np.array_equal(state.params['logits'][name], before['logits'][name])


def test_learning_rate_scales_by_group_and_the_first_match_wins():
    plain = path_of(ours(name='adam'), 1)[0]
    scales = (('.*/bias', 0.0), ('dense1/.*', 0.5), ('.*1/.*', 2.0))
    scaled = path_of(ours(name='adam', learning_rate_scales=scales), 1)[0]
    start = make_params()
    factors = {'conv1': {'kernel': 2.0, 'bias': 0.0}, 'dense1': {'kernel': 0.5, 'bias': 0.0},
               'logits': {'kernel': 1.0, 'bias': 0.0}}
    jax.tree.map(lambda s, p, q, f: np.testing.assert_allclose(q - s, f * (p - s), rtol=1e-4, atol=1e-6),
                 start, plain, scaled, factors)


@pytest.mark.parametrize('fields', [
    dict(freeze=('conv2/.*',)), dict(weight_decay=0.1, weight_decay_on=('kernel',)),
    dict(learning_rate_scales=(('head/.*', 0.1),)), dict(freeze=('.*',)),
    dict(freeze=('conv1/.*', 'conv2/.*')),
], ids=words)
def test_a_regex_that_matches_nothing_or_all_is_an_error(fields):
    with pytest.raises(UserError, match='config.optimizer'):
        ours(**fields).init(make_params())


@pytest.mark.parametrize('fields, message', [
    (dict(name='adamm'), 'did you mean adam'), (dict(learning_rate=0.0), 'learning_rate'),
    (dict(learning_rate=-1.0), 'learning_rate'), (dict(learning_rate=float('nan')), 'learning_rate'),
    (dict(momentum=1.0), 'momentum'), (dict(b1=-0.1), 'b1'), (dict(b2=1.0), 'b2'), (dict(eps=-1e-8), 'eps'),
    (dict(weight_decay=-0.1), 'weight_decay'), (dict(clip_norm=-1.0), 'clip_norm'), (dict(accumulate=0), 'accumulate'),
    (dict(freeze=('(',)), 'freeze.*not a regular expression'),
    (dict(learning_rate_scales=(('a', 'b'),)), 'pair'), (dict(learning_rate_scales=('ab',)), 'pair'),
], ids=words)
def test_a_value_out_of_range_is_an_error(fields, message):
    with pytest.raises(UserError, match=message):
        ours(**fields)


# --- label smoothing ---

def test_label_smoothing_shares_a_part_of_the_target_with_all_classes():
    """Targets (1 - s) one-hot + s / classes, Szegedy et al. 2016."""
    logits = jnp.array([[2.0, 0.5, -1.0, 0.0], [0.0, 0.0, 3.0, 1.0]])
    labels = jnp.array([0, 1])
    log_p = np.asarray(jax.nn.log_softmax(logits))

    def losses(smoothing):
        task = Classification({'label_smoothing': smoothing}, DatasetInfo.from_json({'class_names': list('abcd')}))
        return np.asarray(task.score(logits, {'label': labels})['loss'])
    plain = np.array([-log_p[0, 0], -log_p[1, 1]])
    np.testing.assert_allclose(losses(0.0), plain, rtol=1e-6)
    np.testing.assert_allclose(losses(0.2), 0.8 * plain - 0.2 * log_p.mean(axis=1), rtol=1e-6)
