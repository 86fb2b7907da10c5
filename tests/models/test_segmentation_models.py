"""Models that label every pixel: sizes, parameters, equality with plain flax, training and evaluation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from training.errors import UserError


def count(params) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def images(*shape: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(7), shape)


@pytest.mark.parametrize('config, parameters', [
    # 2,600 + 500,200 + 540,300 + 810,300 in the convolutions, 602 in the scores, 31 * 31 * 2 * 2 + 2 in the upsampling.
    ({'name': 'fcn'}, 1_857_848),
    ({'name': 'unet'}, 1_942_306),
    ({'name': 'unet', 'stem_stride': 2}, 1_942_306 + 9 * 3 * 16 + 3 * 2 * 17),
    # 65,536 * 512 + 512 and 512 * 131,072 + 131,072.
    ({'name': 'segmentation_mlp'}, 100_794_880),
])
def test_parameter_counts_at_256_pixels(config, parameters):
    model = models.build(config, num_classes=2)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 256, 256, 1)))
    assert count(variables['params']) == parameters
    assert jax.eval_shape(model.apply, variables, jnp.zeros((3, 256, 256, 1))).shape == (3, 256, 256, 2)


@pytest.mark.parametrize('config', [
    {'name': 'fcn', 'features': (4, 6, 8, 8)},
    {'name': 'unet', 'features': (4, 6, 8)},
    {'name': 'unet', 'features': (4, 6, 8), 'stem_stride': 2},
    {'name': 'unet', 'features': (4, 6), 'norm': 'group'},
    {'name': 'unet', 'features': (4, 6), 'norm': 'none'},
    {'name': 'segmentation_mlp', 'hidden': 8},
])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_logits_are_float32_per_pixel_for_any_size_and_all_parameters_learn(config, precision):
    model = models.build(config, num_classes=3, precision=precision)
    for height, width in ((32, 48), (33, 21)) if precision == 'float32' else ((17, 30),):
        x = images(2, height, width, 2)

        def loss(params, rest):
            logits, _ = model.apply({'params': params, **rest}, x, train=True, mutable=['batch_stats'])
            return (jax.nn.log_softmax(logits)[..., 0] * x[..., 0]).mean(), logits

        rest = dict(jax.jit(model.init)(jax.random.key(0), x))
        params = rest.pop('params')
        gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(params, rest)
        assert logits.shape == (2, height, width, 3) and logits.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
            assert jnp.isfinite(leaf).all() and jnp.abs(leaf).max() > 0, jax.tree_util.keystr(path)


class PlainFCN(nn.Module):
    """FCN as one writes it with flax alone."""

    @nn.compact
    def __call__(self, images):
        x = images
        for index, (features, size, stride) in enumerate([(4, 5, 2), (6, 5, 2), (8, 3, 1), (8, 3, 1)], start=1):
            x = nn.relu(nn.Conv(features, (size, size), stride, name=f'conv{index}')(x))
            if index <= 2:
                x = nn.max_pool(x, (2, 2), (2, 2), 'SAME')
        x = nn.Conv(2, (1, 1), name='score')(x)
        x = nn.ConvTranspose(2, (31, 31), (16, 16), name='upsample')(x)
        return x[:, : images.shape[1], : images.shape[2]]


@pytest.mark.parametrize('size', [(32, 48), (37, 21)])
def test_fcn_equals_plain_flax_in_logits_and_gradients(size):
    x = images(2, *size, 1)
    ours = models.build({'name': 'fcn', 'features': (4, 6, 8, 8), 'bilinear_init': False}, num_classes=2)
    params = ours.init(jax.random.key(0), x)['params']
    weights = jax.random.normal(jax.random.key(1), (2, *size, 2))
    results = [jax.jit(jax.value_and_grad(lambda params: (model.apply({'params': params}, x) * weights).sum()))(params)
               for model in (ours, PlainFCN())]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4), *results)


def test_fcn_starts_as_an_interpolation_of_its_scores():
    x = images(1, 32, 32, 1)
    variables = models.build({'name': 'fcn', 'features': (4, 6, 8, 8)}, num_classes=2).init(jax.random.key(0), x)
    kernel = variables['params']['upsample']['kernel']
    np.testing.assert_allclose(kernel[15, 15], np.eye(2))
    np.testing.assert_allclose(kernel[7, 15], np.eye(2) / 2)
    np.testing.assert_allclose(kernel.sum(axis=(0, 1)), 16 ** 2 * np.eye(2), rtol=1e-6)


@pytest.mark.parametrize('stem_stride', [1, 2])
def test_unet_pads_at_the_lower_and_right_edge_by_repeating_pixels(stem_stride):
    model = models.build({'name': 'unet', 'features': (4, 6, 8), 'stem_stride': stem_stride}, num_classes=2)
    x = images(1, 21, 30, 1)
    variables = model.init(jax.random.key(0), x)
    padded = np.pad(x, ((0, 0), (0, 3), (0, 2), (0, 0)), mode='edge')
    np.testing.assert_allclose(model.apply(variables, x), model.apply(variables, padded)[:, :21, :30], atol=1e-6)


def test_unet_sees_fine_detail_and_far_context():
    """A pixel moves its own logits through the skip, and through the coarse levels those far away."""
    model = models.build({'name': 'unet', 'features': (4, 6, 8, 10)}, num_classes=2)
    x = images(1, 64, 64, 1)
    variables = model.init(jax.random.key(0), x)
    change = jnp.abs(model.apply(variables, x.at[0, 32, 32].add(5.0)) - model.apply(variables, x)).sum(-1)[0]
    assert change[32, 32] > 0 and change[32, 60] > 0 and jnp.isfinite(change).all()
    assert change[32, 32] > change[32, 60]


def test_unet_uses_the_batch_in_training_and_running_averages_in_evaluation():
    model = models.build({'name': 'unet', 'features': (4, 6)}, num_classes=2)
    x = 3 + 2 * images(4, 8, 8, 1)
    variables = model.init(jax.random.key(0), x)
    logits, new = model.apply(variables, x, train=True, mutable=['batch_stats'])
    first, average = (stats['batch_stats']['down0_norm1']['mean'] for stats in (variables, new))
    kernel = variables['params']['down0_conv1']['kernel']
    mean = lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')).mean((0, 1, 2))
    np.testing.assert_allclose(average, 0.9 * first + 0.1 * mean, rtol=1e-4)
    assert jnp.abs(logits - model.apply(variables, x)).max() > 1e-3
    np.testing.assert_allclose(model.apply(variables, x)[:1], model.apply(variables, x[:1]), atol=1e-5)


def test_unet_batch_norm_is_over_all_devices():
    x = images(4, 8, 8, 1)
    config = {'name': 'unet', 'features': (4, 6)}
    one = models.build(config, num_classes=2)
    many = models.build(config, num_classes=2, axis_name='batch')
    variables = one.init(jax.random.key(0), x)
    whole, stats = one.apply(variables, x, train=True, mutable=['batch_stats'])

    def apply(shard):
        return many.apply(variables, shard, train=True, mutable=['batch_stats'])
    split, split_stats = jax.vmap(apply, axis_name='batch')(x.reshape(2, 2, 8, 8, 1))
    np.testing.assert_allclose(split.reshape(whole.shape), whole, atol=1e-4)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one[1], other, atol=1e-5), split_stats, stats)


@pytest.mark.parametrize('config', [{'name': 'fcn', 'features': (4, 6, 8, 8)},
                                    {'name': 'unet', 'features': (4, 6), 'norm': 'none'}])
def test_dropout_acts_in_training_only(config):
    model = models.build(config | {'dropout': 0.5}, num_classes=2)
    x = images(1, 32, 32, 1)
    variables = model.init(jax.random.key(0), x)
    plain = model.apply(variables, x)
    dropped = [model.apply(variables, x, train=True, rngs={'dropout': jax.random.key(i)}) for i in (1, 1, 2)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert jnp.abs(dropped[0] - plain).max() > 0 and jnp.abs(dropped[0] - dropped[2]).max() > 0
    np.testing.assert_array_equal(plain, models.build(config, num_classes=2).apply(variables, x))


def test_relu_convolutions_keep_the_size_of_activations():
    """He et al. 2015: variance 2 / fan-in."""
    for config, path in (({'name': 'fcn'}, 'conv2'), ({'name': 'unet'}, 'down4_conv2'),
                         ({'name': 'segmentation_mlp'}, 'hidden')):
        variables = models.build(config, num_classes=2).init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
        kernel = variables['params'][path]['kernel']
        assert float(kernel.std()) == pytest.approx((2 / (kernel.size / kernel.shape[-1])) ** 0.5, rel=0.02)


@pytest.mark.parametrize('fields, words', [({'norm': 'layer'}, "config.model.norm = 'layer'"),
                                           ({'features': ()}, 'config.model.features')])
def test_unet_rejects_what_it_cannot_be(fields, words):
    with pytest.raises(UserError, match=words):
        models.build({'name': 'unet', **fields}, num_classes=2).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
