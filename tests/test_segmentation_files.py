"""A trained segmentation looks at files: names of what is written, DICOM, mistakes, scores of every case."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests import tiny_segmentation
from tests.input_pipeline.test_dicom import write_dicom
from tests.test_mistakes import assert_one_line


@pytest.fixture(scope='module')
def data_folder(tmp_path_factory):
    return tiny_segmentation.masks_and_images(tmp_path_factory.mktemp('discs'))


@pytest.fixture(scope='module')
def run(tmp_path_factory, data_folder, run_launch):
    """The workdir of a finished run of tests/tiny_segmentation.py. Tests only read it, but for predictions."""
    workdir = tmp_path_factory.mktemp('segmentation') / 'run'
    done = run_launch('--config', tiny_segmentation.__file__, '--workdir', workdir, f'--config.data.name={data_folder}',
                      '--config.augment.elastic=0.02', '--config.augment.noise=0.02', '--config.augment.gamma=0.2')
    assert done.returncode == 0, done.stderr
    return workdir


def test_a_run_leaves_scores_of_every_case_and_the_worst_as_images(run):
    found = json.loads((run / 'test_examples.json').read_text())
    result = json.loads((run / 'result.json').read_text())
    assert found['step'] == 20 and [case['file'] for case in found['examples']] != []
    assert sorted(case['file'] for case in found['examples']) == [f'images/{i:03}.png' for i in range(12)]
    assert found['metrics']['dice'] == result['metrics']['test/dice'] > 0.3
    scores = [row['dice']['foreground'] for row in found['examples']]
    assert found['metrics']['dice'] == pytest.approx(np.mean(scores))
    assert 0.5 < result['metrics']['test/background_accuracy'] < 0.99
    assert np.asarray(Image.open(run / 'test_worst_examples.png')).std() > 10


def test_evaluate_gives_the_same_cases_again(run, call_launch, tmp_path):
    copy = shutil.copytree(run, tmp_path / 'run')
    assert call_launch('evaluate', '--workdir', copy, '--step', 'last', '--sets', 'test').code == 0
    first, again = (json.loads((copy / name).read_text())['examples'] for name in ('test_examples.json',
                                                                               'evaluation_test_examples.json'))
    assert first == again
    assert (copy / 'evaluation_test_worst_examples.png').is_file()


def test_masks_go_where_the_images_folders_say(run, call_launch, tmp_path):
    for folder in ('a', 'b/deep'):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(tiny_segmentation.disc(7)[0]).save(tmp_path / folder / 'x.png')
    Image.fromarray(tiny_segmentation.disc(8)[0]).save(tmp_path / 'a' / 'x.bmp')
    result = call_launch('predict', '--workdir', run, tmp_path / 'a', tmp_path / 'b', tmp_path / 'a' / 'x.png',
                         '--output', tmp_path / 'out', '--format', 'csv')
    assert result.code == 0, result.err
    masks = {path.relative_to(tmp_path / 'out').as_posix() for path in (tmp_path / 'out').rglob('*-mask.png')}
    assert masks == {'a/x-mask.png', 'a/x-2-mask.png', 'b/deep/x-mask.png'}  # nothing twice, nothing overwritten
    table = list(csv.DictReader(io.StringIO(result.out)))
    rows = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert [row['file'] for row in table] == [row['file'] for row in rows]
    for row, line in zip(rows, table):
        mask = np.asarray(Image.open(row['files'][0]))
        assert mask.sum() == row['classes']['foreground']['pixels'] == int(line['foreground_pixels'])
    same = [np.asarray(Image.open(tmp_path / 'out' / name)) for name in ('a/x-2-mask.png', 'b/deep/x-mask.png')]
    np.testing.assert_array_equal(*same)


def test_dicom_gives_areas_and_a_bad_file_does_not_stop_the_others(run, call_launch, tmp_path):
    image = tiny_segmentation.disc(3)[0].astype(np.uint16) * 16
    scans = tmp_path / 'scans'
    scans.mkdir()
    write_dicom(scans / 'good.dcm', image, PixelSpacing=[1.5, 2.0])
    (scans / 'bad.dcm').write_bytes((scans / 'good.dcm').read_bytes()[:700])
    result = call_launch('predict', '--workdir', run, scans, '--output', tmp_path / 'out')
    assert result.code == 2 and result.err.count('error:') == 1 and 'bad.dcm' in result.err
    row, = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert row['classes']['foreground']['area_mm2'] == pytest.approx(3 * row['classes']['foreground']['pixels'])
    assert f"{row['classes']['foreground']['pixels']:,} pixels" in result.out and 'mm2' in result.out


def test_a_contour_of_an_earlier_call_does_not_stay_beside_an_empty_mask(run, call_launch, tmp_path):
    args = ('predict', '--workdir', run, tmp_path / 'x.png', '--output', tmp_path / 'out')
    Image.fromarray(tiny_segmentation.disc(7)[0]).save(tmp_path / 'x.png')
    assert call_launch(*args).code == 0 and (tmp_path / 'out' / 'x-foreground-contour.txt').is_file()
    Image.new('L', (48, 48)).save(tmp_path / 'x.png')
    assert call_launch(*args).code == 0
    assert not np.asarray(Image.open(tmp_path / 'out' / 'x-mask.png')).any()
    assert not (tmp_path / 'out' / 'x-foreground-contour.txt').exists()


def test_predictions_are_not_predicted_again(run, call_launch, tmp_path, data_folder):
    images = shutil.copytree(data_folder / 'test' / 'images', tmp_path / 'images')
    for _ in range(2):
        result = call_launch('predict', '--workdir', run, images, '--output', images / 'out', '--format', 'json')
        assert result.code == 0 and len(json.loads(result.out)) == 12
    assert_one_line(call_launch('predict', '--workdir', run, images, '--output', images), str(images), 'own')


@pytest.mark.parametrize('name', ['out.json', 'out.csv', 'file'])
def test_masks_need_a_folder(run, call_launch, tmp_path, data_folder, name):
    (tmp_path / 'file').write_text('')
    assert_one_line(call_launch('predict', '--workdir', run, data_folder / 'test' / 'images' / '000.png',
                                '--output', tmp_path / name), name, 'folder')


@pytest.mark.parametrize('change, parts', [
    (lambda root: Image.new('L', (5, 5)).save(root / 'train/masks/003.png'), ('masks/003.png', '5x5', '48x48')),
    (lambda root: Image.new('L', (48, 48), 2).save(root / 'train/masks/004.png'), ('masks/004.png', '2')),
    (lambda root: (root / 'train/images/005.png').write_bytes(b'no image'), ('images/005.png',)),
    (lambda root: shutil.rmtree(root / 'train/masks'), ('masks',)),
])
def test_a_broken_folder_of_masks_is_one_line_and_loses_nothing(change, parts, data_folder, call_launch, tmp_path):
    root = shutil.copytree(data_folder, tmp_path / 'data')
    change(root)
    result = call_launch('--config', tiny_segmentation.__file__, '--workdir', tmp_path / 'run',
                         f'--config.data.name={root}')
    assert_one_line(result, *parts)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('override, parts', [
    ('task.name=classification', ('config.task.loss', 'classification has no such field')),
    ('task.class_weight=(1, 2)', ('config.task.class_weight', 'did you mean class_weights?')),
    ('model.drop=0.5', ('config.model.drop', 'did you mean dropout?')),
    ('task.loss=dize', ('config.task.loss', 'did you mean dice?')),
    ('checkpoint.best_metric=validation/dise', ('validation/dise', 'did you mean validation/dice?')),
    ('data.source=folder', ('needs', 'segmentation_mask', 'image, label')),
])
def test_a_config_that_does_not_fit_masks_is_one_line(override, parts, data_folder, call_launch, tmp_path):
    result = call_launch('--config', tiny_segmentation.__file__, '--workdir', tmp_path / 'run',
                         f'--config.data.name={data_folder}', f'--config.{override}')
    assert_one_line(result, *parts)
