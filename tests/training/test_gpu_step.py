"""The step as a GPU would get it: lowered here with flax's own layers, and its collectives counted."""

import re

import jax
import numpy as np
import pytest

from practicum.models import cpu_kernels
from practicum.training import components
from practicum.training.evaluation import Evaluations
from practicum.training.loop import train
from practicum.training.state import evaluated_variables
from tests.tiny import tiny_config
from tests.tiny_text import text_config, write_corpus

DEVICES = 4


def build(*overrides):
    config = tiny_config(f'parallel.devices={DEVICES}', 'optimizer.name=sgd', *overrides)
    with config.unlocked():
        config.model = {'name': 'resnet_cifar', 'depth': 20}
    return config, components.build_training(config)


def lowered(training) -> str:
    state = training.place(training.initial_state())
    return training.train_step.lower(state, training.parallel.shard(training.batches(0))).as_text()


def collectives(text: str) -> dict[str, int]:
    names = re.findall(r'stablehlo[.](all_reduce|all_gather|all_to_all|collective_permute|reduce_scatter)', text)
    return {name: names.count(name) for name in set(names)}


@pytest.fixture
def on_a_gpu(monkeypatch):
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: False)


@pytest.mark.parametrize('batch_norm', ['global', pytest.param('device', marks=pytest.mark.thorough)])
def test_a_training_step_reduces_nothing_twice(on_a_gpu, batch_norm):
    """Gradients one by one, which XLA joins; BatchNorm forward and backward or, per device, once; metrics once."""
    _, training = build(f'parallel.batch_norm={batch_norm}')
    state = jax.eval_shape(training.initial_state)
    gradients, norms = len(jax.tree.leaves(state.params)), len(jax.tree.leaves(state.batch_stats)) // 2
    statistics = 2 * norms if batch_norm == 'global' else 1
    assert norms == 19
    assert collectives(lowered(training)) == {'all_reduce': gradients + statistics + 1}


@pytest.mark.thorough
def test_mode_jit_leaves_the_collectives_to_xla(on_a_gpu):
    _, training = build('parallel.mode=jit')
    assert collectives(lowered(training)) == {}


def test_an_evaluation_gathers_neither_matrices_nor_outputs(on_a_gpu):
    config, training = build()
    evaluations = Evaluations(config, training.parallel, training.task, training.info, ('test',))
    variables = evaluated_variables(training.initial_state().variables)
    _, batches = evaluations.batches('test')
    inputs = {**variables, 'seed': evaluations.seed, 'carry': evaluations.carry('test', variables)}
    text = evaluations.step.lower(inputs, training.parallel.shard(batches(0))).as_text()
    assert collectives(text).keys() == {'all_reduce', 'all_gather'} and 'all_reduce' in text
    # What is ranked needs all examples: log-odds, labels and masks of the area under the curve. Nothing else does.
    rows = evaluations.batch_size
    gathered = set(re.findall(r'all_gather.*-> tensor<([^>]*)>', text))
    assert gathered == {f'{DEVICES}x{rows // DEVICES}x10xf32', f'{DEVICES}x{rows // DEVICES}xi32',
                        f'{DEVICES}x{rows // DEVICES}xf32'}


@pytest.mark.parametrize('mode', [pytest.param('pmap', marks=pytest.mark.thorough), 'jit'])
def test_what_is_carried_stays_on_its_device(tmp_path, mode):
    training = components.build_training(text_config(
        write_corpus(tmp_path), f'parallel.devices={DEVICES}', f'parallel.mode={mode}'))
    state = training.place(training.initial_state())
    if mode == 'pmap':
        assert 'all_gather' not in lowered(training)
    for step in range(2):
        for leaf in jax.tree.leaves(state.carry):
            assert leaf.addressable_shards[0].data.nbytes * DEVICES == leaf.nbytes
        state, _ = training.train_step(state, training.parallel.shard(training.batches(step)))


def test_the_batch_is_given_away_where_the_host_does_not_share_its_memory(on_a_gpu):
    _, training = build('parallel.mode=jit')
    text = lowered(training)
    state = len(jax.tree.leaves(jax.eval_shape(training.initial_state)))
    assert text.count('jax.buffer_donor') + text.count('tf.aliasing_output') == state + 2  # image and label


@pytest.mark.thorough
def test_remat_keeps_less_and_changes_nothing(on_a_gpu):
    """Of flax's layers; the forms for CPUs already keep little."""
    found = {}
    for remat in (False, True):
        _, training = build(f'remat={remat}', 'batch_size=128', 'image.size=(28,28)')
        state, batch = training.place(training.initial_state()), training.parallel.shard(training.batches(0))
        compiled = training.train_step.lower(state, batch).compile()
        memory = compiled.memory_analysis().temp_size_in_bytes
        state, _ = training.train_step(state, batch)
        found[remat] = memory, training.fetch(state).params
    assert found[True][0] < 0.9 * found[False][0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found[True][1], found[False][1])


@pytest.mark.parametrize('mode, devices', [pytest.param('pmap', 1, marks=pytest.mark.thorough), ('jit', 2)])
def test_nothing_is_moved_to_the_devices_unasked(on_a_gpu, tmp_path, mode, devices):
    """And the guard would notice."""
    config = tiny_config(f'parallel.mode={mode}', f'parallel.devices={devices}', 'total=3 steps')
    assert train(config, tmp_path) == 0
    training = components.build_training(config)
    state, batch = training.place(training.initial_state()), training.batches(0)
    if mode == 'pmap':
        batch = {name: values.reshape(devices, -1, *values.shape[1:]) for name, values in batch.items()}
    with training.parallel.guard(), pytest.raises(jax.errors.JaxRuntimeError, match='Disallowed host-to-device'):
        training.train_step(state, batch)
