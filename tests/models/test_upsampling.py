"""Upsampling: equal to JAX's own transposed convolution, and bilinear when it is asked to be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from practicum.models import cpu_kernels
from practicum.models.layers import ConvTranspose, bilinear
from practicum.models.pixel_blocks import depth_to_space, space_to_depth


@pytest.mark.parametrize('stride, size', [(16, 31), (16, 32), (2, 4), (8, 16), (4, 7), (2, 3), (2, 2), (32, 63),
                                          (16, 24), (1, 1), (1, 3), (3, 2)])
def test_conv_transpose_equals_lax_in_outputs_and_gradients(stride, size):
    rng = np.random.default_rng(stride * 100 + size)
    x, kernel, cotangent = (jnp.asarray(rng.normal(size=shape).astype(np.float32)) for shape in (
        (2, 5, 3, 3), (size, size, 3, 2), (2, 5 * stride, 3 * stride, 2)))

    def outputs_and_gradients(conv):
        outputs, gradients = jax.vjp(conv, x, kernel)
        return outputs, *gradients(cotangent)
    ours = jax.jit(lambda: outputs_and_gradients(lambda x, kernel: cpu_kernels.conv_transpose(x, kernel, stride)))()
    theirs = jax.jit(lambda: outputs_and_gradients(
        lambda x, kernel: lax.conv_transpose(x, kernel, (stride, stride), 'SAME')))()
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
def test_module_takes_the_parameters_of_nn_conv_transpose(monkeypatch, backend):
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: backend == 'cpu')
    x = jax.random.normal(jax.random.key(0), (1, 4, 5, 3))
    theirs = nn.ConvTranspose(2, (4, 4), (2, 2))
    params = theirs.init(jax.random.key(1), x)['params'] | {'bias': jnp.array([1.0, -2.0])}
    ours = ConvTranspose(2, 4, 2)
    shapes = jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)['params'])
    assert shapes == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(ours.apply({'params': params}, x), theirs.apply({'params': params}, x), atol=1e-5)
    assert 'bias' not in ConvTranspose(2, 4, 2, use_bias=False).init(jax.random.key(1), x)['params']
    assert ours.clone(dtype=jnp.bfloat16).apply({'params': params}, x).dtype == jnp.bfloat16


@pytest.mark.parametrize('stride, size', [(4, 8), (4, 7), (16, 31)])
def test_bilinear_kernels_keep_constants_slopes_and_channels(stride, size):
    rows, columns = np.mgrid[:6, :5].astype(np.float32)
    x = np.stack([np.full_like(rows, 3), 2 * rows + columns], axis=-1)[None]
    layer = ConvTranspose(2, size, stride, kernel_init=bilinear(stride))
    upsampled = layer.apply(layer.init(jax.random.key(0), x), x)[0]
    inner = np.asarray(upsampled[stride:-stride, stride:-stride])
    np.testing.assert_allclose(inner[..., 0], 3, atol=1e-5)
    np.testing.assert_allclose(np.diff(inner[..., 1], axis=0), 2 / stride, atol=1e-4)
    np.testing.assert_allclose(np.diff(inner[..., 1], axis=1), 1 / stride, atol=1e-4)


def test_blocks_of_pixels_become_channels_and_pixels_again():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    blocks = space_to_depth(x, 2)
    np.testing.assert_array_equal(blocks[1, 1, 2].reshape(2, 2, 3), x[1, 2:4, 4:6])
    np.testing.assert_array_equal(depth_to_space(blocks, 2), x)
