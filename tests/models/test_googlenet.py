"""GoogLeNet has the published sizes and can be taken apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from practicum.common.errors import UserError
from practicum.models import googlenet
from practicum.models.googlenet import GoogLeNet
from tests.models import networks

SHAPE = (2, 32, 32, 3)
MODULES = ('3a', '3b', '4a', '4b', '4c', '4d', '4e', '5a', '5b')


@pytest.fixture
def thin(monkeypatch):
    """Three inception modules of few channels instead of nine: what lies between them stays, compilation is short."""
    monkeypatch.setattr(googlenet, 'INCEPTIONS', {
        'inception3b': (5, 3, 4, 2, 3, 4), 'inception4b': (4, 3, 5, 2, 3, 5), 'inception4e': (3, 2, 3, 3, 4, 6)})


@pytest.fixture
def example(thin):
    """A thin network with auxiliary heads, its variables and images."""
    model = GoogLeNet(5, auxiliary=True)
    return model, networks.random_variables(model, SHAPE), networks.random_images(SHAPE)


def train(model, variables, images, **arguments):
    """Returns outputs and the averages after a training step, shapes alone."""
    return jax.eval_shape(lambda variables, images: model.apply(
        variables, images, train=True, rngs={'dropout': jax.random.key(0)}, mutable=['batch_stats'], **arguments),
        variables, images)


def test_parameter_count():
    assert networks.parameter_count(GoogLeNet(1000)) == 6_624_904
    assert networks.parameter_count(GoogLeNet(1000, auxiliary=True)) == 13_004_888


@pytest.mark.thorough
def test_endpoints():
    shapes = networks.endpoint_shapes(GoogLeNet(1000), (3, 224, 224, 3), (
        'conv1', 'pool1', 'conv2', 'conv3', 'pool2', 'pool3', 'pool4', 'pool', 'logits',
        *(f'inception{module}' for module in MODULES)))
    assert shapes == {
        'conv1': (112, 112, 64), 'pool1': (56, 56, 64), 'conv2': (56, 56, 64), 'conv3': (56, 56, 192),
        'pool2': (28, 28, 192), 'inception3a': (28, 28, 256), 'inception3b': (28, 28, 480), 'pool3': (14, 14, 480),
        'inception4a': (14, 14, 512), 'inception4b': (14, 14, 512), 'inception4c': (14, 14, 512),
        'inception4d': (14, 14, 528), 'inception4e': (14, 14, 832), 'pool4': (7, 7, 832),
        'inception5a': (7, 7, 832), 'inception5b': (7, 7, 1024), 'pool': (1024,), 'logits': (1000,)}


def test_pooling_keeps_the_last_rows_of_odd_sides():
    assert networks.endpoint_shapes(GoogLeNet(9), (1, 89, 15, 3), ('conv1', 'pool1', 'pool2', 'pool3', 'pool4')) == {
        'conv1': (45, 8, 64), 'pool1': (22, 4, 64), 'pool2': (11, 2, 192), 'pool3': (5, 1, 480), 'pool4': (3, 1, 832)}


def test_equals_plain_layers(example):
    model, variables, images = example
    params, averages = variables['params'], variables['batch_stats']

    def unit(x, *path, stride=1):
        weights, statistics = params, averages
        for name in path:
            weights, statistics = weights[name], statistics[name]
        size = weights['conv']['kernel'].shape[0]
        conv = nn.Conv(weights['conv']['kernel'].shape[-1], (size, size), stride, size // 2, use_bias=False)
        norm = nn.BatchNorm(use_running_average=True, epsilon=1e-3)
        x = conv.apply({'params': weights['conv']}, x)
        return nn.relu(norm.apply({'params': weights['bn'], 'batch_stats': statistics['bn']}, x))

    def pool(x, window=3, stride=2):
        return nn.max_pool(x, (window, window), (stride, stride), 'SAME')  # Of even sides, as here, the same.

    def plain(images):
        x = pool(unit(images, 'conv1', stride=2))
        x = pool(unit(unit(x, 'conv2'), 'conv3'))
        for name in googlenet.INCEPTIONS:
            x = jnp.concatenate([unit(x, name, 'branch1'), unit(unit(x, name, 'branch2_0'), name, 'branch2_1'),
                                 unit(unit(x, name, 'branch3_0'), name, 'branch3_1'),
                                 unit(pool(x, stride=1), name, 'branch4_1')], axis=-1)
            x = {'inception3b': pool, 'inception4e': lambda x: pool(x, 2)}.get(name, lambda x: x)(x)
        return x.mean(axis=(1, 2)) @ params['logits']['kernel'] + params['logits']['bias']

    logits = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits, jax.jit(plain)(images), rtol=1e-4, atol=1e-4)


def test_head_and_body(thin):
    networks.check_head_and_body(GoogLeNet(5), SHAPE, 'pool3')


@pytest.mark.thorough
def test_auxiliary_heads(example):
    """They exist after initialisation, are computed in training alone, and are left out where they cannot be."""
    model, variables, images = example
    outputs, _ = train(model, variables, images)
    assert {key: jax.tree.map(jnp.shape, value) for key, value in outputs.items()} == {
        'logits': (2, 5), 'auxiliary': ((2, 5), (2, 5))}
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 5)
    features, _ = train(model, variables, images, features='inception4b')
    assert features.shape == (2, 2, 2, 17)
    for begin, heads in (('pool3', 2), ('inception4b', 1), ('inception4e', 0)):
        value = networks.endpoint_shapes(model, SHAPE, [begin])[begin]
        outputs, _ = train(model, variables, jnp.zeros((2, *value)), begin=begin)
        assert len(outputs['auxiliary']) == heads, begin


@pytest.mark.thorough
def test_every_parameter_learns(thin):
    networks.check_gradients(GoogLeNet(5, auxiliary=True), SHAPE)


def test_frozen_norm_keeps_the_averages(example):
    model, variables, images = example
    frozen = model.clone(frozen_norm=True, auxiliary=False, dropout=0.0)
    own = {kind: {name: leaf for name, leaf in tree.items() if not name.startswith('aux')}
           for kind, tree in variables.items()}
    outputs, updates = jax.jit(lambda variables, images: frozen.apply(
        variables, images, train=True, mutable=['batch_stats']))(own, images)
    np.testing.assert_allclose(outputs, jax.jit(model.apply)(variables, images), rtol=1e-5, atol=1e-5)
    assert jax.tree.all(jax.tree.map(np.array_equal, updates['batch_stats'], own['batch_stats']))


def torchvision_modules(auxiliary):
    """Modules with parameters, as in torchvision's googlenet.py."""
    units = ['conv1', 'conv2', 'conv3', *(f'inception{module}.{branch}' for module in MODULES for branch in (
        'branch1', 'branch2.0', 'branch2.1', 'branch3.0', 'branch3.1', 'branch4.1'))]
    heads = ['aux1', 'aux2'] if auxiliary else []
    units += [f'{head}.conv' for head in heads]
    return [*(f'{unit}.{layer}' for unit in units for layer in ('conv', 'bn')), 'fc',
            *(f'{head}.{layer}' for head in heads for layer in ('fc1', 'fc2'))]


@pytest.mark.parametrize('auxiliary', [False, True])
def test_torchvision_names(auxiliary):
    model = GoogLeNet(1000, auxiliary=auxiliary)
    networks.check_torchvision_names(model, torchvision_modules(auxiliary))
    params = networks.shapes_of(model, SHAPE)['params']
    flattened = model.flattened_inputs()
    assert set(flattened) == ({'aux1/fc1', 'aux2/fc1'} if auxiliary else set())
    for path, shape in flattened.items():
        head, layer = path.split('/')
        assert params[head][layer]['kernel'].shape[0] == np.prod(shape)


def test_images_that_are_too_small():
    with pytest.raises(UserError, match='15x15'):
        networks.shapes_of(GoogLeNet(3), (1, 14, 20, 3))
