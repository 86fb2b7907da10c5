"""ResNet-9 is the published network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from practicum.models.resnet9 import ResNet9
from tests.models import networks

SMALL = ResNet9(5, width=4)
SHAPE = (3, 16, 16, 3)


def test_parameter_count():
    """3x3 kernels, scale and bias of every normalised channel, and a last layer without bias."""
    kernels = 3 * 64 + 64 * 128 + 2 * 128 ** 2 + 128 * 256 + 256 * 512 + 2 * 512 ** 2
    norms = 2 * (64 + 3 * 128 + 256 + 3 * 512)
    expected = 9 * kernels + norms + 512 * 10
    assert networks.parameter_count(ResNet9(10), (1, 32, 32, 3)) == expected == 6_573_120


def test_endpoints():
    assert networks.endpoint_shapes(ResNet9(10), (2, 32, 32, 3), (
        'prep', 'layer1', 'layer2', 'layer3', 'pool', 'logits')) == {
            'prep': (32, 32, 64), 'layer1': (16, 16, 128), 'layer2': (8, 8, 256), 'layer3': (4, 4, 512),
            'pool': (512,), 'logits': (10,)}


def test_equals_plain_layers():
    variables, x = networks.random_variables(SMALL, SHAPE), networks.random_images(SHAPE)
    params, averages = variables['params'], variables['batch_stats']

    def block(x, name):
        kernel = params[f'{name}_conv']['kernel']
        x = nn.Conv(kernel.shape[-1], (3, 3), use_bias=False).apply({'params': {'kernel': kernel}}, x)
        return nn.relu(nn.BatchNorm(True).apply({'params': params[f'{name}_bn'],
                                                 'batch_stats': averages[f'{name}_bn']}, x))
    wanted = block(x, 'prep')
    for number in (1, 2, 3):
        wanted = nn.max_pool(block(wanted, f'layer{number}'), (2, 2), (2, 2))
        if number != 2:
            wanted += block(block(wanted, f'layer{number}_block1'), f'layer{number}_block2')
    wanted = wanted.max((1, 2)) @ params['logits']['kernel'] / 8
    np.testing.assert_allclose(SMALL.apply(variables, x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('endpoint', ['prep', 'layer2', 'pool'])
def test_head_and_body(endpoint):
    networks.check_head_and_body(SMALL, SHAPE, endpoint)


def test_every_parameter_learns():
    networks.check_gradients(SMALL, SHAPE)


def test_logits_are_float32_in_bfloat16():
    model = SMALL.clone(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), jnp.ones(SHAPE)))
    assert shapes[0].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes[1])} == {jnp.dtype('float32')}
