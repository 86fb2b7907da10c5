"""Models that label every pixel: sizes, parameters, equality with plain flax, training and evaluation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from practicum import models
from practicum.common.errors import UserError
from practicum.models import batch_axis


def count(params) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def images(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(7).random(shape, np.float32))


def random_variables(model, x) -> dict:
    """Variables as `init` gives them, drawn by numpy: compiling initialisers takes longer than these tests."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if len(leaf.shape) > 1:
            return rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ('scale', 'var'), np.float32)
    return jax.tree_util.tree_map_with_path(draw, dict(jax.eval_shape(model.init, jax.random.key(0), x)))


@pytest.mark.parametrize('config, parameters', [
    # 2,600 + 500,200 + 540,300 + 810,300 in the convolutions, 602 in the scores, 31 * 31 * 2 * 2 + 2 in the upsampling.
    ({'name': 'fcn'}, 1_857_848),
    ({'name': 'unet'}, 1_942_306),
    ({'name': 'unet', 'stem_stride': 2}, 1_942_306 + 9 * 3 * 16 + 3 * 16 * 2),
    # 65,536 * 512 + 512 and 512 * 131,072 + 131,072.
    ({'name': 'segmentation_mlp'}, 100_794_880),
])
def test_parameter_counts_at_256_pixels(config, parameters):
    model = models.build(config, num_classes=2)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 256, 256, 1)))
    assert count(variables['params']) == parameters
    assert jax.eval_shape(model.apply, variables, jnp.zeros((3, 256, 256, 1))).shape == (3, 256, 256, 2)


@pytest.mark.parametrize('config, precision', [
    ({'name': 'fcn', 'features': (4, 6, 8, 8)}, 'float32'),
    ({'name': 'fcn', 'features': (4, 6, 8, 8)}, 'bfloat16'),
    ({'name': 'unet', 'features': (4, 6)}, 'bfloat16'),
    ({'name': 'unet', 'features': (4, 6), 'stem_stride': 2}, 'float32'),
    ({'name': 'unet', 'features': (4, 6), 'norm': 'group'}, 'float32'),
    ({'name': 'segmentation_mlp', 'hidden': 8}, 'bfloat16'),
])
def test_logits_are_float32_per_pixel_for_any_size_and_all_parameters_learn(config, precision):
    model = models.build(config, num_classes=3, precision=precision)
    x = images(2, 33, 21, 2)

    def loss(params, rest):
        logits, _ = model.apply({'params': params, **rest}, x, train=True, mutable=['batch_stats'])
        return (jax.nn.log_softmax(logits)[..., 0] * x[..., 0]).mean(), logits

    rest = random_variables(model, x)
    params = rest.pop('params')
    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(params, rest)
    assert logits.shape == (2, 33, 21, 3) and logits.dtype == jnp.float32
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
    params = random_variables(ours, x)['params']
    weights = images(2, *size, 2)
    results = [jax.jit(jax.value_and_grad(lambda params: (model.apply({'params': params}, x) * weights).sum()))(params)
               for model in (ours, PlainFCN())]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4), *results)


def test_fcn_starts_as_an_interpolation_of_scores_of_steady_activations():
    """Long et al. 2015, section 3.3, and He et al. 2015: variance 2 / fan-in before a ReLU."""
    model = models.build({'name': 'fcn', 'features': (4, 64, 64, 4)}, num_classes=2)
    params = jax.jit(model.init)(jax.random.key(0, impl='rbg'), images(1, 16, 16, 1))['params']
    kernel = params['upsample']['kernel']
    np.testing.assert_allclose(kernel[15, 15], np.eye(2))
    np.testing.assert_allclose(kernel[7, 15], np.eye(2) / 2)
    np.testing.assert_allclose(kernel.sum(axis=(0, 1)), 16 ** 2 * np.eye(2), rtol=1e-6)
    assert float(params['conv3']['kernel'].std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize('stem_stride', [1, 2])
def test_unet_pads_at_the_lower_and_right_edge_by_repeating_pixels(stem_stride):
    model = models.build({'name': 'unet', 'features': (4, 6, 8), 'stem_stride': stem_stride}, num_classes=2)
    x = images(1, 21, 30, 1)
    variables = random_variables(model, x)
    apply = jax.jit(model.apply)
    padded = np.pad(x, ((0, 0), (0, 3), (0, 2), (0, 0)), mode='edge')
    np.testing.assert_allclose(apply(variables, x), apply(variables, padded)[:, :21, :30], atol=1e-5)


def test_unet_sees_fine_detail_and_far_context():
    """A pixel moves its own logits through the skip, and through the coarse levels those far away."""
    model = models.build({'name': 'unet', 'features': (4, 6, 8)}, num_classes=2)
    x = images(1, 64, 64, 1)
    variables = random_variables(model, x)
    apply = jax.jit(model.apply)
    change = jnp.abs(apply(variables, x.at[0, 32, 32].add(5.0)) - apply(variables, x)).sum(-1)[0]
    assert jnp.isfinite(change).all()
    assert change[32, 32] > 0
    assert change[:, 44:].max() > 0  # the four 3x3 convolutions at full resolution alone reach 4 pixels
    assert change[:, 63].max() == 0  # all levels: 4 * 1 + 4 * 2 + 2 * 4 pixels, rounded up to blocks of 4


def test_unet_uses_the_batch_in_training_and_running_averages_in_evaluation():
    model = models.build({'name': 'unet', 'features': (4, 6)}, num_classes=2)
    x = 3 + 2 * images(4, 8, 8, 1)
    variables = random_variables(model, x)
    logits, new = jax.jit(lambda: model.apply(variables, x, train=True, mutable=['batch_stats']))()
    evaluated = jax.jit(model.apply)(variables, x)
    first, average = (stats['batch_stats']['down0_norm1']['mean'] for stats in (variables, new))
    kernel = variables['params']['down0_conv1']['kernel']
    outputs = lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    np.testing.assert_allclose(average, 0.9 * first + 0.1 * outputs.mean((0, 1, 2)), rtol=1e-4)
    assert jnp.abs(logits - evaluated).max() > 1e-3
    np.testing.assert_allclose(evaluated[:1], jax.jit(model.apply)(variables, x[:1]), atol=1e-5)


def test_unet_batch_norm_is_over_all_devices():
    x = images(4, 8, 8, 1)
    config = {'name': 'unet', 'features': (4, 6)}
    one = models.build(config, num_classes=2)
    variables = random_variables(one, x)
    whole, stats = jax.jit(lambda x: one.apply(variables, x, train=True, mutable=['batch_stats']))(x)

    def apply(shard):
        with batch_axis.divided('batch'):
            return one.apply(variables, shard, train=True, mutable=['batch_stats'])
    split, split_stats = jax.jit(jax.vmap(apply, axis_name='batch'))(x.reshape(2, 2, 8, 8, 1))
    np.testing.assert_allclose(split.reshape(whole.shape), whole, atol=1e-4)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one[1], other, atol=1e-5), split_stats, stats)


@pytest.mark.parametrize('config', [{'name': 'fcn', 'features': (4, 6, 8, 8)},
                                    {'name': 'unet', 'features': (4, 6), 'norm': 'none'}])
def test_dropout_acts_in_training_only(config):
    model = models.build(config | {'dropout': 0.5}, num_classes=2)
    x = images(1, 32, 32, 1)
    variables = random_variables(model, x)
    plain = jax.jit(model.apply)(variables, x)
    train = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={'dropout': key}))
    dropped = [train(jax.random.key(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert jnp.abs(dropped[0] - plain).max() > 0 and jnp.abs(dropped[0] - dropped[2]).max() > 0
    np.testing.assert_array_equal(plain, jax.jit(models.build(config, num_classes=2).apply)(variables, x))


@pytest.mark.parametrize('fields, words', [({'norm': 'layer'}, "config.model.norm = 'layer'"),
                                           ({'features': ()}, 'config.model.features')])
def test_unet_rejects_what_it_cannot_be(fields, words):
    with pytest.raises(UserError, match=words):
        random_variables(models.build({'name': 'unet', **fields}, num_classes=2), jnp.zeros((1, 8, 8, 1)))
