"""On CPUs the layers have forms of their own; elsewhere they are flax's, operation for operation."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models, tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.models import cpu_kernels
from practicum.models.layers import BatchNorm, Conv, ConvMaxPool, ConvTranspose, Dropout, max_pool
from practicum.training import defaults
from practicum.training.optimizer import Optimizer
from practicum.training.parallel import AXIS
from practicum.training.state import hyperparameters, init_state
from practicum.training.step import apply_model, make_train_step


@pytest.fixture
def elsewhere(monkeypatch):
    """As if this were a GPU."""
    monkeypatch.setattr(cpu_kernels, 'on_cpu', lambda: False)


def operations(layer, channels=4, **init):
    """The lowered gradient of a layer over two devices, without the names of functions."""
    x = jnp.ones((2, 3, 9, 8, channels))
    variables = jax.eval_shape(lambda: layer.init(jax.random.key(0), x[0], **init))

    def loss(params, rest, x):
        return layer.apply({'params': params, **rest}, x, mutable=list(rest))[0].sum()

    def gradients(variables, x):
        rest = dict(variables)
        return jax.grad(loss, argnums=(0, 2))(rest.pop('params', {}), rest, x)
    text = jax.pmap(gradients, AXIS, in_axes=(None, 0)).lower(variables, x).as_text()
    return re.sub(r'@\w+', '@', text)


class Pool(nn.Module):
    """Max pooling as a module."""
    ours: bool
    window: int
    stride: int

    @nn.compact
    def __call__(self, x):
        return max_pool(x, self.window, self.stride, 1) if self.ours else nn.max_pool(
            x, (self.window,) * 2, (self.stride,) * 2, ((1, 1), (1, 1)))


LAYERS = {
    'conv': (Conv(5, 3, 2, 1, use_bias=False), nn.Conv(5, (3, 3), 2, 1, use_bias=False)),
    'conv 1x1': (Conv(5, 1), nn.Conv(5, (1, 1))),
    'norm': (BatchNorm(False, axis_name=AXIS), nn.BatchNorm(False, momentum=0.9, axis_name=AXIS)),
    'norm in evaluation': (BatchNorm(True), nn.BatchNorm(True)),
    'upsampling': (ConvTranspose(5, 4, 2), nn.ConvTranspose(5, (4, 4), (2, 2))),
    'overlapping pooling': (Pool(True, 3, 2), Pool(False, 3, 2)),
    'tiled pooling': (Pool(True, 2, 2), Pool(False, 2, 2)),
}


@pytest.mark.parametrize('name', LAYERS)
def test_elsewhere_the_layers_are_those_of_flax(elsewhere, name):
    ours, flax_s = LAYERS[name]
    assert operations(ours) == operations(flax_s)


@pytest.mark.parametrize('name', sorted(set(LAYERS) - {'norm in evaluation'}))
def test_on_cpus_they_are_not(name):
    ours, flax_s = LAYERS[name]
    assert operations(ours) != operations(flax_s)


def test_elsewhere_convolution_and_pooling_are_those_of_flax(elsewhere):
    """But for the bias, which is added after pooling."""
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.max_pool(nn.Conv(5, (3, 3), padding='SAME', use_bias=False)(x), (2, 2), (2, 2))
    plain = operations(Plain()).replace("['Conv_0']", '')
    assert operations(ConvMaxPool(5, 3, padding='SAME', use_bias=False)) == plain


@pytest.mark.parametrize('fields', [
    {'kernel_size': (3, 1)}, {'kernel_size': 3, 'strides': (2, 1)}, {'kernel_size': 3, 'kernel_dilation': 2},
    {'kernel_size': 3, 'feature_group_count': 2}, {'kernel_size': 3, 'padding': ((0, 1), (1, 0))},
    {'kernel_size': (3,)}, {'kernel_size': 3, 'precision': 'highest'}, {'kernel_size': 2, 'strides': 2},
    {'kernel_size': 3, 'padding': 'CIRCULAR'}])
def test_conv_takes_all_that_nn_conv_takes(fields):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 4))
    ours = Conv(6, **fields)
    flax_s = nn.Conv(6, **{**fields, 'kernel_size': ours.kernel_size})
    variables = ours.init(jax.random.key(1), x)
    np.testing.assert_allclose(ours.apply(variables, x), flax_s.apply(variables, x), atol=1e-5)


def test_elsewhere_batch_norm_waits_for_the_devices_twice_in_a_step(elsewhere):
    """Once forward and once backward; the rest are the mean gradients and running averages of the engine."""
    devices, classes = 8, 3
    task = tasks.build({'name': 'classification'}, DatasetInfo(class_names=('a', 'b', 'c')))
    model = models.build({'name': 'resnet_cifar', 'depth': 20}, num_classes=classes, axis_name=AXIS)
    optimizer = Optimizer(defaults.base().optimizer)
    images = jnp.zeros((devices, 2, 8, 8, 3))
    state = jax.eval_shape(
        lambda: init_state(model, (images[0],), optimizer, hyperparameters(defaults.base()), ema=False))
    step = make_train_step(apply_model(model, task), task, optimizer, lambda step: 1.0, lambda batch, keys: batch)
    lowered = jax.pmap(step, AXIS, in_axes=(None, 0)).lower(
        state, {'image': images, 'label': jnp.zeros((devices, 2), jnp.int32)})
    norms = 19
    leaves = len(jax.tree.leaves((state.params, state.batch_stats)))
    assert len(jax.tree.leaves(state.batch_stats)) == 2 * norms
    assert lowered.as_text().count('stablehlo.all_reduce') <= leaves + 2 * norms


IMAGE_MODELS = {
    'alexnet': ({'hidden': (8,)}, 63), 'fcn': ({}, 32), 'googlenet': ({}, 32), 'lenet': ({}, 28), 'lenet5': ({}, 28),
    'mlp': ({}, 8), 'resnet': ({'depth': 18}, 32), 'resnet9': ({}, 16), 'resnet_cifar': ({}, 16),
    'segmentation_mlp': ({}, 8), 'small_cnn': ({}, 28), 'unet': ({'stem_stride': 2}, 32), 'vgg': ({'hidden': (8,)}, 32)}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[pytest.mark.thorough] * (name == 'googlenet')) for name in IMAGE_MODELS])
def test_images_have_any_number_of_channels(name):
    fields, side = IMAGE_MODELS[name]
    model = models.build({'name': name, **fields}, num_classes=3)
    shapes = {}
    for channels in (1, 2, 4, 13):
        images = jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)
        outputs, variables = jax.eval_shape(lambda images: model.init_with_output(jax.random.key(0), images), images)
        assert outputs.shape in ((2, 3), (2, side, side, 3)) and outputs.dtype == jnp.float32
        shapes[channels] = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    steps = np.diff(list(shapes.values())) / np.diff(list(shapes))
    assert steps[0] > 0 and np.all(steps == steps[0])  # each channel has as many parameters as the others


def test_an_mlp_reads_tables():
    model = models.build({'name': 'mlp', 'hidden': (4,)}, num_classes=3)
    outputs, variables = model.init_with_output(jax.random.key(0), jnp.ones((5, 13)))
    assert outputs.shape == (5, 3) and variables['params']['dense1']['kernel'].shape == (13, 4)


def test_blocks_with_dropout_and_batch_norm_can_be_rematerialized():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return Dropout(0.5)(BatchNorm(not train)(nn.relu(Conv(4, 3)(x))), train)

    class Network(nn.Module):
        remat: bool

        @nn.compact
        def __call__(self, x, *, train=False):
            block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
            return block(name='two')(block(name='one')(x, train), train)

    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    variables = Network(False).init(jax.random.key(1), x)

    def gradients(remat):
        def loss(params):
            outputs, _ = Network(remat).apply({**variables, 'params': params}, x, train=True, mutable=['batch_stats'],
                                              rngs={'dropout': jax.random.key(2)})
            return jnp.square(outputs - 1).mean()
        return jax.jit(jax.grad(loss))(variables['params'])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients(True), gradients(False))
