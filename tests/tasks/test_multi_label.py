"""Examples with several classes or none, against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.models.mlp import MLP
from practicum.training.evaluation import merge

NAMES = ('boat', 'water', 'tree')


def multi_label(features=('image', 'labels'), names=NAMES, **config):
    return tasks.build({'name': 'multi_label', **config}, DatasetInfo(features=features, class_names=names))


@pytest.fixture(scope='module')
def examples():
    """Logits and labels, [29, 3]; some examples have no class, and some all."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (29, 3)).astype(np.uint8)
    return generator.normal(size=(29, 3)).astype(np.float32) + labels, labels


def evaluated(task, logits, labels, batch_size=8):
    """Metrics over padded batches, as an evaluation computes them."""
    total = None
    for begin in range(0, len(labels), batch_size):
        rows = slice(begin, begin + batch_size)
        padding = ((0, batch_size - len(labels[rows])), (0, 0))
        scores = task.score(jnp.pad(logits[rows], padding, constant_values=7),
                            {'labels': jnp.pad(labels[rows], padding)})
        mask = jnp.arange(batch_size) < len(labels[rows])
        metrics = task.eval_metrics.single_from_model_output(mask=mask.astype(jnp.float32), **scores)
        total = merge(total, jax.tree.map(np.asarray, metrics))
    return total.compute()


@pytest.mark.parametrize('threshold', [0.5, 0.3, 0.8])
def test_metrics_are_those_of_scikit_learn(examples, threshold):
    logits, labels = examples
    probabilities = np.asarray(jax.nn.sigmoid(logits))
    predicted = (probabilities > threshold).astype(int)
    task = multi_label(threshold=threshold)
    found = evaluated(task, logits, labels)
    losses = [sklearn_metrics.log_loss(labels[:, c], probabilities[:, c], labels=[0, 1]) for c in range(3)]
    assert found['loss'] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found['exact_match'] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert found['micro_f1'] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average='micro'))
    assert found['auc'] == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities, average='macro'))
    table = task.tables(found)['per_class']
    precision, recall, f1, count = sklearn_metrics.precision_recall_fscore_support(labels, predicted, average=None)
    assert [row['class'] for row in table] == list(NAMES) and [row['examples'] for row in table] == list(count)
    for name, expected in (('precision', precision), ('recall', recall), ('f1', f1)):
        assert [row[name] for row in table] == pytest.approx(list(expected))


def test_auc_of_two_classes_is_the_mean_of_both(examples):
    logits, labels = examples
    found = evaluated(multi_label(names=NAMES[:2]), logits[:, :2], labels[:, :2])
    assert found['auc'] == pytest.approx(sklearn_metrics.roc_auc_score(labels[:, :2], logits[:, :2]))


def test_classes_that_do_not_occur_or_are_never_predicted():
    """Class 0 is in no example and not predicted, class 1 is not predicted; neither breaks a number."""
    task = multi_label()
    found = evaluated(task, np.array([[-2, -1, 3.0], [-2, -2, 3]]), np.array([[0, 1, 1], [0, 0, 0]]))
    rows = task.tables(found)['per_class']
    assert [(row['precision'], row['recall'], row['f1']) for row in rows] == [
        (None, None, None), (None, 0.0, 0.0), (0.5, 1.0, pytest.approx(2 / 3))]
    assert found['auc'] == pytest.approx(0.75)  # of class 1 all, of class 2 a tie
    assert found['exact_match'] == 0 and found['micro_f1'] == 0.5


def test_weights_of_the_loss_by_hand():
    logits, labels = jnp.array([[0.0, 0.0, 0.0]]), jnp.array([[1, 0, 1]], jnp.uint8)
    one = float(np.log(2))

    def loss(**config):
        return float(multi_label(**config).score(logits, {'labels': labels})['loss'][0])
    assert loss() == loss(class_weights=(5, 5, 5)) == loss(class_weights=()) == pytest.approx(one)
    assert loss(positive_weight=4.0) == pytest.approx(one * (4 + 1 + 4) / 3)
    assert loss(positive_weight=(4, 9, 1)) == pytest.approx(one * (4 + 1 + 1) / 3)
    assert loss(positive_weight=(4, 1, 1), class_weights=(2, 1, 1)) == pytest.approx(one * (2 * 4 + 1 + 1) / 4)


def test_loss_and_gradient_are_finite_where_the_network_is_sure():
    task, logits = multi_label(), jnp.array([[200.0, -200.0, 200.0]])
    loss, gradient = jax.value_and_grad(lambda logits: task.score(logits, {'labels': jnp.array([[0, 1, 1]])})
                                        ['loss'].sum())(logits)
    assert loss == pytest.approx(400 / 3) and np.allclose(gradient, [[1 / 3, -1 / 3, 0]])


def test_predictions_are_the_classes_above_the_threshold():
    task = multi_label(threshold=0.6)
    row = task.predict(np.array([0.5, 3.0, -1]), None, {}, 1).row  # 62 %, 95 % and 27 %
    assert row == {'classes': ['water', 'boat'], 'percent': pytest.approx([95.257, 62.246], abs=1e-3)}
    assert task.describe(row) == 'water : 95.26 %   boat : 62.25 %'
    assert task.flatten(row) == {'classes': 'water; boat', 'percent': '95.26; 62.25'}
    nothing = task.predict(np.array([-1.0, 0.4, 0]), None, {}, 3).row
    assert nothing == {'classes': [], 'percent': []} and task.describe(nothing) == 'no class above 60 %'


def test_views_are_averaged_as_probabilities():
    views = jnp.array([[[2.0, -3, 90]], [[-1.0, 0.5, 80]]])
    task = multi_label()
    assert task.combines_views
    combined = task.combine_views(views)
    np.testing.assert_allclose(jax.nn.sigmoid(combined), jax.nn.sigmoid(views).mean(axis=0), rtol=1e-6)
    assert 80 < combined[0, 2] < 90  # not rounded to a probability of 1


def test_it_learns_from_tables():
    task = multi_label(features=('x', 'labels'))
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 4)).astype(np.float32)
    batch = {'x': x, 'labels': (x[:, :3] > 0).astype(np.uint8)}
    model = MLP(**task.model_fields(), hidden=())
    params = model.init(jax.random.key(0), *task.inputs(batch))

    def loss(params):
        return task.score(model.apply(params, *task.inputs(batch)), batch)['loss'].mean()
    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 3 * g, params, jax.grad(loss)(params)))
    for _ in range(60):
        params = step(params)
    assert evaluated(task, np.asarray(model.apply(params, x)), batch['labels'])['micro_f1'] > 0.9


@pytest.mark.parametrize('arguments, message', [
    ({'names': None}, 'needs classes, the data set has none'),
    ({'features': ('image', 'label')}, "needs the feature 'labels', the data have image, label"),
    ({'threshold': 1.0}, 'config.task.threshold = 1.0'), ({'threshold': '0.5'}, 'config.task.threshold = 0.5'),
    ({'class_weights': (1, 2)}, r'class_weights = \(1, 2\): give one number above 0 for each of boat, water'),
    ({'positive_weight': 0}, 'config.task.positive_weight = 0: give one number above 0'),
    ({'treshold': 0.5}, 'config.task.treshold: multi_label has no such field; did you mean threshold')])
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        multi_label(**arguments)
    assert '\n' not in str(error.value)


def test_a_model_or_data_that_do_not_fit():
    with pytest.raises(UserError, match=r'takes logits and labels \[batch, 3\], this model gives \[2, 4\]'):
        multi_label().score(jnp.zeros((2, 4)), {'labels': jnp.zeros((2, 3))})
    with pytest.raises(UserError, match=r'and the data \[2\]'):
        multi_label().score(jnp.zeros((2, 3)), {'labels': jnp.zeros(2)})
