"""GANs: one gradient for two players, runs and their pictures; and the Frechet distance against scipy's formula."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import linalg

from benchmarks import frechet
from practicum import models, tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.inference.run import Run
from practicum.models.layers import BatchNorm
from practicum.training import components
from practicum.training.loop import train
from tests.tasks import going_on
from tests.tiny_generative import gan_config, machine_config


@pytest.fixture(scope='module')
def players():
    """A dense GAN without dropout, its task with smoothed labels, its variables and a batch."""
    model = models.build({'name': 'gan', 'image_shape': (3, 3, 1), 'latent': 2, 'hidden': (5, 4)})
    task = tasks.build({'name': 'adversarial', 'smoothing': 0.2}, DatasetInfo())
    batch = {'image': np.random.default_rng(0).random((6, 3, 3, 1), np.float32),
             'rng': jax.random.split(jax.random.key(1), 6)}
    return model, task, jax.jit(model.init)(jax.random.key(0), *task.inputs(batch)), batch


def test_one_gradient_is_that_of_each_player_alone(players):
    """The discriminator's of its own loss, with images that do not move; the generator's of its own."""
    model, task, variables, batch = players

    @jax.jit
    def gradients(variables):
        def scores(params, generator=None, discriminator=None):
            outputs, _ = model.apply({**variables, 'params': params}, *task.inputs(batch), train=True,
                                     mutable=['batch_stats'])
            return task.score(outputs, batch)

        def judge(params, images):
            return model.apply({**variables, 'params': params}, images)['logits']

        def alone(params):  # written from the paper, without any stopped gradient
            generated, _ = model.apply({**variables, 'params': params}, *task.inputs(batch), train=True,
                                       mutable=['batch_stats'])
            return generated['generated']
        params = variables['params']

        def discriminator_loss(discriminator):
            params_ = {**params, 'discriminator': discriminator}
            real, fake = judge(params_, batch['image']), judge(params_, alone(params))
            log = jax.nn.log_sigmoid
            return -(0.8 * log(real) + 0.2 * log(-real) + log(-fake)).mean()

        def generator_loss(generator):
            return -jax.nn.log_sigmoid(judge(params, alone({**params, 'generator': generator}))).mean()
        return (jax.grad(lambda params: scores(params)['loss'].mean())(params),
                {'discriminator': jax.grad(discriminator_loss)(params['discriminator']),
                 'generator': jax.grad(generator_loss)(params['generator'])})
    found, wanted = gradients(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(found['generator']))


def test_scores_are_cross_entropies():
    task = tasks.build({'name': 'adversarial'}, DatasetInfo())
    logits = {'logits': np.float32([2, -1]), 'fake_logits': np.float32([-3, 1]), 'fooled_logits': np.float32([-3, 1])}
    scores = task.score(logits, {})
    np.testing.assert_allclose(scores['generator_loss'], np.log1p(np.exp([3, -1])), rtol=1e-6)
    np.testing.assert_allclose(scores['discriminator_loss'],
                               np.log1p(np.exp([-2, 1])) + np.log1p(np.exp([-3, 1])), rtol=1e-6)
    assert scores['real_accuracy'].tolist() == [1, 0] and scores['fake_accuracy'].tolist() == [1, 0]
    smooth = tasks.build({'name': 'adversarial', 'smoothing': 0.2}, DatasetInfo())
    middle = np.log(0.4 / 0.6)  # where real and generated images are equally likely
    scores = smooth.score({name: np.float32([middle - 0.01, middle + 0.01]) for name in logits}, {})
    assert scores['real_accuracy'].tolist() == [0, 1] and scores['fake_accuracy'].tolist() == [1, 0]


def test_only_the_generator_has_statistics(players):
    """A discriminator with BatchNorm would keep averages of real and generated images mixed."""
    variables = players[2]
    assert set(variables['batch_stats']) == {'generator'} and BatchNorm.momentum == 0.9


# Steps and a run


def take_steps(*overrides):
    training = components.build_training(gan_config(*overrides))
    state = training.place(training.initial_state())
    for step in range(3):
        state, _ = training.train_step(state, training.feed(training.batches(step)))
    return training.fetch(state)


def test_steps_do_not_depend_on_the_number_of_devices():
    """Latent points, dropout and BatchNorm are those of the global batch."""
    one, two = take_steps('parallel.devices=1'), take_steps('parallel.devices=2')
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), one.params, two.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), one.batch_stats, two.batch_stats)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run."""
    workdir = tmp_path_factory.mktemp('gan') / 'run'
    assert train(gan_config('parallel.devices=1'), workdir) == 0
    return workdir


def test_a_run_that_is_gone_on_with_ends_in_the_same_bits(run, tmp_path):
    assert 'ema/params/generator/image/kernel' in going_on.check_the_same_bits(run, gan_config, tmp_path / 'run')


def test_a_run_shows_samples_over_time(run, call_launch, tmp_path):
    for name in ('samples.png', 'latent_walk.png'):
        assert (run / name).stat().st_size > 1000
    with Image.open(run / 'samples_over_time.gif') as picture:
        assert picture.n_frames == 2 and picture.size == (160, 160)
    metrics = json.loads((run / 'result.json').read_text())['metrics']
    assert metrics['test/loss'] == pytest.approx(metrics['test/discriminator_loss'] + metrics['test/generator_loss'])
    assert call_launch('report', '--workdir', run, '--output', tmp_path / 'report.html').code == 0
    assert 'data:image/gif' in (tmp_path / 'report.html').read_text()


def test_a_digit_is_judged(run):
    loaded = Run(run, 'last')
    row, = loaded.predict(np.zeros((8, 8), np.uint8))
    assert 0 < row['real'] < 1 and '%' in loaded.task.describe(row)


# The distance


def test_the_distance_is_scipys_formula():
    random = np.random.default_rng(0)
    means, roots = random.normal(size=(2, 6)), random.normal(size=(2, 6, 6))
    one, two = (root @ root.T for root in roots)
    wanted = ((means[0] - means[1]) ** 2).sum() + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert frechet.distance(means[0], one, means[1], two) == pytest.approx(wanted, rel=1e-9)
    assert frechet.distance(means[0], one, means[0], one) == pytest.approx(0, abs=1e-9)
    flat = np.diag([1.0, 4, 0, 0, 0, 0])  # features that are never on: no covariance of full rank
    assert frechet.distance(means[0], flat, means[0], 0 * flat) == pytest.approx(5)


def test_moments_and_shares():
    mean, covariance = frechet.moments(np.array([[0.0, 1], [2, 1], [4, 4]]))
    np.testing.assert_allclose(mean, [2, 2])
    np.testing.assert_allclose(covariance, [[4, 3], [3, 3]])
    assert frechet.describe(np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0, 0.7, 0.3]])) == '0.733 | 66.7 33.3 0.0'


def test_the_distance_of_a_run(run, trained_run, capsys, monkeypatch):
    def call(*arguments):
        monkeypatch.setattr('sys.argv', ['frechet.py', *map(str, arguments)])
        frechet.main()
    call(run, '--classifier', trained_run)
    training, found = capsys.readouterr().out.splitlines()[-2:]
    distances = [float(line.split('|')[2]) for line in (training, found)]
    assert 0 < distances[0] < distances[1] and found.split('|')[1].strip() == 'run'
    with pytest.raises(SystemExit, match='--endpoint dense9.*did you mean dense1'):
        call(run, '--classifier', trained_run, '--endpoint', 'dense9')
    with pytest.raises(SystemExit, match='generates no images from latent points'):
        call(trained_run, '--classifier', trained_run)


# Mistakes


@pytest.mark.parametrize('fields, match', [
    ({'smoothing': 1}, 'config.task.smoothing = 1'),
    ({'smoothing': True}, 'config.task.smoothing = True'),
    ({'noise': 0.5}, 'config.task.noise: adversarial has no such field'),
])
def test_a_field_that_does_not_fit_is_named(fields, match):
    with pytest.raises(UserError, match=match) as error:
        tasks.build({'name': 'adversarial', **fields}, DatasetInfo())
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('overrides, match', [
    (('model.latent=0',), 'config.model.latent = 0'),
    (('model.image_shape=(9, 8, 1)',), r'config.model.image_shape = \(9, 8, 1\)'),
    (('image.std=(0.5,)',), r'config.image.mean.*adversarial is about pixels in \[0, 1\]'),
    (("optimizer.learning_rate_scales=(('critic/.*', 0.5),)",), "config.optimizer.learning_rate_scales.*'critic"),
])
def test_data_and_models_that_do_not_fit_are_one_line(overrides, match):
    with pytest.raises(UserError, match=match) as error:
        components.build_training(gan_config('parallel.devices=1', *overrides)).initial_state()
    assert '\n' not in str(error.value)


def test_a_model_that_is_no_gan_is_one_line(players):
    with pytest.raises(UserError, match="config.model.name = 'gan' or 'dcgan'"):
        players[1].score(np.zeros(3), {})
    assert machine_config().task.name == 'contrastive_divergence'
