"""With the same weights, our networks give what torchvision's give. Needs tests/requirements.txt; skipped without."""

import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.conversion import importing
from practicum.models import googlenet
from practicum.models.pooling import adaptive_average_pool

torch = pytest.importorskip('torch')
torchvision = pytest.importorskip('torchvision')

ARCHITECTURES = importing.architectures()
CLASSES = 7


def make(name, **arguments):
    """torchvision's network with values of the order of one in any depth, and with BatchNorm averages."""
    torch.manual_seed(0)
    if name == 'googlenet':
        arguments = {'init_weights': False, 'aux_logits': False, **arguments}
    network = getattr(torchvision.models, name)(num_classes=CLASSES, **arguments)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.weight.data.normal_(0, math.sqrt(2 / module.weight[0].numel()))
            if module.bias is not None:
                module.bias.data.normal_(0, 0.1)
        elif isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 1.5)
            for values in (module.bias.data, module.running_mean):
                values.normal_(0, 0.2)
    return network


def convert(name, tensors, **fields):
    """Our variables from torchvision's tensors by name, as `launch.py import` makes them."""
    arrays = {key: tensor.detach().numpy() for key, tensor in tensors.items()}
    found, num_classes, _ = importing.assign(arrays, name, dict(ARCHITECTURES[name], **fields), importing.SIZE)
    assert num_classes == CLASSES
    return flax.traverse_util.unflatten_dict({path: jnp.asarray(array) for path, array in found.items()}, sep='/')


def draw_images(size):
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    return jnp.asarray(images), torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def assert_close(ours, theirs):
    """Equal to 1e-4 of the largest value."""
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    assert scale > 1e-3
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize('name, size', [
    ('alexnet', 224), ('alexnet', 130), ('vgg11', 96), ('vgg16', 64), ('googlenet', 96), ('googlenet', 89),
    ('resnet18', 96), ('resnet50', 64), ('resnet50', 75)])
def test_same_logits(name, size):
    network = make(name).eval()
    model = models.build(ARCHITECTURES[name], num_classes=CLASSES)
    ours, theirs = draw_images(size)
    with torch.no_grad():
        assert_close(jax.jit(model.apply)(convert(name, network.state_dict()), ours), network(theirs).numpy())


def test_same_gradients_of_alexnet():
    network = make('alexnet', dropout=0.0).train()
    model = models.build(dict(ARCHITECTURES['alexnet'], dropout=0.0), num_classes=CLASSES)
    ours, theirs = draw_images(95)
    labels = np.asarray([2, 5])
    torch.nn.functional.cross_entropy(network(theirs), torch.from_numpy(labels)).backward()
    expected = convert('alexnet', {key: values.grad for key, values in network.named_parameters()})

    def loss(variables):
        logits = model.apply(variables, ours, train=True)
        return -jax.nn.log_softmax(logits)[jnp.arange(2), labels].mean()

    gradients = jax.jit(jax.grad(loss))(convert('alexnet', network.state_dict()))
    assert jax.tree.structure(gradients) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        assert_close(ours, theirs)


def test_same_training_step_of_googlenet():
    """The batch's statistics and both auxiliary heads, whose dropout is off on both sides."""
    network = make('googlenet', aux_logits=True, dropout=0.0, dropout_aux=0.0).train()
    model = googlenet.GoogLeNet(CLASSES, auxiliary=True, dropout=0.0)
    ours, theirs = draw_images(96)
    variables = convert('googlenet', network.state_dict(), auxiliary=True)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(googlenet, 'AUXILIARY_DROPOUT', 0.0)
        outputs, _ = jax.jit(lambda *arguments: model.apply(
            *arguments, train=True, mutable=['batch_stats']))(variables, ours)
        expected = network(theirs)
    assert_close(outputs['logits'], expected.logits.numpy())
    first, second = outputs['auxiliary']
    assert_close(first, expected.aux_logits1.numpy())
    assert_close(second, expected.aux_logits2.numpy())


@pytest.mark.parametrize('height, width, size', [(13, 13, 6), (3, 5, 7), (7, 14, 7), (1, 20, 4)])
def test_same_adaptive_pooling(height, width, size):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    theirs = torch.nn.AdaptiveAvgPool2d(size)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(adaptive_average_pool(jnp.asarray(x), size), theirs.numpy().transpose(0, 2, 3, 1),
                               rtol=1e-5, atol=1e-6)
