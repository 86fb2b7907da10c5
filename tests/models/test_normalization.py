"""BatchNorm equals flax's in values, gradients and statistics, on one device and over several."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.models import cpu_kernels
from practicum.models.layers import BatchNorm


def normal(shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def variables(channels):
    return {'params': {'scale': 1 + 0.3 * normal(channels, 1), 'bias': normal(channels, 2)},
            'batch_stats': {'mean': normal(channels, 3), 'var': 1 + jnp.square(normal(channels, 4))}}


def outputs_and_gradients(layer, variables, x, weights):
    """Outputs, new statistics, and the gradients of the outputs' product with weights."""
    def loss_fn(params, x):
        outputs, updates = layer.apply({**variables, 'params': params}, x, mutable='batch_stats')
        return (outputs * weights).astype(jnp.float32).sum(), (outputs, updates)

    gradients, (outputs, updates) = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)(variables['params'], x)
    return outputs, updates, gradients


def assert_close(actual, expected, tolerance=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])  # Both forms, whatever this machine has.
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('shape, dtype, tolerance', [((4, 5, 7, 6), jnp.float32, 1e-5), ((16, 3), jnp.float32, 1e-5),
                                                     ((4, 5, 7, 6), jnp.bfloat16, 2e-2)])
def test_equals_flax(monkeypatch, backend, train, shape, dtype, tolerance):
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: backend == 'cpu')
    x, weights = 2 + normal(shape, 5, dtype), normal(shape, 6, dtype)
    arguments = variables(shape[-1]), x, weights
    modules = [module(not train, momentum=0.8, epsilon=1e-3, dtype=dtype) for module in (BatchNorm, nn.BatchNorm)]
    actual, expected = (jax.jit(lambda *args, layer=layer: outputs_and_gradients(layer, *args))(*arguments)
                        for layer in modules)
    assert_close(actual, expected, tolerance)


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
def test_over_devices_equals_flax_and_one_device(monkeypatch, backend):
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: backend == 'cpu')
    devices = 4
    x, weights = normal((devices, 2, 3, 3, 5), 5), normal((devices, 2, 3, 3, 5), 6)
    x += jnp.arange(devices).reshape(-1, 1, 1, 1, 1)  # Statistics of one device differ from those of all.
    values = variables(5)

    def run(layer):
        def on_device(x, weights):
            outputs, updates, (gradients, x_gradient) = outputs_and_gradients(layer, values, x, weights)
            return outputs, updates, jax.lax.psum(gradients, 'batch'), x_gradient
        return jax.pmap(on_device, 'batch', devices=jax.devices()[:devices])(x, weights)

    actual = run(BatchNorm(False, axis_name='batch'))
    assert_close(actual, run(nn.BatchNorm(False, momentum=0.9, axis_name='batch')))
    together = outputs_and_gradients(BatchNorm(False), values, *(a.reshape(-1, 3, 3, 5) for a in (x, weights)))
    outputs, updates, gradients, x_gradient = actual
    assert_close(outputs.reshape(-1, 3, 3, 5), together[0])
    assert_close(jax.tree.map(lambda leaf: leaf[-1], updates), together[1])
    assert_close(jax.tree.map(lambda leaf: leaf[-1], gradients), together[2][0])
    assert_close(x_gradient.reshape(-1, 3, 3, 5), together[2][1])


def test_variables_are_flax_s_and_initialising_leaves_the_averages():
    x = 3 + normal((4, 3))
    actual, expected = (module(False, axis_name='batch').init(jax.random.key(0), x)
                        for module in (BatchNorm, nn.BatchNorm))
    assert_close(actual, expected)


def test_variance_of_values_far_from_zero_on_cpus():
    x = 1e4 + normal((4096, 2))
    outputs, _ = BatchNorm(False).apply(BatchNorm(False).init(jax.random.key(0), x), x, mutable='batch_stats')
    np.testing.assert_allclose(np.asarray(outputs).std(axis=0), 1, atol=1e-3)
