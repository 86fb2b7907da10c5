"""Detection: losses of images that stand alone, and boxes that come out as they went in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.models.grid import Grid
from practicum.tasks import boxes as boxes_lib

SIZE, STRIDE = (64, 96), 8
CLASSES = ('cat', 'dog')
CELLS = (SIZE[0] // STRIDE, SIZE[1] // STRIDE)


def build(**fields):
    return tasks.build({'name': 'detection'} | fields, DatasetInfo(class_names=CLASSES, input_size=SIZE))


def batch_of(*images, room=6):
    """Each image: a list of (class, box)."""
    boxes, labels = np.zeros((len(images), room, 4), np.float32), np.full((len(images), room), -1, np.int32)
    for row, objects in enumerate(images):
        for place, (label, box) in enumerate(objects):
            boxes[row, place], labels[row, place] = box, label
    return {'boxes': boxes, 'box_labels': labels, 'box_crowd': np.zeros(labels.shape, np.uint8)}


CAT, DOG = (0, (10, 12, 40, 50)), (1, (60, 8, 92, 30))


def outputs_of(count, seed=0):
    key = jax.random.key(seed)
    return {'logits': jax.random.normal(key, (count, *CELLS, len(CLASSES))) - 3,
            'distances': 16 * jax.random.uniform(key, (count, *CELLS, 4)) + 1,
            'centres': jnp.broadcast_to(Grid(STRIDE, (4, 4)).centres(*CELLS), (count, *CELLS, 2)),
            'stride': jnp.full((count,), float(STRIDE))}


def perfect(batch):
    """What a network says that knows the truth: the cells of an object are sure of it, the others silent."""
    outputs = jax.tree.map(np.array, outputs_of(len(batch['boxes'])))
    outputs['logits'][:] = -12
    for row in range(len(batch['boxes'])):
        centres = outputs['centres'][row].reshape(-1, 2)
        given = boxes_lib.assign(*(jnp.asarray(batch[name][row]) for name in ('boxes', 'box_labels', 'box_crowd')),
                                 centres, STRIDE, fraction=0.4, least=1.5)
        for cell in np.flatnonzero(given.positive):
            place, owner = np.unravel_index(cell, CELLS), given.owner[cell]
            box = batch['boxes'][row, owner]
            outputs['logits'][(row, *place, batch['box_labels'][row, owner])] = 12
            outputs['distances'][(row, *place)] = [*(centres[cell] - box[:2]), *(box[2:] - centres[cell])]
    return outputs


def score(task, outputs, batch):
    return {name: np.asarray(values) for name, values in jax.jit(task.score)(outputs, batch).items()}


@pytest.mark.parametrize('loss', ['object', 'detectnet'])
def test_an_images_loss_is_its_own(loss):
    """Neither the rest of the batch nor room for more boxes changes it, and no image gives NaN."""
    task, images = build(loss=loss), [[CAT, DOG], [], [DOG]]
    outputs = outputs_of(3)
    together = score(task, outputs, batch_of(*images))
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in together.values())
    for row, objects in enumerate(images):
        alone = score(task, jax.tree.map(lambda x, row=row: x[row:row + 1], outputs), batch_of(objects, room=9))
        np.testing.assert_allclose(alone['loss'], together['loss'][row:row + 1], rtol=1e-6)
    assert together['box_loss'][1] == 0 and together['class_loss'][1] > 0


@pytest.mark.parametrize('loss', ['object', 'detectnet'])
def test_knowing_the_truth_is_no_loss_and_gradients_are_finite(loss):
    task, batch = build(loss=loss), batch_of([CAT, DOG], [])
    assert (score(task, perfect(batch), batch)['loss'] < 1e-5).all()
    assert (score(task, outputs_of(2), batch)['loss'] > 0.1).all()
    slopes = jax.jit(jax.grad(lambda outputs: task.score(outputs, batch)['loss'].sum()))(outputs_of(2))
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    assert all(np.any(slopes[name]) for name in ('logits', 'distances'))


def test_objects_weigh_the_same_however_large():
    task = build(region=1.0)
    large, small = (0, (0, 0, 64, 64)), (0, (80, 40, 90, 50))
    outputs, batch = outputs_of(1), batch_of([large, small])
    slopes_of = jax.jit(jax.grad(lambda outputs: task.score(outputs, batch)['box_loss'].sum()))
    slopes = np.abs(slopes_of(outputs)['distances'])
    centres = np.asarray(outputs['centres'])[0]
    by_object = [slopes[0][((centres > box[:2]) & (centres < box[2:])).all(-1)] for _, box in
                 (tuple((label, np.array(box)) for label, box in (large, small)))]
    assert (by_object[0].any(-1).sum(), by_object[1].any(-1).sum()) == (16, 1)
    losses = [score(task, outputs, batch_of([one]))['box_loss'][0] for one in (large, small)]
    np.testing.assert_allclose(score(task, outputs, batch)['box_loss'][0], np.mean(losses), rtol=1e-5)


def test_a_crowd_is_neither_asked_for_nor_forbidden():
    task, batch = build(), batch_of([(0, (0, 0, 96, 64))])
    batch['box_crowd'][0, 0] = 1
    loud = outputs_of(1) | {'logits': jnp.full((1, *CELLS, 2), 5.0)}
    assert score(task, loud, batch)['loss'] == 0


@pytest.mark.parametrize('decoder', ['nms', 'cluster'])
def test_what_a_perfect_network_says_is_found_once(decoder):
    task = build(decoder=decoder, max_detections=400)  # more than there are cells with a class
    batch = batch_of([CAT, DOG], [])
    found = jax.device_get(jax.jit(task.decode)(perfect(batch)))
    assert found['boxes'].shape == (2, 400, 4)
    assert (found['scores'] > 0).sum(axis=1).tolist() == [2, 0]
    order = np.argsort(found['classes'][0, :2])
    np.testing.assert_allclose(found['boxes'][0, :2][order], [CAT[1], DOG[1]], atol=1e-4)
    assert sorted(found['classes'][0, :2]) == [0, 1] and (found['classes'][0, 2:] == -1).all()
    assert not found['boxes'][1].any()


def test_found_boxes_lie_in_the_image_and_scores_descend():
    found = jax.device_get(build(lowest_score=0.0).decode(outputs_of(2)))
    assert found['boxes'].min() >= 0 and (found['boxes'].max((0, 1)) <= [96, 64, 96, 64]).all()
    assert (np.diff(found['scores']) <= 0).all() and found['scores'].shape == (2, 100)


@pytest.mark.parametrize('fields, error', [
    ({'loss': 'yolo'}, "config.task.loss = 'yolo'; there are: detectnet, object"),
    ({'decoder': 'nsm'}, "config.task.decoder = 'nsm'; did you mean nms"),
    ({'overlap': 1.5}, 'config.task.overlap = 1.5: it is a number from 0 to 1'),
    ({'max_detections': 0}, 'config.task.max_detections = 0: it is a number from 1 to 10000'),
    ({'anchors': 3}, 'config.task.anchors: detection has no such field')])
def test_mistakes(fields, error):
    with pytest.raises(UserError, match=error):
        build(**fields)


def test_data_without_boxes_are_refused():
    with pytest.raises(UserError, match="config.task.name = 'detection' needs examples with boxes"):
        tasks.build({'name': 'detection'}, DatasetInfo(class_names=CLASSES))
