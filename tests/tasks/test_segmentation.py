"""The segmentation task against losses and scores written out pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.tasks.segmentation import LOSSES, Segmentation
from practicum.training.evaluation import merge

CLASSES = ('background', 'heart', 'lung')


def task(loss: str = 'cross_entropy', weights: tuple = ()) -> Segmentation:
    config = {'name': 'segmentation', 'loss': loss, 'class_weights': weights}
    return tasks.build(config, DatasetInfo(class_names=tuple(CLASSES)))


@pytest.fixture(scope='module')
def batch() -> tuple[np.ndarray, np.ndarray]:
    """Logits [4, 6, 5, 3] and masks [4, 6, 5]; the last mask is all background."""
    draw = np.random.RandomState(0)
    masks = draw.randint(0, 3, (4, 6, 5)).astype(np.uint8)
    masks[3] = 0
    return draw.normal(size=(4, 6, 5, 3)).astype(np.float32), masks


def reference(logits: np.ndarray, mask: np.ndarray, loss: str, weights: tuple) -> float:
    """The loss of one image, pixel by pixel in float64."""
    weights = weights or (1, 1, 1)
    total, weight_sum = 0.0, 0.0
    probability = np.zeros(logits.shape)
    for i, j in np.ndindex(mask.shape):
        probability[i, j] = np.exp(logits[i, j].astype(float)) / np.exp(logits[i, j].astype(float)).sum()
        total -= weights[mask[i, j]] * np.log(probability[i, j, mask[i, j]])
        weight_sum += weights[mask[i, j]]
    dice = [(2 * probability[mask == c, c].sum() + 1) / (probability[..., c].sum() + (mask == c).sum() + 1)
            for c in (1, 2)]
    return {'cross_entropy': total / weight_sum, 'dice': 1 - np.mean(dice),
            'cross_entropy_dice': total / weight_sum + 1 - np.mean(dice)}[loss]


@pytest.mark.parametrize('weights', [(), (0.5, 2, 3)])
@pytest.mark.parametrize('loss', LOSSES)
def test_losses_are_those_of_the_pixels(loss, weights, batch):
    logits, masks = batch
    found = task(loss, weights).score(logits, {'segmentation_mask': masks})['loss']
    np.testing.assert_allclose(found, [reference(*pair, loss, weights) for pair in zip(logits, masks)], rtol=1e-5)


@pytest.mark.parametrize('loss', LOSSES)
def test_a_perfect_prediction_costs_nothing_and_gradients_are_finite_at_it(loss, batch):
    masks = batch[1]
    perfect = 50.0 * jax.nn.one_hot(masks, 3)
    np.testing.assert_allclose(task(loss).score(perfect, {'segmentation_mask': masks})['loss'], 0, atol=1e-6)
    gradient = jax.grad(lambda x: task(loss).score(x, {'segmentation_mask': masks})['loss'].sum())(perfect)
    assert np.isfinite(gradient).all()


def test_train_metrics_are_means_over_images_as_in_evaluation(batch):
    logits, masks = batch
    segmentation = task()
    prediction = logits.argmax(-1)
    single = [segmentation.train_metrics.single_from_model_output(
        **segmentation.score(logits[i:i + 2], {'segmentation_mask': masks[i:i + 2]})) for i in (0, 2)]
    first, second = (merge(None, jax.tree.map(np.asarray, metrics)) for metrics in single)
    found = first.merge(second).compute()
    cases = [segmentation.per_example.measure({'prediction': np.uint8(p)}, {'segmentation_mask': m}, {})
             for p, m in zip(prediction, masks)]
    assert found['dice'] == pytest.approx(segmentation.per_example.summarize(cases)['dice'])
    assert found['accuracy'] == pytest.approx((prediction == masks).mean())


def test_padding_does_not_count(batch):
    logits, masks = batch
    segmentation = task()
    def metrics(n, **mask):
        scores = segmentation.score(logits[:n], {'segmentation_mask': masks[:n]})
        return segmentation.train_metrics.single_from_model_output(**scores, **mask).compute()
    assert metrics(4, mask=jnp.array([1.0, 1, 0, 0])) == pytest.approx(metrics(2))


def test_a_prediction_has_the_images_own_size(tmp_path):
    logits = np.zeros((8, 8, 3), np.float32)
    logits[2:6, 2:6, 1] = 9
    image = np.zeros((16, 32, 1), np.uint8)
    prediction = task().predict(logits, image, {'spacing_mm': (2.0, 0.5)}, 1)
    mask = prediction.files['mask.png']
    assert mask.shape == (16, 32) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert mask[5:11, 9:23].all() and not mask[:3].any() and not mask[:, :6].any()
    classes = prediction.row['classes']
    assert classes['heart'] == {'pixels': int(mask.sum()), 'components': 1, 'area_mm2': float(mask.sum())}
    assert classes['lung'] == {'pixels': 0, 'components': 0, 'area_mm2': 0.0}
    points = prediction.files['heart-contour.txt']
    assert prediction.files['lung-contour.txt'] is None  # nothing was found
    rows, columns = np.nonzero(mask)
    assert points[:, 0].min() == columns.min() - 0.5 and points[:, 0].max() == columns.max() + 0.5  # x along columns
    assert points[:, 1].min() == rows.min() - 0.5 and points[:, 1].max() == rows.max() + 0.5
    info = DatasetInfo(class_names=tuple(CLASSES), other={'contour_origin': [1.0, 1.0]})
    counts_from_one = tasks.build({'name': 'segmentation'}, info)
    shifted = counts_from_one.predict(logits, image, {}, 1)
    np.testing.assert_array_equal(shifted.files['heart-contour.txt'], points + 1)
    assert 'area_mm2' not in shifted.row['classes']['heart'] and shifted.row['contour_origin'] == [1, 1]
    assert 'heart : ' in task().describe(prediction.row) and 'mm2' in task().describe(prediction.row)
    assert task().flatten(prediction.row)['heart_pixels'] == int(mask.sum())


def test_severity_orders_cases_by_mean_dice():
    severity = task().per_example.severity
    assert severity({'dice': {'heart': 0.5, 'lung': None}}) == 0.5
    assert severity({'dice': {'heart': 0.5, 'lung': 1.0}}) == 0.25
    assert severity({'dice': {'heart': None, 'lung': None}}) == 0.0


@pytest.mark.parametrize('config, parts', [
    ({'loss': 'dise'}, ('config.task.loss', 'did you mean dice?')),
    ({'class_weights': (1, 2)}, ('config.task.class_weights', 'background, heart, lung')),
    ({'class_weights': (1, 2, 0)}, ('config.task.class_weights', 'above 0')),
    ({'class_weights': (1, 2, 'a')}, ('config.task.class_weights', 'above 0')),
    ({'class_weights': (1, 2, float('inf'))}, ('config.task.class_weights', 'above 0')),
    ({'label_smoothing': 0.1}, ('config.task.label_smoothing', 'no such field')),
])
def test_a_field_that_does_not_fit_is_named(config, parts):
    with pytest.raises(UserError) as error:
        tasks.build({'name': 'segmentation', **config}, DatasetInfo.from_json({'class_names': CLASSES}))
    assert all(part in str(error.value) for part in parts) and '\n' not in str(error.value)
