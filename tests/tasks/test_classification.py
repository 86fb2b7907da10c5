"""Classification beyond accuracy: ranking, calibration, single classes, decisions, several views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support, roc_auc_score

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.tasks import prediction
from practicum.tasks.classification import Classification
from practicum.tasks.classification_metrics import QuadraticKappa, RocAuc, per_class_table, roc_auc
from practicum.tasks.decisions import Decisions
from practicum.training import components
from practicum.training.evaluation import merge
from tests.tiny import tiny_config

ANIMALS = ('cat', 'dog', 'Persian cat', 'wolf')


def classification(*class_names: str, **config):
    return Classification(config, DatasetInfo.from_json({'class_names': class_names}))


def evaluated(task, logits, labels):
    """The metrics of one batch."""
    @jax.jit
    def metrics_of(logits, labels):
        scores = task.score(logits, {'label': labels})
        return task.eval_metrics.single_from_model_output(mask=jnp.ones(len(labels)), **scores)
    metrics = metrics_of(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    return merge(None, jax.tree.map(np.asarray, metrics)).compute()


@pytest.mark.parametrize('seed', range(5))
def test_auc_is_that_of_scikit_learn_also_with_ties(seed):
    generator = np.random.default_rng(seed)
    scores, positive = generator.integers(0, 6, 40) / 5, generator.integers(0, 2, 40).astype(bool)
    assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_auc_of_one_class_alone_is_nan():
    assert np.isnan(roc_auc(np.ones(3), np.ones(3, bool)))
    assert np.isnan(roc_auc(np.ones(3), np.zeros(3, bool)))
    assert np.isnan(RocAuc.of(2).empty().compute())


def test_auc_of_two_classes_is_that_of_the_second():
    """A perfect ranking by the second class's probability, although three of four are called the first class."""
    found = evaluated(classification('healthy', 'ill'), [[5, 0], [4, 0], [3, 0], [0, 1]], [0, 0, 1, 1])
    assert found['auc'] == 1.0 and found['accuracy'] == 0.75


def test_auc_of_a_network_that_is_sure():
    """Probabilities are 1 to float32 for both examples of the second class; one is surer all the same."""
    found = evaluated(classification('a', 'b'), [[0, 60], [0, 50], [0, 40]], [1, 1, 0])
    assert found['auc'] == 1.0


def test_classes_without_examples_do_not_count_in_auc():
    found = evaluated(classification('a', 'b', 'c'), [[3, 1, 0], [1, 3, 0], [2, 1, 0]], [0, 1, 1])
    by_hand = [roc_auc(np.asarray(jax.nn.softmax(jnp.array([[3., 1, 0], [1, 3, 0], [2, 1, 0]])))[:, c],
                       np.array([0, 1, 1]) == c) for c in (0, 1)]
    assert found['auc'] == pytest.approx(np.mean(by_hand))


def test_top5():
    """The sixth of seven logits is outside, the fifth inside; equals are no rank worse."""
    logits = np.array([[7, 6, 5, 4, 3, 2, 1]] * 3 + [[1] * 7], float)
    found = evaluated(classification(*'abcdefg'), logits, [5, 4, 0, 6])
    assert found['top5_accuracy'] == 0.75
    assert 'top5_accuracy' not in evaluated(classification(*'abcde'), np.zeros((1, 5)), [0])


def test_calibration_error_of_overconfidence():
    """Two examples at 99.99 %, one of them wrong: off by a half."""
    found = evaluated(classification('a', 'b'), [[10, 0], [10, 0]], [0, 1])
    assert found['calibration_error'] == pytest.approx(0.5, abs=1e-3)


def test_per_class_table_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 3, (2, 50))
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, predictions), 1)
    rows = per_class_table(confusion, ('a', 'b', 'c'))
    columns = precision_recall_fscore_support(labels, predictions)
    for key, column in zip(('precision', 'recall', 'f1', 'examples'), columns):
        assert [row[key] for row in rows] == pytest.approx(column.tolist())


def test_per_class_table_of_a_class_never_seen():
    rows = per_class_table(np.array([[2, 1], [0, 0]]), ('a', 'b'))
    assert rows[0]['most_confused_with'] == 'b' and rows[1]['most_confused_with'] is None
    assert rows[1] == {'class': 'b', 'examples': 0, 'precision': 0.0, 'recall': None, 'f1': 0.0,
                       'most_confused_with': None}


def test_auxiliary_classifiers_add_to_the_loss_and_to_nothing_else():
    task = classification('a', 'b', auxiliary_weight=0.5)
    logits, label = jnp.array([[2.0, 0.0]]), {'label': jnp.array([0])}
    alone = task.score(logits, label)
    both = task.score({'logits': logits, 'auxiliary': (-logits, logits)}, label)
    wrong = task.score(-logits, label)
    np.testing.assert_allclose(both['loss'], 1.5 * alone['loss'] + 0.5 * wrong['loss'], rtol=1e-6)
    assert both['correct'] == 1


def test_views_are_averaged_as_probabilities():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3, 4)), jnp.float32)
    combined = classification(*'abcd').combine_views(logits)
    np.testing.assert_allclose(jax.nn.softmax(combined), jax.nn.softmax(logits).mean(axis=0), rtol=1e-5)


def test_decisions_sum_the_probabilities_of_their_classes():
    """Neither cat is as likely as the dog, both together are likelier."""
    decisions = Decisions((('stays shut', ('.*cat',)), ('opens', ('.*',))), ANIMALS)
    assert decisions(np.array([0.3, 0.4, 0.3, 0.0])) == 'stays shut'
    assert decisions(np.array([0.3, 0.4, 0.0, 0.3])) == 'opens'
    correct = decisions.correct(jnp.array([[0.3, 0.4, 0.3, 0.0]] * 2), jnp.array([1, 2]))
    np.testing.assert_array_equal(correct, [0, 1])


def test_decision_is_a_metric_and_part_of_a_prediction():
    task = classification(*ANIMALS, decisions=(('opens', ('dog', 'wolf')), ('stays shut', ('.*',))))
    found = evaluated(task, np.eye(4) * 5, [0, 3, 1, 1])  # the second and the fourth confuse dog and wolf
    assert found['decision_accuracy'] == 0.75 and found['accuracy'] == 0.25
    row = task.predict(np.array([0.0, 3.0, 0.0, 0.0]), None, {}, 2).row
    assert row['decision'] == 'opens'
    assert task.describe(row).startswith('opens   (dog : ')
    assert task.flatten(row)['decision'] == 'opens'


@pytest.mark.parametrize('decisions, message', [
    ((('opens', ('dgo',)),), "'dgo' matches no class; did you mean dog"),
    ((('opens', ('dog',)),), "says nothing of class 'cat'"),
    ((('opens', 'dog'),), 'is not a pair'),
    (('opens',), 'is not a pair'),
    ((('opens', ('(',)),), 'is not a regular expression'),
])
def test_decisions_that_do_not_decide(decisions, message):
    with pytest.raises(UserError, match='config.task.decisions') as error:
        Decisions(decisions, ANIMALS)
    assert message in str(error.value)


def test_the_worst_examples_are_listed_and_drawn():
    task = classification('a', 'b', per_example=True)
    example = {'label': np.int32(1), 'image': np.zeros((4, 4, 1), np.uint8)}
    case = task.per_example.measure({'probabilities': np.array([0.9, 0.1])}, example, {})
    assert case == {'class': 'b', 'predicted': 'a', 'class_probability': 0.1, 'predicted_probability': 0.9}
    assert task.per_example.severity(case) > task.per_example.severity(case | {'class_probability': 0.2})
    assert 'worst_examples' in task.figures({}, [{'example': example, 'outputs': {}, 'scores': case}])


@pytest.mark.parametrize('seed', range(3))
def test_quadratic_kappa_is_that_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, 50)
    predictions = np.clip(labels + generator.integers(-2, 3, 50), 0, 4)
    metric = QuadraticKappa.of(5)
    total = metric.empty()
    for rows in (slice(0, 30), slice(30, 50)):
        total = total.merge(metric.from_model_output(label=jnp.asarray(labels[rows]),
                                                     prediction=jnp.asarray(predictions[rows])))
    assert total.compute() == pytest.approx(cohen_kappa_score(labels, predictions, weights='quadratic'))
    assert np.isnan(metric.empty().compute())
# --- the loss ---

LOGITS = np.array([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0], [1.0, -1.0, 0.3]], np.float32)
LABELS = np.array([0, 1, 2])
CROSS_ENTROPY = -np.asarray(jax.nn.log_softmax(LOGITS))[np.arange(3), LABELS]


def losses(task, logits=LOGITS, labels=LABELS, **more):
    return np.asarray(task.score(jnp.asarray(logits), {'label': jnp.asarray(labels)} | more)['loss'])


def test_class_weights_have_the_mean_one_and_weigh_every_example_on_its_own():
    weighted = losses(classification('a', 'b', 'c', class_weights=(1, 2, 3)))
    np.testing.assert_allclose(weighted, np.array([0.5, 1.0, 1.5]) * CROSS_ENTROPY, rtol=1e-5)
    alone = [losses(classification('a', 'b', 'c', class_weights=(1, 2, 3)), LOGITS[i:i + 1], LABELS[i:i + 1])[0]
             for i in range(3)]
    np.testing.assert_allclose(weighted, alone, rtol=1e-6)  # whatever batch and device it is in


def test_balanced_weights_are_inverse_frequencies():
    info = DatasetInfo(class_names=('a', 'b', 'c'), class_counts=(10, 20, 40))
    for setting in ('balanced', ('balanced',)):
        task = Classification({'class_weights': setting}, info)
        np.testing.assert_allclose(task.class_weights, np.array([4, 2, 1]) / (7 / 3), rtol=1e-6)
    again = Classification({'class_weights': 'balanced'}, DatasetInfo.from_json(info.to_json()))
    np.testing.assert_array_equal(again.class_weights, task.class_weights)


def test_balanced_weights_of_the_training_data():
    training = components.build_training(tiny_config('task.class_weights=balanced', 'parallel.devices=1'))
    assert len(training.info.class_counts) == 10 and sum(training.info.class_counts) == len(training.source)
    assert training.task.class_weights.mean() == pytest.approx(1.0)


@pytest.mark.parametrize('weights, counts, message', [
    ((1.0, 2.0), None, 'one number above 0 for each of a, b, c'), ((1.0, 2.0, 0.0), None, 'above 0'),
    ((1.0, 2.0, float('nan')), None, 'above 0'), ('even', None, 'even.*balanced'),
    ('balanced', None, 'how many examples of each class'), ('balanced', (1, 0, 2), "no training example of 'b'"),
])
def test_weights_that_do_not_fit_the_classes(weights, counts, message):
    with pytest.raises(UserError, match=f'config.task.class_weights.*{message}'):
        Classification({'class_weights': weights}, DatasetInfo(class_names=('a', 'b', 'c'), class_counts=counts))


def test_focal_loss_turns_to_what_is_wrong():
    """(1 - p) ** gamma times the cross-entropy, Lin et al. 2017; a sure example has a finite gradient all the same."""
    focal = classification('a', 'b', 'c', focal_gamma=2.0)
    np.testing.assert_allclose(losses(focal), (1 - np.exp(-CROSS_ENTROPY)) ** 2 * CROSS_ENTROPY, rtol=1e-5)
    sure = jnp.array([[100.0, 0.0, 0.0]])
    gradient = jax.grad(lambda logits: classification('a', 'b', 'c', focal_gamma=0.5).score(
        logits, {'label': jnp.array([0])})['loss'].sum())(sure)
    assert np.isfinite(gradient).all()
    with pytest.raises(UserError, match='focal_gamma = -1'):
        classification('a', 'b', focal_gamma=-1.0)


@pytest.mark.parametrize('fields', [{}, {'label_smoothing': 0.1}, {'class_weights': (1, 2, 3)}, {'focal_gamma': 1.0}])
def test_a_mixed_image_has_the_losses_of_both_its_labels(fields):
    task, other = classification('a', 'b', 'c', **fields), np.array([2, 1, 0])
    mix = np.array([0.7, 0.2, 1.0], np.float32)
    mixed = losses(task, mixed_label=jnp.asarray(other), mix=jnp.asarray(mix))
    np.testing.assert_allclose(mixed, mix * losses(task) + (1 - mix) * losses(task, labels=other), rtol=1e-5)
    scores = task.score(jnp.asarray(LOGITS), {'label': LABELS, 'mixed_label': jnp.asarray(other), 'mix': mix})
    assert scores['correct'].tolist() == [1.0, 0.0, 0.0]  # by the label of its own
    assert task.takes_mixed_labels


@pytest.mark.parametrize('fields', [{}, {'label_smoothing': 0.1}, {'class_weights': (1, 2, 3)}])
def test_a_label_that_is_no_class_has_no_loss_that_looks_good(fields):
    """It was 0: one_hot(3) of three classes is a row of zeros."""
    found = losses(classification('a', 'b', 'c', **fields), labels=np.array([0, 3, -1]))
    assert np.isfinite(found[0]) and np.isnan(found[1:]).all()


def test_ordered_classes_are_scored_by_kappa():
    task = classification('mild', 'moderate', 'severe', ordered=True)
    batch = {'label': jnp.array([0, 1, 2, 2])}
    logits = jnp.array([[9.0, 0, 0], [0, 9, 0], [0, 9, 0], [0, 0, 9]])
    found = task.eval_metrics.single_from_model_output(**task.score(logits, batch)).compute()
    assert found['quadratic_kappa'] == pytest.approx(cohen_kappa_score([0, 1, 2, 2], [0, 1, 1, 2], weights='quadratic'))
    assert 'quadratic_kappa' not in classification('a', 'b').eval_metrics.__annotations__


def test_what_predictions_compute_on_the_host_is_what_jax_computes():
    logits = np.random.default_rng(0).normal(0, 30, (4, 7)).astype(np.float32)
    np.testing.assert_allclose(prediction.softmax(logits), jax.nn.softmax(logits), rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(prediction.sigmoid(logits), jax.nn.sigmoid(logits), rtol=1e-5, atol=1e-30)
    assert prediction.sigmoid(np.float32([-1000, 1000])).tolist() == [0, 1]
    assert prediction.softmax(logits).dtype == prediction.sigmoid(logits).dtype == np.float32
