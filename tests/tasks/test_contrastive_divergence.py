"""Boltzmann machines against sums over all their states, and what a run with persistent chains leaves behind."""

import itertools
import json

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks import log_probability
from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.inference.run import Run
from practicum.models import rbm
from practicum.training import components, evaluation
from practicum.training.loop import train
from practicum.training.state import evaluated_variables
from tests.tasks import going_on
from tests.tiny_generative import machine_config

VISIBLE, HIDDEN = 5, 4
CD = {'name': 'contrastive_divergence'}


def states(units: int) -> np.ndarray:
    """All states of binary units, float64 [2 ** units, units]."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=units)))


@pytest.fixture(scope='module')
def machine():
    """A machine with strong weights, and minus the energies of all its states, [visible states, hidden states]."""
    random = np.random.default_rng(0)
    layer = {'kernel': np.float32(1.5 * random.normal(size=(VISIBLE, HIDDEN))),
             'bias': np.float32(random.normal(size=HIDDEN)), 'visible_bias': np.float32(random.normal(size=VISIBLE))}
    v, h = states(VISIBLE), states(HIDDEN)
    minus_energy = v @ layer['kernel'] @ h.T + (v @ layer['visible_bias'])[:, None] + h @ layer['bias']
    return layer, minus_energy


def test_the_free_energy_is_that_of_all_hidden_states(machine):
    layer, minus_energy = machine
    wanted = -np.log(np.exp(minus_energy).sum(axis=1))
    np.testing.assert_allclose(rbm.free_energy(layer, np.float32(states(VISIBLE))), wanted, rtol=1e-5)


def test_chains_come_to_the_distribution_of_the_machine(machine):
    layer, minus_energy = machine
    wanted = np.exp(minus_energy).sum(axis=1)
    keys = jax.random.split(jax.random.key(0), (5_000, 30))
    chains = np.asarray(jax.jit(rbm.run_chains)(layer, np.zeros((5_000, VISIBLE), np.float32), keys))
    found = np.bincount((chains @ 2 ** np.arange(VISIBLE)[::-1]).astype(int), minlength=len(wanted))
    np.testing.assert_allclose(found / len(chains), wanted / wanted.sum(), atol=0.02)


def test_annealed_importance_sampling_finds_the_partition_function(machine):
    layer, minus_energy = machine
    base = np.float32(np.random.default_rng(1).normal(size=VISIBLE))
    betas = log_probability.temperatures(300)
    assert betas[0] == 0 and betas[-1] == 1 and (np.diff(betas) > 0).all() and len(betas) == 301
    weights = log_probability.importance_weights(layer, base, betas, 500, jax.random.key(0))
    log_z, low, high = log_probability.summarize(
        np.asarray(weights, np.float64) + log_probability.log_base_partition(base, HIDDEN))
    wanted = np.log(np.exp(minus_energy).sum())
    assert low < wanted < high and high - low < 0.2 and log_z == pytest.approx(wanted, abs=0.06)


# The task


def test_the_gradient_is_that_of_contrastive_divergence():
    """<v h> of the data minus <v h> where the chains end, of hidden probabilities."""
    model, task = rbm.RBM(hidden=(3,)), tasks.build({**CD, 'steps': 2}, DatasetInfo())
    batch = {'image': np.random.default_rng(0).random((6, 2, 2, 1), np.float32),
             'rng': jax.random.split(jax.random.key(1), 6)}
    variables = model.init(jax.random.key(0), *task.inputs(batch))

    @jax.jit
    def gradient(variables):
        def loss(params):
            outputs = model.apply({'params': params}, *task.inputs(batch))
            return task.score(outputs, batch)['loss'].mean(), outputs
        return jax.grad(loss, has_aux=True)(variables['params'])
    gradients, outputs = gradient(variables)
    layer = jax.tree.map(np.asarray, variables['params']['dense1'])
    data, chains = np.asarray(outputs['target']).reshape(6, 4), np.asarray(outputs['chains'])
    assert set(np.unique(data)) | set(np.unique(chains)) == {0, 1}
    hidden = [1 / (1 + np.exp(-(v @ layer['kernel'] + layer['bias']))) for v in (data, chains)]
    found = gradients['dense1']
    np.testing.assert_allclose(found['kernel'], (chains.T @ hidden[1] - data.T @ hidden[0]) / 6, atol=1e-6)
    np.testing.assert_allclose(found['bias'], (hidden[1] - hidden[0]).mean(0), atol=1e-6)
    np.testing.assert_allclose(found['visible_bias'], (chains - data).mean(0), atol=1e-6)


def test_visible_biases_begin_at_the_base_rates_of_many_training_examples():
    training = components.build_training(machine_config('parallel.devices=1'))
    bias = np.asarray(training.initial_state().params['dense1']['visible_bias'])
    digits = training.source.read(np.arange(1000))['image'].reshape(1000, -1) / 255
    drawn = (digits.sum(0) + 0.5) / 1001
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), drawn, atol=0.06)  # of pixels drawn to be 0 or 1
    assert len(np.unique(bias)) > 30


def take_steps(*overrides):
    """Returns the state after three steps, and the `Training`."""
    training = components.build_training(machine_config(*overrides))
    state = training.place(training.initial_state())
    for step in range(3):
        state, _ = training.train_step(state, training.feed(training.batches(step)))
    return training.fetch(state), training


def test_chains_and_evaluations_depend_on_no_devices_and_no_padding():
    found = []
    for devices, size in ((1, 180), (2, 28)):
        state, training = take_steps(f'parallel.devices={devices}', f'evaluation.batch_size={size}',
                                     'optimizer.name=sgd')  # Adam makes much of gradients that are nearly 0
        sets = evaluation.Evaluations(training.config, training.parallel, training.task, training.info, ('validation',))
        variables = training.parallel.place(evaluated_variables(state.variables))
        found.append((state, evaluation.evaluate(sets, 'validation', variables).metrics))
    (one, metrics), (two, others) = found
    np.testing.assert_array_equal(one.carry['chains'], two.carry['chains'])
    assert one.carry['chains'].shape == (16, 64) and len(np.unique(one.carry['chains'], axis=0)) == 16
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.params, two.params)
    assert metrics == pytest.approx(others, rel=1e-5)


# A run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run with persistent chains."""
    workdir = tmp_path_factory.mktemp('machine') / 'run'
    assert train(machine_config('parallel.devices=1'), workdir) == 0
    return workdir


def test_a_run_that_is_gone_on_with_ends_in_the_same_bits(run, tmp_path):
    assert going_on.check_the_same_bits(run, machine_config, tmp_path / 'run')['carry/chains'].any()


def test_a_run_shows_filters_and_fantasies_over_time(run):
    for name in ('filters.png', 'fantasies.png'):
        assert (run / name).stat().st_size > 1000
    assert sorted(path.name for path in (run / 'fantasies_over_time').iterdir()) == ['12.png', '6.png']
    with Image.open(run / 'fantasies_over_time.gif') as picture:
        assert picture.n_frames == 2 and picture.size == (96, 96)
    assert {'test/loss', 'test/squared_error', 'test/free_energy'} <= set(
        json.loads((run / 'result.json').read_text())['metrics'])


def test_the_log_probability_of_a_run(run, capsys, monkeypatch):
    monkeypatch.setattr('sys.argv', ['log_probability.py', str(run), '--chains', '20', '--temperatures', '50'])
    log_probability.main()
    cells = capsys.readouterr().out.splitlines()[-1].split('|')
    assert cells[1].strip() == 'run' and -64 < float(cells[4].split()[0]) < -10  # of 64 pixels, nats


def test_predict_gives_the_reconstruction(run):
    row, = Run(run, 'last').predict(np.zeros((8, 8), np.uint8))
    assert row['arrays']['reconstruction'].shape == (8, 8) and row['squared_error'] > 0


def test_a_stack_dreams_through_all_its_layers():
    """The second layer sees what the first says of a digit; its fantasies are pictures."""
    task = tasks.build(CD, DatasetInfo())
    model = rbm.RBM(hidden=(6, 3), layer=2)
    batch = {'image': np.zeros((2, 4, 4, 1), np.float32), 'rng': jax.random.split(jax.random.key(1), 2)}
    outputs, variables = jax.jit(model.init_with_output)(jax.random.key(0), *task.inputs(batch))
    assert outputs['chains'].shape == (2, 6) and set(variables['params']) == {'dense1', 'dense2'}
    assert 'filters' not in (figures := task.model_figures(model, variables))
    assert figures['fantasies_over_time'].pixels.shape == (48, 48, 3)


# Mistakes


@pytest.mark.parametrize('fields, match', [
    ({'steps': 0}, 'config.task.steps = 0'),
    ({'steps': 1.5}, 'config.task.steps = 1.5'),
    ({'persistent': 1}, 'config.task.persistent = 1'),
    ({'binary': True}, 'config.task.binary: contrastive_divergence has no such field'),
])
def test_a_field_that_does_not_fit_is_named(fields, match):
    with pytest.raises(UserError, match=match) as error:
        tasks.build({**CD, **fields}, DatasetInfo())
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('overrides, match', [
    (('image.mean=(0.5,)',), r'config.image.mean.*contrastive_divergence is about pixels in \[0, 1\]'),
    (('model.layer=2',), r'config.model.layer = 2: config.model.hidden has 1 layers'),
])
def test_data_and_models_that_do_not_fit_are_one_line(overrides, match):
    with pytest.raises(UserError, match=match) as error:
        components.build_training(machine_config('parallel.devices=1', *overrides)).initial_state()
    assert '\n' not in str(error.value)


def test_a_model_that_takes_no_keys_is_one_line():
    config = machine_config('parallel.devices=1').copy_and_resolve_references().unlock()
    config.model = {'name': 'autoencoder', 'image_shape': (8, 8, 1)}
    with pytest.raises(UserError, match="'autoencoder' takes 1 input, and .*'contrastive_divergence'"):
        components.build_training(config.lock()).initial_state()


def test_a_run_does_not_go_on_with_another_number_of_chains(run):
    with pytest.raises(UserError, match='config.batch_size = 8'):
        train(machine_config('parallel.devices=1', 'batch_size=8', 'total=30 steps'), run)
