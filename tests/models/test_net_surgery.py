"""Classifiers made fully convolutional say of every window what they say of it alone."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models.net_surgery import as_convolution, window_stride
from practicum.training import array_paths
from tests.models import networks

VALID = {'name': 'alexnet', 'padding': 'VALID', 'hidden': (12, 8)}
ALONE = [
    ({'name': 'alexnet', 'hidden': (12, 8)}, (96, 128), 32),  # a map of 2x3, averaged to 6x6
    (VALID, (227, 195), 32),
    ({'name': 'vgg', 'depth': 11, 'global_pool': 'average_max', 'hidden': (6,), 'pool_norm': True}, (64, 96), 32),
    ({'name': 'lenet', 'padding': 'SAME'}, (12, 16), 4),
    ({'name': 'small_cnn'}, (28, 20), 8),
    ({'name': 'resnet', 'depth': 18, 'width': 2}, (64, 96), 32),
    ({'name': 'resnet_cifar', 'depth': 20}, (32, 24), 4),
    ({'name': 'resnet9', 'width': 2}, (16, 24), 8),
    ({'name': 'googlenet', 'auxiliary': True}, (64, 96), 32),
    ({'name': 'lenet5', 'subsampling': 'trained'}, (16, 24), 4),
]


def operated(config, window, seed=0):
    """(classifier, its variables, the same made convolutional, its variables)."""
    model, surgical = (models.build({**config, **more}, num_classes=5) for more in ({}, {'window': window}))
    variables = networks.random_variables(model, (1, *window, 3), seed)
    arrays = {}
    needed = array_paths.flatten(networks.shapes_of(surgical, (1, *window, 3)))
    for path, kernel in array_paths.flatten(variables).items():
        same = kernel.shape == needed[path].shape
        arrays[path] = kernel if same else as_convolution(kernel, needed[path].shape)
    assert set(arrays) == set(needed)
    return model, variables, surgical, flax.traverse_util.unflatten_dict(arrays, sep='/')


@pytest.mark.parametrize('config, window, stride', [
    pytest.param(*case, id=case[0]['name'], marks=[pytest.mark.thorough] * (case[0]['name'] in (
        'googlenet', 'vgg', 'resnet9', 'resnet_cifar')))
    for case in ALONE])
def test_a_window_alone_and_the_grid(config, window, stride):
    """An image that is one window has the classifier's logits, with any padding and pooling."""
    model, variables, surgical, new = operated(config, window)
    assert window_stride(surgical, 3) == stride
    larger = jax.ShapeDtypeStruct((2, window[0] + 3 * stride, window[1] + 5 * stride, 3), jnp.float32)
    assert jax.eval_shape(surgical.apply, new, larger).shape == (2, 4, 6, 5)
    if config['name'] in ('googlenet', 'resnet'):
        return  # they pool as resnet_cifar does, and to compile them takes long
    images = networks.random_images((1, *window, 3))
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    found = np.asarray(jax.jit(surgical.apply)(new, images))
    assert found.shape == (1, 1, 1, 5) and expected.std() > 1e-3
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-4, atol=1e-5 * expected.std())


@pytest.mark.parametrize('config, window', [
    ({'name': 'lenet', 'features': (3, 4), 'hidden': 6}, (20, 16)),
    (VALID, (195, 195)),
    ({'name': 'vgg', 'depth': 11, 'padding': 'VALID', 'hidden': (6,), 'global_pool': 'average'}, (150, 150)),
])
def test_without_padding_every_window_has_its_own_logits(config, window):
    model, variables, surgical, new = operated(config, window)
    stride = window_stride(surgical, 3)
    image = networks.random_images((1, window[0] + stride, window[1] + 2 * stride, 3))
    found = np.asarray(jax.jit(surgical.apply)(new, image))[0]
    cut = jnp.stack([image[0, y : y + window[0], x : x + window[1]]
                     for y in (0, stride) for x in (0, stride, 2 * stride)])
    expected = np.asarray(jax.jit(model.apply)(variables, cut)).reshape(2, 3, 5)
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()


def test_only_the_kernel_after_the_flattened_map_changes_its_shape():
    _, variables, _, new = operated({**VALID, 'padding': 'SAME'}, (224, 224))
    old, new = (array_paths.flatten(tree) for tree in (variables, new))
    changed = {path: (old[path].shape, new[path].shape) for path in old if old[path].shape != new[path].shape}
    assert changed == {'params/fc6/kernel': ((9216, 12), (6, 6, 256, 12))}


@pytest.mark.parametrize('shape', [(9, 9, 256, 12), (6, 6, 256, 11), (9216, 12), (36, 256, 12)])
def test_other_kernels_are_no_convolution(shape):
    assert as_convolution(np.zeros((9216, 12), np.float32), shape) is None


def test_without_padding_the_map_is_flattened_as_it_is():
    shapes = networks.shapes_of(models.build(VALID, num_classes=5), (1, 227, 227, 3))['params']
    assert shapes['fc6']['kernel'].shape == (2 * 2 * 256, 12)


@pytest.mark.parametrize('config, size, parts', [
    (VALID, 194, ('at least 195x195', 'without padding')),
    ({'name': 'vgg', 'depth': 11, 'padding': 'VALID'}, 149, ('at least 150x150', 'without padding')),
    ({**VALID, 'padding': 'none'}, 224, ("'SAME' or 'VALID'",)),
    ({'name': 'resnet', 'window': (32,)}, 64, ('model.window', 'height and a width')),
    ({'name': 'lenet', 'window': (32, 32, 3)}, 64, ('model.window', 'height and a width')),
])
def test_mistakes_are_one_line(config, size, parts):
    with pytest.raises(UserError) as failure:
        networks.shapes_of(models.build(config, num_classes=5), (1, size, size, 3))
    assert '\n' not in str(failure.value) and all(part in str(failure.value) for part in parts), str(failure.value)
