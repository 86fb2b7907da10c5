"""config.model.activation means the same in every model that has it."""

import dataclasses

import flax.linen as nn
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models import googlenet, inception_bn
from practicum.models.activations import ACTIVATIONS, activation
from tests.models import networks

# The models that have the field, made small; their images' side; and how many of their layers have an activation.
MODELS = {'mlp': ({'hidden': (4, 4)}, 8, 2), 'lenet': ({'relu_after_pool1': True}, 16, 2),
          'lenet5': ({'subsampling': 'trained'}, 16, 6), 'small_cnn': ({}, 16, 4), 'alexnet': ({'hidden': (4,)}, 64, 6),
          'vgg': ({'depth': 11, 'hidden': (4, 4)}, 32, 10), 'googlenet': ({}, 16, 9), 'inception_bn': ({}, 16, 10),
          'fcn': ({}, 16, 4), 'segmentation_mlp': ({}, 8, 1), 'resnet': ({'depth': 50}, 16, 49),
          'resnet_cifar': ({}, 16, 19)}


@pytest.mark.parametrize('name', MODELS)
def test_every_layer_takes_it(monkeypatch, name):
    """As many layers as have one call it, and none calls flax's relu beside it."""
    monkeypatch.setattr(googlenet, 'INCEPTIONS', {'inception3a': (5, 3, 4, 2, 3, 4)})
    monkeypatch.setattr(inception_bn, 'MODULES', {'inception3a': (5, 3, 4, 2, 3, 'average', 4)})
    calls = []

    def counted(x):
        calls.append(x.shape)
        return x

    def forbidden(x):
        raise AssertionError(f'{name} calls relu')
    monkeypatch.setitem(ACTIVATIONS, 'silu', counted)
    monkeypatch.setattr(nn, 'relu', forbidden)
    fields, side, layers = MODELS[name]
    model = models.build({'name': name, **fields, 'activation': 'silu'}, num_classes=3)
    networks.shapes_of(model, (1, side, side, 1))
    assert len(calls) == layers


def test_models_with_the_field_are_those_tested():
    """And they begin with ReLUs; LeNet-5 with tanh."""
    for name in MODELS:
        default, = [field.default for field in dataclasses.fields(models.MODELS[name]) if field.name == 'activation']
        assert default == ('tanh' if name == 'lenet5' else 'relu')


def test_functions():
    x = np.float32([-2, -0.5, 0, 1, 3])
    expected = {'relu': np.maximum(x, 0), 'tanh': np.tanh(x), 'sigmoid': 1 / (1 + np.exp(-x)),
                'elu': np.where(x > 0, x, np.exp(x) - 1), 'leaky_relu': np.where(x > 0, x, 0.01 * x),
                'silu': x / (1 + np.exp(-x)), 'softplus': np.log1p(np.exp(x)),
                'gelu': [-0.0454, -0.1543, 0, 0.8412, 2.9964],
                'selu': 1.0507 * np.where(x > 0, x, 1.67326 * (np.exp(x) - 1)),
                'scaled_tanh': 1.7159 * np.tanh(2 / 3 * x)}
    assert set(expected) == set(ACTIVATIONS)
    for name, value in expected.items():
        np.testing.assert_allclose(activation(name)(x), value, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize('name', ['mlp', 'lenet', 'lenet5', 'small_cnn', 'resnet'])
def test_an_unknown_name_is_one_line(name):
    fields, side, _ = MODELS[name]
    model = models.build({'name': name, **fields, 'activation': 'leakyrelu'}, num_classes=3)
    with pytest.raises(UserError, match="config.model.activation = 'leakyrelu'; did you mean leaky_relu") as failure:
        networks.shapes_of(model, (1, side, side, 1))
    assert '\n' not in str(failure.value)
