"""AlexNet has the published sizes and can be taken apart."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from practicum.common.errors import UserError
from practicum.models.alexnet import AlexNet
from tests.models import networks

SMALL = AlexNet(5, hidden=(12, 8))
SHAPE = (2, 67, 67, 3)
MODULES = ('features.0', 'features.3', 'features.6', 'features.8', 'features.10', 'classifier.1', 'classifier.4',
           'classifier.6')


def test_parameter_count():
    assert networks.parameter_count(AlexNet(1000)) == 61_100_840


def test_endpoints():
    shapes = networks.endpoint_shapes(AlexNet(1000), (3, 224, 224, 3), (
        'conv1', 'pool1', 'conv2', 'pool2', 'conv3', 'conv4', 'conv5', 'pool5', 'fc6', 'fc7', 'logits'))
    assert shapes == {
        'conv1': (55, 55, 64), 'pool1': (27, 27, 64), 'conv2': (27, 27, 192), 'pool2': (13, 13, 192),
        'conv3': (13, 13, 384), 'conv4': (13, 13, 256), 'conv5': (13, 13, 256), 'pool5': (6, 6, 256),
        'fc6': (4096,), 'fc7': (4096,), 'logits': (1000,)}
    assert networks.endpoint_shapes(AlexNet(7, hidden=()), (3, 63, 99, 3), ('pool5', 'pool', 'logits')) == {
        'pool5': (1, 2, 256), 'pool': (256,), 'logits': (7,)}


def test_equals_plain_layers():
    variables, images = networks.random_variables(SMALL, SHAPE), networks.random_images(SHAPE)
    x, params = images, variables['params']
    for name, kernel, stride, padding in (('conv1', 11, 4, 2), ('conv2', 5, 1, 2), ('conv3', 3, 1, 1),
                                          ('conv4', 3, 1, 1), ('conv5', 3, 1, 1)):
        conv = nn.Conv(params[name]['bias'].size, (kernel, kernel), stride, padding)
        x = nn.relu(conv.apply({'params': params[name]}, x))
        if name in ('conv1', 'conv2', 'conv5'):
            x = nn.max_pool(x, (3, 3), (2, 2))
    x = np.tile(x, (1, 6, 6, 1)).reshape(2, -1)  # The one pixel that is left, in every window.
    for name in ('fc6', 'fc7', 'logits'):
        x = x @ params[name]['kernel'] + params[name]['bias']
        x = x if name == 'logits' else nn.relu(x)
    np.testing.assert_allclose(SMALL.apply(variables, images), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('model, endpoint', [(SMALL, 'pool5'), (SMALL, 'fc7'), (SMALL.clone(hidden=()), 'pool')])
def test_head_and_body(model, endpoint):
    networks.check_head_and_body(model, SHAPE, endpoint)


def test_dropout_only_in_training():
    networks.check_dropout(SMALL, SHAPE)


def test_dropout_precedes_every_hidden_layer():
    """As in torchvision: of pool5 and fc6, half is dropped; the logits see all of fc7."""
    variables, images = networks.random_variables(SMALL, SHAPE), networks.random_images(SHAPE)

    def run(begin, endpoint, x, train):
        return model.apply(variables, x, train=train, begin=begin, features=endpoint,
                           rngs={'dropout': jax.random.key(0)})
    model, x = SMALL, images
    for begin, endpoint, drops in ((None, 'pool5', False), ('pool5', 'fc6', True), ('fc6', 'fc7', True),
                                   ('fc7', 'logits', False)):
        value = run(begin, endpoint, x, train=False)
        assert np.allclose(run(begin, endpoint, x, train=True), value) != drops, endpoint
        x = value


def test_every_parameter_learns():
    networks.check_gradients(SMALL, SHAPE)


def test_names():
    networks.check_torchvision_names(AlexNet(1000), MODULES)
    names = AlexNet(10, hidden=()).torchvision_names()
    assert [theirs.replace('\\', '') for theirs, _ in names] == list(MODULES[:5])
    assert dict(AlexNet(3).lpips_names()) == {f'AlexNet_0/Conv_{index}': f'conv{index + 1}' for index in range(5)}
    assert AlexNet(3).flattened_inputs() == {'fc6': (256, 6, 6)} and AlexNet(3, hidden=()).flattened_inputs() == {}
    assert networks.shapes_of(AlexNet(3), SHAPE)['params']['fc6']['kernel'].shape[0] == 256 * 6 * 6


def test_images_that_are_too_small():
    with pytest.raises(UserError, match='63x63'):
        networks.shapes_of(SMALL, (1, 62, 80, 3))
