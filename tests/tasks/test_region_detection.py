"""R-CNN's task: losses of single regions, and images put together of all of theirs."""

import jax
import numpy as np
import pytest

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline.region_source import box_targets
from practicum.tasks.region_detection import refine

SIZE = (60, 100)
INFO = DatasetInfo(class_names=('background', 'cat', 'dog'), input_size=SIZE)
CAT, DOG = (10.0, 10.0, 40.0, 50.0), (60.0, 5.0, 95.0, 30.0)
REGIONS = np.float32([(0, 0, 100, 60), (8, 12, 42, 48), (12, 8, 36, 50), (55, 5, 95, 35), (0, 40, 20, 60)])
LABELS = np.int32([0, 1, 1, 2, 0])


def build(**fields):
    return tasks.build({'name': 'region_detection'} | fields, INFO)


def targets() -> np.ndarray:
    found = np.zeros((5, 4), np.float32)
    found[1:4] = box_targets(REGIONS[1:4], np.float32([CAT, CAT, DOG]))
    return found


def perfect(sure=8.0):
    """What a network says that knows labels and targets, in the units that it learns offsets in."""
    offsets = np.full((5, 2, 4), 7.0, np.float32)
    offsets[np.arange(5), np.maximum(LABELS - 1, 0)] = targets() / (0.1, 0.1, 0.2, 0.2)
    return {'logits': np.float32(sure * np.eye(3)[LABELS]), 'box_offsets': offsets}


def score(task, outputs):
    return {name: np.asarray(values) for name, values in jax.jit(task.score)(
        outputs, {'label': LABELS, 'box_target': targets()}).items()}


def test_offsets_are_the_inverse_of_targets():
    np.testing.assert_allclose(refine(REGIONS[1:4], targets()[1:4]), [CAT, CAT, DOG], atol=1e-4)
    huge = np.asarray(refine(REGIONS[:1], np.float32([[0, 0, 1e4, 1e4]])))
    assert np.isfinite(huge).all()


def test_only_regions_of_objects_learn_boxes_and_only_those_of_their_class():
    task = build()
    right = score(task, perfect())
    assert right['box_loss'].max() < 1e-9 and right['correct'].tolist() == [1] * 5, 'other classes say anything'
    wrong = perfect()
    wrong['box_offsets'] += 3.0
    off = score(task, wrong)['box_loss']
    np.testing.assert_allclose(off, [0, 10, 10, 10, 0], rtol=1e-5)  # smooth L1 of 3 is 2.5, four times
    np.testing.assert_allclose(score(build(box_weight=0.5), wrong)['box_loss'], off / 2, rtol=1e-6)
    silent = score(task, {'logits': np.zeros((5, 3), np.float32), 'box_offsets': np.zeros((5, 2, 4), np.float32)})
    np.testing.assert_allclose(silent['class_loss'], np.log(3), rtol=1e-5)
    assert silent['is_object'].tolist() == [0, 1, 1, 1, 0] and silent['correct_object'].tolist() == [0] * 5


def test_an_image_is_put_together_of_its_regions():
    task = build()
    found = task.combine(REGIONS, jax.tree.map(np.asarray, task.decode(perfect())))
    assert found['boxes'].shape == (100, 4) and found['scores'].shape == found['classes'].shape == (100,)
    best = found['scores'] > 0.5
    assert found['classes'][best].tolist() in ([0, 1], [1, 0]), 'two regions of one cat are one cat'
    order = np.argsort(found['classes'][best])
    np.testing.assert_allclose(found['boxes'][best][order], [CAT, DOG], atol=1e-3)
    assert (np.diff(found['scores']) <= 0).all() and found['classes'][-1] == -1
    assert found['boxes'].min() >= 0 and (found['boxes'].max(axis=0) <= np.tile(SIZE[::-1], 2)).all()


def rows_of(task, outputs):
    """Rows of an evaluation: the five regions of an image, and one of an image without objects."""
    decoded = jax.tree.map(np.asarray, task.decode(outputs))
    truth = [[0, 0, *CAT], [1, 0, *DOG], [1, 1, 0, 0, 5, 5]]
    facts = [{'file': 'a.png', 'width': 200, 'height': 60, 'image_number': 0, 'region': region, 'objects': truth}
             for region in REGIONS.tolist()]
    facts.append({'file': 'b.png', 'width': 9, 'height': 9, 'image_number': 1, 'region': [0, 0, 50, 50], 'objects': []})
    return [metadata | task.per_example.measure({name: values[i % 5] for name, values in decoded.items()},
                                                {'label': LABELS[i % 5]}, metadata) for i, metadata in enumerate(facts)]


def test_evaluations_of_regions_have_the_metrics_of_images():
    task = build()
    rows = rows_of(task, perfect())
    metrics = task.per_example.summarize(rows)
    assert metrics['ap50'] == metrics['ap'] == 1 and metrics['proposal_recall'] == 1
    assert metrics['counts'].tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]]], 'the crowd apart'
    np.testing.assert_allclose(metrics['sizes'][0], [0, 1, 60, 40, 30, 40])  # own pixels are twice as wide
    assert set(metrics) - {'precision_at_recall', 'class_scores', 'confusion', 'counts', 'sizes'} <= set(
        task.per_example.metrics)
    assert set(task.figures(metrics)) >= {'precision_recall', 'confusion_matrix'}
    assert [row['class'] for row in task.tables(metrics)['per_class']] == ['cat', 'dog']
    assert task.per_example.summarize([]) == {}


def test_a_region_is_listed_with_what_it_is_taken_for():
    task = build()
    wrong = perfect()
    wrong['logits'][3] = [8, 0, 0]
    rows = rows_of(task, wrong)
    listed = task.per_example.listed(rows[3])
    assert (listed['label'], listed['prediction']) == ('dog', 'background') and listed['probability'] < 0.01
    assert not {'found', 'objects'} & set(listed) and listed['region'] == REGIONS[3].tolist()
    assert max(rows, key=task.per_example.severity) is rows[3]


@pytest.mark.parametrize('fields, said', [
    ({'box_weight': -1.0}, 'config.task.box_weight = -1.0: it is a number from 0 on'),
    ({'overlap': 2.0}, 'config.task.overlap = 2.0: it is a number from 0 to 1'),
    ({'decoder': 'nms'}, 'config.task.decoder: region_detection has no such field'),
])
def test_fields_out_of_range_are_one_line(fields, said):
    with pytest.raises(UserError, match=said):
        build(**fields)


def test_data_and_models_that_do_not_fit_are_one_line():
    with pytest.raises(UserError, match="regions of images with boxes: config.data.regions.kind = 'selective_search'"):
        tasks.build({'name': 'region_detection'}, DatasetInfo(class_names=('cat', 'dog')))
    with pytest.raises(UserError, match="takes config.model.name = 'rcnn'"):
        build().score(np.zeros((5, 3)), {})
