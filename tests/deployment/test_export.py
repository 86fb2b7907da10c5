"""Exported models say what the run says, of batches of any size, with or without this project."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import practicum
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.deployment import loader
from practicum.deployment.export import Function, export_run
from practicum.deployment.runtime import Model
from tests.untrained import WORDS, of_texts, untrained

BODY = {'name': 'small_cnn', 'features': (4,), 'block_dropout': (0.0,)}
CAPTIONS = {'caption_length': 4, 'tokens_per_example': 5.0}
TABLE = np.zeros((2, 5), np.float32)
RUNS = {
    'lenet': dict(model={'name': 'lenet', 'padding': 'SAME'}, size=(8, 8), channels=1),
    'mlp': dict(model={'name': 'mlp', 'hidden': (4,)}, size=(4, 4)),
    'table': dict(model={'name': 'mlp', 'hidden': (4,)}, info=DatasetInfo(('x', 'label'), ('a', 'b')),
                  arrays={'x': TABLE}),
    'small_cnn': dict(model=dict(BODY, hidden=4, batch_norm=True)),
    'alexnet': dict(model={'name': 'alexnet', 'hidden': (8,)}, size=(64, 64)),
    'vgg': dict(model={'name': 'vgg', 'depth': 11, 'hidden': (8,)}, size=(32, 32)),
    'googlenet': dict(model={'name': 'googlenet'}, size=(64, 64)),
    'resnet': dict(model={'name': 'resnet', 'depth': 18, 'width': 4}, size=(32, 32)),
    'resnet_cifar': dict(model={'name': 'resnet_cifar', 'depth': 20}, size=(8, 8)),
    'resnet9': dict(model={'name': 'resnet9', 'width': 4}, size=(16, 16)),
    'multi_label': dict(model=BODY, task='multi_label', info=DatasetInfo(('image', 'labels'), ('a', 'b'))),
    'sixteen bits': dict(model=BODY, bits=16),
    'fcn': dict(model={'name': 'fcn', 'features': (2, 2, 2, 2)}, task='segmentation', size=(32, 32)),
    'unet': dict(model={'name': 'unet', 'features': (2, 4)}, task='segmentation'),
    'segmentation_mlp': dict(model={'name': 'segmentation_mlp', 'hidden': 4}, task='segmentation', size=(4, 4)),
    'detector': dict(model={'name': 'detector', 'body': {'name': 'resnet', 'depth': 18, 'width': 4},
                            'endpoint': 'layer2', 'width': 4, 'depth': 1}, task='detection', size=(32, 32)),
    'captioner': dict(model={'name': 'captioner', 'body': BODY, 'endpoint': 'block1', 'hidden': 4, 'embedding': 4},
                      task='captioning', info=of_texts(**CAPTIONS)),
    'attention': dict(model={'name': 'captioner', 'body': BODY, 'endpoint': 'block1', 'hidden': 4, 'embedding': 4,
                             'inject': 'attention'}, task='captioning', info=of_texts(**CAPTIONS)),
    'video': dict(model={'name': 'video_captioner', 'body': BODY, 'endpoint': 'block1', 'hidden': 4, 'embedding': 4},
                  task='captioning', info=of_texts(frames=3, **CAPTIONS), size=(8, 8)),
    'lstm': dict(model={'name': 'lstm', 'hidden': 4, 'embedding': 4}, task='language_model', info=of_texts()),
    'transformer': dict(model={'name': 'transformer', 'width': 4, 'layers': 1, 'heads': 2, 'context': 3},
                        task='language_model', info=of_texts()),
}
QUICK = {'lenet', 'table', 'small_cnn', 'multi_label', 'captioner', 'lstm'}


def rows_of(function: Function, rows: int) -> dict[str, np.ndarray]:
    """The examples, repeated or cut to a number of rows."""
    return {name: values[np.arange(rows) % len(values)] if values.ndim else values
            for name, values in function.examples().items()}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[pytest.mark.thorough] * (name in ('googlenet', 'resnet'))) for name in RUNS])
def test_every_model_is_a_function_of_batches_of_any_size(name, tmp_path):
    assert list(Function.of(untrained(workdir=tmp_path, **RUNS[name])).export('cpu', ())) == ['any']


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough) for name in RUNS])
def test_an_exported_model_says_what_the_run_says(name, tmp_path):
    run = untrained(workdir=tmp_path, **RUNS[name])
    meta = export_run(run, tmp_path / 'model.zip', platforms=['cpu'])
    function, (model, _) = Function.of(run), loader.load(tmp_path / 'model.zip', verify=False)
    inputs = rows_of(function, 3)
    expected = jax.jit(function)(function.weights, inputs)
    found = model(**inputs)
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values, err_msg='not the bits of the run')
        assert list(found[output].shape) == [3, *meta['outputs'][output]['shape'][1:]]
        assert str(found[output].dtype) == meta['outputs'][output]['dtype']


@pytest.fixture(scope='module')
def digits(tmp_path_factory, trained_run):
    """(run, its exported file)."""
    file = tmp_path_factory.mktemp('exported') / 'digits.zip'
    meta = practicum.export(trained_run, file)
    assert meta['step'] == 48 and meta['experiment'] == 'tiny'
    return practicum.load(trained_run), file


def test_predictions_are_those_of_the_run(digits, digit_files):
    run, file = digits
    model = practicum.load_model(file)
    found, expected = model.predict(digit_files, top_k=2), run.predict(digit_files, top_k=2)
    assert [(row['file'], row['classes']) for row in found] == [(row['file'], row['classes']) for row in expected]
    np.testing.assert_allclose([row['percent'] for row in found], [row['percent'] for row in expected], rtol=1e-5)
    pixels = np.stack([run.network().fit(image) for _, image in model._examples(digit_files)])
    whole = model({'image': pixels})['logits']
    for rows in (1, 3, 5):
        np.testing.assert_allclose(model({'image': pixels[:rows]})['logits'], whole[:rows], atol=1e-5)
    assert model({'image': pixels[:0]})['logits'].shape == (0, 10)


def test_large_batches_are_divided(digits, digit_files):
    model = Model(digits[1], largest=4)
    pixels = np.stack([image for _, image in model._examples(digit_files)])[np.arange(11) % 8]
    shapes = []
    inner, model._function = model._function, lambda inputs: shapes.append(len(inputs['image'])) or inner(inputs)
    assert model({'image': pixels})['logits'].shape == (11, 10)
    assert shapes == [4, 4, 4]


ALONE = '''
import sys
from importlib.machinery import PathFinder
class Cut:
    """Nothing but jax, flatbuffers, numpy, safetensors and what these need."""
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('practicum', 'flax', 'optax', 'orbax', 'clu', 'tensorflow', 'PIL', 'launch'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Cut())
import numpy as np
import loader
model, meta = loader.load(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], model(image=images)['logits'])
print(meta['labels'], meta['experiment'])
'''


def test_it_runs_without_this_project(digits, tmp_path):
    run, file = digits
    with zipfile.ZipFile(file) as archive:
        (tmp_path / 'loader.py').write_bytes(archive.read('loader.py'))
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)
    np.save(tmp_path / 'images.npy', images)
    done = subprocess.run([sys.executable, '-c', ALONE, file, tmp_path / 'images.npy', tmp_path / 'logits.npy'],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{list(run.class_names)} {run.config.experiment}\n'
    function = Function.of(run)
    np.testing.assert_array_equal(np.load(tmp_path / 'logits.npy'),
                                  jax.jit(function)(function.weights, {'image': images})['logits'])


def test_every_platform_gets_layers_in_its_own_form(tmp_path):
    run = untrained({'name': 'lenet', 'padding': 'SAME'}, workdir=tmp_path, size=(8, 8), channels=1)
    export_run(run, tmp_path / 'model.zip', platforms=['cpu', 'cuda'])
    with zipfile.ZipFile(tmp_path / 'model.zip') as archive:
        text = {name: jax.export.deserialize(bytearray(archive.read(f'functions/{name}.bin'))).mlir_module()
                for name in ('cpu', 'cuda')}
    assert text['cpu'].count('stablehlo.concatenate') > text['cuda'].count('stablehlo.concatenate')


def test_the_same_run_gives_the_same_file(digits, tmp_path):
    run, file = digits
    export_run(run, tmp_path / 'again.zip')
    with zipfile.ZipFile(file) as first, zipfile.ZipFile(tmp_path / 'again.zip') as second:
        for name in first.namelist():
            if not name.startswith('functions/'):  # they name the lines that they come from
                assert first.read(name) == second.read(name) or name == 'meta.json'


def test_what_was_made_of_a_run_is_listed_in_its_folder(tmp_path):
    run = untrained({'name': 'mlp', 'hidden': (4,)}, workdir=tmp_path, size=(4, 4))
    for _ in range(2):
        export_run(run, tmp_path / 'model.zip', platforms=['cpu'])
    row, = json.loads((tmp_path / 'exports.json').read_text())
    assert row['file'] == str(tmp_path / 'model.zip') and row['bytes'] == (tmp_path / 'model.zip').stat().st_size


def test_a_model_that_cannot_take_any_batch_takes_some(tmp_path, monkeypatch, caplog):
    run = untrained({'name': 'mlp', 'hidden': (4,)}, workdir=tmp_path, size=(4, 4))
    function, inner = Function.of(run), run.network().function
    monkeypatch.setattr(run.network(), 'function', lambda variables, batch: inner(
        variables, {'image': batch['image'] + np.zeros(len(batch['image']), np.uint8)[:, None, None, None]}))
    meta = export_run(run, tmp_path / 'model.zip', platforms=['cpu'])
    assert meta['batch'] == [1, 2, 4, 8, 16, 32, 64]
    assert 'on cpu batches of 1, 2, 4, 8, 16, 32, 64 alone' in caplog.text
    assert export_run(run, tmp_path / 'one.zip', platforms='cpu', sizes=[1])['batch'] == [1]
    images = rows_of(function, 3)['image']
    with pytest.raises(ValueError, match='a batch of 3: .*takes 1, 2, 4'):
        loader.load(tmp_path / 'model.zip')[0](image=images)
    assert Model(tmp_path / 'model.zip')({'image': images})['logits'].shape == (3, 5)


def test_texts_of_an_exported_language_model(tmp_path):
    run = untrained(workdir=tmp_path, **RUNS['lstm'])
    export_run(run, tmp_path / 'model.zip', platforms=['cpu'], length=6)
    model = Model(tmp_path / 'model.zip')
    ids = np.array([model.task.vocabulary.encode('ant bee cat')], np.int32)
    first, again, other = (model({'tokens': ids, 'seed': np.uint32(seed)})['tokens'] for seed in (1, 1, 2))
    assert first.shape == (1, 6) and (first == again).all() and (first != other).any()
    assert set(model.task.vocabulary.decode(first[0].tolist()).split()) <= {*WORDS}
    Model(tmp_path / 'model.zip', largest=2).warm_up()  # as a server does
    with pytest.raises(UserError, match='--temperature nan'):
        export_run(run, tmp_path / 'other.zip', platforms=['cpu'], temperature=float('nan'))


def damaged(file: Path, tmp_path: Path, change) -> Path:
    """A copy of a zip whose files went through `change(name, content)`."""
    copy = tmp_path / 'damaged.zip'
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, 'w') as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return copy


@pytest.mark.parametrize('change, said', [
    (lambda name, content: content[:-1] + b'x' if name == 'weights.safetensors' else content, 'weights.safetensors'),
    (lambda name, content: None if name == 'functions/cpu.bin' else content, 'is damaged'),
    (lambda name, content: None if name == 'meta.json' else content, 'is not an exported model'),
    (lambda name, content: b'[]' if name == 'meta.json' else content, 'is not an exported model'),
    (lambda name, content: content.replace(b'"version": 1', b'"version": 2') if name == 'meta.json' else content,
     'version 2'),
    (lambda name, content: content.replace(b'"cpu"', b'"tpu"') if name == 'meta.json' else content, 'is for tpu, cuda'),
])
def test_a_damaged_file_is_one_line(digits, tmp_path, change, said):
    with pytest.raises(UserError, match=said) as caught:
        Model(damaged(digits[1], tmp_path, change))
    assert '\n' not in str(caught.value)


def test_a_bit_that_is_turned_anywhere_is_one_line(digits, tmp_path):
    content = bytearray(digits[1].read_bytes())
    copy = tmp_path / 'turned.zip'
    for place in np.linspace(100, len(content) - 100, 7).astype(int):
        content[place] ^= 1
        copy.write_bytes(content)
        with pytest.raises(UserError) as caught:
            Model(copy)
        assert '\n' not in str(caught.value) and 'turned.zip' in str(caught.value)
        with pytest.raises(ValueError):
            loader.load(copy)
        content[place] ^= 1


@pytest.mark.parametrize('other', [1, np.nan])
def test_a_model_that_says_other_things_here_is_refused(digits, tmp_path, other):
    import hashlib

    from safetensors.numpy import load, save

    def change(name, content):
        if name == 'examples.safetensors':
            arrays = load(content)
            return save(dict(arrays, **{'outputs/logits': arrays['outputs/logits'] + np.float32(other)}))
        return content
    copy = damaged(digits[1], tmp_path, change)
    with zipfile.ZipFile(copy) as archive:
        digest = hashlib.sha256(archive.read('examples.safetensors')).hexdigest()
        old = json.loads(archive.read('meta.json'))['sha256']['examples.safetensors']
    copy = damaged(copy, tmp_path / 'x' if (tmp_path / 'x').mkdir() is None else tmp_path, lambda name, content: (
        content.replace(old.encode(), digest.encode()) if name == 'meta.json' else content))
    with pytest.raises(UserError, match='says other things here'):
        Model(copy)
    Model(copy, verify=False)


@pytest.mark.parametrize('inputs, said', [
    ({'image': np.zeros((1, 8, 8, 1), np.float32)}, r'takes image as uint8 \[n, 8, 8, 1\], not float32 \[1, 8, 8, 1\]'),
    ({'image': np.zeros((8, 8, 1), np.uint8)}, r'not uint8 \[8, 8, 1\]'),
    ({'picture': np.zeros((1, 8, 8, 1), np.uint8)}, 'takes image, not picture'),
    ({}, 'takes image, not nothing'),
    ({'image': [[0]]}, 'takes image as an array of numpy, not list'),
    (np.zeros((1, 8, 8, 1), np.uint8), 'takes a dict of arrays by name, image'),
])
def test_inputs_that_do_not_fit(digits, inputs, said):
    with pytest.raises(UserError, match=said):
        Model(digits[1])(inputs)


@pytest.mark.parametrize('arguments, said', [
    (['--output', 'model.tar'], 'an exported model is a .zip'),
    (['--output', 'model.zip', '--platforms', 'gpu'], '--platforms gpu: did you mean tpu'),
    (['--output', 'model.zip', '--batches', '0'], '--batches 0: sizes are whole numbers from 1 on'),
    (['--output', 'model.zip', '--config.model.hidden=(3,)'], 'config.model.hidden=.*fields of the task'),
    (['--output', 'model.zip', '--config.task.beam=3'], 'config.task.beam'),
    (['--output', 'model.zip', '--length', '5'], '--length is for language models; .* is classification'),
])
def test_mistakes_are_one_line(trained_run, call_launch, tmp_path, arguments, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import re
    result = call_launch('export', '--workdir', trained_run, *arguments)
    assert result.code == 2 and re.search(said, result.err) and result.err.count('\n') == 1
    assert list(tmp_path.iterdir()) == []
