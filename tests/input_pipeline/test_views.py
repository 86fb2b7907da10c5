"""Test-time augmentation shows the views it says, and changes nothing where views agree."""

import json

import numpy as np
import pytest

from practicum import tasks
from practicum.commands.evaluate import evaluate
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline.views import Views
from practicum.training import forward
from practicum.training.loop import train
from tests.tiny import tiny_config


def test_flip_is_the_image_and_its_mirror_image():
    images = np.random.default_rng(0).random((2, 3, 4, 1))
    views = np.asarray(Views('flip', (3, 4))(images))
    np.testing.assert_allclose(views[0], images, rtol=1e-6)
    np.testing.assert_allclose(views[1], images[:, :, ::-1], rtol=1e-6)


def test_ten_crops_of_a_image_of_256_pixels():
    """Corners and centre of an image whose value is its position, as AlexNet's authors cut it."""
    views = Views('ten_crop', (224, 224))
    assert views.read_size == (256, 256) and views.count == 10
    row, column = np.mgrid[:256, :256]
    crops = np.asarray(views(np.stack([row, column], axis=-1)[None]))[:, 0]
    assert crops.shape == (10, 224, 224, 2)
    assert crops[:5, 0, 0].tolist() == [[0, 0], [0, 32], [32, 0], [32, 32], [16, 16]]
    np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])


def test_unknown_views_name_the_nearest():
    with pytest.raises(UserError, match='config.evaluation.tta.*did you mean ten_crop'):
        Views('tencrop', (8, 8))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('views') / 'run'
    assert train(tiny_config(), workdir) == 0
    return workdir


def scores(run, *overrides):
    assert evaluate(run, step='last', names=('test',), overrides=overrides) == 0
    return json.loads((run / 'evaluation.json').read_text())['metrics']


@pytest.mark.parametrize('tta', ['flip', 'ten_crop'])
def test_views_change_the_scores_but_batches_of_them_do_not(run, tta):
    alone, found = scores(run), scores(run, f'evaluation.tta={tta}')
    again = scores(run, f'evaluation.tta={tta}', 'evaluation.batch_size=37')
    assert found['test/loss'] != alone['test/loss']
    assert again == pytest.approx(found, rel=1e-5)


def test_a_task_that_cannot_combine_views():
    task = tasks.build({'name': 'segmentation'}, DatasetInfo.from_json({'class_names': ['background', 'heart']}))
    with pytest.raises(UserError, match="config.evaluation.tta = 'flip': this task takes 'none' alone"):
        forward.in_views(None, task, Views('flip', (8, 8)))
