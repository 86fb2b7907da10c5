"""Cached features of mirrored images come with mirrored boxes and masks, those of images as they are with their own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clu import metrics as clu_metrics

from practicum import models, tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.input_pipeline import sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.models.stages import run_stages
from practicum.tasks import PerExample, Task
from practicum.tasks.metrics import Mean
from practicum.training import components, evaluation, feature_cache, forward
from tests.tiny import tiny_config

HEIGHT, WIDTH, COUNT = 4, 10, 12


class Columns(nn.Module):
    """The brightness of every column, and a head that adds a number."""
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train=False, features=None, begin=None):
        return run_stages([('columns', lambda x: x.sum((1, 3)) * self.param('scale', nn.initializers.ones, ())),
                           ('shifted', lambda x: x + self.param('shift', nn.initializers.zeros, ()))],
                          images, begin=begin, features=features)


class Spot(Task):
    """How far the brightest column is from the middle of the box, and from the mask's; and which column it is."""
    per_example = PerExample()

    def __init__(self, config, info):
        super().__init__(config, info)
        self.train_metrics = clu_metrics.Collection.create(loss=Mean.from_output('loss'),
                                                           mirrored=Mean.from_output('mirrored'))

    def score(self, outputs, batch):
        column = jnp.argmax(outputs, axis=-1)
        middle = (batch['boxes'][:, 0, 0] + batch['boxes'][:, 0, 2]) / 2
        mask = jnp.argmax(batch['segmentation_mask'].sum(1), axis=-1)
        padding = jnp.abs(batch['boxes'][:, 1]).max(-1)
        loss = (middle - 0.5 - column) ** 2 + (mask - column) ** 2 + padding + 0 * outputs.sum(-1)
        return {'loss': loss, 'mirrored': (column >= WIDTH // 2).astype(jnp.float32)}


def spots(data, image, split, *rest) -> ArraySource:
    """One bright column in the left half of each image, with a box and a mask; a second box is none."""
    columns = np.arange(COUNT) % 5
    masks = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    masks[np.arange(COUNT), :, columns] = 1
    boxes = np.zeros((COUNT, 2, 4), np.float32)
    boxes[:, 0] = np.stack([columns, 0 * columns, columns + 1, 0 * columns + HEIGHT], 1)
    arrays = {'image': 255 * masks[..., None], 'segmentation_mask': masks, 'boxes': boxes,
              'box_labels': np.tile(np.int32([0, -1]), (COUNT, 1)), 'box_crowd': np.zeros((COUNT, 2), np.uint8)}
    info = DatasetInfo(class_names=('ground', 'spot'), input_size=(HEIGHT, WIDTH))
    return ArraySource(arrays, info, [{'width': 77}] * COUNT, name='spots')


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """Returns cached(*overrides) -> a training and its evaluations, on features."""
    monkeypatch.setitem(models.MODELS, 'columns', Columns)
    monkeypatch.setitem(tasks.TASKS, 'spot', Spot)
    monkeypatch.setitem(sources.SOURCES, 'arrays', spots)
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path))

    def build(*overrides: str):
        config = tiny_config('augment.shift=0.0', 'data.source=arrays', f'image.size=({HEIGHT}, {WIDTH})',
                             'cached_features.endpoint=columns', 'parallel.devices=1',
                             'checkpoint.best_metric=validation/loss', 'checkpoint.best_mode=min', *overrides)
        with config.unlocked():
            config.model, config.task = {'name': 'columns'}, {'name': 'spot'}
        training = components.build_training(config)
        found = evaluation.Evaluations(config, training.parallel, training.task, training.info, ('validation',))
        feature_cache.install(training, found, training.place(training.initial_state()))
        return training, found
    return build


@pytest.mark.parametrize('flip', [True, False])
def test_boxes_and_masks_follow_the_view_that_is_drawn(cached, flip):
    training, evaluations = cached(f'cached_features.flip={flip}')
    state, shares = training.place(training.initial_state()), []
    for step in range(6):
        state, metrics = training.train_step(state, training.parallel.shard(training.batches(step)))
        found = training.layout.unpack(training.parallel.fetch(metrics))['task'].compute()
        assert found['loss'] == 0
        shares.append(found['mirrored'])
    assert 0.25 < np.mean(shares) < 0.75 if flip else not any(shares)
    # Evaluation sets keep what examples are drawn and scored with.
    source = evaluations.sources['validation']
    assert source.has_boxes and source.describe(np.arange(1)) == [{'width': 77}]
    assert set(source.arrays) == {*spots(None, None, None).arrays, forward.FEATURES}


def test_each_example_s_targets_are_those_of_its_own_view():
    plain = spots(None, None, None).arrays
    columns = plain['image'].sum((1, 3)).astype(np.float32)
    batch = {**plain, forward.FEATURES: np.stack([columns, columns[:, ::-1]], axis=1)}
    del batch['image']
    keys = jax.random.split(jax.random.key(0), COUNT)
    found = jax.device_get(jax.jit(forward.select_view, static_argnames='width')(batch, keys, width=WIDTH))
    is_mirrored = (found['features'] == columns[:, ::-1]).all(1)
    assert 0 < is_mirrored.sum() < COUNT
    for i, mirrored in enumerate(is_mirrored):
        left, top, right, bottom = plain['boxes'][i, 0]
        expected = [WIDTH - right, top, WIDTH - left, bottom] if mirrored else [left, top, right, bottom]
        np.testing.assert_array_equal(found['boxes'][i], [expected, [0, 0, 0, 0]])
        mask = plain['segmentation_mask'][i]
        np.testing.assert_array_equal(found['segmentation_mask'][i], mask[:, ::-1] if mirrored else mask)
    for name in ('box_labels', 'box_crowd'):
        np.testing.assert_array_equal(found[name], plain[name])


def test_the_target_of_a_region_follows_too():
    target = np.tile(np.float32([0.25, -0.5, 0.1, 0.2]), (16, 1))
    batch = {'features': np.tile(np.float32([0, 1]), (16, 1)), 'box_target': target}
    chosen = forward.select_view(batch, jax.random.split(jax.random.key(0), 16), width=10)
    mirrored = np.asarray(chosen['features']) == 1
    assert 0 < mirrored.sum() < 16
    np.testing.assert_array_equal(chosen['box_target'], np.where(mirrored[:, None], target * [-1, 1, 1, 1], target))
