"""VGG has the published sizes and can be taken apart."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from practicum.common.errors import UserError
from practicum.models.vgg import ARCHITECTURES, VGG
from tests.models import networks

SMALL = VGG(5, depth=11, hidden=(12, 8))
SHAPE = (2, 32, 32, 3)


@pytest.mark.parametrize('depth, count', [(11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)])
def test_parameter_count(depth, count):
    assert networks.parameter_count(VGG(1000, depth=depth)) == count
    assert ARCHITECTURES[f'vgg{depth}'] == {'name': 'vgg', 'depth': depth}


def test_endpoints():
    shapes = networks.endpoint_shapes(VGG(1000), (3, 224, 224, 3), (
        'conv1_1', 'conv1_2', 'pool1', 'conv2_2', 'conv3_3', 'pool3', 'conv4_3', 'conv5_3', 'pool5', 'fc6', 'fc7',
        'logits'))
    assert shapes == {
        'conv1_1': (224, 224, 64), 'conv1_2': (224, 224, 64), 'pool1': (112, 112, 64), 'conv2_2': (112, 112, 128),
        'conv3_3': (56, 56, 256), 'pool3': (28, 28, 256), 'conv4_3': (28, 28, 512), 'conv5_3': (14, 14, 512),
        'pool5': (7, 7, 512), 'fc6': (4096,), 'fc7': (4096,), 'logits': (1000,)}
    assert networks.endpoint_shapes(VGG(7, hidden=()), (3, 50, 70, 3), ('pool5', 'pool', 'logits')) == {
        'pool5': (1, 2, 512), 'pool': (512,), 'logits': (7,)}


def test_equals_plain_layers():
    variables, images = networks.random_variables(SMALL, SHAPE), networks.random_images(SHAPE)
    x, params = images, variables['params']
    for name in ('conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'conv4_1', 'conv4_2', 'conv5_1', 'conv5_2'):
        x = nn.relu(nn.Conv(params[name]['bias'].size, (3, 3)).apply({'params': params[name]}, x))
        if name not in ('conv3_1', 'conv4_1', 'conv5_1'):
            x = nn.max_pool(x, (2, 2), (2, 2))
    x = np.tile(x, (1, 7, 7, 1)).reshape(2, -1)  # The one pixel that is left, in every window.
    for name in ('fc6', 'fc7', 'logits'):
        x = x @ params[name]['kernel'] + params[name]['bias']
        x = x if name == 'logits' else nn.relu(x)
    np.testing.assert_allclose(SMALL.apply(variables, images), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('model, endpoint', [(SMALL, 'pool3'), (SMALL, 'fc6'), (SMALL.clone(hidden=()), 'pool')])
def test_head_and_body(model, endpoint):
    networks.check_head_and_body(model, SHAPE, endpoint)


def test_dropout_only_in_training():
    networks.check_dropout(SMALL, SHAPE)


def test_dropout_follows_every_hidden_layer():
    """Of fc6, half is dropped before fc7; the endpoint fc6 itself is whole."""
    variables, images = networks.random_variables(SMALL, SHAPE), networks.random_images(SHAPE)

    def train(model, endpoint):
        return model.apply(variables, images, train=True, features=endpoint, rngs={'dropout': jax.random.key(0)})
    whole = SMALL.clone(dropout=0.0)
    assert np.array_equal(train(SMALL, 'fc6'), train(whole, 'fc6'))
    assert not np.allclose(train(SMALL, 'fc7'), train(whole, 'fc7'))


def test_every_parameter_learns():
    networks.check_gradients(SMALL, SHAPE)


def torchvision_modules(depth):
    """Modules with parameters, counted as in torchvision's vgg.py: convolution, ReLU, ..., pooling ('M')."""
    configuration = {11: '1M1M2M2M2M', 13: '2M2M2M2M2M', 16: '2M2M3M3M3M', 19: '2M2M4M4M4M'}[depth]
    index = 0
    for item in configuration:
        for _ in range(0 if item == 'M' else int(item)):
            yield f'features.{index}'
            index += 2
        index += item == 'M'
    yield from ('classifier.0', 'classifier.3', 'classifier.6')


@pytest.mark.parametrize('depth', [11, 13, 16, 19])
def test_torchvision_names(depth):
    assert list(torchvision_modules(16))[12] == 'features.28'  # The last convolution of torchvision's vgg16.
    networks.check_torchvision_names(VGG(1000, depth=depth), list(torchvision_modules(depth)))
    body = [name for name in torchvision_modules(depth) if name.startswith('features')]
    names = VGG(10, depth=depth, hidden=()).torchvision_names()
    assert [theirs.replace('\\', '') for theirs, _ in names] == body


def test_flattened_inputs_are_those_of_the_first_dense_layer():
    for model in (VGG(3), VGG(3, hidden=())):
        for path, shape in model.flattened_inputs().items():
            kernel = networks.shapes_of(model, (1, 64, 64, 3))['params'][path]['kernel']
            assert kernel.shape[0] == np.prod(shape)
    assert VGG(3).flattened_inputs() == {'fc6': (512, 7, 7)}


def test_lpips_names():
    names = dict(VGG(3, hidden=()).lpips_names())
    assert list(names) == [f'VGG16_0/Conv_{index}' for index in range(13)]
    assert [names[f'VGG16_0/Conv_{index}'] for index in (0, 1, 3, 6, 9, 12)] == [
        'conv1_1', 'conv1_2', 'conv2_2', 'conv3_3', 'conv4_3', 'conv5_3']
    with pytest.raises(UserError, match='depth = 11; LPIPS has weights for depth 16'):
        VGG(3, depth=11).lpips_names()


def test_mistakes():
    with pytest.raises(UserError, match='config.model.depth = 12; vgg has depths 11, 13, 16, 19'):
        networks.shapes_of(VGG(3, depth=12), SHAPE)
    with pytest.raises(UserError, match='at least 32x32 pixels'):
        networks.shapes_of(SMALL, (1, 31, 64, 3))
