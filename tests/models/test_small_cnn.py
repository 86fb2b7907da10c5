"""The small network is the one that courses teach."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from practicum import models
from practicum.common.errors import UserError
from practicum.models.small_cnn import SmallCNN
from tests.models import networks

SMALL = SmallCNN(5, features=(8, 6, 4), hidden=9)
SHAPE = (3, 15, 15, 1)


def test_parameter_count():
    """Of the course's 264,049 numbers 300 are averages: 750 + 150, 33,800 + 100, 11,275 + 50, 205,312, 12,312."""
    assert networks.parameter_count(SmallCNN(24), (1, 28, 28, 1)) == 263_749


def test_endpoints():
    assert networks.endpoint_shapes(SmallCNN(24), (2, 28, 28, 1), (
        'block1', 'block2', 'block3', 'flat', 'hidden', 'logits')) == {
            'block1': (14, 14, 75), 'block2': (7, 7, 50), 'block3': (4, 4, 25), 'flat': (400,), 'hidden': (512,),
            'logits': (24,)}


@pytest.mark.parametrize('batch_norm', [True, False])
def test_equals_plain_layers(batch_norm):
    model = SMALL.clone(batch_norm=batch_norm)
    variables, images = networks.random_variables(model, SHAPE), networks.random_images(SHAPE)
    x, params = images, variables['params']
    for block, features in ((1, 8), (2, 6), (3, 4)):
        x = nn.relu(nn.Conv(features, (3, 3)).apply({'params': params[f'conv{block}']}, x))
        if batch_norm:
            averages = variables['batch_stats'][f'bn{block}']
            x = nn.BatchNorm(True).apply({'params': params[f'bn{block}'], 'batch_stats': averages}, x)
        x = nn.max_pool(x, (2, 2), (2, 2), 'SAME')
    x = nn.relu(x.reshape(3, -1) @ params['hidden']['kernel'] + params['hidden']['bias'])
    x = x @ params['logits']['kernel'] + params['logits']['bias']
    np.testing.assert_allclose(model.apply(variables, images), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('endpoint', ['block1', 'flat', 'hidden'])
def test_head_and_body(endpoint):
    networks.check_head_and_body(SMALL, SHAPE, endpoint)


def test_every_parameter_learns():
    networks.check_gradients(SMALL, SHAPE)


def test_dropout():
    """In the second block and after the hidden layer, in training alone."""
    networks.check_dropout(SMALL, SHAPE)
    variables = networks.random_variables(SMALL.clone(batch_norm=False), SHAPE)

    def changes(begin, endpoint):
        x = networks.random_images(SHAPE)
        model = SMALL.clone(batch_norm=False)
        if begin is not None:
            x = model.apply(variables, x, features=begin)
        trained = model.apply(variables, x, begin=begin, features=endpoint, train=True,
                              rngs={'dropout': jax.random.key(0)})
        return not np.allclose(trained, model.apply(variables, x, begin=begin, features=endpoint))
    ends = ((None, 'block1'), ('block1', 'block2'), ('block2', 'hidden'), ('hidden', 'logits'))
    assert [changes(*pair) for pair in ends] == [False, True, False, True]


def test_one_rate_per_block():
    model = models.build({'name': 'small_cnn', 'features': (8, 8)}, num_classes=3)
    with pytest.raises(UserError, match='block_dropout has 3 rates and config.model.features 2 blocks'):
        networks.shapes_of(model, SHAPE)
