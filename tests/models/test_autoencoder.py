"""Autoencoders can be cut at their code, and layers trained one by one are those of the network they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.models.autoencoder import Autoencoder, ConvAutoencoder, LayerAutoencoder
from practicum.models.mlp import MLP
from practicum.models.stages import endpoints
from practicum.models.vae import VAE

SHAPE = (9, 6, 2)  # odd, no square, two channels
MODELS = {'dense': Autoencoder(SHAPE, hidden=(12, 8), code=3), 'convolutional': ConvAutoencoder(SHAPE, (4, 5), code=3),
          'variational': VAE(SHAPE, hidden=(12,), code=3)}


def shapes_of(model, shape=SHAPE):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, *shape)))


def example(model):
    """Variables and three images of random values, without the seconds that init takes to compile."""
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.float32(random.normal(size=leaf.shape, scale=0.2)), shapes_of(model))
    return variables, np.float32(random.random((3, *SHAPE)))


def pixels(outputs):
    return outputs['logits'] if isinstance(outputs, dict) else outputs


@pytest.mark.parametrize('name', MODELS)
def test_all_there_is_of_an_image_goes_through_the_code(name):
    model = MODELS[name]
    variables, images = example(model)
    code = model.apply(variables, images, features='code')
    assert code.shape == (3, 3) and 'code' in endpoints(model, images)
    whole = pixels(model.apply(variables, images))
    assert whole.shape == images.shape and whole.dtype == np.float32
    np.testing.assert_allclose(pixels(model.apply(variables, code, begin='code')), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', MODELS)
def test_images_of_another_shape_are_one_line(name):
    with pytest.raises(UserError, match=r'config.model.image_shape = \(9, 6, 2\): .* \(6, 9, 2\)') as error:
        shapes_of(MODELS[name], (6, 9, 2))
    assert '\n' not in str(error.value)


def test_the_default_has_the_widths_that_were_published():
    down = 784 * 1000 + 1000 * 500 + 500 * 250 + 250 * 30
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(Autoencoder(), (28, 28, 1))))
    assert count == 2 * down + 2 * (1000 + 500 + 250) + 30 + 784


def test_a_code_is_drawn_from_the_distribution_that_is_told():
    """Mean and variance of many draws; the same key gives the same code wherever in a batch it stands."""
    model = MODELS['variational']
    variables, images = example(model)
    told = model.apply(variables, images[:1])
    keys = jax.random.split(jax.random.key(1), 4000)
    draw = jax.jit(lambda keys: model.apply(variables, jnp.repeat(images[:1], len(keys), 0), keys, features='code'))
    codes = np.asarray(draw(keys))
    std = np.exp(np.asarray(told['log_variance'][0]) / 2)
    np.testing.assert_allclose((codes.mean(0) - told['mean'][0]) / std, 0, atol=4 / np.sqrt(4000))
    np.testing.assert_allclose(codes.std(0) / std, 1, atol=0.05)
    np.testing.assert_array_equal(codes[::-1], draw(keys[::-1]))


def test_layers_are_trained_under_the_names_of_the_network_they_are_for():
    hidden = (7, 6, 5)
    network = shapes_of(MLP(10, hidden=hidden, activation='sigmoid'))['params']
    found = {}
    for layer in (1, 2, 3):
        params = shapes_of(LayerAutoencoder(hidden, layer))['params']
        width = (108, *hidden)[layer - 1]
        assert params.pop(f'decoder{layer}')['kernel'].shape == (hidden[layer - 1], width)
        assert set(params) == {f'dense{number}' for number in range(1, layer + 1)}
        found |= params
    network.pop('logits')
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, network)


def test_a_layer_gives_back_what_the_layers_before_it_say():
    """In inference all of it; in training a share of what goes in is missing, while the target is whole."""
    model = LayerAutoencoder((7, 6), layer=2, dropout=0.5)
    variables, images = example(model)
    hidden = model.apply(variables, images, features='hidden1')
    first = variables['params']['dense1']
    np.testing.assert_allclose(hidden, 1 / (1 + np.exp(-(images.reshape(3, -1) @ first['kernel'] + first['bias']))),
                               rtol=1e-5)
    seen = model.apply(variables, images)
    np.testing.assert_array_equal(seen['target'], hidden)
    from_there = model.apply(variables, hidden, begin='hidden1')
    np.testing.assert_allclose(from_there['logits'], seen['logits'], rtol=1e-6)
    trained = model.apply(variables, images, train=True, rngs={'dropout': jax.random.key(0)})
    np.testing.assert_array_equal(trained['target'], hidden)
    assert np.abs(trained['logits'] - seen['logits']).max() > 1e-3


def test_mistakes_are_one_line():
    for model, match in ((LayerAutoencoder((7, 6), layer=3), 'config.model.layer = 3: .*hidden has 2 layers'),
                         (MLP(10, activation='sigmoidal'), "config.model.activation = .*did you mean sigmoid")):
        with pytest.raises(UserError, match=match) as error:
            shapes_of(model)
        assert '\n' not in str(error.value)
