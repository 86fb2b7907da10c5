"""BatchNorm as part of the layer before it: the same results, whatever else uses that layer."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from practicum.deployment.folding import folded
from practicum.models.layers import BatchNorm, Conv, ConvMaxPool, ConvTranspose


class Net(nn.Module):
    """Layers and norms that can be folded, and some that cannot: after pooling, after ReLU, of another use."""

    @nn.compact
    def __call__(self, x, train=False):
        first = Conv(6, 3, 1, 1, name='conv')(x)
        x = nn.relu(BatchNorm(not train, name='norm')(first)) + 0.1 * first  # the layer's own outputs are used, too
        x = nn.relu(nn.BatchNorm(not train, name='up_norm')(ConvTranspose(4, 2, 2, use_bias=False, name='up')(x)))
        x = BatchNorm(not train, name='after_relu')(x)
        x = BatchNorm(not train, name='pooled_norm')(ConvMaxPool(5, 3, name='pooled')(x))  # scales may be negative
        return nn.BatchNorm(not train, use_scale=False, name='dense_norm')(nn.Dense(3, name='dense')(x.mean((1, 2))))


@pytest.fixture(scope='module')
def network():
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    variables = jax.eval_shape(lambda: Net().init(jax.random.key(0), images))
    random = np.random.default_rng(1)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, of: (np.abs if path[-1].key == 'var' else np.asarray)(random.normal(size=of.shape)).astype('f4'),
        variables)
    return variables, images


def operations(function, *args):
    """Name -> how often it is in what JAX would compile of a function."""
    jaxpr = jax.jit(function).lower(*args).as_text()
    return {name: jaxpr.count(f'stablehlo.{name}') for name in ('convolution', 'rsqrt', 'subtract')}


def test_results_are_the_same(network):
    variables, images = network
    expected = jax.jit(Net().apply)(variables, images)
    found = jax.jit(lambda images: folded(Net().apply)(variables, images))(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    # Weights as arguments, too.
    np.testing.assert_allclose(jax.jit(folded(Net().apply))(variables, images), found, rtol=1e-5, atol=1e-5)


def test_norms_after_layers_are_gone_and_the_others_stay(network):
    variables, images = network
    assert operations(lambda images: Net().apply(variables, images), images)['rsqrt'] == 5
    assert operations(lambda images: folded(Net().apply)(variables, images), images)['rsqrt'] == 2


def test_norms_in_training_stay(network):
    variables, images = network

    def train(images):
        return Net().apply(variables, images, True, mutable=['batch_stats'])
    expected, found = train(images), folded(train)(images)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(a, b)
