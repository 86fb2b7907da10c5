"""ONNX files of runs: what they say, what they know of themselves, what is refused, and int8."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from PIL import Image

from practicum.common.errors import UserError
from practicum.deployment import onnx_export, onnx_runtime
from practicum.deployment.export import Function
from practicum.deployment.runtime import Model
from practicum.models.activations import ACTIVATIONS
from tests.untrained import MASKS, untrained

WHY = 'ONNX is an optional extra: pip install -r requirements-onnx.txt'
onnx = pytest.importorskip('onnx', reason=WHY)
pytest.importorskip('onnxruntime', reason=WHY)

RUNS = {
    'lenet': lambda: untrained({'name': 'lenet'}, (16, 16), 1),
    'mlp': lambda: untrained({'name': 'mlp', 'hidden': (8,)}, (6, 5), 1),
    # Odd sizes are continued at their edges; blocks of pixels become channels.
    'unet': lambda: untrained({'name': 'unet', 'features': (4, 8), 'stem_stride': 2}, (10, 14), 1, classes=2,
                              task=MASKS),
    'fcn': lambda: untrained({'name': 'fcn', 'features': (4, 4, 6, 6)}, (48, 48), 1, classes=2, task=MASKS),
    'alexnet': lambda: untrained({'name': 'alexnet', 'hidden': (8,)}, (80, 80)),
    'vgg': lambda: untrained({'name': 'vgg', 'depth': 11, 'hidden': (8,), 'global_pool': 'max', 'pool_norm': True},
                             (32, 32)),
    # Max pooling is padded on both sides.
    'resnet': lambda: untrained({'name': 'resnet', 'depth': 18, 'width': 4}, (33, 32), std=(0.2, 0.3, 0.4)),
    'vit': lambda: untrained({'name': 'vit', 'patch': 4, 'width': 8, 'layers': 1, 'heads': 2}, (8, 12)),
    'convnext': lambda: untrained({'name': 'convnext', 'blocks': (1, 1), 'width': 8, 'layer_scale': 1.0}, (8, 16)),
    'resnet_cifar': lambda: untrained({'name': 'resnet_cifar', 'depth': 20}, (8, 8)),
}


def images_in(folder, count=10, size=(18, 16)):
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, size, np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
    return folder


@pytest.fixture(scope='module')
def lenet(tmp_path_factory):
    """(run, its file)."""
    run, file = RUNS['lenet'](), tmp_path_factory.mktemp('onnx') / 'model.onnx'
    onnx_export.export_onnx(run, file)
    return run, file


@pytest.mark.parametrize('name', RUNS)
def test_a_file_says_what_the_run_says_for_batches_of_any_size(name, tmp_path):
    run = RUNS[name]()
    onnx_export.export_onnx(run, tmp_path / 'model.onnx')
    assert [entry.name for entry in tmp_path.iterdir()] == ['model.onnx']  # one file
    function = Function.of(run)
    shape = function.arguments()['image'].shape[1:]
    images = np.random.default_rng(5).integers(0, 256, (5, *shape), np.uint8)
    expected = jax.jit(function.__call__)(function.weights, {'image': images})
    model = Model(tmp_path / 'model.onnx')
    found = model({'image': images})
    assert found.keys() == expected.keys()
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, atol=1e-4 * np.abs(values).max())
    onnx.checker.check_model(onnx.load(tmp_path / 'model.onnx'), full_check=True)


def test_norms_and_activations_are_part_of_convolutions(tmp_path):
    onnx_export.export_onnx(RUNS['resnet'](), tmp_path / 'model.onnx')
    kinds = [node.op_type for node in onnx.load(tmp_path / 'model.onnx').graph.node]
    assert kinds.count('Conv') == 20 and 'Sqrt' not in kinds
    assert kinds.count('Transpose') == 1  # of the images; nothing goes back and forth
    before, after = onnx_runtime.count_operations(tmp_path / 'model.onnx')
    assert before == len(kinds) and after <= before - 9  # at least the ReLUs that follow a convolution


def test_a_file_knows_what_it_is(lenet):
    run, file = lenet
    model = Model(file)
    assert model.meta['labels'] == list(run.class_names) and model.meta['batch'] == 'any' and not model.meta['int8']
    assert model.meta['inputs'] == {
        'image': {'shape': [None, 16, 16, 1], 'least': [1, 16, 16, 1], 'dtype': 'uint8'}}
    assert model.meta['outputs'] == {'logits': {'shape': [None, 5], 'dtype': 'float32'}}
    rows = model.predict(np.zeros((1, 20, 20, 1), np.uint8))
    assert len(rows) == 1 and set(rows[0]['classes']) <= set(run.class_names)


def test_a_file_with_damaged_weights_is_refused(lenet, tmp_path):
    content = bytearray(lenet[1].read_bytes())
    begin = len(content) // 3  # most of a file are weights
    content[begin:begin + 40_000:4] = bytes(0x7f ^ byte for byte in content[begin:begin + 40_000:4])
    (tmp_path / 'model.onnx').write_bytes(content)
    with pytest.raises(UserError, match='says other things here than where it was made|damaged'):
        Model(tmp_path / 'model.onnx')
    content = bytearray(lenet[1].read_bytes())
    content[begin] ^= 1
    (tmp_path / 'turned.onnx').write_bytes(content)
    with pytest.raises(UserError, match='damaged'):
        Model(tmp_path / 'turned.onnx')
    (tmp_path / 'text.onnx').write_text('not a model')
    with pytest.raises(UserError, match='is not an ONNX model'):
        Model(tmp_path / 'text.onnx')
    other = onnx.load(lenet[1])
    del other.metadata_props[:]
    onnx.save(other, tmp_path / 'other.onnx')
    with pytest.raises(UserError, match='not one of our'):
        Model(tmp_path / 'other.onnx')


def test_a_file_that_says_other_things_than_jax_is_not_written(monkeypatch, tmp_path):
    convert = onnx_export.onnx_graph.convert

    def wrong(*args):
        model = convert(*args)
        pool = next(node for node in model.graph.node if node.op_type == 'MaxPool')
        pool.op_type = 'AveragePool'
        return model
    monkeypatch.setattr(onnx_export.onnx_graph, 'convert', wrong)
    with pytest.raises(UserError, match='says other things than the run: logits differs by'):
        onnx_export.export_onnx(RUNS['lenet'](), tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())


def test_what_onnx_cannot_hold_is_refused(tmp_path):
    detector = untrained({'name': 'detector', 'body': {'name': 'resnet', 'depth': 18, 'width': 4}, 'endpoint': 'layer2',
                          'width': 4, 'depth': 1}, (32, 32), classes=2, task={'name': 'detection'})
    with pytest.raises(UserError, match='overlapping boxes .* cannot hold: export a .zip'):
        onnx_export.export_onnx(detector, tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('function', [
    lambda x: jnp.concatenate([x[:, ::2, 1::2], x[:, 1::2, ::2]], -1),
    lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 1))),
    lambda x: x.sum(1) / x.shape[0],
    lambda x: jax.nn.softmax(x.reshape(x.shape[0], -1)),
    lambda x: jnp.einsum('bijc,bikc->bijk', x, x[:, :, 1:4]),
    lambda x: jnp.where(x > 0, x ** 3, jnp.exp(-x)),
    lambda x: jnp.broadcast_to(jnp.float32(3), x.shape),
    lambda x: jax.image.resize(x, (x.shape[0], 8, 2, 3), 'linear'),
    lambda x: x.transpose(0, 2, 1, 3)[:, :, 1:3],
    lambda x: jax.nn.gelu(x) + jax.lax.rsqrt(1 + x * x),
    lambda x: sum(function(x) for function in ACTIVATIONS.values()),
    lambda x: x.argmax(-1).astype(jnp.int32),
    lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 1, 2, 1), 'SAME')])
def test_operations_are_those_of_jax(function):
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 3)).astype(np.float32)
    shape = jax_export.symbolic_shape('batch, 4, 6, 3')
    model = onnx_export.onnx_graph.convert(lambda inputs: {'y': function(inputs['x'])},
                                           {'x': jax.ShapeDtypeStruct(shape, np.float32)})
    found = onnx_runtime.function_of(onnx_runtime.start(model.SerializeToString()))({'x': x})['y']
    expected = np.asarray(function(jnp.asarray(x)))
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_int8_is_small_and_knows_what_it_costs(lenet, tmp_path):
    run, file = lenet
    folder = images_in(tmp_path / 'images' / '3').parent
    images_in(folder / '0', 3)
    (folder / '3' / 'broken.png').write_bytes(b'no image')
    small = tmp_path / 'small.onnx'
    meta = onnx_export.export_onnx(run, small, calibration=folder, labelled=folder)
    assert small.stat().st_size < 0.4 * file.stat().st_size
    assert meta['int8']['calibration'] == 13 and meta['int8']['agreement'] > 0.8
    assert meta['int8']['accuracy'].keys() == {'float32', 'int8', 'images'} and meta['int8']['accuracy']['images'] == 13
    model = onnx.load(small)
    types = {constant.name: constant.data_type for constant in model.graph.initializer}
    weights = [node for node in model.graph.node if node.op_type == 'DequantizeLinear' and node.input[0] in types]
    per_channel = [node for node in weights if types[node.input[0]] == onnx.TensorProto.INT8]
    assert len(per_channel) == 4  # two convolutions and two dense layers
    images = np.random.default_rng(7).integers(0, 256, (4, 16, 16, 1), np.uint8)
    a, b = (Model(path)({'image': images})['logits'] for path in (file, small))
    assert 0 < np.abs(a - b).max() < 0.2 * np.abs(a).max()


def test_int8_of_a_folder_of_other_classes_is_refused(lenet, tmp_path):
    folder = images_in(tmp_path / 'images' / 'seven', 1).parent
    with pytest.raises(UserError, match='seven: is no class of'):
        onnx_export.export_onnx(lenet[0], tmp_path / 'model.onnx', calibration=folder, labelled=folder)
    assert not (tmp_path / 'model.onnx').exists()


def test_the_command(trained_run, digit_files, tmp_path, call_launch):
    file = tmp_path / 'model.onnx'
    done = call_launch('export', '--workdir', trained_run, '--output', file, '--format', 'onnx')
    assert done.code == 0 and 'ONNX' in done.out
    model = Model(file)
    rows = model.predict(digit_files)
    expected = json.loads(call_launch('predict', '--workdir', trained_run, digit_files, '--format', 'json').out)
    assert [row['classes'] for row in rows] == [row['classes'] for row in expected]


@pytest.mark.parametrize('options, error', [
    (('--output', 'model.zip', '--format', 'onnx'), '--format onnx and --output model.zip contradict each other'),
    (('--output', 'model.onnx', '--format', 'zip'), '--format zip and --output model.onnx contradict each other'),
    (('--output', 'model.zip', '--int8', '.'), '--int8 and --labelled are for ONNX'),
    (('--output', 'model.onnx', '--labelled', '.'), '--labelled .: it is for --int8'),
    (('--output', 'model.onnx', '--batches', '4'), '--platforms and --batches are for a .zip')])
def test_options_that_do_not_fit_one_another(trained_run, call_launch, options, error, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = call_launch('export', '--workdir', trained_run, *options)
    assert done.code == 2 and error in done.err and not list(tmp_path.iterdir())


def test_without_the_packages_a_line_names_them(monkeypatch, lenet):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match='onnxruntime: pip install -r requirements-onnx.txt'):
        Model(lenet[1])
