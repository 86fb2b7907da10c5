"""Windows of images with boxes, as class folders."""

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.input_pipeline.box_crops import draw_windows, write_crops
from practicum.training.defaults import base

IMAGE = base().image.to_dict() | {'size': (80, 80), 'channels': 3}


@pytest.fixture
def data(tmp_path):
    """config.data of two images of 80x160 pixels in VOC's form, with one and two white squares of 40x40."""
    folder = tmp_path / 'voc'
    for name in ('annotations', 'images'):
        (folder / name).mkdir(parents=True)
    for name, corners in (('a', [(20, 20)]), ('b', [(100, 30), (10, 5)])):
        pixels = np.zeros((80, 160, 3), np.uint8)
        objects = ''
        for left, top in corners:
            pixels[top : top + 40, left : left + 40] = 255
            objects += (f'<object><name>white</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>'
                        f'<xmax>{left + 40}</xmax><ymax>{top + 40}</ymax></bndbox></object>')
        Image.fromarray(pixels).save(folder / 'images' / f'{name}.png')
        (folder / 'annotations' / f'{name}.xml').write_text(
            f'<annotation><filename>{name}.png</filename><size><width>160</width><height>80</height></size>{objects}'
            '</annotation>')
    return base().data.to_dict() | {'source': 'voc_folder', 'name': str(folder)}


def test_overlaps_are_those_of_squares_in_the_image():
    windows, overlaps = draw_windows(np.asarray([[0, 0, 50, 50.0]]), (50, 70), 0.2, np.random.default_rng(0))
    sides = windows[:, 2:] - windows[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1])
    assert 10 <= sides.min() < 12 and 45 < sides.max() <= 50
    assert windows.min() >= 0 and windows[:, 2].max() <= 70 and windows[:, 3].max() <= 50 and windows[:, 2].max() > 60
    inside = windows[:, 2] <= 50
    np.testing.assert_allclose(overlaps[inside, 0], sides[inside, 0] ** 2 / 2500)
    assert draw_windows(np.zeros((0, 4)), (50, 70), 0.2, np.random.default_rng(0))[1].shape == (2000, 0)


def test_crops_show_objects_whole_and_background_without(data, tmp_path):
    """In the images' own proportions, though they are read as squares; the same ones with the same seed."""
    counts = write_crops(data, IMAGE, {'train': 'train'}, tmp_path / 'crops', side=32, per_object=3, background=4)
    assert counts == {'train': {'white': 9, 'background': 8}}
    folder = {'source': 'folder', 'name': str(tmp_path / 'crops')}
    crops = sources.open_split(base().data.to_dict() | folder, IMAGE | {'size': (32, 32)}, 'train')
    assert sorted(crops.info.class_names) == ['background', 'white']
    examples = crops.read(np.arange(17))
    bright = examples['image'].mean(axis=(1, 2, 3)) / 255
    shows = examples['label'] == crops.info.class_names.index('white')
    # An overlap of 0.85 and more with a square: as much of the crop is white, or it is white alone.
    assert bright[shows].min() > 0.8 and bright[shows].max() > 0.95 and bright[~shows].min() < 0.5
    assert {about['file'].rpartition('/')[2].partition('-')[0] for about in crops.describe(np.arange(17))} == {'a', 'b'}

    write_crops(data, IMAGE, {'train': 'train'}, tmp_path / 'again', side=32, per_object=3, background=4)
    files = sorted(path.relative_to(tmp_path / 'crops') for path in (tmp_path / 'crops').rglob('*.jpg'))
    assert all((tmp_path / 'again' / file).read_bytes() == (tmp_path / 'crops' / file).read_bytes() for file in files)


def test_a_class_without_crops_has_no_folder_and_is_named(data, tmp_path, caplog):
    """The source 'folder' takes no empty class."""
    (tmp_path / 'voc' / 'classes.txt').write_text('white\nblack\n')
    counts = write_crops(data, IMAGE, {'train': 'train'}, tmp_path / 'crops', side=8, per_object=1, background=1)
    assert counts['train']['black'] == 0 and 'no crop of black, and no folder for it' in caplog.text
    folder = {'source': 'folder', 'name': str(tmp_path / 'crops')}
    assert sources.open_split(base().data.to_dict() | folder, IMAGE, 'train').info.class_names == (
        'background', 'white')


def test_the_command_takes_the_sets_of_a_config(data, tmp_path, call_launch):
    """A held-out fold becomes the folder of its set."""
    config = tmp_path / 'mine.py'
    config.write_text('from practicum.training.defaults import base\n\n\ndef get_config():\n    config = base()\n'
                      f'    config.data.update(source="voc_folder", name={data["name"]!r}, folds=2)\n'
                      '    config.image.update(size=(80, 80), channels=3)\n'
                      '    config.evaluation.sets.validation.split = "fold"\n    config.evaluation.final = ()\n'
                      '    return config\n')
    args = ('crops', '--config', config, '--output', tmp_path / 'crops')
    result = call_launch(*args, '--side', '16', '--per_object', '2')
    assert result.code == 0 and f'--config.data.name={tmp_path}/crops' in result.out
    found = {name: {path.name[0] for path in (tmp_path / 'crops' / name).rglob('*.jpg')}
             for name in ('train', 'validation')}
    assert sorted(found['train'] | found['validation']) == ['a', 'b'] and not found['train'] & found['validation']
    again = call_launch(*args)
    assert again.code == 2 and 'is there already' in again.err
    again = call_launch(*args, '--config.image.size=5')
    assert again.code == 2 and again.err == 'error: config.image.size = (5,): it is (height, width) in pixels\n'


@pytest.mark.parametrize('changes, parts', [
    ({'side': 0}, ('--side 0',)), ({'smallest': 1.5}, ('--smallest 1.5',)),
    ({'image': IMAGE | {'bits': 16}}, ('config.image.bits',)),
])
def test_mistakes_leave_nothing_behind(data, tmp_path, changes, parts):
    arguments = {'data': data, 'image': IMAGE, 'splits': {'train': 'train'}, 'output': tmp_path / 'crops'} | changes
    with pytest.raises(UserError) as failure:
        write_crops(**arguments)
    assert all(part in str(failure.value) for part in parts) and '\n' not in str(failure.value)
    assert not (tmp_path / 'crops').exists() and sorted(path.name for path in tmp_path.iterdir()) == ['voc']


def test_data_without_boxes_and_a_class_called_background(data, tmp_path):
    folder = tmp_path / 'classes'
    for name in ('cat', 'dog'):
        (folder / name).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(folder / name / '1.png')
    with pytest.raises(UserError, match='has no boxes'):
        write_crops(data | {'source': 'folder', 'name': str(folder)}, IMAGE, {'train': 'train'}, tmp_path / 'crops')
    for file in (tmp_path / 'voc' / 'annotations').iterdir():
        file.write_text(file.read_text().replace('white', 'background'))
    with pytest.raises(UserError, match="called 'background'"):
        write_crops(data, IMAGE, {'train': 'train'}, tmp_path / 'crops')
