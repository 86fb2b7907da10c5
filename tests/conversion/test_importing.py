"""Imported weights compute what they computed where they come from, and are an ordinary checkpoint here."""

import hashlib
import json

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from practicum import models
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.conversion import importing
from practicum.training import checkpoints
from practicum.training import config as config_lib
from tests import tiny_network, torch_files


@pytest.fixture(autouse=True)
def tiny_net(monkeypatch):
    monkeypatch.setitem(models.MODELS, 'tiny_net', tiny_network.TinyNet)


def write(path, arrays):
    writers = {'.pth': torch_files.write_state_dict, '.safetensors': lambda path, arrays: save_file(arrays, path),
               '.npz': lambda path, arrays: np.savez(path, **arrays)}
    writers[path.suffix](path, arrays)
    return path


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.npz'])
def test_an_imported_network_computes_what_it_did_in_torch(suffix, tmp_path):
    arrays = tiny_network.state_dict()
    weights = write(tmp_path / f'tiny{suffix}', arrays)
    assert importing.import_weights('torchvision', 'tiny_net', weights, tmp_path / 'out') == 0
    checkpoint = checkpoints.read(tmp_path / 'out', 'best')
    assert checkpoint.step == 0 and checkpoint.meta['data'] == {'class_names': ['class 0', 'class 1', 'class 2']}
    config = config_lib.from_dict(checkpoint.meta['config'])
    assert config.experiment == 'imported:tiny_net' and config.model.to_dict() == {'name': 'tiny_net'}
    assert tuple(config.image.size) == (224, 224) and config.image.channels == 3
    assert tuple(config.image.mean) == (0.485, 0.456, 0.406) and tuple(config.image.std) == (0.229, 0.224, 0.225)
    images = np.random.default_rng(1).standard_normal((2, 4, 6, 3)).astype(np.float32)
    found = models.build(config.model, num_classes=3).apply(checkpoint.variables, images)
    np.testing.assert_allclose(found, tiny_network.logits(arrays, images), rtol=1e-4, atol=1e-4)
    assert all(array.dtype == np.float32 for array in checkpoint.arrays.values())
    facts = json.loads((tmp_path / 'out' / 'import.json').read_text())
    assert facts == {'source': 'torchvision', 'arch': 'tiny_net', 'file': weights.name, 'mapped': 9, 'missing': 0,
                     'unused': 0, 'sha256': hashlib.sha256(weights.read_bytes()).hexdigest()}


def test_own_paths_are_taken_as_they_are(tmp_path):
    first = write(tmp_path / 'tiny.pth', tiny_network.state_dict())
    importing.import_weights('torchvision', 'tiny_net', first, tmp_path / 'out')
    arrays = checkpoints.read(tmp_path / 'out', 'last').arrays
    importing.import_weights('torchvision', 'tiny_net', write(tmp_path / 'ours.npz', arrays), tmp_path / 'again')
    again = checkpoints.read(tmp_path / 'again', 'last').arrays
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, strict=True)


def test_half_precision_becomes_float32(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in tiny_network.state_dict().items()}
    importing.import_weights('torchvision', 'tiny_net', write(tmp_path / 'tiny.pth', arrays), tmp_path / 'out')
    bias = checkpoints.read(tmp_path / 'out', 'last').arrays['params/logits/bias']
    np.testing.assert_array_equal(bias, arrays['fc2.bias'].astype(np.float32), strict=True)


def test_lpips_has_no_head_and_a_new_one_fits_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, 'LPIPS_ARCHITECTURES', ('tiny_net',))
    monkeypatch.setattr(importing, '_fields', lambda source, arch: {'name': 'small_head'})
    monkeypatch.setitem(models.MODELS, 'small_head', SmallHead)
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 5)).astype(np.float32)
    weights = write(tmp_path / 'l.npz', {'Tiny_0/Conv_0/kernel': kernel, 'Linear_0/Conv_0/kernel': kernel[0, 0]})
    importing.import_weights('lpips', 'tiny_net', weights, tmp_path / 'out')
    checkpoint = checkpoints.read(tmp_path / 'out', 'last')
    assert list(checkpoint.arrays) == ['params/block0_conv/kernel'] and checkpoint.meta['data'] == {'class_names': []}
    np.testing.assert_array_equal(checkpoint.arrays['params/block0_conv/kernel'], kernel, strict=True)
    facts = json.loads((tmp_path / 'out' / 'import.json').read_text())
    assert (facts['mapped'], facts['missing'], facts['unused']) == (1, 2, 1)


class SmallHead(tiny_network.TinyNet):
    """A convolution and a head on its mean over pixels."""

    @importing.models.nn.compact
    def __call__(self, images, *, train=False):
        nn = importing.models.nn
        x = nn.Conv(5, (3, 3), use_bias=False, name='block0_conv')(images).mean(axis=(1, 2))
        return nn.Dense(self.num_classes, name='logits')(x)

    def flattened_inputs(self):
        return {}


def test_class_names_come_from_a_file(tmp_path, call_launch):
    weights = write(tmp_path / 'tiny.safetensors', tiny_network.state_dict())
    (tmp_path / 'names.txt').write_text('cat\ndog\nbig bird\n')
    (tmp_path / 'names.json').write_text('["cat", "dog", "big bird"]')
    (tmp_path / 'index.json').write_text('{"0": ["n1", "cat"], "2": ["n3", "big bird"], "1": ["n2", "dog"]}')
    for index, names in enumerate(('names.txt', 'names.json', 'index.json')):
        result = call_launch('import', '--from', 'torchvision', '--arch', 'tiny_net', '--weights', weights, '--output',
                             tmp_path / str(index), '--class_names', tmp_path / names, '--size', 8, 12, '--mean', 0, 0,
                             0, '--std', 1, 1, 1)
        assert result.code == 0, result.err
        assert '9 mapped, 0 missing, 0 unused' in result.out
        assert checkpoints.read(tmp_path / str(index), 'last').meta['data']['class_names'] == ['cat', 'dog', 'big bird']
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)).save(tmp_path / 'a.png')
    result = call_launch('predict', '--workdir', tmp_path / '0', tmp_path / 'a.png', '--format', 'json')
    assert result.code == 0, result.err
    assert {*json.loads(result.out)[0]['classes']} == {'cat', 'dog', 'big bird'}


def test_what_means_nothing_here_is_named_and_unused(tmp_path, caplog):
    caplog.set_level('INFO')
    extra = {f'aux1.layer{index}.weight': np.ones(1, np.float32) for index in range(30)}
    weights = write(tmp_path / 'tiny.pth', tiny_network.state_dict() | extra)
    importing.import_weights('torchvision', 'tiny_net', weights, tmp_path / 'out')
    assert caplog.text.count('unused  aux1.layer') == 20 and '... and 10 more unused' in caplog.text
    assert '9 mapped, 0 missing, 30 unused' in caplog.text
    assert 'num_batches_tracked' not in caplog.text


def resnet_state_dict(depth: int) -> dict[str, np.ndarray]:
    """Zeros with torchvision's names and shapes of a resnet18 or 34."""
    shapes = {'conv1.weight': (64, 3, 7, 7), 'fc.weight': (1000, 512), 'fc.bias': (1000,)}
    norms = {'bn1': 64}
    inputs = 64
    for layer, blocks in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth], start=1):
        width = 32 * 2 ** layer
        for block in range(blocks):
            name = f'layer{layer}.{block}'
            shapes |= {f'{name}.conv1.weight': (width, inputs, 3, 3), f'{name}.conv2.weight': (width, width, 3, 3)}
            norms |= {f'{name}.bn1': width, f'{name}.bn2': width}
            if inputs != width:
                shapes[f'{name}.downsample.0.weight'] = (width, inputs, 1, 1)
                norms[f'{name}.downsample.1'] = width
            inputs = width
    for name, width in norms.items():
        shapes |= {f'{name}.{leaf}': (width,) for leaf in ('weight', 'bias', 'running_mean', 'running_var')}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def assign(arrays, arch):
    return importing.assign(arrays, arch, importing.architectures()[arch], (224, 224))


@pytest.mark.parametrize('depth, arch', [
    pytest.param(18, 'resnet34', marks=pytest.mark.thorough), (34, 'resnet18')])
def test_weights_of_another_architecture_name_theirs(depth, arch):
    """resnet18's tensors all have a place in resnet34 and resnet34's first ones in resnet18."""
    with pytest.raises(UserError, match=f'not the weights of {arch}: .*look like resnet{depth}: --arch resnet{depth}'):
        assign(resnet_state_dict(depth), arch)


def test_resnets_fit_and_their_head_says_the_number_of_classes():
    arrays = resnet_state_dict(18)
    assert assign(arrays, 'resnet18')[1] == 1000
    arrays |= {'fc.weight': np.ones((5, 512)), 'fc.bias': np.zeros(5)}
    found, num_classes, report = assign(arrays, 'resnet18')
    assert num_classes == 5 and found['params/logits/kernel'].shape == (512, 5)
    assert len(report.mapped) == len(arrays) and not report.missing and not report.unused


def test_a_classifier_of_imagenet_from_its_two_files(tmp_path, call_launch):
    """As docs/how-to/import-weights.md says, with made ones: torchvision's names and shapes, and a thousand classes."""
    arrays = resnet_state_dict(18)
    arrays |= {name: np.ones_like(array) for name, array in arrays.items() if name.endswith('running_var')}
    arrays['fc.bias'] = np.linspace(0, 1, 1000, dtype=np.float32)
    arrays['fc.bias'][[207, 281]] = 20, 19
    weights = write(tmp_path / 'resnet18-f37072fd.pth', arrays)
    index = {str(i): [f'n{i:08}', f'class_{i}'] for i in range(1000)} | {'207': ['n02099601', 'golden_retriever']}
    (tmp_path / 'imagenet_class_index.json').write_text(json.dumps(index))
    result = call_launch('import', '--from', 'torchvision', '--arch', 'resnet18', '--weights', weights, '--output',
                         tmp_path / 'out', '--class_names', tmp_path / 'imagenet_class_index.json', '--size', 32, 32)
    assert result.code == 0 and '102 mapped, 0 missing, 0 unused' in result.out, (result.out, result.err)
    Image.new('RGB', (50, 40)).save(tmp_path / 'dog.jpg')
    result = call_launch('predict', '--workdir', tmp_path / 'out', tmp_path / 'dog.jpg', '--format', 'json',
                         '--top_k', 2)
    found = json.loads(result.out)[0]
    assert found['classes'] == ['golden_retriever', 'class_281']
    np.testing.assert_allclose(found['percent'], 100 * np.array([1, np.exp(-1)]) / (1 + np.exp(-1)), rtol=1e-3)


def test_a_flattened_feature_map_has_as_many_elements_as_the_dense_layer_inputs():
    for arch, fields in importing.architectures().items():
        flattened = models.build(fields, num_classes=2).flattened_inputs()
        if not flattened:
            continue
        network = importing._Network(fields, importing.SIZE)
        for path, shape in flattened.items():
            assert network.shapes[f'params/{path}/kernel'][0] == np.prod(shape), (arch, path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise UserError('disk full')
    monkeypatch.setattr(checkpoints.Checkpoints, 'save', fail)
    weights = write(tmp_path / 'tiny.pth', tiny_network.state_dict())
    with pytest.raises(UserError, match='disk full'):
        importing.import_weights('torchvision', 'tiny_net', weights, tmp_path / 'new' / 'folders' / 'out')
    assert [path.name for path in tmp_path.iterdir()] == ['tiny.pth']
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match='disk full'):
        importing.import_weights('torchvision', 'tiny_net', weights, tmp_path / 'out')
    assert (tmp_path / 'out' / 'notes.txt').read_text() == 'mine'
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['notes.txt']  # no lock, no folder
    monkeypatch.undo()
    monkeypatch.setitem(models.MODELS, 'tiny_net', tiny_network.TinyNet)
    importing.import_weights('torchvision', 'tiny_net', weights, tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'notes.txt', 'checkpoints', 'import.json'}


def test_another_run_starts_from_imported_weights(tmp_path):
    from practicum.training.transfer import init_from
    importing.import_weights('torchvision', 'tiny_net', write(tmp_path / 'tiny.pth', tiny_network.state_dict()),
                             tmp_path / 'out')
    model = models.build({'name': 'tiny_net'}, num_classes=10)
    initial = dict(model.init(jax.random.key(0), np.zeros((1, 4, 6, 3), np.float32)), ema={})
    config = config_lib.defaults().init_from
    config.workdir, config.skip = str(tmp_path / 'out'), ('params/logits/.*',)
    found = init_from(config, initial, DatasetInfo())
    np.testing.assert_array_equal(found['params']['hidden']['bias'], tiny_network.state_dict()['fc1.bias'])
    assert found['params']['logits']['kernel'].shape == (7, 10)
