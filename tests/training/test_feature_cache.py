"""A head trained on cached features is the head trained behind the frozen body."""

import json

import numpy as np
import pytest

from practicum.commands.evaluate import evaluate
from practicum.common.errors import UserError
from practicum.training import checkpoints, components, evaluation, feature_cache, preemption
from practicum.training.loop import train
from tests.tiny import tiny_config


def config_of(*overrides: str):
    """tests/tiny.py with a small CNN whose convolutions are frozen, and without augmentation.

    Without BatchNorm and dropout the body does the same in training as in inference.
    """
    config = tiny_config('augment.shift=0.0', "optimizer.freeze=('conv.*',)", *overrides)
    with config.unlocked():
        config.model = {'name': 'small_cnn', 'features': (4, 6), 'hidden': 16, 'block_dropout': (0.0, 0.0),
                        'dropout': 0.2, 'batch_norm': False}
    return config


def cached(*overrides: str):
    return config_of('cached_features.endpoint=flat', *overrides)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The workdir of a finished run on cached features."""
    workdir = tmp_path_factory.mktemp('cached') / 'run'
    assert train(cached(), workdir) == 0
    return workdir


def arrays(workdir, step='last'):
    return checkpoints.read(workdir, step).arrays


def test_equals_training_behind_the_frozen_body(run, tmp_path):
    assert train(config_of(), tmp_path / 'whole') == 0
    ours, theirs = arrays(run), arrays(tmp_path / 'whole')
    assert set(ours) == set(theirs) and any('conv1' in path for path in ours)
    for path, values in ours.items():
        np.testing.assert_allclose(values, theirs[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_the_checkpoint_scores_whole_as_it_did_on_features(run):
    before = json.loads((run / 'result.json').read_text())['metrics']
    assert evaluate(run, step='last', names=('test',)) == 0
    after = json.loads((run / 'evaluation.json').read_text())['metrics']
    assert after['test/accuracy'] == before['test/accuracy']
    assert after['test/loss'] == pytest.approx(before['test/loss'], rel=1e-5)


@pytest.mark.thorough
def test_resumes_bit_by_bit_with_mirrored_views(tmp_path):
    flip = 'cached_features.flip=True'
    assert train(cached(flip), tmp_path / 'straight') == 0
    assert train(cached(flip, 'total=4 steps'), tmp_path / 'resumed') == 0
    assert train(cached(flip), tmp_path / 'resumed') == 0
    for path, values in arrays(tmp_path / 'straight').items():
        np.testing.assert_array_equal(values, arrays(tmp_path / 'resumed')[path], err_msg=path)


def test_features_are_drawn_as_their_images_would_be():
    """In the same order, also where config.data.sampling is not 'uniform'."""
    config = cached('data.sampling=balanced')
    training = components.build_training(config)
    found = evaluation.Evaluations(config, training.parallel, training.task, training.info, ('validation',))
    expected = [training.batches(step)['label'] for step in range(4)]
    feature_cache.install(training, found, training.place(training.initial_state()))
    batches = [training.batches(step) for step in range(4)]
    assert 'image' not in batches[0]
    np.testing.assert_array_equal([batch['label'] for batch in batches], expected)


def test_mirrored_images_are_learned_from(run, tmp_path):
    assert train(cached('cached_features.flip=True'), tmp_path / 'run') == 0
    assert not np.array_equal(arrays(run)['params/hidden/kernel'], arrays(tmp_path / 'run')['params/hidden/kernel'])


def test_does_not_depend_on_devices_and_batches_of_the_body(run, tmp_path):
    assert train(cached('parallel.devices=1', 'cached_features.batch_size=7'), tmp_path / 'run') == 0
    for path, values in arrays(run).items():
        np.testing.assert_allclose(values, arrays(tmp_path / 'run')[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_features_are_computed_once_and_damage_to_them_is_noticed(tmp_path, monkeypatch):
    """Another head finds them again, another image size does not, and a flipped bit is no feature."""
    cache = tmp_path / 'cache'
    monkeypatch.setenv('PRACTICUM_CACHE', str(cache))

    def files(name, *overrides):
        assert train(cached('total=1 steps', *overrides), tmp_path / name) == 0
        return {path.name: path.stat().st_ino for path in (cache / 'features').iterdir()}
    first = files('first')
    assert len(first) == 3  # training, validation, test
    assert files('head', 'model.dropout=0.5', 'batch_size=8') == first
    assert len(files('size', 'image.size=(12, 12)')) == 6

    damaged = cache / 'features' / next(iter(first))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert files('again')[damaged.name] != first[damaged.name]


def test_any_damage_to_cached_features_is_found_and_said(tmp_path, caplog):
    features = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    file = tmp_path / 'features'
    with file.open('wb') as opened:
        feature_cache._write(opened, features)
    whole = file.read_bytes()
    np.testing.assert_array_equal(feature_cache._read(file, 4, 'features of test'), features)
    assert feature_cache._read(tmp_path / 'missing', 4, 'features of test') is None and not caplog.records
    flipped = [whole[:i // 8] + bytes([whole[i // 8] ^ 1 << i % 8]) + whole[i // 8 + 1:] for i in range(8 * len(whole))]
    for content in (*flipped, b'', whole[:10], whole[:-1], whole + b'more', bytes(100), b'[' * 900 + b'\n'):
        file.write_bytes(content)
        caplog.clear()
        found = feature_cache._read(file, 4, 'features of test')
        if found is None:
            assert [record.getMessage() for record in caplog.records] == [
                'the features of test in the cache are damaged: they are computed again']
        else:  # a space in the header has become another one
            np.testing.assert_array_equal(found, features)


def test_a_run_that_is_stopped_while_features_are_computed_keeps_the_sets_that_are_done(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    polls = 0

    def stop(self) -> bool:
        nonlocal polls
        polls += 1
        return polls > 20  # batches of the training images
    with monkeypatch.context() as patch:
        patch.setattr(preemption.StopRequest, '__call__', stop)
        assert train(cached('total=1 steps'), tmp_path / 'run') == 143
    file, = (tmp_path / 'cache' / 'features').iterdir()
    before = file.stat().st_ino
    assert train(cached('total=1 steps'), tmp_path / 'run') == 0
    assert file.stat().st_ino == before and len(list(file.parent.iterdir())) == 3


@pytest.mark.parametrize('overrides, message', [
    (('optimizer.freeze=()',), "conv1/bias.* would learn: set config.optimizer.freeze"),
    (("optimizer.freeze=('conv1.*',)",), 'conv2/bias.* would learn'),
    (('augment.shift=0.1',), 'augmentation would change nothing'),
    (('cached_features.endpoint=flatt',), "no endpoint 'flatt'; did you mean flat"),
    (('evaluation.tta=flip',), 'launch.py evaluate --tta flip'),
])
def test_what_cannot_be_cached(overrides, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(cached(*overrides), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_model_without_endpoints(tmp_path):
    config = tiny_config('augment.shift=0.0', 'cached_features.endpoint=pool5')
    with pytest.raises(UserError, match='MLP has no endpoints'):
        train(config, tmp_path / 'run')
