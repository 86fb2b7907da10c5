"""What a network sees: filters, Grad-CAM, occlusion and activation maximisation, against independent formulas."""

import dataclasses
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.inference import explanation_sheet as sheet
from practicum.inference.explanation import Explainer, Filters
from practicum.inference.maximization import maximize_classes, maximize_units
from practicum.inference.targets import Targets
from practicum.models.layers import BatchNorm, Conv
from practicum.models.stages import run_stages
from practicum.tasks.prediction import softmax
from tests.untrained import MASKS, of_texts, untrained

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


class TinyCam(nn.Module):
    """A convolution, the mean over its pixels, a dense layer: there class activation maps are exact."""
    num_classes: int
    norm: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train=False, features=None, begin=None):
        def conv(x):
            x = nn.relu(Conv(6, 3, 2, 1, name='conv')(x))
            return BatchNorm(not train, name='norm')(x) if self.norm else x
        return run_stages([
            ('conv', conv),
            ('last_conv', lambda x: x),
            ('mean', lambda x: x.mean((1, 2))),
            ('logits', nn.Dense(self.num_classes, name='logits')),
        ], images, begin=begin, features=features)


class TinyLabeller(nn.Module):
    """A convolution of 1x1, so that a pixel's logits depend on that pixel alone."""
    num_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train=False, features=None, begin=None):
        return run_stages([
            ('hidden', lambda x: nn.relu(Conv(4, 1, name='hidden')(x))),
            ('scores', Conv(self.num_classes, 1, name='scores')),
        ], images, begin=begin, features=features)


class TinyDetector(nn.Module):
    """What a cell says depends on its pixel alone; its box is 2 wide and 4 high."""
    num_classes: int
    image_size: tuple[int, int]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train=False, features=None, begin=None):
        def outputs(x):
            grid = (*x.shape[:3], 1)
            centres = jnp.stack(jnp.meshgrid(*(jnp.arange(side) + 0.5 for side in self.image_size[::-1])), axis=-1)
            return {'logits': Conv(self.num_classes, 1, name='scores')(x),
                    'centres': jnp.broadcast_to(centres, (*x.shape[:3], 2)),
                    'distances': jnp.tile(jnp.array([1.0, 2.0, 1.0, 2.0]), grid)}
        return run_stages([('hidden', lambda x: nn.relu(Conv(8, 1, name='hidden')(x))), ('outputs', outputs)], images,
                          begin=begin, features=features)


@pytest.fixture(scope='module', autouse=True)
def tiny_models():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, 'tiny_cam', TinyCam)
        patch.setitem(models.MODELS, 'tiny_labeller', TinyLabeller)
        patch.setitem(models.MODELS, 'tiny_detector', TinyDetector)
        yield


@pytest.fixture(scope='module')
def run(tiny_models):
    return untrained({'name': 'tiny_cam'}, (12, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))


@pytest.fixture(scope='module')
def found(run):
    return run.explain(IMAGE, class_name='3', patch=5)[0]


def probabilities(run, inputs):
    return softmax(np.asarray(run.model.apply(run.variables, inputs)))


def test_grad_cam_is_the_class_activation_map_where_that_is_exact(run, found):
    """Zhou et al. 2016: after global average pooling, the map is the dense layer's weights times the features."""
    features = np.asarray(run.model.apply(run.variables, run.preprocess(IMAGE), features='conv'))[0]
    weights = np.asarray(run.variables['params']['logits']['kernel'])
    expected = np.maximum(features @ weights, 0) / (6 * 8)
    maps = [run.explain(IMAGE, class_name=name, patch=5)[0].grad_cam for name in run.class_names]
    np.testing.assert_allclose(np.stack(maps, axis=-1), expected, rtol=1e-4, atol=1e-6)
    assert found.endpoint == 'conv' and found.grad_cam.shape == (6, 8) and expected.max() > 0.01
    np.testing.assert_allclose(found.maps['conv'], features, rtol=1e-4)


def test_occlusion_is_what_hiding_each_square_does(run, found):
    """One forward pass after the other, all squares that fit two pixels apart, the last at the edge."""
    inputs = run.preprocess(IMAGE)
    own = probabilities(run, inputs)[0, 3]
    assert [corners.tolist() for corners in found.corners] == [[0, 2, 4, 6, 7], [0, 2, 4, 6, 8, 10, 11]]
    total, count = np.zeros((2, 12, 16))
    for row, top in enumerate(found.corners[0]):
        for column, left in enumerate(found.corners[1]):
            hidden = IMAGE.astype(np.float32) / 255
            hidden[top:top + 5, left:left + 5] = (0.5, 0.4, 0.3)  # the mean
            drop = own - probabilities(run, (hidden[None] - (0.5, 0.4, 0.3)) / 0.2)[0, 3]
            assert found.drops[row, column] == pytest.approx(drop, abs=1e-5)
            total[top:top + 5, left:left + 5] += drop
            count[top:top + 5, left:left + 5] += 1
    assert found.share == pytest.approx(own, abs=1e-6) and np.abs(found.drops).max() > 1e-3
    np.testing.assert_allclose(found.occlusion, total / count, atol=1e-5)


def test_the_likeliest_class_is_explained_unless_one_is_named(run, found):
    expected, = run.predict(IMAGE)
    likeliest = run.explain(IMAGE)[0]
    assert likeliest.class_name == expected['classes'][0] and found.class_name == '3'
    assert [name for name, _ in likeliest.likeliest] == expected['classes']
    assert likeliest.share == pytest.approx(expected['percent'][0] / 100, abs=1e-5)


def test_a_class_of_a_segmentation_is_the_mean_over_its_pixels():
    """Elsewhere nothing speaks for it: hidden pixels that are not the class's change nothing."""
    run = untrained({'name': 'tiny_labeller'}, (6, 6), task=MASKS,
                    info=DatasetInfo(('image', 'segmentation_mask'), ('background', 'left', 'right')))
    image = np.zeros((6, 6, 3), np.uint8)
    image[:, 3:] = (250, 20, 120)
    label = jax.jit(lambda images: {name: run.model.apply(run.variables, images, features=name)
                                    for name in ('hidden', 'scores')})
    seen = {name: np.asarray(values[0]) for name, values in label(run.preprocess(image)).items()}
    logits, features = seen['scores'], seen['hidden']
    there, other = (logits[0, column].argmax() for column in (5, 0))
    assert there != other, 'random weights that tell nothing apart'
    found = run.explain(image, class_name=run.class_names[there], endpoint='hidden', patch=1)[0]
    assert found.share == pytest.approx(softmax(logits)[:, 3:, there].mean(), abs=1e-5)
    hidden = softmax(label(np.zeros((1, 6, 6, 3), np.float32))['scores'][0])[0, 0, there]
    np.testing.assert_allclose(found.drops[:, :3], 0, atol=1e-6)
    np.testing.assert_allclose(found.drops[:, 3:], (found.share - hidden) / 18, atol=1e-5)
    # The gradient of the mean over 18 pixels is 1 / 18 in each, which makes 1 / 36 in the mean over all.
    weights = np.asarray(run.variables['params']['scores']['kernel'])[0, 0, :, there] / 36
    np.testing.assert_allclose(found.grad_cam, np.maximum(features @ weights, 0), rtol=1e-4, atol=1e-6)


def test_an_object_of_a_detector_is_looked_at_alone():
    """Of two that look alike the map lies on one, and hiding this one is not made good by the other."""
    run = untrained({'name': 'tiny_detector'}, (6, 6), task='detection')
    image = np.zeros((6, 6, 3), np.uint8)
    image[2, 1] = image[4, 4] = (250, 20, 120)
    run.variables['params']['scores']['kernel'] *= 100
    see = jax.jit(lambda images: (run.model.apply(run.variables, images, features='hidden'),
                                  run.model.apply(run.variables, images)))
    features, outputs = see(run.preprocess(image))
    logits, features = np.asarray(outputs['logits'][0]), np.asarray(features[0])
    weights = np.asarray(run.variables['params']['scores']['kernel'])[0, 0]
    there = (logits[2, 1] - logits[0, 0] + 100 * (features[2, 1] @ weights > 0)).argmax()
    assert logits[2, 1, there] > logits[0, 0, there], 'random weights that tell nothing apart'
    found = run.explain(image, class_name=run.class_names[there], endpoint='hidden', patch=1)[0]
    expected = np.zeros((6, 6), np.float32)
    expected[2, 1] = features[2, 1] @ weights[:, there]
    np.testing.assert_allclose(found.grad_cam, expected, rtol=1e-4)
    own, hidden = (1 / (1 + np.exp(-logits[place][there])) for place in ((2, 1), (0, 0)))
    drops = np.zeros((6, 6), np.float32)
    drops[2, 1] = own - hidden
    np.testing.assert_allclose(found.drops, drops, atol=1e-5)
    assert found.share == pytest.approx(own, abs=1e-5) and found.box == (0.5, 0.5, 2.5, 4.5)
    assert own - hidden > 0.1 and expected[2, 1] > 0.1
    section = sheet.draw_class(found, 'a', 'a', run.explainer.targets)
    assert 'likeliest object of class' in section.notes[0] and 'HiResCAM' in section.notes[1]


def test_filters_are_the_weights_as_images(run):
    filters, = run.explainer.filters()
    kernel = np.asarray(run.variables['params']['conv']['kernel'])
    assert filters.layer == 'conv' and filters.kernels.shape == (6, 3, 3, 3)
    np.testing.assert_array_equal(filters.kernels[4], kernel[..., 4])
    assert run.explainer.filters('mean')[0].layer == 'conv', 'a pooling shows what it pools'
    mlp = untrained({'name': 'mlp', 'hidden': (7,)}, (4, 5), 1)
    filters, = mlp.explainer.filters()
    np.testing.assert_array_equal(filters.kernels[3, 2, 1], np.asarray(
        mlp.variables['params']['dense1']['kernel'])[2 * 5 + 1, 3:4])
    deep = untrained({'name': 'mlp', 'hidden': (64, 64)}, (8, 8), 1).explainer
    assert len(deep.filters('dense1')) == 1 and deep.filters('dense2') == (), 'units are no pixels, if as many'


def test_maximisation_raises_what_it_is_about_and_is_repeated_by_its_seed(run):
    made = maximize_units(run.explainer, 'conv', [0, 1, 2, 3, 4, 5])
    noise = np.random.default_rng(1).integers(0, 256, (16, 12, 16, 3), np.uint8)
    of_noise = run.model.apply(run.variables, run.preprocess(noise), features='conv').mean((1, 2)).max(0)
    for one, most in zip(made, np.asarray(of_noise), strict=True):
        assert one.after > max(4 * one.before, 1.2 * most), (one.name, one.before, one.after, most)
        assert one.image.shape == (12, 16, 3) and one.image.dtype == np.uint8
    short, again, other = (maximize_units(run.explainer, 'conv', [0, 1, 2, 3, 4, 5], steps=3, seed=seed)
                           for seed in (0, 0, 1))
    assert all((a.image == b.image).all() for a, b in zip(short, again, strict=True))
    assert all((a.image != b.image).any() for a, b in zip(short, other, strict=True))
    alone = maximize_units(run.explainer, 'conv', [5, 2, 5], steps=3)
    for one, unit in zip(alone, (5, 2, 5), strict=True):  # whatever the others are
        assert np.abs(one.image.astype(int) - short[unit].image).max() <= 1
    dog, = maximize_classes(run.explainer, ['2'], steps=24)
    assert (dog.endpoint, dog.unit, dog.name) == ('', 2, '2') and dog.after > dog.before + 1


@pytest.mark.parametrize('norm', [False, True])
def test_a_unit_that_noise_leaves_dead_is_woken(norm):
    """Behind a ReLU that lets nothing through there is no gradient, also where BatchNorm makes some number of the 0."""
    dead = untrained({'name': 'tiny_cam', 'norm': norm}, (12, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    dead.variables['params']['conv']['bias'] = jnp.full(6, -2.0)
    if norm:
        dead.variables['params']['norm']['bias'] = jnp.full(6, 0.5)
        dead.variables['batch_stats']['norm']['mean'] = jnp.zeros(6)
    one, = maximize_units(dead.explainer, 'conv', [2], steps=64)
    assert one.before == (0.5 if norm else 0) and one.after > one.before + 0.05
    lines = sheet.draw_maximized([one, dataclasses.replace(one, after=one.before)], {})
    assert lines.picture.width <= sheet.WIDTH


@pytest.mark.parametrize('model, task, endpoint', [
    ({'name': 'mlp', 'hidden': (7, 6)}, 'classification', 'dense2'),
    ({'name': 'lenet', 'padding': 'SAME'}, 'classification', 'conv1'),
    ({'name': 'autoencoder', 'image_shape': (8, 8, 1), 'hidden': (9, 7), 'code': 3}, 'reconstruction', 'code'),
    ({'name': 'conv_autoencoder', 'image_shape': (8, 8, 1), 'filters': (4, 6), 'code': 3}, 'reconstruction', 'code'),
    ({'name': 'vae', 'image_shape': (8, 8, 1), 'hidden': (9,), 'code': 3}, 'variational', 'code'),
    ({'name': 'layer_autoencoder', 'hidden': (9, 7)}, 'reconstruction', ''),
], ids=['mlp', 'lenet', 'autoencoder', 'conv_autoencoder', 'vae', 'layer_autoencoder'])
def test_whose_units_are_looked_at_by_default(model, task, endpoint):
    assert untrained(model, (8, 8), 1, task=task).explainer.of_units == endpoint


@pytest.mark.parametrize('make, maps, targets', [
    (lambda: untrained({'name': 'lenet', 'padding': 'SAME'}, (8, 8), 1), ['conv1', 'conv2'], 5),
    (lambda: untrained({'name': 'mlp'}, (8, 8), 1), [], 5),
    (lambda: untrained({'name': 'unet', 'features': (4, 8)}, (8, 8), task=MASKS, info=DatasetInfo(
        ('image', 'segmentation_mask'), ('a', 'b'))), ['down0', 'down1', 'up0'], 2),
    (lambda: untrained({'name': 'fcn', 'features': (2, 3, 4, 5)}, (32, 32), task=MASKS, info=DatasetInfo(
        ('image', 'segmentation_mask'), ('a', 'b'))), ['conv1', 'conv2', 'conv3', 'conv4'], 2),
    (lambda: untrained({'name': 'detector', 'body': {'name': 'resnet9', 'width': 4}, 'endpoint': 'layer2'}, (32, 32),
                       task='detection'), ['prep', 'layer1', 'layer2'], 5),
    (lambda: untrained({'name': 'captioner', 'body': {'name': 'resnet9', 'width': 4}, 'endpoint': 'layer1'}, (16, 16),
                       task='captioning', info=of_texts(caption_length=5, tokens_per_example=4.0)),
     ['prep', 'layer1'], 0),
    (lambda: untrained({'name': 'resnet9', 'width': 4}, (16, 16), task='regression', info=DatasetInfo(
        ('image', 'y'), targets=2)), ['prep', 'layer1', 'layer2', 'layer3'], 2),
], ids=['lenet', 'mlp', 'unet', 'fcn', 'detector', 'captioner', 'regression'])
def test_endpoints_of_every_kind_of_model(make, maps, targets):
    """Also inside a detector's body, and of networks that are not made of stages; nothing is compiled."""
    explainer = make().explainer
    assert list(explainer.maps) == maps and len(explainer.targets.names if explainer.targets else ()) == targets
    assert explainer.filters()[0].kernels.shape[-1] == explainer.shape[-1]


def test_a_second_name_of_an_endpoint_is_known_and_shown_once(run, found):
    assert run.explainer.maps == ('conv',)
    again = run.explain(IMAGE, class_name='3', endpoint='last_conv', patch=5)[0]
    np.testing.assert_array_equal(again.maps['last_conv'], found.maps['conv'])
    np.testing.assert_allclose(again.grad_cam, found.grad_cam, rtol=1e-5)


def test_the_deepest_convolution_is_looked_at_by_default():
    assert untrained({'name': 'alexnet', 'hidden': ()}, (96, 96)).explainer.endpoint == 'conv5'
    unet = untrained({'name': 'unet', 'features': (4, 8)}, (8, 8), task=MASKS, info=DatasetInfo(
        ('image', 'segmentation_mask'), ('a', 'b')))
    assert unet.explainer.endpoint == 'down1'
    assert untrained({'name': 'lenet', 'padding': 'SAME'}, (8, 8), 1).explainer.endpoint == 'conv1'  # conv2 has 2x2


@pytest.mark.parametrize('how, parts', [
    ({'class_name': 'three'}, ('--class three', 'no such class', '0, 1, 2, 3, 4')),
    ({'endpoint': 'cnov'}, ('--endpoint cnov', 'tiny_cam', 'did you mean conv?')),
    ({'endpoint': 'mean'}, ('--endpoint mean', 'no grid', '6 numbers', 'conv')),
    ({'patch': 12}, ('--patch 12', 'less than 12')),
    ({'patch': -1}, ('--patch -1', 'at least 1')),
])
def test_mistakes(run, how, parts):
    with pytest.raises(UserError) as error:
        run.explain(IMAGE, **how)
    assert all(part in str(error.value) for part in parts) and '\n' not in str(error.value)


def test_what_cannot_be_looked_into_says_so(run):
    for unit, message in ((6, 'conv has channels 0 to 5'), (1.5, 'whole numbers'), (True, 'whole numbers')):
        with pytest.raises(UserError, match=f'--units {unit}: .*{message}'):
            maximize_units(run.explainer, 'conv', [unit])
    writer = untrained({'name': 'captioner', 'body': {'name': 'resnet9', 'width': 4}, 'endpoint': 'layer1'}, (16, 16),
                       task='captioning', info=of_texts(caption_length=5, tokens_per_example=4.0))
    with pytest.raises(UserError, match='--class ant: .* has the task captioning, it knows no classes'):
        writer.explainer.check('ant')
    with pytest.raises(UserError, match='--patch 3: .* knows no classes, nothing is hidden'):
        writer.explainer.check(patch=3)
    with pytest.raises(UserError, match='runs/game has learned to act'):
        Explainer(types.SimpleNamespace(feature='observation', workdir='runs/game'))


def test_sheets_stay_within_bounds(found):
    """However many filters, channels and endpoints there are."""
    def of(count: int, inputs: int) -> Filters:
        return Filters('conv', np.random.default_rng(0).normal(size=(count, 7, 7, inputs)).astype(np.float32))
    many, deep = sheet.draw_filters(of(600, 3)), sheet.draw_filters(of(200, 300))
    assert '600' in many.notes[0] and 'first 128' in many.notes[0]
    assert 'first 16 of 200 filters' in deep.notes[0] and 'first 24 of 300 inputs' in deep.notes[0]
    large = sheet.draw_filters(Filters('dense1', np.random.default_rng(0).normal(size=(32, 100, 100, 1))))
    assert large.picture.size == (34 + 10 * 106 - 6, 4 * 106), 'ten in a row, as many as there is room for'
    maps = {f'stage{place}': np.random.default_rng(place).normal(size=(5, 9, 70)).astype(np.float32)
            for place in range(40)}
    stages = sheet.draw_maps(type(found)(found.image, maps), list(maps), 'a', 'a')
    assert '12 of 40 endpoints' in stages.notes[0]
    one = sheet.draw_maps(type(found)(found.image, maps), list(maps), 'a', 'a', 'stage3')
    assert '60 strongest of 70' in one.notes[0]
    whole = sheet.compose('title ' * 60, ['note ' * 90, 'x' * 900], [many, deep, stages, one])
    class_section = sheet.draw_class(found, 'a', 'a', Targets(tuple('01234'), *[None] * 3))
    least = 100 * (found.share - found.drops.max())
    assert f'One square alone leaves {least:.1f} %; the colour of a pixel is the mean' in class_section.notes[1]
    assert max(part.picture.width for part in (many, deep, stages, one)) <= sheet.WIDTH
    assert whole.width < 1300 and whole.height < 6000
