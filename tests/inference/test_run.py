"""A trained run from Python: what `practicum.load` gives, and that it agrees with the command line."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import practicum
from practicum.common.errors import UserError
from practicum.inference.run import Run
from practicum.input_pipeline import images
from tests import tiny_segmentation
from tests.conftest import ROOT


@pytest.fixture(scope='module')
def run(trained_run):
    return practicum.load(trained_run)


@pytest.fixture(scope='module')
def digits(digit_files):
    """uint8 [8, 8, 8, 1]."""
    return np.stack([images.read_image(file, channels=1) for file in sorted(digit_files.iterdir())])


def assert_same(found, expected):
    assert [row['classes'] for row in found] == [row['classes'] for row in expected]
    for a, b in zip(found, expected, strict=True):
        assert a['percent'] == pytest.approx(b['percent'], abs=1e-4)


def test_a_run_knows_where_it_comes_from(run, trained_run):
    assert run.step == 48 and run.config.is_locked and run.config.model.name == 'mlp'
    assert run.class_names == tuple('0123456789') == run.info.class_names
    assert run.metrics['validation/accuracy'] == json.loads((trained_run / 'result.json').read_text())['metrics'][
        'validation/accuracy']
    assert run.chosen == 'step 48 (best)' and '48 (best)' in repr(run) and practicum.load(trained_run, 48).step == 48
    assert practicum.load(trained_run, 'last').chosen == 'step 48 (last)'


def test_variables_are_the_moving_averages_and_fit_the_model(run, digits):
    logits = np.asarray(run.model.apply(run.variables, run.preprocess(digits)))
    best = [run.class_names[row] for row in logits.argmax(axis=1)]
    assert best == [row['classes'][0] for row in run.predict(digits, top_k=1)]
    assert set(run.variables) <= {'params', 'batch_stats'}


def test_arrays_files_and_the_command_line_agree(run, digits, digit_files, call_launch):
    expected = json.loads(call_launch('predict', '--workdir', run.workdir, digit_files, '--format', 'json').out)
    assert run.predict(digit_files) == run.predict(str(digit_files)) == expected
    assert run.predict(sorted(digit_files.iterdir())) == expected
    assert_same(run.predict(digits), expected)
    assert 'file' not in run.predict(digits)[0]


def test_one_or_many_of_any_size_and_type(run, digits):
    expected = run.predict(digits)
    one = digits[3]
    for same in (one, one[..., 0], one[None], [one], (one[..., 0],), np.repeat(one, 3, axis=-1), jnp.asarray(one),
                 Image.fromarray(one[..., 0]), one / 255, (one / 255).astype(np.float32),
                 np.concatenate([np.repeat(one, 3, axis=-1), np.full_like(one, 255)], axis=-1)):
        assert_same(run.predict(same), expected[3:4])
    assert_same(run.predict(list(digits)), expected)
    large = np.kron(one[..., 0], np.ones((5, 3), np.uint8))
    mixed = run.predict([one, large, np.zeros((1, 2, 3), np.uint8)])
    assert len(mixed) == 3
    assert_same(mixed[:1], expected[3:4])
    assert run.predict([]) == [] and run.predict(digits[:0]) == []
    assert len(run.predict(np.zeros((70, 8, 8, 1), np.uint8))) == 70  # more than a batch


def test_preprocessing_is_that_of_training(run, digits):
    prepared = run.preprocess(digits)
    assert prepared.dtype == np.float32 and prepared.shape == (8, 8, 8, 1)
    np.testing.assert_allclose(prepared, digits / 255, atol=1e-6)
    np.testing.assert_array_equal(run.preprocess(digits / 255), prepared)
    assert run.preprocess(np.zeros((30, 20, 3), np.uint8)).shape == (1, 8, 8, 1)
    assert run.preprocess([]).shape == (0, 8, 8, 1)


@pytest.mark.parametrize('inputs, parts', [
    (np.zeros((3, 8, 8), np.uint8), ('[3, 8, 8]', '[height, width, channels]', '[n, height, width, channels]')),
    (np.zeros((2, 3, 8, 8), np.uint8), ('[2, 3, 8, 8]', 'channels last')),
    (np.zeros((8, 8, 2), np.uint8), ('[8, 8, 2]', '1, 3 or 4')),
    (np.zeros(8, np.uint8), ('[8]', '[height, width]')),
    (np.zeros((0, 8), np.uint8), ('[0, 8]',)),
    ([np.zeros((2, 8, 8, 1), np.uint8)], ('[2, 8, 8, 1]', 'for one')),
    (np.full((8, 8), 200.0), ('to 200', 'pixels / 255', 'uint8')),
    (np.full((8, 8), -0.01), ('-0.01', 'pixels / 255')),
    (np.full((8, 8), np.nan), ('nan', 'pixels / 255')),
    (np.zeros((8, 8), np.int64), ('int64', '.astype(numpy.uint8)')),
    (np.zeros((8, 8), bool), ('bool',)),
    ('nothing.png', ('nothing.png', 'no such file')),
    (['a.png', np.zeros((8, 8), np.uint8)], ('<U5',)),
    ([[[1, 2], [3]]], ('not an array',)),
    (None, ('object',)),
], ids=str)
def test_what_could_mean_two_things_is_one_line(run, inputs, parts):
    with pytest.raises(UserError) as info:
        run.predict(inputs)
    assert '\n' not in str(info.value) and all(part in str(info.value) for part in parts), str(info.value)


def test_evaluate_gives_what_the_command_line_writes(run, trained_run, call_launch):
    found = run.evaluate()
    assert set(found) == {'validation', 'test'}
    expected = json.loads((trained_run / 'result.json').read_text())['metrics']
    assert found['test'].metrics['accuracy'] == pytest.approx(expected['test/accuracy'], abs=1e-6)
    flipped = practicum.load(trained_run, overrides=['evaluation.tta=flip']).evaluate('test')
    assert list(flipped) == ['test'] and flipped['test'].scalars() != found['test'].scalars()
    with pytest.raises(UserError, match='tset'):
        run.evaluate(['tset'])
    with pytest.raises(UserError, match='is no language model'):
        run.generate('a')


def test_overrides_that_do_not_fit_are_one_line(trained_run, digits):
    changed = practicum.load(trained_run, overrides=['model.hidden=(32,)'])
    with pytest.raises(UserError, match=r'does not fit: .*\(64, 32\)'):
        changed.predict(digits)
    with pytest.raises(UserError, match='did you mean'):
        practicum.load(trained_run, overrides=['optimizer.lerning_rate=1'])
    with pytest.raises(UserError, match='vocabulary is in the checkpoint'):
        practicum.load(trained_run, overrides=['text.lowercase=True'])


def test_training_and_tables_from_python(tmp_path, capsys):
    config = practicum.config('line', ['batch_size=8', 'tensorboard=False'])
    config.total = '60 steps'
    result = practicum.train(config, tmp_path / 'run', ['optimizer.learning_rate=0.05'])
    assert result['step'] == 60 and result['metrics'] == json.loads((tmp_path / 'run' / 'result.json').read_text())[
        'metrics']
    assert config.optimizer.learning_rate == 0.1  # the caller's own is left alone
    run = practicum.load(tmp_path / 'run')
    assert run.feature == 'x' and run.chosen == 'step 60 (last; no metric ranks a best one)'
    slope, offset = (float(run.variables['params'][name]) for name in ('m', 'b'))
    assert [row['value'] for row in run.predict([0.0, 3, 1])] == pytest.approx([offset, offset + 3 * slope,
                                                                              offset + slope], rel=1e-4)
    with pytest.raises(UserError, match=r'shape \[1, 2\] does not fit: expected \[n\]'):
        run.predict([[1.0, 2.0]])
    with pytest.raises(UserError, match='NaN'):
        run.predict([np.nan])
    with pytest.raises(UserError, match='cannot look at images'):
        run.predict('a.png')
    with pytest.raises(UserError, match='no config file nothing'):
        practicum.train('nothing', tmp_path / 'other')
    config.unlock()
    config.optimzer = 1
    with pytest.raises(UserError, match='config.optimzer; did you mean optimizer'):
        practicum.train(config, tmp_path / 'other')
    assert not (tmp_path / 'other').exists()


def test_masks_come_as_arrays_in_the_images_own_size(tmp_path):
    root = tiny_segmentation.masks_and_images(tmp_path / 'data', count=8)
    practicum.train(tiny_segmentation.__file__, tmp_path / 'run', [f'data.name={root}', 'total=8 steps'])
    large = np.kron(tiny_segmentation.disc(3)[0], np.ones((2, 3), np.uint8))
    row, = practicum.load(tmp_path / 'run').predict(large)
    assert row['arrays']['mask'].shape == (96, 144) and row['arrays']['overlay'].dtype == np.uint8
    assert row['arrays']['mask'].sum() == row['classes']['foreground']['pixels']
    (root / 'classes.txt').write_text('background\ndisc\n')  # other names than the run was trained with
    with pytest.raises(UserError, match=f"'disc', the model was trained with 'foreground' there: .*{root}/classes.txt"):
        practicum.load(tmp_path / 'run').evaluate('test')


def test_only_what_is_written_in_its_own_size_is_kept_in_it(run, digits, monkeypatch):
    """64 photographs of 48 megapixels would take 9 GB."""
    seen = []
    monkeypatch.setattr(type(run.task), 'predict', lambda self, output, image, *rest: seen.append(image.shape))
    examples = ((None, np.zeros((300, 200, 1), np.uint8), {}) for _ in range(3))
    list(run.predictions(run.network(), examples, 1))
    monkeypatch.setattr(type(run.task), 'writes_files', True)
    list(run.predictions(run.network(), [(None, np.zeros((300, 200, 1), np.uint8), {})], 1))
    assert seen == [(8, 8, 1)] * 3 + [(300, 200, 1)]


def test_large_images_in_their_own_size_come_in_smaller_batches(run, monkeypatch):
    monkeypatch.setattr(type(run.task), 'writes_files', True)
    monkeypatch.setattr('practicum.inference.run._OWN_BYTES', 200_000)
    sizes, network = [], run.network()
    outputs = network.outputs
    monkeypatch.setattr(network, 'outputs', lambda batch: sizes.append(len(batch)) or outputs(batch))
    examples = ((number, np.zeros((300, 200, 1), np.uint8), {}) for number in range(10))
    assert [key for key, _ in run.predictions(network, examples, 1)] == list(range(10))
    assert sizes == [4, 4, 2]


def test_importing_practicum_imports_nothing_heavy(trained_run, tmp_path):
    """In a process of its own, from another folder; what is printed is what was asked for."""
    program = f'''
import sys
sys.path.insert(0, {str(ROOT)!r})
import launch
import practicum
assert not {{'jax', 'flax', 'numpy', 'ml_collections', 'absl', 'tensorflow'}} & set(sys.modules), 'heavy'
import numpy as np
run = practicum.load({str(trained_run)!r})
print(len(run.predict(np.zeros((2, 9, 9), np.uint8)[..., None])))
'''
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=tmp_path,
                          env=dict(os.environ), timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, '2\n', '')


def test_videos_are_one_array_more(run):
    from practicum.inference import arrays
    found = arrays.to_images(np.zeros((2, 5, 6, 7, 3), np.uint8), 1, frames=5)
    assert [video.shape for video in found] == [(5, 6, 7, 1)] * 2
    assert len(arrays.to_images(np.zeros((5, 6, 7, 3), np.uint8), 3, frames=5)) == 1
    with pytest.raises(UserError, match=r'\[5, height, width, channels\]'):
        arrays.to_images(np.zeros((4, 6, 7, 3), np.uint8), 3, frames=5)


def test_a_run_of_another_place_is_one_line(tmp_path):
    with pytest.raises(UserError, match='no checkpoints in'):
        Run(tmp_path)


def test_images_of_many_channels_are_taken_as_they_are():
    from practicum.inference import arrays
    found, = arrays.to_images(np.zeros((6, 7, 5), np.uint8), 5)
    assert found.shape == (6, 7, 5)
    with pytest.raises(UserError, match='with 5 channels last'):
        arrays.to_images(np.zeros((6, 7, 3), np.uint8), 5)
