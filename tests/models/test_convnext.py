"""ConvNeXt has the published sizes, computes what torchvision's does, and can be taken apart."""

import math

import flax
import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from practicum import models
from practicum.common.errors import UserError
from practicum.conversion import importing
from practicum.models import depthwise
from tests.models import networks

FIELDS = {'name': 'convnext', 'blocks': (1, 1), 'width': 6, 'patch': 2}
SHAPE = (2, 8, 12, 3)


def build(classes=5, **fields):
    return models.build(FIELDS | fields, num_classes=classes)


@pytest.mark.parametrize('arch, count', [
    ('convnext_tiny', 28_589_128), *(pytest.param(*pair, marks=pytest.mark.thorough) for pair in (
        ('convnext_small', 50_223_688), ('convnext_base', 88_591_464), ('convnext_large', 197_767_336)))])
def test_parameter_counts_are_those_of_torchvision(arch, count):
    assert networks.parameter_count(models.build(importing.architectures()[arch], num_classes=1000)) == count


def test_endpoints_and_a_head_alone():
    values = {'stem': (4, 6, 6), 'stage1_block0': (4, 6, 6), 'stage1': (4, 6, 6), 'stage2_block0': (2, 3, 12),
              'stage2': (2, 3, 12), 'pool': (12,), 'norm': (12,), 'logits': (5,)}
    assert networks.endpoint_shapes(build(), SHAPE, values) == values
    networks.check_head_and_body(build(layer_scale=1.0), SHAPE, 'stage1')


def test_every_parameter_learns_and_a_branch_scaled_to_nothing_is_none():
    model = build(blocks=(1,), layer_scale=1.0)
    networks.check_gradients(model, SHAPE)
    variables, images = networks.random_variables(model, SHAPE), networks.random_images(SHAPE)
    variables['params']['stage1_block0']['layer_scale'] = jnp.zeros(6)
    stem, block = (model.apply(variables, images, features=endpoint) for endpoint in ('stem', 'stage1_block0'))
    np.testing.assert_array_equal(stem, block)
    assert build().layer_scale == 1e-6  # nearly so


def test_windows_of_a_larger_image():
    """One window is the whole image; further ones have logits of their own."""
    model = build(window=(8, 12))
    variables, images = networks.random_variables(build(), SHAPE), networks.random_images(SHAPE)
    found = model.apply(variables, images)
    np.testing.assert_allclose(found[:, 0, 0], build().apply(variables, images), rtol=1e-4, atol=1e-5)
    larger = jax.eval_shape(model.apply, variables, jnp.zeros((1, 16, 12, 3)))
    assert found.shape == (2, 1, 1, 5) and larger.shape == (1, 3, 1, 5)


@pytest.mark.parametrize('fields, message', [
    ({'blocks': (1, 1, 1, 1)}, 'images of at least 16x16 pixels: config.image.size or config.model.patch'),
    ({'blocks': ()}, 'config.model.blocks = .*number of blocks of each stage'),
    ({'drop_path': -0.1}, 'config.model.drop_path = -0.1: it must be in')])
def test_what_does_not_fit(fields, message):
    with pytest.raises(UserError, match=message):
        networks.shapes_of(build(**fields), SHAPE)


def test_depthwise_convolution_and_its_gradients_are_those_of_lax():
    x, gradient = networks.random_images((2, 5, 9, 3)), networks.random_images((2, 5, 9, 3), 2)
    kernel = networks.random_images((7, 7, 1, 3), 3)
    fields = {'dimension_numbers': ('NHWC', 'HWIO', 'NHWC'), 'feature_group_count': 3}

    def both(convolve):
        def run(x, kernel):
            value, back = jax.vjp(lambda *of: convolve(*of, (1, 1), ((3, 3), (3, 3)), **fields), x, kernel)
            return value, *back(gradient)
        return jax.jit(run)(x, kernel)
    for found, expected in zip(both(depthwise.convolve), both(lax.conv_general_dilated)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# Import


def state_dict(model) -> dict[str, np.ndarray]:
    """Random weights with torchvision's names and shapes."""
    random, shapes, norms, width = np.random.default_rng(0), {}, {}, model.width

    def layer(name, *shape):
        shapes.update({f'{name}.weight': shape, f'{name}.bias': shape[:1]})

    layer('features.0.0', width, 3, model.patch, model.patch)
    norms['features.0.1'] = width
    for stage, count in enumerate(model.blocks):
        if stage:
            norms[f'features.{2 * stage}.0'] = width
            layer(f'features.{2 * stage}.1', 2 * width, width, 2, 2)
            width *= 2
        for block in range(count):
            name = f'features.{2 * stage + 1}.{block}'
            layer(f'{name}.block.0', width, 1, 7, 7)
            norms[f'{name}.block.2'] = width
            layer(f'{name}.block.3', 4 * width, width)
            layer(f'{name}.block.5', width, 4 * width)
            shapes[f'{name}.layer_scale'] = (width, 1, 1)
    norms['classifier.0'] = width
    layer('classifier.2', 5, width)
    for name, size in norms.items():
        layer(name, size)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def computed(arrays, images, blocks) -> np.ndarray:
    """What torchvision computes."""
    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * arrays[f'{name}.weight'] + arrays[f'{name}.bias']

    def dense(x, name):
        return x @ arrays[f'{name}.weight'].T + arrays[f'{name}.bias']

    def cut(x, name):
        kernel = arrays[f'{name}.weight']
        side = kernel.shape[-1]
        x = x.reshape(len(x), x.shape[1] // side, side, x.shape[2] // side, side, -1)
        return np.einsum('bhiwjc,ocij->bhwo', x, kernel) + arrays[f'{name}.bias']

    erf = np.vectorize(math.erf)
    x = norm(cut(images, 'features.0.0'), 'features.0.1')
    for stage, count in enumerate(blocks):
        if stage:
            x = cut(norm(x, f'features.{2 * stage}.0'), f'features.{2 * stage}.1')
        for block in range(count):
            name = f'features.{2 * stage + 1}.{block}'
            padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
            y = sum(padded[:, i:i + x.shape[1], j:j + x.shape[2]] * arrays[f'{name}.block.0.weight'][:, 0, i, j]
                    for i in range(7) for j in range(7)) + arrays[f'{name}.block.0.bias']
            y = dense(norm(y, f'{name}.block.2'), f'{name}.block.3')
            y = dense(y * (1 + erf(y / np.sqrt(2))) / 2, f'{name}.block.5')
            x = x + arrays[f'{name}.layer_scale'][:, 0, 0] * y
    return dense(norm(x.mean(axis=(1, 2)), 'classifier.0'), 'classifier.2')


def test_torchvisions_weights_fit():
    model, images = build(), np.asarray(networks.random_images(SHAPE))
    arrays = state_dict(model)
    found, classes, report = importing.assign(arrays, 'convnext', FIELDS, SHAPE[1:3])
    assert classes == 5 and len(report.mapped) == len(arrays) and not report.missing and not report.unused
    variables = flax.traverse_util.unflatten_dict(found, sep='/')
    expected = computed(arrays, images, FIELDS['blocks'])
    np.testing.assert_allclose(model.apply(variables, images), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
