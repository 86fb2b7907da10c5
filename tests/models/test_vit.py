"""Vision transformers have the published sizes, compute what torchvision's do, and can be taken apart."""

import math

import flax
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from practicum import models
from practicum.common.errors import UserError
from practicum.conversion import importing
from practicum.inference.explanation import Explainer
from practicum.models.stages import watching
from tests.models import networks
from tests.untrained import untrained

FIELDS = {'name': 'vit', 'patch': 4, 'width': 8, 'layers': 2, 'heads': 2}
SHAPE = (2, 8, 12, 3)


def build(classes=5, **fields):
    return models.build(FIELDS | fields, num_classes=classes)


@pytest.mark.parametrize('arch, count', [
    ('vit_b_16', 86_567_656), ('vit_b_32', 88_224_232),
    *(pytest.param(*pair, marks=pytest.mark.thorough) for pair in (
        ('vit_l_16', 304_326_632), ('vit_l_32', 306_535_400), ('vit_h_14', 632_045_800)))])
def test_parameter_counts_are_those_of_torchvision(arch, count):
    assert networks.parameter_count(models.build(importing.architectures()[arch], num_classes=1000)) == count


def test_the_small_one_is_that_of_the_paper():
    small = models.build({'name': 'vit', 'width': 384, 'heads': 6}, num_classes=1000)
    assert networks.parameter_count(small) == 22_050_664


@pytest.mark.parametrize('pool, values', [
    ('token', {'patches': (7, 8), 'block2': (7, 8), 'norm': (7, 8), 'pool': (8,), 'logits': (5,)}),
    ('mean', {'patches': (2, 3, 8), 'block2': (2, 3, 8), 'norm': (2, 3, 8), 'pool': (8,), 'logits': (5,)})])
def test_endpoints_and_a_head_alone(pool, values):
    assert networks.endpoint_shapes(build(pool=pool), SHAPE, values) == values
    networks.check_head_and_body(build(pool=pool, layers=1), SHAPE, 'patches')


def test_every_parameter_learns():
    networks.check_gradients(build(layers=1), SHAPE)


def test_branches_are_left_out_of_examples_in_training_alone():
    model = build(layers=2, drop_path=0.5)
    variables, images = networks.random_variables(model, SHAPE), networks.random_images((1, *SHAPE[1:]))
    images = jnp.tile(images, (16, 1, 1, 1))
    trained = jax.jit(lambda: model.apply(variables, images, train=True, rngs={'dropout': jax.random.key(0)}))()
    kinds = np.unique(np.round(np.asarray(trained), 3), axis=0)
    assert len(kinds) == 4  # with and without each branch of the second block
    without, there = (jax.jit(lambda model=model: model.apply(variables, images))() for model in (build(), model))
    np.testing.assert_allclose(there, without, atol=1e-6)


def test_places_are_interpolated_for_other_images():
    """What grows from left to right still does in a larger image, from about the same value to the same."""
    model = build(grid=(2, 3), pool='mean')
    variables = networks.random_variables(model, SHAPE)
    of_columns = jnp.tile(jnp.array([1.0, 2.0, 3.0])[:, None], (2, 1, 8)).reshape(1, 6, 8)
    variables = {'params': variables['params'] | {'positions': of_columns}}
    silent = jax.tree.map(jnp.zeros_like, variables['params']['patches'])
    found = np.asarray(model.apply({'params': variables['params'] | {'patches': silent}}, jnp.zeros((1, 16, 24, 3)),
                                   features='patches'))
    assert found.shape == (1, 4, 6, 8) and np.ptp(found, axis=(0, 1, 3)).max() < 1e-5
    assert np.all(np.diff(found[0, 0, :, 0]) > 0) and abs(found.mean() - 2) < 1e-5 and 0.8 < found.min() < 1.2


def test_patches_are_watched_as_maps_where_a_class_depends_on_them():
    model, names = build(), []
    variables, images = networks.random_variables(model, SHAPE), networks.random_images(SHAPE)

    def watch(name, value):
        names.append((name, value.shape[1:]))
        return jnp.zeros_like(value) if name == 'block1_map' else value
    with watching(watch):
        changed = model.apply(variables, images)
    assert ('patches_map', (2, 3, 8)) in names and ('block1_map', (2, 3, 8)) in names
    assert 'block2_map' not in dict(names)
    assert not np.allclose(changed, model.apply(variables, images), atol=1e-3)


def test_an_image_is_explained():
    image = np.random.default_rng(0).integers(0, 256, SHAPE[1:], np.uint8)
    found = Explainer(untrained(FIELDS, (8, 12))).explain(image)
    assert found.endpoint == 'block1_map' and found.grad_cam.shape == (2, 3) and set(found.maps) == {
        'patches_map', 'block1_map'}


@pytest.mark.parametrize('fields, message', [
    ({'heads': 3}, 'config.model.width = 8 cannot be divided among config.model.heads = 3'),
    ({'patch': 5}, 'patches of 5x5 pixels, and 8x12 is no multiple of that: config.image.size or config.model.patch'),
    ({'patch': 16}, 'patches of 16x16 pixels, and 8x12 is no multiple'),
    ({'pool': 'max'}, "config.model.pool = 'max'; did you mean mean"),
    ({'grid': (3,)}, 'config.model.grid = .*rows and columns'),
    ({'drop_path': 1.0}, 'config.model.drop_path = 1.0: it must be in')])
def test_what_does_not_fit(fields, message):
    with pytest.raises(UserError, match=message):
        networks.shapes_of(build(**fields), SHAPE)


# Import


def state_dict(model, *, old=False) -> dict[str, np.ndarray]:
    """Random weights with torchvision's names and shapes."""
    width, hidden, random = model.width, 4 * model.width, np.random.default_rng(0)
    shapes = {'class_token': (1, 1, width), 'conv_proj.weight': (width, 3, model.patch, model.patch),
              'conv_proj.bias': (width,), 'encoder.pos_embedding': (1, 7, width)}
    for index in range(model.layers):
        layer, (first, second) = f'encoder.layers.encoder_layer_{index}', ('linear_1', 'linear_2') if old else '03'
        for name, shape in (('ln_1', (width,)), ('self_attention.out_proj', (width, width)), ('ln_2', (width,)),
                            (f'mlp.{first}', (hidden, width)), (f'mlp.{second}', (width, hidden))):
            shapes |= {f'{layer}.{name}.weight': shape, f'{layer}.{name}.bias': shape[:1]}
        shapes |= {f'{layer}.self_attention.in_proj_weight': (3 * width, width),
                   f'{layer}.self_attention.in_proj_bias': (3 * width,)}
    for name, shape in (('encoder.ln', (width,)), ('heads.head', (5, width))):
        shapes |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def computed(arrays, images, layers=2, heads=2) -> np.ndarray:
    """What torchvision computes."""
    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * arrays[f'{name}.weight'] + arrays[f'{name}.bias']

    def dense(x, name):
        return x @ arrays[f'{name}.weight'].T + arrays[f'{name}.bias']

    erf = np.vectorize(math.erf)
    kernel = arrays['conv_proj.weight']
    width, _, patch, _ = kernel.shape
    batch, height, breadth, _ = images.shape
    cut = images.reshape(batch, height // patch, patch, breadth // patch, patch, 3)
    x = np.einsum('bhiwjc,ocij->bhwo', cut, kernel).reshape(batch, -1, width) + arrays['conv_proj.bias']
    x = np.concatenate([np.tile(arrays['class_token'], (batch, 1, 1)), x], axis=1) + arrays['encoder.pos_embedding']
    for index in range(layers):
        layer = f'encoder.layers.encoder_layer_{index}'
        asked = norm(x, f'{layer}.ln_1') @ arrays[f'{layer}.self_attention.in_proj_weight'].T
        asked += arrays[f'{layer}.self_attention.in_proj_bias']
        q, k, v = (part.reshape(batch, -1, heads, width // heads) for part in np.split(asked, 3, axis=-1))
        scores = np.einsum('bqhs,bkhs->bhqk', q, k) / np.sqrt(width // heads)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        answers = np.einsum('bhqk,bkhs->bqhs', weights, v).reshape(x.shape)
        x = x + dense(answers, f'{layer}.self_attention.out_proj')
        y = dense(norm(x, f'{layer}.ln_2'), f'{layer}.mlp.0')
        x = x + dense(y * (1 + erf(y / np.sqrt(2))) / 2, f'{layer}.mlp.3')
    return dense(norm(x, 'encoder.ln')[:, 0], 'heads.head')


@pytest.mark.parametrize('old', [False, True], ids=['new', 'old'])
def test_torchvisions_weights_fit(old):
    arrays, images = state_dict(build()), np.asarray(networks.random_images(SHAPE))
    given = state_dict(build(), old=old)
    found, classes, report = importing.assign(given, 'vit', FIELDS, SHAPE[1:3])
    assert classes == 5 and len(report.mapped) == len(arrays) and not report.missing and not report.unused
    if not old:
        variables = flax.traverse_util.unflatten_dict(found, sep='/')
        np.testing.assert_allclose(build().apply(variables, images), computed(arrays, images), rtol=1e-3, atol=1e-3)


def test_weights_for_images_of_another_size_say_which():
    with pytest.raises(UserError, match='encoder.pos_embedding has 5 places, images of 8x12 pixels need 7: --size 8 8'):
        importing.assign(state_dict(build()) | {'encoder.pos_embedding': np.zeros((1, 5, 8), np.float32)}, 'vit',
                         FIELDS, SHAPE[1:3])
