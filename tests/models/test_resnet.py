"""Residual networks have the published sizes and names, stop and begin at endpoints, and can freeze BatchNorm."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models.resnet import ARCHITECTURES


def build(**config):
    config = {'name': 'resnet', 'depth': 18, 'stem': 'cifar', **config}
    if config['name'] != 'resnet':
        del config['stem']
    return models.build(config, num_classes=10)


def shapes_of(model, side=64):
    return jax.eval_shape(lambda key: model.init(key, jnp.ones((1, side, side, 3))), jax.random.key(0))


@pytest.mark.parametrize('depth, count', [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160),
                                          (152, 60_192_808)])
def test_parameter_counts_are_those_of_torchvision(depth, count):
    model = models.build(ARCHITECTURES[f'resnet{depth}'], num_classes=1000)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)['params'])) == count


@pytest.mark.parametrize('depth', [20, 110])
def test_parameter_counts_of_cifar_networks(depth):
    def expected(blocks):  # 3x3 kernels, two per block; scale and bias per normalised channel; the last layer.
        kernels = 3 * 16 + 2 * blocks * (16 ** 2 + 32 ** 2 + 64 ** 2) - 32 ** 2 + 16 * 32 - 64 ** 2 + 32 * 64
        norms = 2 * (16 + 2 * blocks * (16 + 32 + 64))
        return 9 * kernels + norms + 64 * 10 + 10

    count = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(build(name='resnet_cifar', depth=depth), 32)['params']))
    assert count == expected((depth - 2) // 6)
    assert count == {20: 269_722, 110: 1_727_962}[depth]  # 0.27 M and 1.7 M in table 6 of the paper


@pytest.mark.parametrize('depth, blocks, convolutions', [(18, (2, 2, 2, 2), 2), (50, (3, 4, 6, 3), 3)])
def test_names_of_torchvision_reach_every_layer(depth, blocks, convolutions):
    model = models.build(ARCHITECTURES[f'resnet{depth}'], num_classes=1000)
    torch_modules = ['conv1', 'bn1', 'fc']
    for layer, count in enumerate(blocks, 1):
        for block in range(count):
            torch_modules += [f'layer{layer}.{block}.{kind}{number}' for kind in ('conv', 'bn')
                              for number in range(1, convolutions + 1)]
        if layer > 1 or convolutions == 3:
            torch_modules += [f'layer{layer}.0.downsample.{index}' for index in range(2)]
    ours = []
    for module in torch_modules:
        (pattern, replacement), = [pair for pair in model.torchvision_names() if re.fullmatch(pair[0], module)]
        ours.append(re.sub(pattern, replacement, module))
    modules = {'/'.join(key.key for key in path[:-1]) for path, _ in
               jax.tree_util.tree_leaves_with_path(shapes_of(model)['params'])}
    assert sorted(ours) == sorted(modules)
    assert model.flattened_inputs() == {}


@pytest.mark.parametrize('model, side, shapes', [
    (build(depth=50, stem='imagenet'), 65, {'stem': (17, 17, 64), 'layer1': (17, 17, 256), 'layer2_block3': (9, 9, 512),
                                            'layer4': (3, 3, 2048), 'pool': (2048,), 'logits': (10,)}),
    (build(), 32, {'stem': (32, 32, 64), 'layer1_block0': (32, 32, 64), 'layer4': (4, 4, 512), 'pool': (512,)}),
    (build(name='resnet_cifar', depth=20), 32, {'stem': (32, 32, 16), 'layer2': (16, 16, 32), 'layer3': (8, 8, 64),
                                                'pool': (64,), 'logits': (10,)})])
def test_endpoints(model, side, shapes):
    for endpoint, shape in shapes.items():
        value, _ = jax.eval_shape(lambda key: model.init_with_output(key, jnp.ones((2, side, side, 3)),
                                                                     features=endpoint), jax.random.key(0))
        assert value.shape == (2, *shape)


@pytest.fixture(scope='module')
def small():
    """A model, its variables with averages that are not those of a batch, and images."""
    model = build(name='resnet_cifar', depth=20)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)), jnp.float32)
    return model, jax.jit(model.init)(jax.random.key(0), images), images


def test_head_alone_on_the_features_of_the_body_is_the_whole(small):
    model, variables, images = small
    body = {kind: {name: value for name, value in variables[kind].items() if name != 'logits'} for kind in variables}
    features = jax.jit(lambda variables: model.apply(variables, images, features='pool'))(body)
    head = {'params': {'logits': variables['params']['logits']}}
    np.testing.assert_allclose(model.apply(head, features, begin='pool'),
                               jax.jit(lambda variables: model.apply(variables, images))(variables), rtol=1e-5)


def test_shortcut_without_parameters_skips_pixels_and_fills_channels_with_zeros(small):
    model, variables, images = small
    before = jax.jit(lambda: model.apply(variables, images, features='layer1'))()
    silent = jax.tree.map(jnp.zeros_like, variables['params']['layer2_block0'])  # Blocks of zeros are their shortcut.
    variables = {**variables, 'params': {**variables['params'], 'layer2_block0': silent}}
    after = np.asarray(jax.jit(lambda: model.apply(variables, images, features='layer2_block0'))())
    np.testing.assert_allclose(after[..., :16], before[:, ::2, ::2], rtol=1e-6)
    assert not after[..., 16:].any()


def test_zero_init_makes_every_block_its_shortcut(small):
    model, _, images = small
    model = model.clone(zero_init=True)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    stem, layer = (jax.jit(lambda: model.apply(variables, images, features=endpoint))()
                   for endpoint in ('stem', 'layer1'))
    np.testing.assert_array_equal(stem, layer)


@pytest.mark.parametrize('frozen', [False, True])
def test_frozen_norm_uses_and_keeps_the_averages_in_training(small, frozen):
    model, variables, images = small
    model = model.clone(frozen_norm=frozen)
    logits, updates = jax.jit(lambda variables: model.apply(variables, images, train=True, mutable='batch_stats'))(
        variables)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), updates['batch_stats'], variables['batch_stats'])
    assert all(jax.tree.leaves(same)) == frozen
    evaluated = jax.jit(lambda variables: model.apply(variables, images))(variables)
    assert np.allclose(logits, evaluated, rtol=1e-5) == frozen


@pytest.mark.parametrize('config, message', [
    ({'depth': 20}, 'config.model.depth = 20; it must be one of 18, 34, 50, 101, 152'),
    ({'stem': 'small'}, "config.model.stem = 'small'; it must be one of imagenet, cifar"),
    ({'name': 'resnet_cifar', 'depth': 18}, 'config.model.depth = 18; it must be one of 20, 32, 44, 56, 110')])
def test_what_there_is_not(config, message):
    with pytest.raises(UserError, match=message):
        shapes_of(build(**config), 32)
