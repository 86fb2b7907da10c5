"""Metrics are sums and counts: exact under masks, padding, any batch size and any order of merging."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from practicum.common.dataset_info import DatasetInfo
from practicum.models import batch_axis
from practicum.tasks.classification import Classification
from practicum.tasks.classification_metrics import CALIBRATION_BINS
from practicum.tasks.metrics import ConfusionMatrix, Mean, over_devices
from practicum.training.evaluation import Evaluation, merge

CLASSES = 4
TASK = Classification({}, DatasetInfo.from_json({'class_names': [str(i) for i in range(CLASSES)]}))


@pytest.fixture(scope='module')
def examples():
    """Scores of 23 examples, as `Classification.score` returns them."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(23, CLASSES)).astype(np.float32)
    labels = generator.integers(0, CLASSES, 23).astype(np.int32)
    return {name: np.asarray(value) for name, value in TASK.score(jnp.asarray(logits), {'label': labels}).items()}


def computed(batches):
    """What `training.evaluation` computes from batches of (scores, mask)."""
    total = None
    for scores, mask in batches:
        metrics = TASK.eval_metrics.single_from_model_output(mask=jnp.asarray(mask), **scores)
        total = merge(total, jax.tree.map(np.asarray, metrics))
    return total.compute()


def padded_batches(examples, batch_size, filler):
    """The examples in batches of one size; the last is padded with `filler` and masked."""
    total = len(examples['loss'])
    for begin in range(0, total, batch_size):
        rows = np.arange(begin, begin + batch_size)
        valid = rows < total
        yield {name: np.where(valid.reshape(-1, *[1] * (values.ndim - 1)), values[np.minimum(rows, total - 1)],
                              np.asarray(filler.get(name, 0.9), values.dtype))
               for name, values in examples.items()}, valid.astype(np.float32)


def by_hand(examples):
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    for label, prediction in zip(examples['label'], examples['prediction']):
        confusion[label, prediction] += 1
    probabilities, labels = examples['probabilities'], examples['label']
    error = 0.0  # Guo et al. 2017, equation 3, as written
    for low in range(CALIBRATION_BINS):
        confidence = probabilities.max(axis=1)
        inside = (confidence > low / CALIBRATION_BINS) & (confidence <= (low + 1) / CALIBRATION_BINS)
        if inside.any():
            error += inside.mean() * abs(examples['correct'][inside].mean() - confidence[inside].mean())
    return {'loss': np.mean(examples['loss'], dtype=np.float64), 'confusion': confusion,
            'accuracy': np.mean(labels == examples['prediction']), 'calibration_error': error,
            'auc': np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in range(CLASSES)])}


def assert_equal(found, expected):
    assert found['loss'] == pytest.approx(expected['loss'], rel=1e-6)
    assert found['accuracy'] == pytest.approx(expected['accuracy'], abs=1e-12)
    assert found['calibration_error'] == pytest.approx(expected['calibration_error'], abs=1e-6)
    assert found['auc'] == pytest.approx(expected['auc'], abs=1e-12)
    np.testing.assert_array_equal(found['confusion'], expected['confusion'])


@pytest.mark.parametrize('batch_size', [1, 2, 7, 22, 23, 24, 100])
def test_neither_batch_size_nor_padding_changes_a_metric(batch_size, examples):
    """Whatever stands in the padding: large losses and confident errors of class 0 count nothing."""
    for filler in ({'loss': 0.0, 'correct': 0.0, 'label': 0, 'prediction': 0},
                   {'loss': 1e30, 'correct': 1.0, 'label': CLASSES - 1, 'prediction': 0}):
        assert_equal(computed(padded_batches(examples, batch_size, filler)), by_hand(examples))


def test_merging_in_any_order_is_the_same(examples):
    batches = list(padded_batches(examples, 6, {'loss': 9.0, 'correct': 1.0, 'label': 1, 'prediction': 2}))
    for order in itertools.permutations(batches):
        assert_equal(computed(order), by_hand(examples))


def test_a_batch_of_nothing_but_padding_adds_nothing(examples):
    """A host whose rows lie beyond the end of the set takes part all the same."""
    nothing = {name: values[:5] for name, values in examples.items()}, np.zeros(5, np.float32)
    whole = examples, np.ones(23, np.float32)
    for batches in ([nothing, whole], [whole, nothing], [nothing, whole, nothing]):
        assert_equal(computed(batches), by_hand(examples))


def test_rows_of_the_confusion_matrix_are_true_classes():
    scores = {'loss': np.zeros(3, np.float32), 'correct': np.zeros(3, np.float32),
              'label': np.array([2, 2, 0], np.int32), 'prediction': np.array([1, 1, 3], np.int32),
              'probabilities': np.full((3, CLASSES), 0.25, np.float32),
              'log_odds': np.zeros((3, CLASSES), np.float32)}
    counts = computed([(scores, np.ones(3, np.float32))])['confusion']
    assert counts.shape == (CLASSES, CLASSES) and counts.dtype == np.int64
    assert counts[2, 1] == 2 and counts[0, 3] == 1 and counts.sum() == 3


def test_devices_add_up_as_one(examples):
    """Eight devices with three rows each, one of them padding."""
    scores, mask = next(padded_batches(examples, 24, {'loss': 5.0, 'correct': 1.0, 'label': 0, 'prediction': 0}))
    scores = {name: values.reshape(8, 3, *values.shape[1:]) for name, values in scores.items()}
    def measure(scores, mask):
        with batch_axis.divided('batch'):
            return over_devices(TASK.eval_metrics.single_from_model_output(mask=mask, **scores))
    gather = jax.pmap(measure, axis_name='batch', out_axes=None)
    metrics = gather(scores, mask.reshape(8, 3))
    assert_equal(merge(None, jax.tree.map(np.asarray, metrics)).compute(), by_hand(examples))


def test_sums_on_the_host_keep_their_digits():
    """Ten thousand batches of float32 sums: added in float32 the last digits would be lost."""
    one = jax.tree.map(np.asarray, Mean.from_model_output(jnp.full((64,), 0.1), mask=jnp.ones(64)))
    total = None
    for _ in range(10_000):
        total = merge(total, one)
    assert total.compute() == pytest.approx(float(one.total) / 64, rel=1e-12)


def test_the_mean_of_nothing_is_nan_without_a_warning(recwarn):
    empty = jax.tree.map(np.asarray, Mean.from_model_output(jnp.ones(3), mask=jnp.zeros(3)))
    assert np.isnan(merge(None, empty).compute())
    assert not recwarn.list


def test_a_confusion_matrix_without_a_mask_counts_everything():
    metric = ConfusionMatrix.of(2).from_model_output(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]))
    np.testing.assert_array_equal(metric.compute(), [[1, 0], [1, 1]])
    np.testing.assert_array_equal(metric.merge(ConfusionMatrix.of(2).empty()).compute(), [[1, 0], [1, 1]])


def test_scalars_are_named_by_their_set_and_leave_arrays_out():
    found = Evaluation({'loss': np.float64(0.5), 'accuracy': 1.0, 'confusion': np.eye(2)}).scalars('test/')
    assert found == {'test/loss': 0.5, 'test/accuracy': 1.0}
    assert all(type(value) is float for value in found.values())
