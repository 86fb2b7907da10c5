"""Pooling and convolution equal flax's; dropout does not depend on the number of devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from practicum.common.errors import UserError
from practicum.models import batch_axis, cpu_kernels
from practicum.models.layers import ConvMaxPool, Dropout, max_pool


def integers(shape, high, seed=0):
    """Floats with few distinct values, so that most windows have several maxima."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, high, shape), jnp.float32)


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def value_and_vjp(function, *inputs):
    """The value, and the gradients of its product with fixed random numbers."""

    @jax.jit
    def both(*inputs):
        value, vjp = jax.vjp(function, *inputs)
        return value, vjp(normal(value.shape, seed=3))

    return both(*inputs)


@pytest.mark.parametrize(
    'shape, window, stride',
    [
        ((3, 8, 8, 5), 2, 2),
        ((2, 7, 9, 3), 2, 2),  # The last row and column are in no window.
        ((2, 11, 10, 4), 3, 3),
        ((2, 8, 9, 3), 3, 2),
        ((2, 9, 9, 3), 2, 3),
    ],
)
@pytest.mark.parametrize('high', [1, 3, 1000])
def test_max_pool_is_bit_equal_to_flax(shape, window, stride, high):
    x = integers(shape, high)

    expected, expected_gradient = value_and_vjp(lambda x: nn.max_pool(x, (window, window), (stride, stride)), x)
    pooled, gradient = value_and_vjp(lambda x: max_pool(x, window, stride), x)
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize('side, window, stride, padding, ceil_mode, outputs', [
    # Outputs along a side of 0, 1, 2, ...: the largest value of a window is its last pixel inside.
    (7, 3, 2, 1, False, [1, 3, 5, 6]),
    (6, 3, 2, 0, False, [2, 4]),
    (6, 3, 2, 0, True, [2, 4, 5]),
    (7, 3, 2, 0, True, [2, 4, 6]),
    (4, 2, 2, 1, True, [0, 2, 3]),
    (5, 2, 2, 1, True, [0, 2, 4]),
    (5, 2, 3, 1, True, [0, 3]),  # A third window would begin in the padding.
])
def test_max_pool_pads_and_rounds_as_pytorch(side, window, stride, padding, ceil_mode, outputs):
    row = jnp.arange(side, dtype=jnp.float32) - 100  # Padding with zeros would win.
    x = row[:, None, None] + jnp.zeros((1, 1, side, 1))
    pooled = max_pool(x, window, stride, padding, ceil_mode=ceil_mode)
    assert pooled.shape == (1, len(outputs), len(outputs), 1)
    np.testing.assert_array_equal(pooled[0, :, 0, 0] + 100, outputs)
    np.testing.assert_array_equal(max_pool(x.transpose(0, 2, 1, 3), window, stride, padding, ceil_mode=ceil_mode)
                                  [0, 0, :, 0] + 100, outputs)


@pytest.mark.parametrize('shape, window, stride, padding', [
    ((2, 8, 9, 3), 3, 2, 1), ((2, 9, 8, 3), 3, 1, 1), ((2, 7, 7, 3), 3, 3, 1), ((2, 9, 11, 3), 5, 2, 2)])
@pytest.mark.parametrize('high', [1, 3, 1000])
def test_padded_max_pool_is_bit_equal_to_flax(shape, window, stride, padding, high):
    x = integers(shape, high) - 5
    expected = value_and_vjp(lambda x: nn.max_pool(x, (window,) * 2, (stride,) * 2, [(padding,) * 2] * 2), x)
    actual = value_and_vjp(lambda x: max_pool(x, window, stride, padding), x)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize('window, stride', [(2, 2), (3, 2)])
@pytest.mark.parametrize('devices', [1, 4])
def test_the_gradient_finds_the_maxima_of_what_xla_would_compute_twice(window, stride, devices):
    """Of a BatchNorm with other rounding in the backward pass: then no pixel equals the maximum of its window."""
    x, scale, bias = normal((8, 12, 12, 16)), normal((16,)), normal((16,))
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:devices]), ('batch',)), PartitionSpec('batch'))

    def gradients(pool, x):
        def loss(x, scale, bias):
            mean = x.mean((0, 1, 2))
            variance = jnp.square(x - mean).mean((0, 1, 2))
            pooled = pool(nn.relu((x - mean) * (lax.rsqrt(variance + 1e-5) * scale) + bias))
            return jnp.sum(pooled * (jnp.arange(pooled.size).reshape(pooled.shape) % 7 - 3.0))
        return jax.jit(jax.grad(loss, (0, 1, 2)))(x, scale, bias)
    wanted = gradients(lambda x: nn.max_pool(x, (window,) * 2, (stride,) * 2), x)
    found = gradients(lambda x: max_pool(x, window, stride), jax.device_put(x, sharding))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, wanted)


def test_max_pool_refuses_padding_that_fills_a_window():
    with pytest.raises(UserError, match='padding is 2; it must be at most half of the window, 1'):
        max_pool(jnp.ones((1, 8, 8, 1)), 3, 2, 2)


class _Reference(nn.Module):
    """What ConvMaxPool promises to equal."""

    features: int
    kernel_size: int
    padding: str

    @nn.compact
    def __call__(self, x):
        size = (self.kernel_size, self.kernel_size)
        x = nn.Conv(self.features, size, padding=self.padding, name='conv')(x)
        return nn.max_pool(x, (2, 2), (2, 2))


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])  # Both forms, whatever this machine has.
@pytest.mark.parametrize(
    'shape, kernel_size, padding',
    [
        ((3, 12, 12, 4), 5, 'VALID'),
        ((3, 13, 11, 1), 5, 'VALID'),
        ((3, 8, 8, 4), 5, 'SAME'),
        ((3, 7, 10, 2), 3, 'SAME'),
    ],
)
def test_conv_max_pool_equals_flax(monkeypatch, backend, shape, kernel_size, padding):
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: backend == 'cpu')
    x = normal(shape)
    reference = _Reference(6, kernel_size, padding)
    params = jax.jit(reference.init)(jax.random.key(0), x)['params']['conv']
    params['bias'] = normal((6,), seed=1)

    layer = ConvMaxPool(6, kernel_size, padding=padding)

    def apply(params, x):
        return layer.apply({'params': params}, x)

    expected = value_and_vjp(lambda params, x: reference.apply({'params': {'conv': params}}, x), params, x)
    actual = value_and_vjp(apply, params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), actual, expected)
    # Evaluation does not go through the rules for gradients.
    np.testing.assert_allclose(jax.jit(apply)(params, x), expected[0], rtol=1e-4, atol=1e-4)


def test_conv_max_pool_gives_the_gradient_of_ties_to_the_first_output():
    layer = ConvMaxPool(1, 1)
    variables = {'params': {'kernel': jnp.ones((1, 1, 1, 1)), 'bias': jnp.zeros(1)}}
    gradient = jax.grad(lambda x: layer.apply(variables, x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    'layer, message',
    [
        (ConvMaxPool(2, 4), 'kernel_size is 4; it must be odd'),
        (ConvMaxPool(2, 3, padding='FULL'), "'FULL'; it must be 'SAME' or 'VALID'"),
        (ConvMaxPool(2, 9), 'nothing is left of 8x8 pixels'),
    ],
)
def test_conv_max_pool_says_what_it_does_not_support(layer, message):
    with pytest.raises(UserError, match=message):
        layer.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))


def drop(x, rate=0.5, seed=0, axis=None):
    with batch_axis.divided(axis):
        return Dropout(rate).apply({}, x, train=True, rngs={'dropout': jax.random.key(seed)})


@pytest.mark.parametrize('devices', [1, 2, 8])
def test_dropout_does_not_depend_on_the_number_of_devices(devices):
    x = normal((16, 5, 3))
    shards = x.reshape(devices, 16 // devices, 5, 3)
    dropped = jax.vmap(lambda x: drop(x, axis='batch'), axis_name='batch')(shards)
    np.testing.assert_array_equal(dropped.reshape(x.shape), drop(x))


def test_dropout_of_an_example_does_not_depend_on_the_batch_size():
    x = normal((16, 30))
    np.testing.assert_array_equal(drop(x)[:6], drop(x[:6]))


def test_dropout_masks_differ_between_examples_and_keys():
    x = jnp.ones((8, 100))
    masks = np.asarray(jnp.concatenate([drop(x, seed=0), drop(x, seed=1)]))
    assert len(np.unique(masks, axis=0)) == 16


@pytest.mark.parametrize('rate', [0.1, 0.5, 0.8])
def test_dropout_keeps_the_stated_share_and_the_mean(rate):
    dropped = np.asarray(drop(jnp.ones((100, 1000)), rate))
    kept = dropped != 0
    # Five standard deviations of the mean of 100,000 draws.
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 1e5)
    np.testing.assert_allclose(dropped[kept], 1 / (1 - rate), rtol=1e-6)


def test_dropout_is_the_identity_in_evaluation_and_at_rate_zero():
    x = normal((4, 7))
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, train=True), x)
