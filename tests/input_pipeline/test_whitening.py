"""ZCA whitening is that of its definition, is learned once, and every use of a run has the same."""

import json

import jax
import numpy as np
import pytest

import practicum
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.deployment import loader
from practicum.input_pipeline import preprocessing, whitening
from practicum.input_pipeline.arrays import ArraySource
from practicum.training import checkpoints
from practicum.training.defaults import base
from practicum.training.loop import train
from tests.tiny import tiny_config


def image_config(**fields):
    config = base().image
    config.update(fields)
    return config


@pytest.fixture(scope='module')
def correlated() -> np.ndarray:
    """Smooth images of uint8 [300, 5, 4, 1], whose neighbouring pixels go together."""
    noise = np.random.default_rng(0).normal(size=(300, 6, 5))
    smooth = noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1] + noise[:, :-1, :-1]
    return np.uint8(np.clip(128 + 25 * smooth, 0, 255))[..., None]


def learned(images: np.ndarray, epsilon: float, **fields) -> tuple[dict, DatasetInfo]:
    image = image_config(size=images.shape[1:3], zca_epsilon=epsilon, **fields)
    plain = preprocessing.build(preprocessing.unwhitened(image))
    found = whitening.learn(ArraySource({'image': images}, DatasetInfo()), epsilon, plain)
    return image, DatasetInfo.from_json(json.loads(json.dumps(DatasetInfo(whitening=found).to_json())))


def test_whitened_images_have_the_identity_as_covariance_and_look_like_themselves(correlated):
    image, info = learned(correlated, 1e-7, mean=(0.5,), std=(0.3,))
    found = np.asarray(preprocessing.build(image, info=info)({'image': correlated}, None)['image']).reshape(300, -1)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(20), atol=2e-3)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    # Of all ways to whiten this one changes least: each pixel goes with itself more than with any other.
    before = correlated.reshape(300, -1).astype(float)
    together = np.corrcoef(before.T, found.T)[:20, 20:]
    assert (together.argmax(0) == np.arange(20)).all()


def test_the_matrix_is_that_of_the_definition(correlated):
    rows = np.float32(correlated.reshape(300, -1) / 255)
    mean, matrix = whitening.fit(rows, 0.01)
    left, variances, _ = np.linalg.svd(np.cov(rows.T.astype(np.float64), bias=True))
    np.testing.assert_allclose(matrix, left @ np.diag((variances + 0.01) ** -0.5) @ left.T, atol=1e-4)
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-6)


def test_images_that_are_standardised_one_by_one(correlated):
    plain = np.float32(correlated[:9] / 255)
    config = image_config(size=(5, 4), samplewise_center=True, samplewise_std=True)
    found = np.asarray(preprocessing.build(config)({'image': correlated[:9]}, None)['image'])
    np.testing.assert_allclose(found.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((1, 2, 3)), 1, atol=1e-4)
    config.samplewise_std = False
    found = np.asarray(preprocessing.build(config)({'image': correlated[:9]}, None)['image'])
    np.testing.assert_allclose(found, plain - plain.mean((1, 2, 3), keepdims=True), atol=1e-6)
    grey = preprocessing.standardised(np.full((1, 5, 4, 1), 0.5, np.float32), True, True)
    assert np.isfinite(grey).all() and not np.any(grey)
    large = np.full((1, 200, 300, 3), 77 / 255, np.float32)  # whose mean is rounded
    for center in (False, True):
        assert not np.any(preprocessing.standardised(large, center, True))
    darker = plain / 1000  # few greys are a contrast all the same
    np.testing.assert_allclose(np.std(preprocessing.standardised(darker, False, True), (1, 2, 3)), 1, atol=1e-4)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('whitened') / 'run'
    config = tiny_config('image.zca_epsilon=0.1')
    assert train(config, workdir) == 0
    return workdir


def test_evaluation_prediction_and_export_use_the_matrix_of_the_checkpoint(run, tmp_path, caplog):
    """Not one learned from what they look at."""
    loaded = practicum.load(run, 'last')
    mean, matrix = whitening.arrays(loaded.info.whitening)
    size, channels = loaded.config.image.size, loaded.config.image.channels
    image = np.random.default_rng(0).integers(0, 256, (1, *size, channels), np.uint8)
    expected = (image.reshape(1, -1) / np.float32(255) - mean) @ matrix
    found = loaded.preprocess(image)
    np.testing.assert_allclose(found.reshape(1, -1), expected, atol=1e-3)
    stored = json.loads((run / 'result.json').read_text())['metrics']['test/loss']
    assert loaded.evaluate(('test',))['test'].metrics['loss'] == pytest.approx(stored, rel=1e-5)
    logits = np.asarray(loaded.model.apply(loaded.variables, found, train=False))
    percent = 100 * np.asarray(jax.nn.softmax(logits))[0]
    assert loaded.predict(image)[0]['percent'][0] == pytest.approx(percent.max(), abs=0.02)
    practicum.export(run, tmp_path / 'exported.zip', 'last', platforms=('cpu',))
    assert 'alone' not in caplog.text  # for batches of any size
    exported, meta = loader.load(tmp_path / 'exported.zip')
    np.testing.assert_allclose(exported(image=image)['logits'], logits, atol=1e-4)
    assert 'whitening' not in meta['data']  # the matrix is in the function
    assert json.dumps(checkpoints.read(run, 'last').meta['data']).count('matrix') == 1
    with pytest.raises(UserError, match='zca_epsilon = 0.2: this run has learned to whiten with 0.1, which cannot'):
        practicum.load(run, 'last', overrides=['image.zca_epsilon=0.2']).evaluate(('test',))


def test_a_run_goes_on_with_its_own_matrix_alone(run):
    config = tiny_config('total=99 steps', 'image.zca_epsilon=0.2')
    with pytest.raises(UserError, match='whitens images as it has learned from others.*take another --workdir'):
        train(config, run)


@pytest.mark.parametrize('fields, words', [
    ({'zca_epsilon': -1.0}, 'zca_epsilon = -1.0: it is added to variances'),
    ({'zca_epsilon': 0.1, 'size': (64, 64)}, 'of 64x64x1 has 4,096 numbers, and the matrix .* 17 million.* 3,072'),
])
def test_what_cannot_be_whitened_is_one_line(fields, words):
    with pytest.raises(UserError, match=words) as error:
        whitening.check(image_config(**fields))
    assert '\n' not in str(error.value)


def test_other_sizes_and_other_examples_are_refused(correlated):
    image, info = learned(correlated, 0.1)
    prepare = preprocessing.build(image, info=info)
    with pytest.raises(UserError, match='whitens images of 5x4x1 alone, not 5x5x1'):
        prepare({'image': np.zeros((1, 5, 5, 1), np.uint8)}, None)
    with pytest.raises(UserError, match='zca_epsilon = 0.1: this run has learned no whitening'):
        preprocessing.build(image, info=DatasetInfo())
    for source in (ArraySource({'x': np.zeros((3, 2))}, DatasetInfo()),
                   ArraySource({'image': np.zeros((3, 2, 5, 4, 1), np.uint8)}, DatasetInfo(frames=2))):
        with pytest.raises(UserError, match='zca_epsilon: .* no single images to whiten'):
            whitening.learn(source, 0.1, None)
