"""`launch.py explain`: sheets, pages, folders, and the mistakes one can make."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import practicum
from practicum import models
from practicum.common.errors import UserError
from practicum.inference import maximization
from practicum.inference.explanation_files import explain_files
from practicum.inference.maximization import Maximized
from practicum.reporting.explanation_page import write_page
from practicum.training import config as config_lib
from practicum.training.checkpoints import Checkpoints
from tests.models.networks import random_variables
from tests.untrained import untrained


def write_run(workdir, model, missing=()):
    """A workdir with a checkpoint of a network with random weights; without a head, where layers are missing."""
    config = config_lib.defaults()
    config.experiment, config.model = 'small', model
    config.image.update({'size': (8, 8), 'channels': 1})
    variables = random_variables(models.build(config.model, num_classes=10), (1, 8, 8, 1), 0)
    params = {name: value for name, value in variables['params'].items() if name not in missing}
    meta = {'config': config_lib.to_dict(config), 'data': {'class_names': [] if missing else list('0123456789')}}
    with Checkpoints(workdir, writable=True) as checkpoints:
        checkpoints.save(0, dict(variables, params=params), {'step': np.zeros((), np.int32)}, meta)
    return workdir


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A LeNet for images of 8x8."""
    return write_run(tmp_path_factory.mktemp('lenet') / 'run', {
        'name': 'lenet', 'features': (4, 8), 'hidden': 16, 'padding': 'SAME'})


@pytest.fixture(scope='module')
def body(tmp_path_factory):
    """What `import` writes of a network whose last layers are not there."""
    return write_run(tmp_path_factory.mktemp('body') / 'run', {
        'name': 'small_cnn', 'features': (4,), 'hidden': 8, 'block_dropout': (0.0,)}, ('hidden', 'logits'))


@pytest.fixture(scope='module')
def mlp():
    """A run of dense layers on images of 8x8, which has no grid."""
    return untrained({'name': 'mlp', 'hidden': (20, 16)}, (8, 8), 1)


def test_a_folder_gets_everything(workdir, digit_files, call_launch, tmp_path):
    folder = tmp_path / 'out'
    (tmp_path / 'in').mkdir()
    for name in '07':
        Image.open(digit_files / f'{name}.png').save(tmp_path / 'in' / f'{name}.png')
    (tmp_path / 'in' / 'broken.png').write_text('no image')
    result = call_launch('explain', '--workdir', workdir, tmp_path / 'in', '--output', folder, '--class', '7',
                         '--maximize', '--units', '3', '0')
    assert result.code == 2 and [line for line in result.err.splitlines() if line.startswith('error')] == [
        line for line in result.err.splitlines() if 'broken.png' in line]
    assert sorted(path.name for path in folder.iterdir()) == [
        '0-class.png', '0-maps.png', '7-class.png', '7-maps.png', 'explanation.json', 'filters-conv1.png',
        'maximized-classes.png', 'maximized-conv1.png', 'sheet.html', 'sheet.png']
    numbers = json.loads((folder / 'explanation.json').read_text())
    run = practicum.load(workdir)
    for row, found in zip(numbers['images'], run.explain([digit_files / '0.png', digit_files / '7.png'],
                                                         class_name='7'), strict=True):
        assert row['class'] == '7' and row['share'] == pytest.approx(found.share)
        assert row['largest_drop'] == pytest.approx(found.drops.max(), abs=1e-6)
        assert row['pictures'] == [f'{found.file.stem}-class.png', f'{found.file.stem}-maps.png']
        assert row['endpoints'] == {'conv1': [4, 4, 4], 'conv2': [2, 2, 8]} and row['grad_cam_endpoint'] == 'conv1'
    assert [(one['endpoint'], one['name']) for one in numbers['maximized']] == [
        ('conv1', 'channel 3'), ('conv1', 'channel 0'), ('', '7')]
    assert all(one['after'] > one['before'] for one in numbers['maximized'])
    assert f'{tmp_path}/in/7.png  7 : {100 * numbers["images"][1]["share"]:.1f} %' in result.out
    page = (folder / 'sheet.html').read_text(encoding='ascii')
    assert re.findall(r'<h2>(.*?)</h2>', page)[0] == 'Filters of conv1' and 'src="http' not in page
    pictures = re.findall(r'src="data:image/webp;base64,(.*?)"', page)
    assert len(pictures) == 1 + 2 * 2 + 2
    filters = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert (np.asarray(filters) == np.asarray(Image.open(folder / 'filters-conv1.png'))).all()


def test_a_body_without_a_head_has_filters_and_maps(body, digit_files, call_launch, tmp_path):
    sheet = tmp_path / 'made' / 'sheet.png'
    args = ('explain', '--workdir', body, digit_files / '0.png', '--output', sheet)
    result = call_launch(*args, '--endpoint', 'block1')
    assert result.code == 0 and result.out.endswith('0.png  feature maps of 1 endpoint\n'), result.err
    assert Image.open(sheet).width > 1000 and [path.name for path in sheet.parent.iterdir()] == ['sheet.png']
    assert practicum.load(body).explain(digit_files / '0.png')[0].grad_cam is None
    for more, parts in ((('--class', '7'), ('--class 7', 'body without a head', 'leave --class out')),
                        (('--endpoint', 'hidden'), ('--endpoint hidden', 'no such endpoint with weights'))):
        result = call_launch(*args, *more)
        assert result.code == 2 and len(result.err.splitlines()) == 1 and all(part in result.err for part in parts)


@pytest.mark.parametrize('arguments, parts', [
    (['--class', 'seven'], ('--class seven', 'no such class')),
    (['--endpoint', 'conv3'], ('--endpoint conv3', 'lenet', 'did you mean conv')),
    (['--endpoint', 'dense1'], ('--endpoint dense1', 'no grid', 'conv1, conv2')),
    (['--seed', '3'], ('--seed 3', 'for --maximize')),
    (['--output', 'RUN'], ('--output RUN', 'folder of a run', 'RUN/explanation')),
    (['--output', 'IN/0.png/sheet.png'], ('cannot write', '0.png/sheet.png')),
    (['--output', 'sheet.pdf'], ('sheet.pdf', '.png or .html')),
    (['--output', 'TMP/there.txt'], ('there.txt', '.png or .html')),
    (['--output', 'IN'], ('--output', 'folder of their own')),
    (['--output', 'IN/0.png'], ('0.png', 'one of the images')),
    (['--units', '3'], ('--units 3', '--maximize')),
    (['--maximize', '--units', '4'], ('--units 4', 'channels 0 to 3')),
    (['--maximize', '--seed', '-1'], ('--seed -1',)),
    (['--patch', '8'], ('--patch 8', 'less than 8')),
])
def test_mistakes_are_one_line_and_leave_nothing(arguments, parts, workdir, digit_files, call_launch, tmp_path,
                                                 monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, parts = ([text.replace('RUN', str(workdir)).replace('IN', str(digit_files)).replace(
        'TMP', str(tmp_path)) for text in texts] for texts in (arguments, parts))
    result = call_launch('explain', '--workdir', workdir, digit_files, *arguments)
    assert result.code == 2 and result.err.startswith('error: ') and len(result.err.splitlines()) == 1, result.err
    assert all(part in result.err for part in parts) and result.out == '', result.err
    assert not list(tmp_path.iterdir()) and not (workdir / 'explanation').exists()


@pytest.mark.parametrize('how, message', [
    ({'patch': 3}, '--patch 3: name images'),
    ({'class_name': '3'}, '--class 3: name images .*or --maximize'),
    ({'endpoint': 'dense2'}, 'no filters that are images at dense2'),
    ({'endpoint': 'dense3', 'maximize': True}, '--endpoint dense3: .*no such endpoint'),
])
def test_what_needs_images(how, message, mlp, tmp_path):
    with pytest.raises(UserError, match=message):
        explain_files(mlp, [], tmp_path / 'a.png', write_page=write_page, **how)
    assert not list(tmp_path.iterdir())


def test_nothing_to_maximise_is_said_first(digit_files, capsys, tmp_path):
    run = untrained({'name': 'layer_autoencoder', 'hidden': (9,)}, (8, 8), 1, task='reconstruction')
    with pytest.raises(UserError, match='layer_autoencoder names nothing that could be maximised'):
        explain_files(run, [digit_files], tmp_path / 'a.png', write_page=write_page, maximize=True)
    assert capsys.readouterr().out == ''


def test_units_of_an_endpoint_without_a_grid(mlp, digit_files, monkeypatch, tmp_path):
    """With images those that respond most to any of them, without images the first; a repeated one once."""
    calls = []

    def make(explainer, endpoint, units, *, seed):
        calls.append((endpoint, units, seed))
        return [Maximized(np.zeros((8, 8, 1), np.uint8), endpoint, unit, f'unit {unit}', 0.0, 1.0) for unit in units]
    monkeypatch.setattr(maximization, 'maximize_units', make)
    monkeypatch.setattr(maximization, 'maximize_classes', lambda explainer, names, *, seed: make(
        explainer, '', range(len(names)), seed=seed))

    def explain(images, **how):
        assert explain_files(mlp, images, tmp_path / 'a.html', write_page=write_page, maximize=True, **how) == 0
        return calls[-2]
    assert explain([], endpoint='dense1') == ('dense1', list(range(12)), 0)
    assert explain([], units=(3, 5, 3), seed=4) == ('dense2', [3, 5], 4)
    files = [digit_files / f'{digit}.png' for digit in (0, 7)]
    layer = mlp.variables['params']['dense1']
    found = np.maximum(mlp.preprocess(files).reshape(2, -1) @ layer['kernel'] + layer['bias'], 0).max(axis=0)
    assert explain(files, endpoint='dense1') == ('dense1', np.argsort(-found, kind='stable')[:12].tolist(), 0)


def test_nothing_is_written_if_no_image_can_be_read(workdir, call_launch, tmp_path):
    (tmp_path / 'a.png').write_text('no image')
    result = call_launch('explain', '--workdir', workdir, tmp_path / 'a.png', tmp_path / 'gone.png',
                         '--output', tmp_path / 'out')
    assert result.code == 2 and len(result.err.splitlines()) == 2 and 'gone.png' in result.err
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_from_python(workdir, digit_files, tmp_path):
    """What the command line does, and arrays in place of files."""
    assert practicum.explain(workdir, digit_files / '3.png', tmp_path / 'a.html', class_name='3') == 0
    assert '3.png: 3 ' in (tmp_path / 'a.html').read_text()
    assert practicum.explain(workdir, output=tmp_path / 'filters.png', endpoint='conv2') == 0
    found, = practicum.load(workdir).explain(np.asarray(Image.open(digit_files / '3.png')), class_name='3')
    assert found.file is None and found.grad_cam.shape == (4, 4) and found.occlusion.shape == (8, 8)
    with pytest.raises(practicum.UserError, match='no such file'):
        practicum.load(workdir).explain('nothing/here.png')
