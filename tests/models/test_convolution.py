"""Conv equals flax's nn.Conv in values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.models import cpu_kernels
from practicum.models.layers import Conv


def normal(shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def value_and_gradients(layer, variables, x, weights):
    value, vjp = jax.vjp(lambda variables, x: layer.apply(variables, x), variables, x)
    return value, vjp(weights.astype(value.dtype))


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])  # Both forms, whatever this machine has.
@pytest.mark.parametrize('dtype, tolerance', [
    (jnp.float32, 2e-6), pytest.param(jnp.bfloat16, 2e-2, marks=pytest.mark.thorough)])
@pytest.mark.parametrize('shape, features, size, stride, padding', [
    ((2, 7, 6, 3), 5, 1, 1, 0),
    ((2, 7, 6, 5), 3, 1, 2, 0),
    ((2, 5, 4, 3), 2, 1, 1, 1),
    ((2, 7, 6, 3), 4, 3, 1, 1),
    ((2, 5, 8, 3), 4, 3, 1, 1),
    ((2, 5, 8, 3), 16, 3, 1, 1),
    ((2, 5, 6, 16), 9, 3, 1, 1),
    ((2, 5, 8, 9), 12, 3, 1, 0),
    ((2, 7, 6, 3), 4, 3, 2, 1),
    ((2, 7, 8, 128), 4, 3, 2, 1),
    ((1, 8, 7, 128), 3, 3, 2, 0),
    ((1, 6, 5, 512), 3, 3, 1, 1),
    ((2, 9, 8, 2), 3, 5, 1, 2),
    ((2, 12, 13, 3), 4, 7, 2, 3),
    ((2, 12, 15, 3), 4, 7, 2, 3),
    ((2, 5, 7, 9), 12, 7, 2, 3),
    ((2, 5, 8, 2), 3, 5, 2, 2),
    ((1, 23, 22, 3), 4, 11, 4, 2),
    ((2, 5, 10, 32), 3, 3, 1, 0),
    ((2, 12, 40, 3), 4, 11, 4, 0),
])
def test_equals_flax(monkeypatch, backend, dtype, tolerance, shape, features, size, stride, padding):
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: backend == 'cpu')
    x = normal(shape, 1, dtype)
    actual = Conv(features, size, stride, padding, dtype=dtype)
    expected = nn.Conv(features, (size, size), stride, padding, dtype=dtype)
    variables = {'params': {'kernel': normal((size, size, shape[-1], features), 2) / size, 'bias': normal(features, 3)}}
    shapes = jax.eval_shape(expected.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    weights = normal(jax.eval_shape(expected.apply, variables, x).shape, 4)
    results = [jax.jit(lambda *args, layer=layer: value_and_gradients(layer, *args))(variables, x, weights)
               for layer in (actual, expected)]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize('batch, features, parts', [(8, 16, 1), (8, 17, 8), (32, 16, 2), (128, 16, 8)])
def test_kernel_gradients_of_narrow_convolutions_keep_sixteen_examples_together(batch, features, parts):
    """XLA's CPU backend takes five times as long for parts of one example, see cpu_kernels.py."""
    x, kernel = jnp.zeros((batch, 128, 128, 3)), jnp.zeros((3, 3, 3, features))
    gradient = jax.make_jaxpr(lambda g: cpu_kernels._kernel_gradient_by_convolutions(x, kernel, g, 1, 1))(
        jnp.zeros((batch, 128, 128, features)))
    # For each part forward, which nothing uses, and the gradient.
    assert str(gradient).count('conv_general_dilated[') in (parts, 2 * parts)


@pytest.mark.parametrize('shape, size, stride, padded', [
    ((2, 7, 10, 32), 3, 1, True), ((1, 13, 39, 3), 11, 4, True), ((1, 13, 42, 3), 11, 4, True),
    ((2, 4, 9, 256), 2, 1, True), ((2, 7, 9, 32), 3, 1, False), ((2, 7, 10, 28), 3, 1, False)])
def test_without_padding_a_part_of_a_padded_one_has_the_same_bits(monkeypatch, shape, size, stride, padded):
    """Where XLA's CPU backend is faster so, see cpu_kernels.py."""
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: True)
    x, kernel = normal(shape, 1), normal((size, size, shape[-1], 5), 2)
    plain = jax.jit(lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')))
    layer = Conv(5, size, stride, 'VALID', use_bias=False)
    ours = jax.jit(lambda x, kernel: layer.apply({'params': {'kernel': kernel}}, x))
    np.testing.assert_array_equal(ours(x, kernel), plain(x, kernel))
    assert ('padding=((0, 0), (0, 1))' in str(jax.make_jaxpr(ours)(x, kernel))) == padded


def test_without_bias_the_kernel_is_the_only_parameter():
    shapes = jax.eval_shape(Conv(4, 3, use_bias=False).init, jax.random.key(0), jnp.ones((1, 5, 5, 2)))
    assert jax.tree.map(lambda leaf: leaf.shape, shapes) == {'params': {'kernel': (3, 3, 2, 4)}}
