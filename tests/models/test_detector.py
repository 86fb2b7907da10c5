"""Detectors: any body with endpoints, one scale of features, and boxes in pixels whatever the grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models.stages import endpoints

BODY = {'name': 'resnet', 'depth': 18, 'width': 2}
SIZE = (32, 48)


def build(**fields):
    config = {'name': 'detector', 'body': BODY, 'endpoint': 'layer2', 'width': 8, 'depth': 1} | fields
    return models.build(config, num_classes=3, image_size=SIZE)


def run(model, **how):
    images = jax.random.normal(jax.random.key(0), (2, *SIZE, 3))
    outputs, variables = jax.jit(lambda images: model.init_with_output(jax.random.key(0), images, **how))(images)
    return images, outputs, variables


def test_outputs_are_of_cells_of_the_bodys_endpoint():
    images, outputs, variables = run(build())
    assert {name: values.shape for name, values in outputs.items()} == {
        'logits': (2, 4, 6, 3), 'distances': (2, 4, 6, 4), 'centres': (2, 4, 6, 2), 'stride': (2,)}
    assert outputs['stride'].tolist() == [8, 8] and (outputs['distances'] > 0).all()
    # Rare: 2 percent of the classes of a cell before training, as the focal loss's authors advise.
    assert 0.01 < jax.nn.sigmoid(outputs['logits']).mean() < 0.03


def test_what_comes_after_features_is_the_whole():
    model = build()
    images, whole, variables = run(model)
    assert endpoints(model, images[:1]) == ('features', 'outputs')
    body = jax.tree.map(lambda x: x, {'params': {'body': variables['params']['body']},
                                      'batch_stats': {'body': variables['batch_stats']['body']}})
    features = model.apply(body, images, features='features')
    after = model.apply(variables, features, begin='features')
    for name in whole:
        np.testing.assert_allclose(after[name], whole[name], rtol=1e-5, atol=1e-5)


def test_a_top_down_step_halves_the_stride():
    model = build(endpoint='layer3', lateral='layer2')
    images, outputs, variables = run(model)
    assert outputs['logits'].shape == (2, 4, 6, 3) and outputs['stride'][0] == 8
    assert endpoints(model, images[:1]) == ('outputs',)
    # The coarse map matters, everywhere.
    silent = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros_like(x) if any(part.key == 'coarse' for part in path) else x, variables)
    changed = model.apply(silent, images)['logits'] != outputs['logits']
    assert changed.any(axis=-1).mean() > 0.9


@pytest.mark.parametrize('fields, error', [
    ({'endpoint': 'pool'}, "config.model.endpoint = 'pool' has no cells: name one of an earlier layer"),
    ({'endpoint': 'layer9'}, "this model has no endpoint 'layer9'; did you mean layer"),
    ({'lateral': 'layer2'}, "endpoint 'layer2' does not come after 'layer2'"),
    ({'endpoint': 'layer4', 'lateral': 'layer1'},
     "config.model.lateral = 'layer1' has 8x12 cells and 'layer4' 1x2: name the last endpoint with twice as many"),
    ({'body': {'name': 'fcn'}}, 'config.model.body: FCN has no endpoints to look at, as those of vgg or resnet')])
def test_mistakes(fields, error):
    with pytest.raises(UserError, match=error):
        jax.eval_shape(lambda: build(**fields).init(jax.random.key(0), jnp.zeros((1, *SIZE, 3))))
