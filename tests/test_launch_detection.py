"""A detector's whole life on the command line: trained, stopped, evaluated on any number of devices, and used."""

import contextlib
import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw

import launch
import practicum
from tests import tiny_boxes
from tests.conftest import ROOT, _own_logging

CONFIG = '''
from practicum.training.defaults import base


def get_config():
    config = base()
    config.total = '60 steps'
    config.batch_size = 8
    config.writers = ()
    config.log_every = '20 steps'
    config.data.source = 'voc_folder'
    config.data.name = FOLDER
    config.data.train = 'train[:-8]'
    config.data.max_boxes = 4
    config.image.size = (32, 32)
    config.image.channels = 3
    config.augment.flip_horizontal = 0.5
    config.model = {'name': 'detector', 'body': {'name': 'resnet', 'depth': 18, 'width': 4, 'stem': 'cifar'},
                    'endpoint': 'layer2', 'width': 16, 'depth': 1}
    config.task = {'name': 'detection', 'max_detections': 20, 'shown_score': 0.2}
    config.optimizer.learning_rate = 0.02
    config.schedule.name = 'cosine'
    config.evaluation.every = '60 steps'
    config.evaluation.sets = {'validation': {'split': 'train[-8:]', 'invert': False}}
    config.evaluation.final = ()
    config.checkpoint.every = '20 steps'
    config.checkpoint.best_metric = 'validation/ap'
    config.parallel.devices = 1
    return config
'''
COLOURS = {'blue': (40, 60, 230), 'red': (230, 40, 40)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """40 images of 48x40 pixels with up to two coloured rectangles, in Pascal VOC's layout."""
    root, rng = tmp_path_factory.mktemp('boxes'), np.random.default_rng(0)
    (root / 'images').mkdir()
    (root / 'annotations').mkdir()
    for number in range(40):
        image, objects = Image.new('RGB', (48, 40), (90, 90, 90)), []
        for place in range(rng.integers(0, 3)):
            name = ('blue', 'red')[rng.integers(2)]
            left, top = 24 * place + rng.integers(0, 8), rng.integers(0, 20)
            right, bottom = left + rng.integers(10, 16), top + rng.integers(10, 19)
            ImageDraw.Draw(image).rectangle([left, top, right - 1, bottom - 1], COLOURS[name])
            objects.append((name, left, top, right, bottom, 0))
        image.save(root / 'images' / f'{number:02}.png')
        annotation = tiny_boxes.xml(f'{number:02}.png', image.size, objects)
        (root / 'annotations' / f'{number:02}.xml').write_text(annotation)
    return root


@pytest.fixture(scope='module')
def run(folder, tmp_path_factory):
    """The workdir of a trained detector, its config file, and what the training printed. Tests only read it."""
    workdir = tmp_path_factory.mktemp('detector') / 'run'
    config = workdir.parent / 'rectangles.py'
    config.write_text(CONFIG.replace('FOLDER', repr(str(folder))))
    with _own_logging(), contextlib.redirect_stdout(io.StringIO()) as printed:
        assert launch.main(['--config', str(config), '--workdir', str(workdir)]) == 0
    return workdir, config, printed.getvalue()


def test_it_learns_and_leaves_tables_and_figures(run):
    workdir, _, printed = run
    assert 'validation/ap50' in printed
    assert re.search(r'^classes: blue \d+, red \d+ objects$', printed, re.MULTILINE)
    assert 'in the training set, too' not in printed
    result = json.loads((workdir / 'result.json').read_text())['metrics']
    assert result['validation/ap50'] > 0.8 and result['validation/ap50_red'] > 0.6
    names = {path.name for path in workdir.iterdir()}
    assert {'validation_per_class.csv', 'validation_examples.json', 'validation_precision_recall.png',
            'validation_confusion_matrix.png', 'validation_worst_examples.png', 'validation_box_sizes.png'} <= names
    rows = list(csv.DictReader((workdir / 'validation_per_class.csv').open()))
    assert [row['class'] for row in rows] == ['blue', 'red']
    examples = json.loads((workdir / 'validation_examples.json').read_text())['examples']
    assert len(examples) == 8 and {'file', 'objects', 'found', 'missed', 'false'} <= examples[0].keys()


@pytest.mark.thorough
def test_an_interrupted_run_ends_in_the_same_bits(run, run_launch, tmp_path):
    workdir, config, _ = run
    arguments = ['--config', str(config), '--workdir', str(tmp_path / 'run')]
    stopped = subprocess.run([sys.executable, ROOT / 'tests' / 'training' / 'interrupted.py', 'step:25', 'SIGTERM',
                              *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert stopped.returncode == 128 + signal.SIGTERM and 'saved step 25' in stopped.stdout, stopped.stderr
    assert run_launch(*arguments, timeout=300).returncode == 0
    whole, again = (practicum.load(folder).variables for folder in (workdir, tmp_path / 'run'))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_metrics_do_not_depend_on_devices_or_batches(run):
    workdir, _, _ = run
    found = []
    for overrides in (('parallel.devices=1',), ('parallel.devices=2', 'evaluation.batch_size=4'),
                      ('parallel.devices=4', 'parallel.mode=jit', 'evaluation.batch_size=3')):
        found.append(practicum.load(workdir, overrides=overrides).evaluate(['validation'])['validation'].scalars())
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(abs(other[name] - found[0][name]) < 1e-6 for name in other if 'loss' not in name)
        assert all(abs(other[name] - found[0][name]) < 1e-5 for name in other)


def test_predictions_are_in_the_images_own_pixels_and_in_other_tools_formats(run, folder, tmp_path, call_launch):
    workdir, _, _ = run
    done = call_launch('predict', '--workdir', workdir, folder / 'images', '--output', tmp_path / 'found',
                       '--boxes', 'coco', 'csv', 'yolo', 'voc')
    assert done.code == 0, done.err
    names = {path.name for path in (tmp_path / 'found').iterdir()}
    assert {'00-boxes.png', '00.txt', '00.xml', 'classes.txt', 'detections.json', 'detections.csv',
            'predictions.json'} <= names
    pictures = json.loads((tmp_path / 'found' / 'predictions.json').read_text())
    assert len(pictures) == 40 and {(row['width'], row['height']) for row in pictures} == {(48, 40)}
    # Most pixels in boxes of a class have its colour: they lie where the objects are.
    for row in pictures:
        pixels = np.asarray(Image.open(row['file']), int)
        for one in row['objects']:
            if one['percent'] < 50:
                continue
            left, top, right, bottom = (round(edge) for edge in one['box'])
            same = (pixels[top:bottom, left:right] == COLOURS[one['class']]).all(axis=-1)
            assert same.mean() > 0.5, (row['file'], one)
    rows = list(csv.DictReader((tmp_path / 'found' / 'detections.csv').open()))
    assert len(rows) == sum(len(row['objects']) for row in pictures) > 20
    coco = json.loads((tmp_path / 'found' / 'detections.json').read_text())
    assert len(coco) >= len(rows) and {'image_id', 'category_id', 'bbox', 'score'} <= coco[0].keys()
    assert 'other file' not in done.err
    again = call_launch('predict', '--workdir', workdir, folder / 'images' / '00.png', '--output', tmp_path / 'found')
    assert f'holds {len(names) - 4} other file(s)' in again.err and {
        path.name for path in (tmp_path / 'found').iterdir()} == names


def test_the_library_does_what_the_command_line_does(run, folder):
    detector = practicum.load(run[0])
    file = next(path for path in sorted((folder / 'images').iterdir()) if detector.predict(path)[0]['objects'])
    whole = detector.predict(file)[0]
    array = detector.predict(np.asarray(Image.open(file)))[0]
    assert array['objects'] == whole['objects'] and whole['arrays']['boxes'].dtype == np.uint8
    large = np.full((40, 144, 3), 90, np.uint8)
    large[:, 96:] = np.asarray(Image.open(file))  # one of the tiles
    found = detector.predict(large, tile=48)[0]['objects']
    best = whole['objects'][0]
    np.testing.assert_allclose(found[0]['box'], np.add(best['box'], [96, 0, 96, 0]), atol=0.02)
    assert (found[0]['class'], found[0]['percent']) == (best['class'], best['percent'])


@pytest.mark.parametrize('arguments, error', [
    (['--config.image.resize=cover'], "config.image.resize = 'cover' would cut off boxes at the edges: use 'stretch'"),
    (['--config.data.max_boxes=1'], 'config.data.max_boxes'),
    (['--config.augment.mixup=0.2'], 'mixup'),
    (['--config.evaluation.tta=flip'], "config.evaluation.tta = 'flip': this task takes 'none' alone"),
    (['--config.task.loss=dice'], "config.task.loss = 'dice'; there are: detectnet, object"),
    (['--config.data.source=folder'], None)])
def test_mistakes_are_one_line(run, call_launch, tmp_path, arguments, error):
    done = call_launch('--config', run[1], '--workdir', tmp_path / 'run', *arguments)
    assert done.code == 2 and done.err.startswith('error: ') and done.err.count('\n') == 1, done.err
    assert error is None or error in done.err
    assert not (tmp_path / 'run').exists()


def test_a_run_does_not_go_on_with_classes_in_another_order(run, folder, tmp_path, call_launch):
    other = tmp_path / 'data'
    shutil.copytree(folder, other)
    (other / 'classes.txt').write_text('red\nblue\n')
    shutil.copytree(run[0], tmp_path / 'run')
    arguments = ['--config', run[1], f'--config.data.name={other}']
    done = call_launch(*arguments, '--workdir', tmp_path / 'run', '--config.total=62 steps')
    assert done.code == 2 and "class 0 of the data is 'red', and was 'blue' when the run" in done.err, done.err
    for label in (other / 'annotations').iterdir():
        label.write_text('<annotation></annotation>')
    done = call_launch(*arguments, '--workdir', tmp_path / 'new')
    assert done.code == 2 and 'the training set has no object in any of its 32 images' in done.err, done.err


@pytest.mark.parametrize('arguments, error', [
    (['--tile', '7'], '--tile 7: parts of so few pixels would be enlarged to 32x32; take at least 8'),
    (['--tile', '-1'], '--tile -1: it is the side of a part in pixels'), (['--tile', '0'], '--tile 0: it is the side'),
    (['--top_k', '1'], '--top_k 1 is for classifiers; the task of'), (['--tta', 'flip'], "takes 'none' alone"),
    (['--heat_map', '--tile', '64'], '--tile 64: a heat map takes none'),
    (['--heat_map', '--boxes', 'csv'], '--boxes is for detectors, not for --heat_map')])
def test_predict_refuses(run, folder, call_launch, arguments, error):
    done = call_launch('predict', '--workdir', run[0], folder / 'images' / '00.png', *arguments)
    assert done.code == 2 and error in done.err and done.err.count('\n') == 1, done.err


def test_boxes_and_tiles_are_for_detectors(trained_run, digit_files, call_launch):
    for arguments in (['--boxes', 'coco'], ['--tile', '50']):
        done = call_launch('predict', '--workdir', trained_run, digit_files, *arguments)
        assert done.code == 2 and 'is for detectors' in done.err and done.err.count('\n') == 1, done.err


def test_experiments_are_listed(call_launch):
    assert 'raccoon_detector' in call_launch('list').out and (ROOT / 'experiments' / 'bccd_detector.py').exists()
