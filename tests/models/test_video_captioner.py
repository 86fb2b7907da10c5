"""How frames become one image. What all captioners promise is tested in test_captioner.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models.captioner import Captioner
from practicum.models.stages import run_stages
from practicum.models.video_captioner import VideoCaptioner
from tests.models import networks

VOCABULARY, BATCH, FRAMES, COUNT, WORDS = 11, 2, 3, 2, 4


class Patches(nn.Module):
    """A body with a feature map and a vector, made of the pixels themselves."""

    def __call__(self, images, *, train=False, features=None, begin=None):
        assert images.ndim == 4
        return run_stages([('map', lambda x: x), ('flat', lambda x: x.reshape(len(x), -1))], images, features=features)


COMMON = {'vocabulary_size': VOCABULARY, 'body': Patches(), 'endpoint': 'map', 'hidden': 5, 'embedding': 4}
S2VT = VideoCaptioner(pooling='lstm', layers=2, **COMMON)
CAPTIONS = jnp.asarray(np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, COUNT, WORDS)), jnp.int32)


def videos(seed=1):
    return networks.random_images((BATCH, FRAMES, 3, 3, 6), seed)


def variables_of(model, images):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, CAPTIONS))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape, scale=0.5), leaf.dtype), shapes)


def test_features_are_means_over_pixels_of_every_frame():
    images = videos()
    np.testing.assert_allclose(S2VT.apply({}, images, features='features'), images.mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert S2VT.apply({}, images, features='feature_map').shape == images.shape
    flat = S2VT.clone(endpoint='flat').apply({}, images, features='features')
    np.testing.assert_array_equal(flat, images.reshape(BATCH, FRAMES, -1))


def test_mean_is_a_captioner_of_the_mean_frame():
    video, still = VideoCaptioner(pooling='mean', **COMMON), Captioner(inject='every', layers=2, **COMMON)
    images = videos()
    variables = variables_of(video, images)
    mean = images.mean((1, 2, 3))
    np.testing.assert_allclose(video.apply(variables, images, CAPTIONS),
                               still.apply(variables, mean, CAPTIONS, begin='features'), rtol=1e-4, atol=1e-5)


def test_two_stacked_lstms_by_hand():
    """Figure 2 of Venugopalan et al. 2015, frame by frame and word by word, in NumPy."""
    images = videos()
    variables = variables_of(S2VT, images)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params'])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def lstm(name, state, x):
        memory, hidden = state
        i, f, g, o = (x @ params[name][f'i{gate}']['kernel'] + hidden @ params[name][f'h{gate}']['kernel']
                      + params[name][f'h{gate}']['bias'] for gate in 'ifgo')
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        return memory, sigmoid(o) * np.tanh(memory)

    logits = S2VT.apply(variables, images, CAPTIONS)
    for row in range(BATCH):
        for number in range(COUNT):
            first = second = (np.zeros(5), np.zeros(5))
            for frame in np.asarray(images[row], np.float64).mean((1, 2)):
                frame = (frame - frame.mean()) / np.sqrt(frame.var() + 1e-6)
                first = lstm('lstm1', first, frame @ params['image']['kernel'] + params['image']['bias'])
                second = lstm('lstm2', second, np.concatenate([np.zeros(4), first[1]]))
            for position, token in enumerate(CAPTIONS[row, number, :-1]):
                first = lstm('lstm1', first, np.zeros(4))
                second = lstm('lstm2', second, np.concatenate([params['embedding']['embedding'][token], first[1]]))
                expected = second[1] @ params['logits']['kernel'] + params['logits']['bias']
                np.testing.assert_allclose(logits[row, number, position], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('pooling, ordered', [('mean', False), ('lstm', True)])
def test_only_an_lstm_sees_the_order_of_frames(pooling, ordered):
    model, images = S2VT.clone(pooling=pooling), videos()
    variables = variables_of(model, images)
    states = [model.apply(variables, seen, method='start') for seen in (images, images[:, ::-1])]
    assert ordered == any(np.abs(a - b).max() > 1e-3 for a, b in zip(*map(jax.tree.leaves, states)))


@pytest.mark.parametrize('fields, message', [
    ({'pooling': 'lsmt'}, "config.model.pooling = 'lsmt'; did you mean lstm?"),
    ({'pooling': 'lstm', 'layers': 1}, "config.model.layers = 1: pooling = 'lstm' needs at least 2"),
    ({'inject': 'first'}, 'config.model.inject: video_captioner has no such field'),
])
def test_mistakes(fields, message):
    config = {'name': 'video_captioner', 'body': {'name': 'small_cnn'}, 'endpoint': 'block1'} | fields
    with pytest.raises(UserError, match=message) as error:
        model = models.build(config, vocabulary_size=VOCABULARY)
        jax.eval_shape(lambda: model.init(jax.random.key(0), videos(), CAPTIONS))
    assert '\n' not in str(error.value)
