"""Reconstruction and variational autoencoding: figures against numpy, and what a run leaves behind."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.inference.run import Run
from practicum.tasks.classification_metrics import roc_auc
from practicum.tasks.variational import kl_from_standard_normal
from practicum.training import components, evaluation
from practicum.training.loop import train
from practicum.training.state import evaluated_variables
from tests.tiny_reconstruction import reconstruction_config, variational_config

INFO = DatasetInfo(class_names=('cat', 'dog', 'cow'))
SHAPE = (3, 4, 1)


def task(name: str = 'reconstruction', **fields):
    return tasks.build({'name': name, **fields}, INFO)


@pytest.fixture(scope='module')
def batch():
    """Logits, images and keys of five examples."""
    random = np.random.default_rng(0)
    return (np.float32(random.normal(size=(5, *SHAPE))),
            {'image': np.float32(random.random((5, *SHAPE))), 'rng': jax.random.split(jax.random.key(0), 5)})


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def cross_entropy(logits, target):
    found = sigmoid(logits)
    return -(target * np.log(found) + (1 - target) * np.log1p(-found)).sum((1, 2, 3))


# Figures


def test_errors_are_those_of_the_pixels(batch):
    logits, features = batch
    squared = ((sigmoid(logits) - features['image']) ** 2).sum((1, 2, 3))
    scores = task().score(logits, features)
    np.testing.assert_allclose(scores['loss'], squared, rtol=1e-5)
    np.testing.assert_allclose(scores['squared_error'], squared, rtol=1e-5)
    np.testing.assert_allclose(scores['psnr'], 10 * np.log10(1 / (squared / 12)), rtol=1e-5)
    scores = task(loss='cross_entropy').score({'logits': logits}, features)
    np.testing.assert_allclose(scores['loss'], cross_entropy(logits, features['image']), rtol=1e-5)
    np.testing.assert_allclose(scores['squared_error'], squared, rtol=1e-5)
    perfect = task().score(np.full((1, *SHAPE), 99.0), {'image': np.ones((1, *SHAPE), np.float32)})
    assert perfect['psnr'] == pytest.approx(100)  # not infinite, which no mean survives


def test_noise_is_on_what_the_model_sees_and_not_on_what_it_is_to_give_back(batch):
    logits, features = batch
    noisy = task(noise=0.5)
    given, = noisy.inputs(features)
    expected = np.stack([image + 0.5 * np.asarray(jax.random.normal(key, SHAPE))
                         for image, key in zip(features['image'], features['rng'])]).clip(0, 1)
    np.testing.assert_allclose(given, expected, atol=1e-6)
    scores = noisy.score(logits, features)
    np.testing.assert_allclose(scores['loss'], task().score(logits, features)['loss'])
    error = ((expected - features['image']) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(scores['psnr_before'], -10 * np.log10(error), rtol=1e-4)
    np.testing.assert_array_equal(noisy.inputs({'image': features['image']})[0], features['image'])  # predict's


def test_the_bound_is_cross_entropy_and_divergence(batch):
    logits, features = batch
    mean, log_variance = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    outputs = {'logits': logits, 'mean': mean, 'log_variance': log_variance}
    scores = task('variational').score(outputs, features)
    np.testing.assert_allclose(scores['reconstruction_nats'], cross_entropy(logits, features['image']), rtol=1e-5)
    np.testing.assert_allclose(scores['loss'], scores['reconstruction_nats'] + scores['kl_nats'], rtol=1e-6)


def test_the_divergence_is_the_mean_log_ratio_of_draws():
    random = np.random.default_rng(0)
    mean, log_variance = random.normal(size=(2, 4, 3)) * np.array([1, 0.5])[:, None, None]
    std = np.exp(log_variance / 2)
    codes = mean + std * random.normal(size=(200_000, 4, 3))
    log_ratio = (codes ** 2 - ((codes - mean) / std) ** 2).sum(-1) / 2 - np.log(std).sum(-1)
    np.testing.assert_allclose(kl_from_standard_normal(mean, log_variance), log_ratio.mean(0), atol=0.03)
    assert float(kl_from_standard_normal(jnp.zeros(3), jnp.zeros(3))) == 0


def test_binary_pixels_are_drawn_with_the_grey_value_as_probability(batch):
    _, features = batch
    many = {'image': jnp.repeat(features['image'][:1], 3000, 0), 'rng': jax.random.split(jax.random.key(1), 3000)}
    binary = task('variational', binary=True)
    given, keys = binary.inputs(many)
    assert set(np.unique(given)) == {0, 1}
    np.testing.assert_allclose(given.mean(0), features['image'][0], atol=0.04)
    np.testing.assert_array_equal(binary.target({}, many), given)  # what is drawn is what is to be given back
    assert not (jax.random.key_data(keys) == jax.random.key_data(many['rng'])).all(axis=1).any()


@pytest.mark.parametrize('variational', [False, True])
def test_evaluations_depend_on_no_devices_and_no_padding(variational):
    """Noise and codes are those of the example: 180 digits, one at a time or in batches that do not divide them."""
    make = functools.partial(variational_config if variational else reconstruction_config, 'data.merge_classes=()')
    found, others = [], () if variational else ('task.anomaly=()',)
    for devices, size in ((1, 180), (4, 28)):
        config = make(*others, f'parallel.devices={devices}', f'evaluation.batch_size={size}')
        training = components.build_training(config)
        sets = evaluation.Evaluations(config, training.parallel, training.task, training.info, ('validation',))
        variables = training.parallel.place(evaluated_variables(training.initial_state().variables))
        found.append(evaluation.evaluate(sets, 'validation', variables))
    assert found[0].metrics == pytest.approx(found[1].metrics, rel=1e-5)
    assert [row['squared_error'] for row in found[0].examples] == pytest.approx(
        [row['squared_error'] for row in found[1].examples], rel=1e-4)
    assert found[0].metrics['squared_error'] == pytest.approx(
        np.mean([row['squared_error'] for row in found[0].examples]), rel=1e-5)


def examples_of(errors: np.ndarray, labels: np.ndarray, scorer) -> list[dict]:
    pixels = np.zeros((len(errors), 2, 70, 9, 1), np.uint8)
    return [scorer.measure({'squared_error': error, 'psnr': 1.0, 'given': pair[0], 'reconstruction': pair[1]},
                           {'label': label}, {}) for error, label, pair in zip(errors, labels, pixels)]


def test_anomalies_are_ranked_by_their_error():
    random = np.random.default_rng(0)
    errors, labels = random.random(40), random.integers(0, 3, 40)
    scorer = task(anomaly=('cow', 'dog')).per_example
    rows = examples_of(errors, labels, scorer)
    found = scorer.summarize(rows)
    assert found['auc'] == roc_auc(errors, labels > 0) and scorer.metrics == ('auc',)
    assert found['extremes'].shape == (4, 10, 2, 35, 5, 1)  # large images as small ones
    usual, anomalous = np.sort(errors[labels == 0]), np.sort(errors[labels > 0])
    for kind, expected in zip(found['extreme_errors'], (usual, usual[::-1], anomalous, anomalous[::-1])):
        np.testing.assert_array_equal(kind, expected[:10])
    assert json.dumps(scorer.listed(rows[0])) and scorer.listed(rows[0])['class'] == INFO.class_names[labels[0]]
    assert scorer.summarize([row for row in rows if row['anomalous']]) == {}  # nothing to be told from


# A run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run with noise, whose test set has a digit that training has not."""
    workdir = tmp_path_factory.mktemp('reconstruction')
    assert train(reconstruction_config('parallel.devices=1'), workdir) == 0
    return workdir


def test_a_run_shows_pairs_and_anomalies(run):
    metrics = json.loads((run / 'result.json').read_text())['metrics']
    assert {'test/squared_error', 'test/psnr', 'test/psnr_before', 'test/auc'} <= set(metrics)
    assert 'validation/auc' not in metrics  # nothing is left out there
    for name in ('test_reconstructions', 'test_worst_examples', 'test_anomalies', 'test_error_distribution'):
        assert (run / f'{name}.png').stat().st_size > 1000
    rows = json.loads((run / 'test_examples.json').read_text())['examples']
    assert {row['class'] for row in rows} == {'known', 'unknown'} and 'pair' not in rows[0]
    errors, unknown = np.array([(row['squared_error'], row['anomalous']) for row in rows]).T
    assert metrics['test/auc'] == pytest.approx(roc_auc(errors, unknown > 0))


def test_predict_writes_reconstructions_and_tells_the_error_without_noise(run, call_launch, digit_files, tmp_path):
    done = call_launch('predict', digit_files / '3.png', '--workdir', run, '--output', tmp_path, '--format', 'json')
    assert done.code == 0, done.err
    row, = json.loads(done.out)
    image = np.asarray(Image.open(digit_files / '3.png'), np.float32).reshape(8, 8) / 255
    written = np.asarray(Image.open(tmp_path / '3-reconstruction.png'), np.float32) / 255
    assert written.shape == (8, 8) and row['files'] == [str(tmp_path / '3-reconstruction.png')]
    assert row['squared_error'] == pytest.approx(((written - image) ** 2).sum(), abs=0.05)
    loaded = Run(run)
    again, = loaded.predict(digit_files / '3.png')
    assert again['squared_error'] == row['squared_error'] and again['arrays']['3-reconstruction'.split('-')[1]].any()
    assert 'PSNR' in loaded.task.describe(row) and set(loaded.task.flatten(row)) == {'squared_error', 'psnr'}


def test_the_code_is_what_images_are_searched_by(run, call_launch, digit_files, tmp_path):
    done = call_launch('embed', digit_files, '--workdir', run, '--output', tmp_path / 'index.npz')
    assert done.code == 0, done.err
    with np.load(tmp_path / 'index.npz') as index:
        assert any(values.shape == (8, 4) for values in index.values())


def test_a_variational_run_shows_samples_and_the_plane_of_codes(tmp_path):
    assert train(variational_config('parallel.devices=1', 'total=6 steps', 'task.per_example=False'), tmp_path) == 0
    metrics = json.loads((tmp_path / 'result.json').read_text())['metrics']
    assert metrics['test/loss'] == pytest.approx(metrics['test/reconstruction_nats'] + metrics['test/kl_nats'])
    for name in ('samples', 'latent_walk'):
        assert (tmp_path / f'{name}.png').stat().st_size > 1000


# Mistakes


@pytest.mark.parametrize('name, fields, match', [
    ('reconstruction', {'loss': 'squared'}, 'config.task.loss.*did you mean squared_error'),
    ('reconstruction', {'noise': -1}, 'config.task.noise = -1'),
    ('reconstruction', {'noise': 'much'}, "config.task.noise = 'much'"),
    ('reconstruction', {'anomaly': ('cat', 'cew')}, 'config.task.anomaly.*did you mean cow'),
    ('reconstruction', {'anomaly': 'cat', 'per_example': False}, 'config.task.anomaly needs config.task.per_example'),
    ('variational', {'binary': 1}, 'config.task.binary = 1'),
    ('variational', {'noise': 0.5}, 'config.task.noise: variational has no such field'),
])
def test_a_field_that_does_not_fit_is_named(name, fields, match):
    with pytest.raises(UserError, match=match) as error:
        task(name, **fields)
    assert '\n' not in str(error.value)


def test_outputs_that_do_not_fit_are_one_line(batch):
    logits, features = batch
    for asked, outputs, match in ((task(), logits[:, 1:], 'another config.model'),
                                  (task('variational'), logits, "config.model.name = 'vae'")):
        with pytest.raises(UserError, match=match) as error:
            asked.score(outputs, features)
        assert '\n' not in str(error.value)
    with pytest.raises(UserError, match='config.cached_features: the model is to give back the images'):
        task().score(logits, {'features': logits})


def test_normalised_images_are_refused():
    """Squared errors and PSNR would be of another scale, and nobody would notice."""
    with pytest.raises(UserError, match=r'config.image.mean.*reconstruction is about pixels in \[0, 1\]') as error:
        components.build_training(reconstruction_config('image.mean=(0.5,)'))
    assert '\n' not in str(error.value)
