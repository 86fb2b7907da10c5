"""Optimizers equal optax's, schedules take the values that their names promise, regexes reach what they match."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.tasks.classification import Classification
from practicum.training import components
from practicum.training import config as config_lib
from practicum.training.defaults import base
from practicum.training.durations import to_steps
from practicum.training.optimizer import Optimizer
from practicum.training.schedules import build_schedule
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


class Ours(Optimizer):
    """With its learning rate and weight decay, as the engine hands them in."""

    def __init__(self, config, schedule):
        super().__init__(config)
        self.schedule = schedule

    def update(self, gradients, state, params):
        rate = jnp.asarray(self.schedule(self.steps), jnp.float32)
        self.steps += 1
        return super().update(gradients, state, params, learning_rate=rate,
                              weight_decay=jnp.float32(self.config.weight_decay))

    def init(self, params):
        self.steps = 0
        return super().init(params)


def ours(schedule=None, **fields):
    config = base().optimizer
    config.update(fields)
    return Ours(config, schedule or optax.constant_schedule(RATE))


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
    (dict(name='adam', weight_decay=0.05, decoupled_weight_decay=True),
     optax.adamw(RATE, weight_decay=0.05, mask=kernels)),
    (dict(name='sgd', momentum=0.9, weight_decay=0.05, decoupled_weight_decay=True),
     optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.05, kernels), optax.scale(-RATE))),
    (dict(name='adamw', weight_decay=0.05, decoupled_weight_decay=False),
     optax.chain(optax.add_decayed_weights(0.05, kernels), optax.adam(RATE))),
    (dict(name='adam', arguments={'nesterov': True}), optax.nadam(RATE)),
    (dict(name='rmsprop', momentum=0.0, arguments={'decay': 0.99}), optax.rmsprop(RATE, decay=0.99)),
    (dict(name='lion'), optax.lion(RATE, weight_decay=0.0)),
    (dict(name='lion', weight_decay=0.05, arguments={'b1': 0.8}),
     optax.lion(RATE, 0.8, weight_decay=0.05, mask=kernels)),
    (dict(name='lion', weight_decay=0.05, decoupled_weight_decay=False),
     optax.chain(optax.add_decayed_weights(0.05, kernels), optax.lion(RATE, weight_decay=0.0))),
    (dict(name='lamb', weight_decay=0.05, decoupled_weight_decay=True),
     optax.chain(optax.lamb(RATE), optax.add_decayed_weights(-RATE * 0.05, kernels))),
    (dict(name='lamb', weight_decay=0.05), optax.lamb(RATE, weight_decay=0.05, mask=kernels)),
    (dict(name='lars', weight_decay=0.05), optax.lars(RATE, 0.05, kernels)),
    (dict(name='nadam'), optax.nadam(RATE)),
    (dict(name='radam', weight_decay=0.05), optax.chain(optax.add_decayed_weights(0.05, kernels), optax.radam(RATE))),
    (dict(name='adafactor', arguments={'momentum': 0.9}), optax.adafactor(RATE, momentum=0.9)),
    (dict(name='muon', weight_decay=0.05),
     optax.chain(optax.contrib.muon(RATE), optax.add_decayed_weights(-RATE * 0.05, kernels))),
    (dict(name='sgd', momentum=0.9, clip_norm=0.5), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(RATE, 0.9))),
    (dict(name='sgd', momentum=0.9, weight_decay=0.01),
     optax.chain(optax.add_decayed_weights(0.01, kernels), optax.sgd(RATE, 0.9))),
], ids=words)
def test_equals_its_optax_counterpart(fields, counterpart):
    for a, b in zip(path_of(ours(**fields)), path_of(counterpart)):
        assert_same(a, b)


@pytest.mark.parametrize('name', ['sgd', 'sign_sgd'])
def test_the_learning_rate_of_a_step_is_the_schedule_s(name):
    schedule = optax.linear_schedule(0.0, 1.0, 4)
    unit = path_of(ours(schedule, name=name, momentum=0.0), gradients=lambda step, p: jax.tree.map(jnp.ones_like, p))
    moved = [make_params()['conv1']['bias'][0] - params['conv1']['bias'][0] for params in unit]
    np.testing.assert_allclose(moved, np.cumsum([0.0, 0.25, 0.5, 0.75, 1.0]), rtol=1e-5)


def test_learning_rate_and_weight_decay_are_inputs_of_the_compiled_step():
    """Numbers of a sweep that differ in them share one program."""
    optimizer, params = Optimizer(base().optimizer), make_params()
    for name, decay in (('adamw', 'decoupled'), ('lion', 'its own'), ('sgd', 'coupled')):
        config = base().optimizer
        config.update(name=name, weight_decay=0.1)
        optimizer, traces = Optimizer(config), []

        @jax.jit
        def step(gradients, learning_rate, weight_decay, optimizer=optimizer, traces=traces):
            traces.append(1)
            return optimizer.update(gradients, optimizer.init(params), params, learning_rate=learning_rate,
                                    weight_decay=weight_decay)[0]['logits']['kernel']
        gradients = make_gradients(0, params)
        plain, decayed, faster = (step(gradients, *map(jnp.float32, numbers)) for numbers in
                                  ((0.1, 0.0), (0.1, 0.5), (0.2, 0.0)))
        np.testing.assert_allclose(faster, 2 * plain, rtol=1e-5)
        assert not np.allclose(plain, decayed) and len(traces) == 1, decay


def test_the_state_has_the_paths_that_earlier_checkpoints_hold():
    """Written down when the schedule was still part of the optimizer."""
    optimizer = ours(name='adam', clip_norm=1.0, weight_decay=0.1, freeze=('conv1/.*',),
                     learning_rate_scales=(('logits/.*', 2.0),))
    found = {jax.tree_util.keystr(path, simple=True, separator='/'): (leaf.shape, leaf.dtype)
             for path, leaf in jax.tree.leaves_with_path(optimizer.init(make_params()))}
    inner = 'inner_states/learning/inner_state'
    moments = {f'{inner}/2/{moment}/{layer}': (shape, jnp.float32) for moment in ('mu', 'nu') for layer, shape in
               (('dense1/kernel', (2, 4)), ('dense1/bias', (4,)), ('logits/kernel', (4, 3)), ('logits/bias', (3,)))}
    assert found == moments | {f'{inner}/2/count': ((), jnp.int32), f'{inner}/4/count': ((), jnp.int32)}
    plain = jax.tree.leaves_with_path(ours(name='sgd', momentum=0.0).init(make_params()))
    assert [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in plain] == ['0/count']


def test_the_state_counts_steps():
    optimizer, params = ours(name='sgd', momentum=0.0), make_params()
    state = optimizer.init(params)
    for _ in range(3):
        _, state = optimizer.update(make_gradients(0, params), state, params)
    assert [int(leaf) for leaf in jax.tree.leaves(state)] == [3]


# --- schedules ---

def schedule_of(total=100, **fields):
    config = base().schedule
    config.update(fields)
    return build_schedule(config, total,
                          lambda text, field: to_steps(text, batch_size=10, num_examples=100, field=field))


def values(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_constant():
    assert values(schedule_of(name='constant'), 0, 50, 1000) == [1.0, 1.0, 1.0]


def test_exponential_is_smooth_or_a_staircase():
    smooth = schedule_of(name='exponential', decay_rate=0.5, decay_steps='2 epochs')
    np.testing.assert_allclose(values(smooth, 0, 10, 20, 40), [1, 0.5 ** 0.5, 0.5, 0.25], rtol=1e-6)
    stairs = schedule_of(name='exponential', decay_rate=0.5, decay_steps='20 steps', staircase=True)
    np.testing.assert_allclose(values(stairs, 0, 19, 20, 39, 40), [1, 1, 0.5, 0.5, 0.25], rtol=1e-6)


def test_cosine_ends_at_the_final_factor():
    schedule = schedule_of(name='cosine', final_factor=0.1)
    np.testing.assert_allclose(values(schedule, 0, 50, 100, 200), [1.0, 0.55, 0.1, 0.1], rtol=1e-6)


def test_piecewise_factors_begin_at_their_boundaries():
    schedule = schedule_of(name='piecewise', boundaries=('30 steps', '6 epochs'), factors=(0.1, 0.5))
    np.testing.assert_allclose(values(schedule, 0, 29, 30, 59, 60, 99), [1, 1, 0.1, 0.1, 0.5, 0.5], rtol=1e-6)


def test_linear_and_polynomial_end_at_the_final_factor():
    linear = schedule_of(name='linear', final_factor=0.2, warmup='20 steps')
    np.testing.assert_allclose(values(linear, 10, 20, 60, 100, 200), [0.5, 1, 0.6, 0.2, 0.2], rtol=1e-6)
    squared = schedule_of(name='polynomial', final_factor=0.1)
    np.testing.assert_allclose(values(squared, 0, 50, 100), [1, 0.1 + 0.9 * 0.25, 0.1], rtol=1e-6)
    cubed = schedule_of(name='polynomial', arguments={'power': 3})
    np.testing.assert_allclose(values(cubed, 0, 50, 100), [1, 0.125, 0], rtol=1e-6)


def test_one_cycle_is_a_cosine_up_and_a_longer_one_down():
    usual = schedule_of(name='one_cycle')
    np.testing.assert_allclose(values(usual, 0, 15, 30, 65, 100), [0.04, 0.52, 1, 0.5, 4e-6], rtol=1e-4)
    own = schedule_of(name='one_cycle', warmup='10 steps', arguments={'div_factor': 10, 'final_div_factor': 10})
    np.testing.assert_allclose(values(own, 0, 5, 10, 55, 100, 200), [0.1, 0.55, 1, 0.505, 0.01, 0.01], rtol=1e-4)
    assert np.isfinite(values(schedule_of(1, name='one_cycle'), 0)).all()


def test_warmup_stable_decay_is_flat_until_its_last_steps(caplog):
    schedule = schedule_of(name='warmup_stable_decay', warmup='10 steps', decay_steps='2 epochs', final_factor=0.1)
    np.testing.assert_allclose(values(schedule, 0, 5, 10, 80, 90, 100), [0, 0.5, 1, 1, 0.55, 0.1], rtol=1e-6)
    assert not caplog.text
    short = schedule_of(10, name='warmup_stable_decay', decay_steps='2 epochs')
    np.testing.assert_allclose(values(short, 0, 5, 10), [1, 0.5, 0], rtol=1e-6)
    assert 'longer than the 10 steps' in caplog.text


def test_schedules_of_optax_by_name_with_durations_for_steps():
    decay = schedule_of(name='cosine_decay_schedule', arguments={'alpha': 0.1, 'exponent': 2.0})
    np.testing.assert_allclose(values(decay, 0, 50, 100), [1, 0.1 + 0.9 * 0.25, 0.1], rtol=1e-6)
    short = schedule_of(name='cosine_decay_schedule', warmup='10 steps', arguments={'decay_steps': '4 epochs'})
    np.testing.assert_allclose(values(short, 5, 10, 30, 50), [0.5, 1, 0.5, 0], atol=1e-6)
    own_warmup = schedule_of(name='warmup_cosine_decay_schedule', arguments={'warmup_steps': '2 epochs'})
    np.testing.assert_allclose(values(own_warmup, 0, 10, 20, 60, 100), [0, 0.5, 1, 0.5, 0], atol=1e-6)
    stairs = schedule_of(name='piecewise_constant_schedule',
                         arguments={'boundaries_and_scales': {'2 epochs': 0.5, '50 steps': 0.2}})
    np.testing.assert_allclose(values(stairs, 0, 21, 51), [1, 0.5, 0.1], rtol=1e-6)
    restarts = schedule_of(name='sgdr_schedule', arguments={'cosine_kwargs': tuple(
        {'init_value': 0.0, 'peak_value': peak, 'warmup_steps': '1 epochs', 'decay_steps': '5 epochs'}
        for peak in (1.0, 0.5))})
    np.testing.assert_allclose(values(restarts, 10, 30, 60, 80), [1, 0.5, 0.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize('fields', [
    {'name': name} for name in ('constant', 'exponential', 'cosine', 'linear', 'polynomial', 'one_cycle',
                                'warmup_stable_decay', 'linear_schedule', 'linear_onecycle_schedule')], ids=words)
def test_schedules_are_part_of_a_compiled_step(fields):
    if fields['name'] == 'linear_schedule':
        fields = fields | {'arguments': {'end_value': 0.1}}
    schedule = schedule_of(warmup='5 steps', **fields)
    traced = jax.jit(jax.vmap(schedule))(jnp.arange(100))
    assert traced.dtype == jnp.float32 and (traced >= 0).all() and (traced <= 1 + 1e-6).all()
    np.testing.assert_allclose(traced[::33], values(schedule, 0, 33, 66, 99), rtol=1e-5, atol=1e-6)


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
    (dict(name='polynomial', arguments={'powr': 2}), 'arguments.powr.*did you mean power'),
    (dict(name='polynomial', arguments={'power': -1}), 'arguments.power = -1.*above 0'),
    (dict(name='cosine', arguments={'power': 2}), 'arguments.power is not an argument of cosine'),
    (dict(name='warmup_stable_decay', decay_steps='0 steps'), 'decay_steps'),
    (dict(name='cosine_decay', ), 'did you mean cosine_decay_schedule'),
    (dict(name='cosine_decay_schedule', arguments={'alfa': 0.1}), 'arguments.alfa.*did you mean alpha'),
    (dict(name='cosine_decay_schedule', arguments={'decay_steps': '5 weeks'}), 'arguments.decay_steps.*5 weeks'),
    (dict(name='cosine_decay_schedule', arguments={'decay_steps': 'long'}), 'does not take .*long'),
    (dict(name='cosine_decay_schedule', arguments={'decay_steps': -1}), 'positive'),
    (dict(name='linear_schedule'), 'needs config.schedule.arguments.end_value'),
    (dict(name='linear_schedule', arguments={'end_value': float('nan')}), 'not finite'),
    (dict(name='join_schedules'), 'config.schedule.name'),
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


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw', 'rmsprop', 'adagrad', 'lion', 'lamb', 'novograd', 'muon'])
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


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw', 'rmsprop', 'adagrad', 'lion', 'muon'])
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
    state = training.place(training.initial_state())
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
    (dict(name='lmab'), 'did you mean lamb'), (dict(name='shampoo'), 'there are: .*adafactor.*sgd.*yogi'),
    (dict(name='schedule_free_adamw'), 'other parameters'), (dict(name='rprop'), 'learning rate'),
    (dict(name='lbfgs'), 'cannot be used.*value'), (dict(name='sophia'), 'cannot be used.*obj_fn'),
    (dict(name='scale_by_adam'), 'config.optimizer.name'), (dict(name='mechanize'), 'config.optimizer.name'),
    (dict(name='dpsgd'), 'every example'),
    (dict(name='lion', arguments={'beta1': 0.9}), 'arguments.beta1.*did you mean b1'),
    (dict(name='lion', arguments={'b1': 'high'}), "cannot be used with the arguments .*'high'"),
    (dict(name='lion', arguments={'weight_decay': 0.1}), 'takes it from config.optimizer.weight_decay'),
    (dict(name='lion', arguments={'learning_rate': 0.1}), 'takes it from config.optimizer.learning_rate'),
    (dict(name='adam', arguments={'b1': 0.8}), 'takes it from config.optimizer.b1'),
    (dict(name='sgd', arguments={'decay': 0.8}), 'arguments.decay is not an argument of sgd'),
    (dict(learning_rate=float('inf')), 'finite'), (dict(weight_decay=float('inf')), 'finite'),
    (dict(learning_rate=-1.0), 'learning_rate'), (dict(learning_rate=float('nan')), 'learning_rate'),
    (dict(momentum=1.0), 'momentum'), (dict(b1=-0.1), 'b1'), (dict(b2=1.0), 'b2'), (dict(eps=-1e-8), 'eps'),
    (dict(weight_decay=-0.1), 'weight_decay'), (dict(clip_norm=-1.0), 'clip_norm'), (dict(accumulate=0), 'accumulate'),
    (dict(freeze=('(',)), 'freeze.*not a regular expression'),
    (dict(learning_rate_scales=(('a', 'b'),)), 'pair'), (dict(learning_rate_scales=('ab',)), 'pair'),
], ids=words)
def test_a_value_out_of_range_is_an_error(fields, message):
    with pytest.raises(UserError, match=message):
        ours(**fields)


def test_arguments_can_be_set_on_the_command_line():
    config = tiny_config('optimizer.name=lion', 'optimizer.arguments.b1=0.8', 'schedule.name=polynomial',
                         'schedule.arguments.power=3')
    assert config.optimizer.arguments.to_dict() == {'b1': 0.8} and config.schedule.arguments.power == 3
    kept = config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config))))
    assert kept.optimizer.arguments == config.optimizer.arguments
    assert kept.schedule.arguments == config.schedule.arguments
    build_schedule(kept.schedule, 100, lambda text, field: 0)
    assert jax.tree.leaves(Optimizer(kept.optimizer).init(make_params()))


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
