"""The networks of papers have the published numbers of parameters, and what they are made of is what papers say."""

import ast
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models import googlenet, inception_bn, resnet
from practicum.models.layers import BatchNorm, Conv, local_response_norm
from practicum.models.net_surgery import window_stride
from practicum.models.stages import watching
from tests.conftest import ROOT
from tests.models import networks

IMAGENET, DIGITS = (1000, (1, 224, 224, 3)), (10, (1, 28, 28, 1))
# Fields of config.model -> parameters, of networks for ImageNet's 1,000 classes and, LeNets, for ten digits.
COUNTS = [
    ({'name': 'lenet5'}, 61_706),  # 156 + 2,416 + 48,120 + 10,164 + 850
    ({'name': 'lenet5', 'subsampling': 'trained'}, 61_706 + 12 + 32),  # the paper's S2 and S4
    ({'name': 'alexnet', 'towers': 2, 'response_norm': True}, 60_965_224),
    ({'name': 'vgg', 'depth': 11, 'response_norm': True}, 132_863_336),  # as A: normalisation has none
    # As D, less three times eight ninths of a 3x3 kernel: 8 * (256 ** 2 + 2 * 512 ** 2).
    ({'name': 'vgg', 'depth': 16, 'pointwise': True}, 138_357_544 - 4_718_592),
    ({'name': 'googlenet', 'published': True}, 6_998_552),
    ({'name': 'googlenet', 'published': True, 'auxiliary': True}, 13_378_280),
    ({'name': 'inception_bn'}, 11_194_984),
    # As ResNet-34, less the three 1x1 shortcuts and their BatchNorms.
    ({'name': 'resnet', 'depth': 34, 'residual': False}, 21_797_672 - 64 * 128 - 128 * 256 - 256 * 512 - 2 * 896),
]


@pytest.mark.parametrize('fields, count', COUNTS, ids=str)
def test_parameter_count(fields, count):
    classes, shape = DIGITS if fields['name'].startswith('lenet') else IMAGENET
    assert networks.parameter_count(models.build(fields, num_classes=classes), shape) == count


def test_documented_counts():
    """docs/results/architectures.md has a row for each, with this number."""
    page = (ROOT / 'docs' / 'results' / 'architectures.md').read_text()
    rows = re.findall(r'^\|[^|]*\| `(\{.*?\})` \| ([\d,]+) \|', page, re.MULTILINE)
    documented = {str(ast.literal_eval(fields)): int(count.replace(',', '')) for fields, count in rows}
    assert documented.items() >= {str(fields): count for fields, count in COUNTS}.items()


def test_inception_bn_in_the_form_of_other_libraries(monkeypatch):
    """Wider projections in two modules and biases before BatchNorm: the 11,295,240 of Caffe's and PyTorch's models."""
    for name in ('inception4c', 'inception4d'):
        monkeypatch.setitem(inception_bn.MODULES, name, (*inception_bn.MODULES[name][:6], 128))
    params = networks.shapes_of(models.build({'name': 'inception_bn'}, num_classes=1000), IMAGENET[1])['params']
    biases = sum(leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(params) if 'scale' in str(path[-1]))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) + biases == 11_295_240


@pytest.mark.parametrize('fields, side, expected', [
    ({'name': 'lenet5', 'padding': 'VALID'}, 32, {
        'conv1': (28, 28, 6), 'pool1': (14, 14, 6), 'conv2': (10, 10, 16), 'pool2': (5, 5, 16), 'dense1': (120,),
        'dense2': (84,), 'logits': (9,)}),
    ({'name': 'alexnet', 'towers': 2, 'response_norm': True}, 224, {
        'conv1': (55, 55, 96), 'norm1': (55, 55, 96), 'pool1': (27, 27, 96), 'conv2': (27, 27, 256),
        'norm2': (27, 27, 256), 'pool2': (13, 13, 256), 'conv3': (13, 13, 384), 'conv4': (13, 13, 384),
        'conv5': (13, 13, 256), 'pool5': (6, 6, 256), 'fc6': (4096,), 'fc7': (4096,), 'logits': (9,)}),
    ({'name': 'googlenet', 'published': True}, 224, {
        'pool1': (56, 56, 64), 'norm1': (56, 56, 64), 'conv3': (56, 56, 192), 'norm2': (56, 56, 192),
        'inception4e': (14, 14, 832), 'pool4': (7, 7, 832), 'pool': (1024,)}),
    ({'name': 'inception_bn'}, 224, {
        'inception3b': (28, 28, 320), 'inception3c': (14, 14, 576), 'inception4a': (14, 14, 576),
        'inception4d': (14, 14, 576), 'inception4e': (7, 7, 1024), 'inception5b': (7, 7, 1024), 'pool': (1024,)}),
], ids=str)
def test_endpoints_have_the_shapes_of_the_papers(fields, side, expected):
    found = {}

    def keep(name, value):
        found[name] = value.shape[1:]
        return value
    with watching(keep):
        networks.shapes_of(models.build(fields, num_classes=9), (1, side, side, 3))
    assert {name: found[name] for name in expected} == expected
    assert [name for name in found if name in expected] == list(expected)


def test_local_response_norm_is_the_formula():
    x = networks.random_images((2, 3, 3, 7)) * 20
    expected = np.zeros(x.shape)
    for i in range(7):
        nearby = np.asarray(x)[..., max(0, i - 2):i + 3]
        expected[..., i] = x[..., i] / (2 + 1e-4 * (nearby ** 2).sum(axis=-1)) ** 0.75
    np.testing.assert_allclose(local_response_norm(x), expected, rtol=1e-5)
    assert local_response_norm(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_towers_do_not_see_each_other():
    """Half of the channels goes into half of the kernels; the first and third convolution see all."""
    model = models.build({'name': 'alexnet', 'towers': 2, 'hidden': ()}, num_classes=2)
    variables = networks.random_variables(model, (1, 64, 64, 3))
    x, params = networks.random_images((1, 7, 7, 96)), variables['params']['conv2']
    halves = []
    for tower in (0, 1):
        own = jax.tree.map(lambda leaf: leaf[..., 128 * tower:128 * (tower + 1)], params)
        halves.append(nn.Conv(128, (5, 5)).apply({'params': own}, x[..., 48 * tower:48 * (tower + 1)]))
    np.testing.assert_allclose(model.apply(variables, x, begin='pool1', features='conv2'),
                               nn.relu(jnp.concatenate(halves, axis=-1)), rtol=1e-3, atol=1e-4)
    assert [variables['params'][f'conv{number}']['kernel'].shape[2] for number in range(1, 6)] == [3, 48, 256, 192, 192]


def test_plain_blocks_have_no_shortcut():
    """A plain block whose last scale is zero gives zeros; with a shortcut what went in."""
    x = jax.nn.relu(networks.random_images((1, 4, 4, 8)))
    for kind, width in ((resnet.BasicBlock, 8), (resnet.Bottleneck, 2)):
        for residual in (True, False):
            block = kind(width, 1, functools.partial(Conv, use_bias=False), functools.partial(BatchNorm, True), True,
                         jax.nn.relu, residual)
            shapes = jax.eval_shape(block.init, jax.random.key(0), x)
            variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
            np.testing.assert_array_equal(block.apply(variables, x), x if residual else 0 * x)


def test_trained_subsampling():
    """The average of 2x2 pixels times a factor plus a summand, both of the map, and tanh."""
    model = models.build({'name': 'lenet5', 'subsampling': 'trained'}, num_classes=3)
    variables = networks.random_variables(model, (1, 12, 12, 1))
    x, params = networks.random_images((1, 4, 4, 6)), variables['params']['pool1']
    average = np.asarray(x).reshape(1, 2, 2, 2, 2, 6).mean(axis=(2, 4))
    np.testing.assert_allclose(model.apply(variables, x, begin='conv1', features='pool1'),
                               np.tanh(average * params['scale'] + params['bias']), rtol=1e-5)


@pytest.fixture
def thin(monkeypatch):
    """Inception networks of few modules with few channels."""
    monkeypatch.setattr(googlenet, 'INCEPTIONS', {'inception3b': (5, 3, 4, 2, 3, 4)})
    monkeypatch.setattr(inception_bn, 'MODULES', {
        'inception3a': (5, 3, 4, 2, 3, 'average', 4), 'inception3c': (0, 3, 5, 2, 3, 'max', 0)})


@pytest.mark.parametrize('fields', [
    {'name': 'googlenet', 'published': True}, {'name': 'inception_bn'}, {'name': 'lenet5', 'subsampling': 'trained'},
], ids=str)
def test_every_parameter_learns(thin, fields):
    networks.check_gradients(models.build({**fields, 'activation': 'elu'}, num_classes=5), (2, 16, 16, 3))


def test_windows_of_inception_bn(thin):
    """A window of its size has one pixel of logits, a larger image one more for every total stride."""
    model = models.build({'name': 'inception_bn', 'window': (32, 48)}, num_classes=5)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    assert window_stride(model, 3) == 16
    assert jax.eval_shape(model.apply, networks.shapes_of(model, (1, 32, 48, 3)), images).shape == (2, 3, 2, 5)


@pytest.mark.parametrize('fields, parts', [
    ({'name': 'vgg', 'depth': 19, 'pointwise': True}, ('depth 16', 'column C', 'not 19')),
    ({'name': 'alexnet', 'towers': 3}, ('towers = 3', '1 or 2')),
    ({'name': 'lenet5', 'subsampling': 'averge'}, ("subsampling = 'averge'", 'did you mean average')),
    ({'name': 'lenet5', 'padding': 'same'}, ("padding = 'same'", "'SAME' or 'VALID'")),
    ({'name': 'resnet', 'depth': 34, 'residual': False, 'zero_init': True}, ('zero_init', 'residual')),
])
def test_mistakes_are_one_line(fields, parts):
    with pytest.raises(UserError) as failure:
        networks.shapes_of(models.build(fields, num_classes=5), (1, 64, 64, 3))
    assert '\n' not in str(failure.value) and all(part in str(failure.value) for part in parts), str(failure.value)


@pytest.mark.parametrize('fields, least', [
    ({'name': 'lenet5'}, 12), ({'name': 'lenet5', 'padding': 'VALID'}, 16), ({'name': 'inception_bn'}, 7),
    ({'name': 'googlenet', 'published': True}, 31)], ids=str)
def test_what_is_too_small_is_said(monkeypatch, fields, least):
    monkeypatch.setattr(googlenet, 'INCEPTIONS', {'inception3b': (1,) * 6, 'inception4e': (1,) * 6})
    monkeypatch.setattr(inception_bn, 'MODULES', {'inception3c': (0, 1, 1, 1, 1, 'max', 0)})
    model = models.build(fields, num_classes=5)
    with pytest.raises(UserError, match=f'at least {least}x{least}'):
        networks.shapes_of(model, (1, least - 1, 40, 1))
    assert networks.endpoint_shapes(model, (1, least, 40, 1), ['logits']) == {'logits': (5,)}


def test_column_c_without_padding():
    model = models.build({'name': 'vgg', 'pointwise': True, 'padding': 'VALID', 'hidden': ()}, num_classes=2)
    assert networks.endpoint_shapes(model, (1, 156, 156, 3), ['pool5']) == {'pool5': (1, 1, 512)}
    with pytest.raises(UserError, match='at least 156x156'):
        networks.shapes_of(model, (1, 155, 155, 3))
