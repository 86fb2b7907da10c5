"""Captioners: decoding says what teacher forcing says, endpoints compose, an image is computed once."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from practicum import models
from practicum.common.errors import UserError
from practicum.models import batch_axis
from practicum.models.captioner import Captioner
from practicum.models.stages import endpoints, run_stages
from practicum.models.vgg import VGG
from practicum.models.video_captioner import VideoCaptioner
from tests.models import networks

VOCABULARY, WORDS = 11, 7


class TinyBody(nn.Module):
    """Looks at the four quarters of an image; compiles in no time, and has BatchNorm."""

    @nn.compact
    def __call__(self, images, *, train=False, features=None, begin=None):
        batch, side, _, channels = images.shape
        quarters = images.reshape(batch, 2, side // 2, 2, side // 2, channels).swapaxes(2, 3).reshape(batch, 2, 2, -1)
        return run_stages([
            ('quarters', lambda x: nn.BatchNorm(not train, name='bn')(nn.Dense(5, name='dense')(x))),
            ('flat', lambda x: x.reshape(batch, -1)),
            ('classes', nn.Dense(3, name='classes')),
        ], quarters, begin=begin, features=features)


COMMON = {'vocabulary_size': VOCABULARY, 'body': TinyBody(), 'endpoint': 'quarters', 'hidden': 8, 'embedding': 6}
KINDS = {
    'first': Captioner(inject='first', layers=2, **COMMON),
    'every': Captioner(inject='every', **COMMON),
    'attention': Captioner(inject='attention', layers=2, **COMMON),
    'placed': Captioner(inject='attention', positions=True, **COMMON),
    'mean': VideoCaptioner(pooling='mean', layers=1, **COMMON),
    'lstm': VideoCaptioner(pooling='lstm', **COMMON),
}
ATTENTION = KINDS['attention']


def pictures(name, batch=3):
    return networks.random_images((batch, 3, 4, 4, 1) if name in ('mean', 'lstm') else (batch, 4, 4, 1))


def captions(batch=3, count=2):
    return jnp.asarray(np.random.default_rng(0).integers(0, VOCABULARY, (batch, count, WORDS)), jnp.int32)


def variables_of(model, images):
    """Random variables of a size that lets everything in the network matter."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: model.init({'params': key, 'dropout': key}, images, captions(len(images))))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(np.abs(random.normal(size=leaf.shape, scale=0.5)) if leaf.ndim == 1
                                                 else random.normal(size=leaf.shape, scale=0.5), leaf.dtype), shapes)


@pytest.fixture(scope='module', params=KINDS)
def network(request):
    """(model, compiled model, variables, images, captions, logits) of each kind; tests only read them."""
    model, images, words = KINDS[request.param], pictures(request.param), captions()
    variables = variables_of(model, images)
    apply = jax.jit(model.apply)
    return model, apply, variables, images, words, apply(variables, images, words)


def test_shapes(network):
    model, _, variables, images, words, logits = network
    assert logits.shape == (3, 2, WORDS - 1, VOCABULARY) and logits.dtype == jnp.float32
    assert np.std(logits) > 0.1


def test_decoding_says_what_teacher_forcing_says(network):
    """At every position of every caption, step by step from the state before <start>."""
    model, _, variables, images, words, logits = network
    start = model.apply(variables, images, method='start')
    step = jax.jit(lambda state, tokens: model.apply(variables, state, tokens, method='step'))
    assert all(leaf.shape[0] == len(images) for leaf in jax.tree.leaves(start))
    for number in range(2):
        state = start
        for position in range(WORDS - 1):
            state, found = step(state, words[:, number, position])
            np.testing.assert_allclose(found, logits[:, number, position], rtol=1e-4, atol=1e-5)


def test_what_follows_a_word_changes_nothing_at_it(network):
    _, apply, variables, images, words, logits = network
    cut = apply(variables, images, words.at[:, :, 4:].set(0))
    np.testing.assert_array_equal(cut[:, :, :4], logits[:, :, :4])
    assert not np.allclose(cut[:, :, 4:], logits[:, :, 4:])


def test_a_caption_does_not_depend_on_the_others(network):
    """Neither on the other captions of its image nor on other images."""
    _, apply, variables, images, words, logits = network
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(apply(variables, images[order], words[order]), logits[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(apply(variables, images, words[:, ::-1]), logits[:, ::-1], rtol=1e-4, atol=1e-5)
    twice = apply(variables, images, words.at[:, 1].set(words[:, 0]))
    np.testing.assert_allclose(twice[:, 0], logits[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(twice[:, 1], logits[:, 0], rtol=1e-4, atol=1e-5)


def test_endpoints_compose(network):
    """Each part needs its own variables alone, and decoding begins from cached features as well."""
    model, _, variables, images, words, logits = network
    body = {kind: {'body': tree['body']} for kind, tree in variables.items()}
    head = {'params': {name: tree for name, tree in variables['params'].items() if name != 'body'}}
    needed = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False, features='features'))
    assert set(needed['params']) == {'body'} and set(needed['params']['body']) == {'dense', 'bn'}
    feature_map = model.apply(body, images, train=False, features='feature_map')
    value = model.apply(body, images, train=False, features='features')
    np.testing.assert_array_equal(model.apply({}, feature_map, begin='feature_map', features='features'), value)
    after = jax.jit(lambda value: model.apply(head, value, words, begin='features'))(value)
    np.testing.assert_allclose(after, logits, rtol=1e-4, atol=1e-5)
    begun = model.apply(head, value, begin='features', method='start')
    jax.tree.map(np.testing.assert_array_equal, begun, model.apply(variables, images, method='start'))
    with pytest.raises(UserError, match='needs captions beyond its endpoint features'):
        model.apply(variables, images)


def test_looks_at_the_image(network):
    """Unless it is told not to, and then cached features tell it nothing either."""
    model, apply, variables, images, words, logits = network
    other = images[::-1] + 1
    assert np.abs(apply(variables, other, words) - logits).max() > 0.01
    blind = model.clone(see_images=False)
    features = [model.apply(variables, seen, features='features') for seen in (images, other)]
    assert not np.allclose(*features)
    states = [blind.apply(variables, seen, begin='features', method='start') for seen in features]
    jax.tree.map(np.testing.assert_array_equal, *states)
    blind_apply = jax.jit(blind.apply)
    np.testing.assert_array_equal(blind_apply(variables, images, words), blind_apply(variables, other, words))


def test_everything_learns(network):
    """In training every parameter before the endpoint and after it has a gradient, and BatchNorm its averages."""
    model, _, variables, images, words, _ = network

    def loss(params):
        logits, updates = model.clone(dropout=0.0).apply(dict(variables, params=params), images, words, train=True,
                                                         mutable=['batch_stats'])
        return -jax.nn.log_softmax(logits)[..., 0].mean(), updates
    grads, updates = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
    for path, gradient in flax.traverse_util.flatten_dict(grads, sep='/').items():
        used = not path.startswith('body/classes')
        assert np.isfinite(gradient).all() and np.any(gradient) == used, path
    before, after = variables['batch_stats']['body']['bn']['mean'], updates['batch_stats']['body']['bn']['mean']
    assert not np.allclose(before, after)


# --- one kind stands for all ---


def test_bfloat16():
    images, words = pictures('attention'), captions()
    variables = variables_of(ATTENTION, images)
    logits, rounded = (jax.jit(model.apply)(variables, images, words)
                       for model in (ATTENTION, ATTENTION.clone(dtype=jnp.bfloat16)))
    assert rounded.dtype == jnp.float32 and 0 < np.abs(rounded - logits).max() < 0.3


def test_names_of_endpoints():
    assert endpoints(KINDS['every'], pictures('every'), captions()) == ('feature_map', 'features', 'logits')


def test_dropout_does_not_depend_on_the_number_of_devices():
    images, words = pictures('every', batch=4), captions(batch=4)
    model = KINDS['every'].clone(endpoint='flat', body=Flat())
    variables = variables_of(model, images)

    def train(images, words, seed, axis):
        with batch_axis.divided(axis):
            return model.apply(variables, images, words, train=True, rngs={'dropout': jax.random.key(seed)})
    one = jax.jit(lambda seed: train(images, words, seed, None))
    many = jax.pmap(lambda images, words: train(images, words, 0, 'batch'), axis_name='batch')(
        images.reshape(2, 2, *images.shape[1:]), words.reshape(2, 2, *words.shape[1:]))
    np.testing.assert_allclose(many.reshape(one(0).shape), one(0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(one(1), one(0), atol=1e-3)


class Flat(nn.Module):
    """The image as a vector."""

    def __call__(self, images, *, train=False, features=None, begin=None):
        return run_stages([('flat', lambda x: x.reshape(len(x), -1))], images, begin=begin, features=features)


# --- what is special ---


def test_the_body_runs_once_per_image():
    """However many captions there are."""
    seen = []

    class Watching(Flat):
        def __call__(self, images, *, train=False, features=None, begin=None):
            seen.append(images.shape)
            return super().__call__(images, features=features)
    model = KINDS['every'].clone(endpoint='flat', body=Watching())
    key = jax.random.key(0)
    jax.eval_shape(lambda: model.init({'params': key, 'dropout': key}, pictures('every'), captions(count=5)))
    assert seen and set(seen) == {(3, 4, 4, 1)}


def test_attention_by_hand():
    """One layer, one caption, one word: equations 4 to 9 and 13 of Xu et al. 2015, with projected pixels."""
    model = ATTENTION.clone(layers=1)
    images, words = pictures('attention', batch=1), captions(1, 1)
    variables = variables_of(model, images)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params'])
    pixels = np.asarray(model.apply(variables, images, features='features')[0], np.float64)
    assert pixels.shape == (4, 5)

    def dense(name, x):
        return x @ params[name]['kernel'] + params[name].get('bias', 0)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))
    pixels = (pixels - pixels.mean(-1, keepdims=True)) / np.sqrt(pixels.var(-1, keepdims=True) + 1e-6)
    pixels = dense('image', pixels)
    memory, hidden = (np.tanh(dense(f'initial_{part}1', pixels.mean(0))) for part in ('memory', 'hidden'))
    scores = dense('attention_score', np.tanh(dense('attention_image', pixels) + dense('attention_hidden', hidden)))
    weights = np.exp(scores[:, 0]) / np.exp(scores).sum()
    context = sigmoid(dense('attention_gate', hidden)) * (weights @ pixels)
    word = params['embedding']['embedding'][words[0, 0, 0]]
    gates = {}
    for gate in 'ifgo':
        recurrent = params['lstm1'][f'h{gate}']
        gates[gate] = (np.concatenate([word, context]) @ params['lstm1'][f'i{gate}']['kernel']
                       + hidden @ recurrent['kernel'] + recurrent['bias'])
    memory = sigmoid(gates['f']) * memory + sigmoid(gates['i']) * np.tanh(gates['g'])
    hidden = sigmoid(gates['o']) * np.tanh(memory)
    logits = dense('logits', word + dense('output_hidden', hidden) + dense('output_context', context))
    np.testing.assert_allclose(model.apply(variables, images, words)[0, 0, 0], logits, rtol=1e-3, atol=1e-4)
    shown = model.apply(variables, images, words, method='attention')
    np.testing.assert_allclose(shown[0, 0, 0], weights, rtol=1e-3)


def test_attention_weights():
    images, words = pictures('attention'), captions()
    variables = variables_of(ATTENTION, images)
    weights = ATTENTION.apply(variables, images, words, method='attention')
    assert weights.shape == (3, 2, WORDS - 1, 4) and np.all(weights >= 0)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert np.std(weights, axis=-1).min() > 1e-3 and np.std(weights, axis=2).max() > 1e-3
    blind = ATTENTION.clone(see_images=False).apply(variables, images, words, method='attention')
    np.testing.assert_allclose(blind, 1 / 4, rtol=1e-5)
    with pytest.raises(UserError, match="inject = 'every': 'attention' alone has weights to show"):
        KINDS['every'].apply({}, images, words, method='attention')


def test_features_are_means_over_pixels_and_vectors_stay():
    images = pictures('first')
    body = {kind: {'body': tree['body']} for kind, tree in variables_of(KINDS['first'], images).items()}
    feature_map = ATTENTION.apply(body, images, features='feature_map')
    assert feature_map.shape == (3, 2, 2, 5)
    np.testing.assert_allclose(KINDS['first'].apply(body, images, features='features'), feature_map.mean((1, 2)),
                               rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ATTENTION.apply(body, images, features='features'), feature_map.reshape(3, 4, 5))
    np.testing.assert_array_equal(KINDS['first'].clone(endpoint='flat').apply(body, images, features='features'),
                                  feature_map.reshape(3, 20))


def test_the_scale_of_features_does_not_matter():
    """Heads learn alike on features of any body."""
    model, images = KINDS['every'], pictures('every')
    variables = variables_of(model, images)
    features = model.apply(variables, images, features='features')
    states = [model.apply(variables, scale * features, begin='features', method='start') for scale in (1.0, 300.0)]
    jax.tree.map(lambda *leaves: np.testing.assert_allclose(*leaves, rtol=1e-3, atol=1e-4), *states)


def test_a_vgg_body_has_the_names_of_a_vgg():
    """So that weights of ImageNet load with one renaming; none are made beyond the endpoint."""
    config = ConfigDict({'name': 'captioner', 'body': {'name': 'vgg', 'depth': 11}, 'endpoint': 'conv5_2',
                         'inject': 'attention', 'hidden': 8, 'embedding': 6})
    model = models.build(config, vocabulary_size=VOCABULARY)
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    words = jax.ShapeDtypeStruct((2, 3, 5), jnp.int32)
    shapes = jax.eval_shape(lambda key, images, words: model.init(key, images, words), jax.random.key(0), images, words)
    alone = networks.shapes_of(VGG(1, depth=11), (2, 32, 32, 3), features='conv5_2')
    assert shapes['params']['body'] == alone['params']
    assert set(shapes['params']) > {'body', 'embedding', 'image', 'lstm1', 'logits', 'attention_score'}


@pytest.mark.parametrize('fields, message', [
    ({'inject': 'evry'}, "config.model.inject = 'evry'; did you mean every?"),
    ({'endpoint': 'block9'}, "no endpoint 'block9'"),
    ({'endpoint': 'logits'}, "config.model.endpoint = 'logits': the body's classes are not learned"),
    ({'endpoint': 'hidden', 'inject': 'attention'}, "'attention' needs a feature map, .* 'hidden' has no pixels"),
    ({'body': {'name': 'mlp'}}, 'config.model.body: MLP has no endpoints to look at'),
    ({'body': {'name': 'smal_cnn'}}, "config.model.body.name = 'smal_cnn'; did you mean small_cnn?"),
    ({'body': {'name': 'small_cnn', 'hiden': 3}}, 'config.model.body.hiden: small_cnn has no such field; .* hidden'),
    ({'body': {'name': 'small_cnn', 'hidden': 0}}, 'config.model.body.hidden = 0: small_cnn takes int, at least 1'),
    ({'body': {'name': 'small_cnn', 'num_classes': 3}}, 'config.model.body.num_classes follows from the task'),
    ({'body': 'vgg'}, "config.model.body: captioner takes a model there, such as {'name': 'vgg'"),
    ({'body': {'depth': 16}}, 'config.model.body: captioner takes a model there'),
    ({'vocabulary_size': 9}, 'config.model.vocabulary_size follows from the task'),
])
def test_mistakes(fields, message):
    config = {'name': 'captioner', 'body': {'name': 'small_cnn'}, 'endpoint': 'block2'} | fields
    with pytest.raises(UserError, match=message) as error:
        model = models.build(ConfigDict(config), vocabulary_size=VOCABULARY)
        jax.eval_shape(lambda: model.init(jax.random.key(0), pictures('first'), captions()))
    assert '\n' not in str(error.value)


def test_the_body_computes_with_the_precision_of_the_whole():
    config = {'name': 'captioner', 'body': {'name': 'small_cnn'}, 'endpoint': 'block2'}
    model = models.build(config, vocabulary_size=VOCABULARY, precision='bfloat16')
    assert (model.dtype, model.body.dtype) == (jnp.bfloat16, jnp.bfloat16)


@pytest.mark.parametrize('positions', [False, True])
def test_attention_knows_places_by_their_vectors_alone(positions):
    """Without them an image is a set of pixels: exchanged quarters give the same captions."""
    model = Captioner(inject='attention', positions=positions, **COMMON)
    images = networks.random_images((2, 4, 4, 1))
    variables = variables_of(model, images)
    features = model.apply(variables, images, features='features')
    exchanged = features[:, np.array([1, 0, 3, 2])]
    logits = [model.apply(variables, values, captions(2), begin='features') for values in (features, exchanged)]
    assert np.allclose(*logits, atol=1e-4) != positions
