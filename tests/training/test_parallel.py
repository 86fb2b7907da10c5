"""The same config trains the same model on any number of devices: equal batches, equal draws, equal statistics."""

import functools
import logging

import flax.linen as nn
import jax
import numpy as np
import pytest

from practicum import models, tasks
from practicum.common.errors import UserError
from practicum.models import batch_axis
from practicum.models.layers import BatchNorm
from practicum.training import components, evaluation
from practicum.training.parallel import Parallel, Place
from practicum.training.state import evaluated_variables
from tests.tiny import tiny_config

COUNTS = (1, 2, 4, 8)
# Plain descent, because adam divides small numbers by each other and makes rounding visible.
SGD = ('optimizer.name=sgd', 'optimizer.momentum=0.9', 'optimizer.learning_rate=0.1')
RANDOM = ('model.dropout=0.5', 'augment.shift=0.2', 'augment.invert=0.5')
INVERT = ('augment.shift=0', 'augment.invert=0.5')  # random, and quick to compile
MODES = {'pmap': ('parallel.mode=pmap',), 'jit': ('parallel.mode=jit',),
         'fsdp': ('parallel.mode=jit', 'parallel.sharding=fsdp', 'parallel.min_shard_mb=0')}
FEW = {(1, 'pmap'), (8, 'pmap'), (2, 'jit'), (4, 'fsdp')}  # the others are thorough
STEPS = 4


class NormNet(nn.Module):
    """A dense layer with BatchNorm, which sees what its neighbours on other devices see."""
    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.Dense(16)(images.reshape(images.shape[0], -1))
        x = BatchNorm(use_running_average=not train, momentum=0.5, name='BatchNorm_0')(x)
        return nn.Dense(self.num_classes)(nn.relu(x))


@pytest.fixture(autouse=True)
def norm_net(monkeypatch):
    monkeypatch.setitem(models.MODELS, 'norm_net', NormNet)


def build_parallel(mode: str, count: int) -> Parallel:
    return Parallel(tiny_config(f'parallel.mode={mode}', f'parallel.devices={count}').parallel)


def take_steps(*overrides: str, model: str = 'mlp', steps: int = STEPS):
    """Returns [state after each step] and [metrics of each step] on the host, and the `Training`."""
    config = tiny_config(*overrides)
    with config.unlocked():
        if model != 'mlp':
            config.model = {'name': model}
    training = components.build_training(config)
    parallel = training.parallel
    state = training.place(training.initial_state())
    states, metrics = [parallel.fetch(state)], []
    for step in range(steps):
        state, found = training.train_step(state, parallel.shard(training.batches(step)))
        states.append(parallel.fetch(state))
        found = training.layout.unpack(parallel.fetch(found))
        metrics.append(found['task'].compute() | {'gradient_norm': float(found['gradient_norm'])})
    return states, metrics, training


def assert_close(found, wanted, tolerance: float = 1e-6) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for path, value in jax.tree_util.tree_leaves_with_path(wanted):
        other = functools.reduce(lambda tree, key: tree[key.idx] if hasattr(key, 'idx') else tree[key.key], path, found)
        np.testing.assert_allclose(other, value, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path))


def assert_moved(states) -> None:
    """The steps did something, so that comparing their results means something."""
    distance = max(np.max(np.abs(a - b)) for a, b in zip(jax.tree.leaves(states[0].params),
                                                         jax.tree.leaves(states[-1].params)))
    assert distance > 1e-2


# Training


@pytest.fixture(scope='module')
def one_device():
    return take_steps(*SGD, *RANDOM, 'parallel.devices=1')


@pytest.mark.parametrize('count, mode', [
    pytest.param(count, mode, marks=[pytest.mark.thorough] * ((count, mode) not in FEW))
    for count in COUNTS for mode in MODES])
def test_losses_and_params_do_not_depend_on_the_number_of_devices(one_device, count, mode):
    """With dropout and augmentation: what is drawn belongs to an example, not to the device it lands on."""
    wanted_states, wanted_metrics, _ = one_device
    states, metrics, training = take_steps(*SGD, *RANDOM, f'parallel.devices={count}', *MODES[mode])
    assert training.parallel.count == count
    assert_moved(states)
    assert_close(metrics, wanted_metrics)
    assert_close(states[-1].params, wanted_states[-1].params)


def test_every_step_draws_anew(one_device):
    """Two steps on the same batch differ in dropout and augmentation; the same step twice does not."""
    _, _, training = one_device
    parallel = training.parallel
    batch = parallel.shard(training.batches(0))
    def loss_of(step: int) -> float:
        state = training.place(training.initial_state().replace(step=np.int32(step)))
        return training.layout.unpack(parallel.fetch(training.train_step(state, batch)[1]))['task'].compute()['loss']
    assert loss_of(0) == loss_of(0)
    assert loss_of(0) != loss_of(1)


@pytest.mark.parametrize('mode', ['pmap', 'jit'])
@pytest.mark.parametrize('count', COUNTS)
def test_global_batches_do_not_depend_on_the_number_of_devices(count, mode):
    parallel = build_parallel(mode, count)
    batch = {'image': np.arange(16 * 6).reshape(16, 2, 3), 'label': np.arange(16)}
    step = parallel.compile(lambda _, rows: batch_axis.gather(rows), inputs=(Place.SHARED, Place.ROWS),
                            outputs=Place.SHARED)
    assert parallel.local_slice(16) == slice(0, 16)
    gathered = parallel.fetch(step(parallel.place(np.zeros(())), parallel.shard(batch)))
    for name in batch:
        np.testing.assert_array_equal(gathered[name], batch[name])


@pytest.mark.parametrize('mode', MODES)
def test_batch_norm_has_the_statistics_of_the_global_batch(mode):
    overrides = (*SGD, *INVERT)
    wanted, wanted_metrics, _ = take_steps(*overrides, 'parallel.devices=1', model='norm_net')
    states, metrics, _ = take_steps(*overrides, 'parallel.devices=4', *MODES[mode], model='norm_net')
    assert_close(states[1].batch_stats, wanted[1].batch_stats)
    # The gradients of what comes before a BatchNorm cancel, so rounding grows from step to step.
    assert_close(states[-1].batch_stats, wanted[-1].batch_stats, 1e-4)
    assert_close(metrics, wanted_metrics, 1e-4)
    before, after = states[0].batch_stats['BatchNorm_0'], states[-1].batch_stats['BatchNorm_0']
    assert np.abs(after['mean'] - before['mean']).max() > 1e-2 and np.abs(after['var'] - before['var']).max() > 1e-2


@pytest.mark.parametrize('mode', ['pmap', pytest.param('jit', marks=pytest.mark.thorough), 'fsdp'])
def test_convolutions_norms_and_pooling_do_not_depend_on_the_number_of_devices(mode):
    wanted, wanted_metrics, _ = take_steps(*SGD, *INVERT, 'parallel.devices=1', model='small_cnn', steps=1)
    states, metrics, _ = take_steps(*SGD, *INVERT, 'parallel.devices=4', *MODES[mode], model='small_cnn', steps=1)
    assert_close(metrics, wanted_metrics, 1e-5)
    assert_close(states[-1].params, wanted[-1].params, 1e-4)


class ForeignNet(nn.Module):
    """As one would write it without knowing of devices."""
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train, name='norm')(images.reshape(images.shape[0], -1))
        return nn.Dense(self.num_classes)(x)


@pytest.mark.parametrize('overrides', [('parallel.mode=jit',), ('parallel.batch_norm=device',)])
def test_statistics_of_one_device_are_not_taken_for_those_of_all(monkeypatch, overrides):
    monkeypatch.setitem(models.MODELS, 'foreign_net', ForeignNet)
    with pytest.raises(UserError, match='^norm is a flax BatchNorm that is not averaged'):
        take_steps('parallel.devices=2', model='foreign_net', steps=1)
    take_steps('parallel.devices=2', *overrides, model='foreign_net', steps=1)


def test_moving_averages_cover_batch_statistics_and_are_what_is_evaluated():
    decay = 0.6
    states, _, _ = take_steps(*SGD, *INVERT, f'ema_decay={decay}', 'parallel.devices=2', model='norm_net')
    average = {'params': states[0].params, 'batch_stats': states[0].batch_stats}
    for step, state in enumerate(states[1:]):
        kept = min(decay, (1 + step) / (10 + step))
        average = jax.tree.map(lambda old, new, kept=kept: kept * old + (1 - kept) * new, average,
                               {'params': state.params, 'batch_stats': state.batch_stats})
        assert_close(state.ema, average)
    evaluated = evaluated_variables(states[-1].variables)
    assert_close(evaluated, average)
    assert np.abs(evaluated['batch_stats']['BatchNorm_0']['var']
                  - states[-1].batch_stats['BatchNorm_0']['var']).max() > 1e-3


# Gradient accumulation


@pytest.mark.parametrize('accumulate', [2, 16])
def test_accumulated_gradients_make_the_same_update_as_the_whole_batch(accumulate):
    overrides = (*SGD, *INVERT, 'model.dropout=0', 'parallel.devices=1', 'optimizer.clip_norm=1.0')
    wanted, wanted_metrics, _ = take_steps(*overrides)
    states, metrics, _ = take_steps(*overrides, f'optimizer.accumulate={accumulate}')
    assert_moved(states)
    assert_close(metrics, wanted_metrics)
    assert_close(states[-1].params, wanted[-1].params)


@pytest.mark.parametrize('model', [pytest.param('mlp', marks=pytest.mark.thorough), 'norm_net'])
def test_accumulation_does_not_depend_on_the_number_of_devices(model):
    """Which examples meet in a micro-batch, and what dropout draws for them, is the same."""
    overrides = (*SGD, *INVERT, 'optimizer.accumulate=2')
    wanted, wanted_metrics, _ = take_steps(*overrides, 'parallel.devices=1', model=model)
    for count in (2, 8):
        states, metrics, _ = take_steps(*overrides, f'parallel.devices={count}', model=model)
        assert_close(metrics, wanted_metrics, 2e-6 if model == 'mlp' else 1e-4)
        assert_close(states[1].batch_stats, wanted[1].batch_stats)
        assert_close(states[1].params, wanted[1].params)


# Evaluation


@pytest.fixture(scope='module')
def score(one_device):
    """Returns score(count, batch_size, mode): metrics of a half-trained model on the digits' test set."""
    states, _, trained = one_device
    variables = evaluated_variables(states[-1].variables)

    def run(count: int, batch_size: int, mode: str = 'pmap') -> dict:
        config = tiny_config(f'parallel.devices={count}', f'parallel.mode={mode}',
                             f'evaluation.batch_size={batch_size}')
        parallel = build_parallel(mode, count)
        task = tasks.build(config.task, trained.info)
        evaluations = evaluation.Evaluations(config, parallel, task, trained.info, ('test',))
        return evaluation.evaluate(evaluations, 'test', parallel.place(variables)).metrics
    return run


@pytest.mark.parametrize('count, batch_size, mode', [
    (1, 1000, 'pmap'), (1, 7, 'pmap'), (4, 64, 'pmap'), (8, 50, 'pmap'), (8, 3, 'pmap'), (4, 100, 'jit')])
def test_metrics_depend_neither_on_padding_nor_on_batch_size_nor_on_devices(score, count, batch_size, mode):
    wanted = score(1, 359)  # the whole test set at once, without padding
    assert wanted['confusion'].sum() == 359 and 0 < wanted['accuracy'] < 1
    found = score(count, batch_size, mode)
    assert found['accuracy'] == wanted['accuracy']
    np.testing.assert_array_equal(found['confusion'], wanted['confusion'])
    assert found['loss'] == pytest.approx(wanted['loss'], rel=1e-6)


# Compilation


@pytest.mark.parametrize('mode', MODES)
def test_the_train_step_is_traced_and_compiled_once(mode, caplog):
    _, _, training = take_steps(*SGD, *RANDOM, 'parallel.devices=8', *MODES[mode], steps=1)
    parallel = training.parallel
    state = training.place(training.initial_state())
    with caplog.at_level(logging.WARNING, 'jax'), jax.log_compiles():
        for step in range(3):
            state, _ = training.train_step(state, parallel.shard(training.batches(step)))
        jax.block_until_ready(state)
        training.warn_of_retraces()
    assert training.traces == [1]
    assert not [record.getMessage() for record in caplog.records if 'ompil' in record.getMessage()]


def test_a_train_step_that_is_traced_again_warns_once(caplog):
    states, _, training = take_steps(*INVERT, 'parallel.devices=2', steps=1)
    parallel = training.parallel
    with caplog.at_level(logging.WARNING):
        training.warn_of_retraces()
        assert 'compiled again' not in caplog.text
        half = {key: value[:8] for key, value in training.batches(1).items()}
        training.train_step(training.place(states[-1]), parallel.shard(half))
        training.warn_of_retraces()
        training.warn_of_retraces()
    assert caplog.text.count('the train step was compiled again') == 1
