"""R-CNN from the command line: training on cached features, evaluation, and boxes in images of any size."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from practicum.common import box_overlaps
from practicum.input_pipeline import proposals
from practicum.training.window import MetricWindow
from tests import tiny_boxes

SIDE = 64
GRID = [[x, y, x + side, y + side] for side in (32, 24) for x in range(0, 65 - side, 8) for y in range(0, 65 - side, 8)]
CONFIG = '''
from practicum.training.defaults import base


def get_config():
    config = base()
    config.total = '30 steps'
    config.batch_size = 32
    config.tensorboard = False
    config.data.source = 'voc_folder'
    config.data.train = 'train[:-6]'
    config.data.max_boxes = 2
    config.data.regions.kind = 'selective_search'
    config.data.regions.image_size = (64, 64)
    config.data.regions.per_image = 16
    config.image.size = (16, 16)
    config.image.channels = 3
    config.image.mean = (0.4,)
    config.image.std = (0.2,)
    config.model = {'name': 'rcnn', 'body': {'name': 'small_cnn', 'features': (8,), 'block_dropout': (0.0,)},
                    'endpoint': 'block1', 'hidden': (32,), 'dropout': 0.0}
    config.task = {'name': 'region_detection'}
    config.optimizer.learning_rate = 1e-2
    config.optimizer.freeze = ('body/.*',)
    config.cached_features.endpoint = 'features'
    config.cached_features.flip = True
    config.evaluation.every = '0 steps'
    config.evaluation.batch_size = 50
    config.evaluation.periodic = ()
    config.evaluation.sets.test.split = 'train[-6:]'
    config.checkpoint.best_metric = ''
    return config
'''


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """24 noisy images with a light cat or a dark dog in each, and one of another size."""
    root, random = tmp_path_factory.mktemp('rcnn'), np.random.default_rng(0)
    scenes = {}
    for i in range(24):
        left, top = random.integers(0, 36, 2).tolist()
        side = int(random.integers(22, 29))
        scenes[f'{i:02}.png'] = ((SIDE, SIDE), [(('cat', 'dog')[i % 2], left, top, left + side, top + side, 0)])
    tiny_boxes.write_voc(root / 'pets', scenes)
    for name, (_, [(label, left, top, right, bottom, _)]) in scenes.items():
        image = random.integers(90, 110, (SIDE, SIDE, 3))
        image[top:bottom, left:right] = 210 if label == 'cat' else 10
        Image.fromarray(image.astype(np.uint8)).save(root / 'pets' / 'JPEGImages' / name)
    image = np.full((2 * SIDE, 3 * SIDE, 3), 100, np.uint8)
    image[30:80, 90:165] = 210
    (root / 'new').mkdir()
    Image.fromarray(image).save(root / 'new' / 'large.png')
    (root / 'rcnn.py').write_text(CONFIG)
    return root


@pytest.fixture(autouse=True)
def _searched(monkeypatch, workplace):
    monkeypatch.setattr(proposals, '_search', lambda image: GRID)
    monkeypatch.setenv('PRACTICUM_CACHE', str(workplace / 'cache'))


@pytest.fixture
def run(workplace, call_launch):
    """The folder of the trained run."""
    folder = workplace / 'run'
    if not folder.exists():
        result = call_launch('--config', workplace / 'rcnn.py', '--workdir', folder,
                             f'--config.data.name={workplace / "pets"}')
        assert result.code == 0, result.err
    return folder


def test_training_evaluates_images(run):
    metrics = json.loads((run / 'result.json').read_text())['metrics']
    assert metrics['test/ap50'] > 0.7 and metrics['test/proposal_recall'] == 1
    assert metrics['test/accuracy'] > 0.8 and metrics['test/object_accuracy'] > 0.7
    assert (run / 'test_per_class.csv').is_file() and (run / 'test_precision_recall.png').is_file()
    examples = json.loads((run / 'test_examples.json').read_text())['examples']
    assert len(examples) == 6 * (1 + len(GRID)) and 'found' not in examples[0]


def test_prediction_finds_objects_in_images_of_any_size(run, workplace, call_launch):
    result = call_launch('predict', '--workdir', run, workplace / 'new', '--output', workplace / 'found', '--boxes',
                         'voc', 'csv')
    assert result.code == 0, result.err
    row, = json.loads((workplace / 'found' / 'predictions.json').read_text())
    best = row['objects'][0]
    assert best['class'] == 'cat'
    box, truth = np.float64([best['box']]), np.float64([[90, 30, 165, 80]])
    assert box_overlaps.iou(box, truth) > 0.5, 'in pixels of the image as it is'
    assert '<name>cat</name>' in (workplace / 'found' / 'large.xml').read_text()


@pytest.mark.parametrize('args, said', [
    (('--tta', 'flip'), "--tta flip: region_detection takes 'none' alone"),
    (('--heat_map',), '--heat_map is for classifiers of images, the task of this run is region_detection'),
])
def test_what_is_for_other_runs_is_one_line(run, workplace, call_launch, args, said):
    result = call_launch('predict', '--workdir', run, workplace / 'new', *args)
    assert result.code == 2 and said in result.err


@pytest.mark.thorough
def test_an_interrupted_run_ends_in_the_same_bits(run, workplace, call_launch, monkeypatch, tmp_path):
    import practicum
    left = [13]

    def stop_soon(window, metrics, add=MetricWindow.add):
        add(window, metrics)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(MetricWindow, 'add', stop_soon)
    again = ('--config', workplace / 'rcnn.py', '--workdir', tmp_path / 'run',
             f'--config.data.name={workplace / "pets"}')
    stopped = call_launch(*again)
    assert stopped.code == 128 + signal.SIGTERM and 'saved step 13' in stopped.out, stopped.err
    assert call_launch(*again).code == 0
    whole, resumed = (practicum.load(folder) for folder in (run, tmp_path / 'run'))
    assert whole.step == resumed.step == 30 and whole.metrics == resumed.metrics
    for one, other in zip(jax.tree.leaves(whole.variables), jax.tree.leaves(resumed.variables), strict=True):
        np.testing.assert_array_equal(one, other)


def test_metrics_do_not_depend_on_devices(run):
    import practicum
    one, two = (practicum.load(run, overrides=[f'parallel.devices={count}']).evaluate(['test'])['test'].scalars()
                for count in (1, 2))
    assert one.keys() == two.keys() and {'ap50', 'proposal_recall', 'accuracy'} <= one.keys()
    assert one == pytest.approx(two, rel=1e-5, nan_ok=True)


def test_evaluation_from_features_and_from_images_is_the_same(run):
    import practicum
    loaded = practicum.load(run)
    metrics = loaded.evaluate(['test'])['test'].scalars('test/')
    trained = json.loads((run / 'result.json').read_text())['metrics']
    assert {name: metrics[name] for name in trained} == pytest.approx(trained, rel=1e-3)
    images = [np.asarray(Image.open(path)) for path in sorted((run.parent / 'pets' / 'JPEGImages').iterdir())[:2]]
    assert [row['objects'][0]['class'] for row in loaded.predict(images)] == ['cat', 'dog']
    with pytest.raises(practicum.UserError, match='looks at regions of images'):
        loaded.preprocess(images)
