"""Heat maps: what a classifier says of every window of an image, by net surgery and one window after the other."""

import csv
import json
import logging

import jax
import numpy as np
import pytest
from PIL import Image

import practicum
from practicum import models
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.inference.heat_map import HeatMap, find_boxes
from practicum.inference.heat_map_files import predict_heat_maps
from practicum.training.transfer import init_from
from tests import tiny


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A LeNet without padding whose windows have 20x16 pixels and a stride of 4."""
    workdir = tmp_path_factory.mktemp('lenet') / 'run'
    config = tiny.get_config()
    config.total = config.evaluation.every = config.checkpoint.every = '30 steps'
    config.image.size = (20, 16)
    config.optimizer.learning_rate = 0.01
    config.model = {'name': 'lenet', 'features': (4, 8), 'hidden': 16}
    practicum.train(config, workdir)
    return workdir


@pytest.fixture(scope='module')
def run(workdir):
    return practicum.load(workdir)


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(0).integers(0, 256, (45, 64, 1), np.uint8)


def test_windows_and_net_surgery_agree(run, image):
    fast, slow = run.heat_map(image), run.heat_map(image, windows=True)
    assert fast.stride == slow.stride == 4 and fast.window == (20, 16) and fast.seconds > 0
    assert fast.logits.shape == slow.logits.shape == (8, 13, 10)  # rows: (45 - 20) / 4, rounded up, and the first
    assert np.abs(fast.logits - slow.logits).max() <= 1e-4 * slow.logits.std()
    np.testing.assert_allclose(fast.probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_a_window_is_what_predict_says_of_it(run, image):
    found = run.heat_map(image)
    row, column = 3, 5
    cut = image[12:32, 20:36]
    expected, = run.predict(cut, top_k=1)
    best = found.probabilities[row, column].argmax()
    assert found.class_names[best] == expected['classes'][0]
    assert 100 * found.probabilities[row, column, best] == pytest.approx(expected['percent'][0], rel=1e-4)
    assert found.corners()[row, column].tolist() == [20, 12, 36, 32]


def test_windows_may_lie_closer(run, image):
    closer = run.heat_map(image, windows=True, stride=2)
    np.testing.assert_allclose(closer.logits[::2, ::2][:7, :12], run.heat_map(image).logits[:7, :12], atol=1e-4)


def test_parts_of_a_large_image_make_the_same_map(run, image, monkeypatch):
    whole = run.heat_map(image)
    monkeypatch.setattr('practicum.inference.heat_map._PART', 30)
    np.testing.assert_allclose(run.heat_map(image).logits, whole.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('size, grid', [((5, 3), (1, 1)), ((20, 16), (1, 1)), ((21, 16), (2, 1))])
def test_small_images_are_filled_up(run, size, grid):
    assert run.heat_map(np.full((*size, 1), 9, np.uint8)).logits.shape == (*grid, 10)


def test_corners_of_a_scaled_image_are_in_its_own_pixels(run, image):
    found = run.heat_map(image, scale=2)
    assert found.logits.shape[:2] == (19, 29) and found.size == (45, 64)
    corners = found.corners()
    assert corners[1, 2].tolist() == [4, 2, 12, 12]
    assert corners[-1, -1].tolist() == [56, 36, 64, 45]  # the last row of windows reaches beyond the image
    assert found.enlarged('3').shape == (45, 64)


def map_of(probabilities, **changes):
    shares = np.stack([1 - np.asarray(probabilities, np.float32), np.asarray(probabilities, np.float32)], axis=-1)
    rows, columns = shares.shape[:2]
    size = (10 * rows + 10, 10 * columns + 10)
    return HeatMap(**{'logits': np.log(shares + 1e-9), 'probabilities': shares, 'class_names': ('other', 'whale'),
                      'window': (20, 20), 'stride': 10, 'scale': (1.0, 1.0), 'size': size, 'seconds': 0.0} | changes)


def test_boxes_are_the_likeliest_windows_of_each_place():
    found = find_boxes([map_of([[0.2, 0.6, 0.9, 0.3, 0.7, 0.1]])], 'whale', threshold=0.5)
    assert [(round(box['percent']), box['left'], box['right']) for box in found] == [(90, 20, 40), (70, 40, 60)]
    assert all(box['class'] == 'whale' and (box['top'], box['bottom']) == (0, 20) for box in found)
    assert find_boxes([map_of([[0.2, 0.4]])], 'whale') == []
    assert len(find_boxes([map_of([[0.2, 0.4]])], 'other', overlap=0.1)) == 1


def test_windows_that_overlap_by_half_say_together_where_an_object_is():
    box, = find_boxes([map_of([[0.9, 0.6, 0.0]], stride=5)], 'whale')  # 0 to 20 and 5 to 25; 10 to 30 by a third
    assert (box['left'], box['right']) == pytest.approx((2, 22)) and box['percent'] == pytest.approx(90)


def test_boxes_of_several_scales_compete():
    small, large = map_of([[0.6]], size=(40, 40)), map_of([[0.8]], size=(40, 40), scale=(0.5, 0.5))
    assert [box['right'] for box in find_boxes([small, large], 'whale')] == [40, 20]
    assert [box['right'] for box in find_boxes([small, large], 'whale', overlap=0.2)] == [40]


def test_enlarging_keeps_the_centres_and_interpolates_between_them():
    picture = map_of([[0.0, 1.0], [0.5, 0.5]]).enlarged('whale')
    assert picture.shape == (30, 30)
    np.testing.assert_allclose(picture[[0, 0, 29], [0, 29, 3]], [0, 1, 0.5], atol=1e-6)
    np.testing.assert_allclose(picture[5, 14:16].mean(), 0.5, atol=1e-6)
    assert map_of([[0.25]]).enlarged('whale').min() == pytest.approx(0.25)


def test_pictures_and_boxes_are_written(workdir, run, image, call_launch, tmp_path):
    (tmp_path / 'in' / 'below').mkdir(parents=True)
    files = [tmp_path / 'in' / 'a.png', tmp_path / 'in' / 'below' / 'b.png']
    for file, pixels in zip(files, (image, image[::2, ::2])):
        Image.fromarray(pixels[..., 0]).save(file)
    (tmp_path / 'in' / 'c.png').write_text('no image')
    name = run.class_names[run.heat_map(image).index()]
    args = ('predict', '--workdir', workdir, tmp_path / 'in', '--heat_map', '--class', name, '--threshold', '0.05',
            '--output', tmp_path / 'out')
    result = call_launch(*args, '--format', 'json')
    assert result.code == 2 and 'c.png' in result.err and 'differ' not in result.err
    rows = json.loads(result.out)
    assert rows == json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert [row['file'] for row in rows] == list(map(str, files)) and rows[0]['class'] == name
    assert {key: rows[0]['maps'][0][key] for key in ('scale', 'window', 'stride', 'rows', 'columns')} == {
        'scale': 1.0, 'window': [20, 16], 'stride': 4, 'rows': 8, 'columns': 13}
    assert rows[1]['files'] == [f'{tmp_path}/out/below/b-heat_map.png', f'{tmp_path}/out/below/b-overlay.png']
    shares = np.asarray(Image.open(tmp_path / 'out' / 'a-heat_map.png'))
    assert shares.shape == (45, 64) and shares.max() == pytest.approx(2.55 * rows[0]['highest_percent'], abs=30)
    assert Image.open(tmp_path / 'out' / 'a-overlay.png').size == (64, 45)
    assert rows[0]['boxes'] and rows[0]['boxes'][0]['percent'] == pytest.approx(rows[0]['highest_percent'])

    slow = json.loads(call_launch(*args, '--windows', '--format', 'json').out)
    for fast_row, slow_row in zip(rows, slow, strict=True):
        boxes = [[[box[key] for key in ('percent', 'left', 'bottom')] for box in row['boxes']]
                 for row in (fast_row, slow_row)]
        np.testing.assert_allclose(*boxes, rtol=1e-3)

    table = call_launch(*args, '--scale', '1', '0.5').out
    assert f'{8 * 13 + 2 * 5} windows of 20x16 pixels every 4 pixels' in table.replace(',', '')
    lines = list(csv.reader(call_launch(*args, '--format', 'csv').out.splitlines()))
    assert lines[0] == ['file', 'class', 'percent', 'left', 'top', 'right', 'bottom'] and len(lines) > 1


@pytest.mark.parametrize('arguments, parts', [
    (['--class', '7'], ('--class is for --heat_map',)),
    (['--windows'], ('--windows is for --heat_map',)),
    (['--heat_map', '--class', 'seven'], ('--class seven', 'no such class', '0')),
    (['--heat_map', '--stride', '2'], ('--stride 2', '--windows')),
    (['--heat_map', '--windows', '--stride', '-1'], ('--stride -1', 'at least 1')),
    (['--heat_map', '--scale', '0'], ('--scale 0', 'above 0')),
    (['--heat_map', '--threshold', '60'], ('--threshold 60', 'probability')),
    (['--heat_map', '--tta', 'flip'], ('--tta flip',)),
    (['--heat_map', '--top_k', '3'], ('--top_k 3: a heat map takes none',)),
    (['--heat_map', '--output', 'rows.json'], ('rows.json', 'folder')),
])
def test_mistakes_are_one_line(arguments, parts, workdir, digit_files, call_launch):
    result = call_launch('predict', '--workdir', workdir, digit_files / '0.png', *arguments)
    assert result.code == 2 and result.err.startswith('error: ') and len(result.err.splitlines()) == 1, result.err
    assert all(part in result.err for part in parts), result.err


def test_a_run_that_starts_from_the_checkpoint_is_the_same_network(workdir, run, image, caplog):
    """config.init_from with a model that has a window."""
    model = models.build({**run.config.model, 'window': (20, 16)}, num_classes=10)
    prepared = image[None] / 255
    variables = {'params': model.init(jax.random.key(3), prepared)['params'], 'batch_stats': {}, 'ema': {}}
    config = tiny.get_config().init_from
    config.workdir = str(workdir)
    with caplog.at_level(logging.INFO):
        taken = init_from(config, variables, DatasetInfo())
    assert 'loaded   params/dense1/kernel  [16, 16] as [2, 1, 8, 16]' in caplog.text
    found = model.apply({'params': taken['params']}, prepared)[0]
    np.testing.assert_allclose(found, run.heat_map(image).logits[:7], rtol=1e-4, atol=1e-4)


def test_other_runs_and_inputs(run, trained_run, image):
    mlp = practicum.load(trained_run)  # of images of 8x8
    with pytest.raises(UserError, match='mlp is not made of convolutions.*--windows and --stride'):
        mlp.heat_map(image)
    assert mlp.heat_map(image, windows=True, stride=8).logits.shape == (6, 8, 10)
    with pytest.raises(UserError, match='these are 2'):
        run.heat_map([image, image])


def test_it_says_why_windows_may_differ(workdir, digit_files, tmp_path, caplog):
    run = practicum.load(workdir, overrides=['image.local_mean=4'])
    run.model = run.model.clone(padding='SAME')
    with caplog.at_level(logging.INFO):
        assert predict_heat_maps(run, [str(digit_files / '0.png')], output=tmp_path) == 0
    line, = (line for line in caplog.messages if 'may differ' in line)
    assert "lenet pads its convolutions (config.model.padding is not 'VALID')" in line and 'local_mean' in line
