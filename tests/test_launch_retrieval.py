"""`launch.py embed` and `neighbors` as a user meets them."""

import csv
import io
import json
import os
import shlex
import shutil
from pathlib import Path

import flax
import numpy as np
import pytest
from PIL import Image

from practicum import models
from practicum.training import config as config_lib
from practicum.training.checkpoints import Checkpoints
from tests.models.networks import random_variables

CLASSES = ('cross', 'ring')
MODEL = {'name': 'small_cnn', 'features': (4, 6), 'hidden': 8, 'block_dropout': (0.0, 0.0)}
SIZE = (1, 8, 8, 1)


def write_run(workdir, *, head=True, seed=0, fields=MODEL, size=SIZE):
    """A workdir with a checkpoint of step 0 of a network with random weights; returns model and variables."""
    model = models.build(fields, num_classes=len(CLASSES))
    flat = flax.traverse_util.flatten_dict(random_variables(model, size, seed), sep='/')
    arrays = {path: np.asarray(value) for path, value in flat.items() if head or 'logits' not in path}
    config = config_lib.defaults()
    config.experiment, config.model = 'small', fields
    config.image.update({'size': size[1:3], 'channels': size[3], 'mean': (0.3,), 'std': (0.2,)})
    meta = {'config': config_lib.to_dict(config), 'data': {'class_names': list(CLASSES) if head else []}}
    with Checkpoints(workdir, writable=True) as checkpoints:
        checkpoints.save(0, flax.traverse_util.unflatten_dict(arrays, sep='/'), {'step': np.zeros((), np.int32)}, meta)
    return model, flax.traverse_util.unflatten_dict(flat, sep='/')


def write_images(folder, count=5):
    """Noisy crosses and rings of 8x8 pixels, and a copy of the first cross."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8] - 3.5
    shapes = {'cross': np.minimum(abs(x), abs(y)) < 1, 'ring': abs(np.hypot(x, y) - 2.5) < 0.8}
    for name, shape in shapes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = 200 * shape + random.integers(0, 50, shape.shape)
            Image.fromarray(picture.astype(np.uint8)).save(folder / name / f'{number}.png')
    shutil.copy(folder / 'cross' / '0.png', folder / 'cross' / 'copy.png')
    return folder


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(folder with run/, images/; model, variables)."""
    root = tmp_path_factory.mktemp('retrieval')
    model, variables = write_run(root / 'run')
    write_images(root / 'images')
    return root, model, variables


@pytest.fixture
def index(made, call_launch, tmp_path):
    """An index of the images at the default endpoint."""
    root, _, _ = made
    result = call_launch('embed', '--workdir', root / 'run', root / 'images', '--output', tmp_path / 'index.npz')
    assert result.code == 0, result.err
    return tmp_path / 'index.npz'


def assert_one_line(result, *parts):
    assert result.code == 2, result
    line, = result.err.splitlines()
    assert line.startswith('error: ') and all(str(part) in line for part in parts), line


def expected_features(made, files, endpoint, pool):
    """Features of images, computed one by one without the code that is tested."""
    root, model, variables = made
    vectors = []
    for file in files:
        picture = np.asarray(Image.open(root / 'images' / file), np.float32)[None, :, :, None]
        values = np.asarray(model.apply(variables, (picture / 255 - 0.3) / 0.2, features=endpoint))[0]
        vector = pool(values)
        vectors.append(vector / np.linalg.norm(vector))
    return np.stack(vectors)


@pytest.mark.parametrize('args, endpoint, pool', [
    ((), 'hidden', np.ravel),
    (('--features', 'block1'), 'block1', lambda values: values.mean(axis=(0, 1))),
    (('--features', 'block2', '--pool', 'max'), 'block2', lambda values: values.max(axis=(0, 1))),
    (('--features', 'block2', '--pool', 'flatten'), 'block2', np.ravel),
    (('--features', 'logits'), 'logits', np.ravel),
])
def test_an_index_holds_what_the_network_says_at_an_endpoint(args, endpoint, pool, made, call_launch, tmp_path):
    root, _, _ = made
    result = call_launch('embed', '--workdir', root / 'run', root / 'images', '--output', tmp_path / 'new' / 'x.npz',
                         *args)
    assert result.code == 0 and result.err == ''
    with np.load(tmp_path / 'new' / 'x.npz', allow_pickle=False) as archive:
        found = dict(archive)
    assert found['files'].tolist() == [f'{name}/{file}.png' for name in CLASSES
                                       for file in ('0', '1', '2', '3', '4', 'copy')[:6 if name == 'cross' else 5]]
    assert found['labels'].tolist() == ['cross'] * 6 + ['ring'] * 5
    assert found['features'].dtype == np.float32
    np.testing.assert_allclose(found['features'], expected_features(made, found['files'], endpoint, pool), atol=1e-5)
    assert str(found['workdir']) == str((root / 'run').resolve()) and found['step'] == 0
    assert str(found['endpoint']) == endpoint and str(found['folder']) == str((root / 'images').resolve())


def test_the_size_of_batches_changes_nothing(made, index, call_launch, monkeypatch, tmp_path):
    root, _, _ = made
    monkeypatch.setattr('practicum.inference.network._LARGEST_BATCH', 4)  # two whole ones and one of three
    assert call_launch('embed', '--workdir', root / 'run', root / 'images', '--output', tmp_path / 'x.npz').code == 0
    with np.load(index) as one, np.load(tmp_path / 'x.npz') as many:
        np.testing.assert_allclose(many['features'], one['features'], atol=1e-6)


def test_precision_is_printed_and_kept_beside_the_index(made, call_launch, tmp_path):
    root, _, _ = made
    result = call_launch('embed', '--workdir', root / 'run', root / 'images', '--output', tmp_path / 'x.npz')
    facts = json.loads((tmp_path / 'x.json').read_text())
    with np.load(tmp_path / 'x.npz') as archive:
        features, labels = archive['features'], archive['labels']
    first, shares = [], []
    for row, label in enumerate(labels):
        others = [i for i in range(len(labels)) if i != row and {i, row} != {0, 5}]  # 5 is the copy of 0
        others.sort(key=lambda i: 1 - features[i] @ features[row])
        shares.append(np.mean([labels[i] == label for i in others[:5]]))
        first.append(labels[others[0]] == label)
    assert facts['precision@5'] == pytest.approx(np.mean(shares)) and facts['recall@1'] == pytest.approx(np.mean(first))
    assert f'precision@5 {100 * np.mean(shares):.2f} %' in result.out
    assert facts['images'] == 11 and facts['classes'] == 2 and facts['dimension'] == 8


def test_neighbours_are_the_nearest_others_in_every_form(made, index, call_launch, tmp_path):
    """An image of the folder, a copy of one elsewhere, and one changed a little, which finds its origin."""
    root, _, _ = made
    ring = root / 'images' / 'ring' / '2.png'
    shutil.copy(ring, tmp_path / 'elsewhere.png')
    Image.fromarray(np.clip(np.asarray(Image.open(ring)), 2, 253)).save(tmp_path / 'changed.png')
    args = ('neighbors', ring, tmp_path / 'elsewhere.png', tmp_path / 'changed.png', '--index', index, '--top_k', 3,
            '--output', tmp_path / 'sheet.png')
    result = call_launch(*args, '--format', 'json')
    assert result.code == 0 and 'sheet.png' in result.err
    inside, elsewhere, changed = json.loads(result.out)
    with np.load(index) as archive:
        features, files = archive['features'], archive['files'].tolist()
    row = files.index('ring/2.png')
    distances = 1 - features @ features[row]
    nearest = [i for i in np.argsort(distances, kind='stable') if i != row][:3]
    assert [found['file'] for found in inside['neighbors']] == [str(root / 'images' / files[i]) for i in nearest]
    assert [found['distance'] for found in inside['neighbors']] == pytest.approx(distances[nearest], abs=1e-5)
    assert elsewhere['neighbors'] == inside['neighbors']
    assert changed['neighbors'][0]['file'] == str(ring) and changed['neighbors'][0]['label'] == 'ring'
    assert changed['neighbors'][0]['distance'] < inside['neighbors'][0]['distance']

    rows = list(csv.DictReader(io.StringIO(call_launch(*args, '--format', 'csv').out)))
    assert [(row['query'], row['file']) for row in rows[:3]] == [(str(ring), found['file'])
                                                                 for found in inside['neighbors']]
    assert [row['rank'] for row in rows] == ['1', '2', '3'] * 3
    table = call_launch(*args).out.splitlines()
    assert len(table) == 12 and table[0] == str(ring) and table[1].split()[1:] == [
        inside['neighbors'][0]['label'], inside['neighbors'][0]['file']]
    width, height = Image.open(tmp_path / 'sheet.png').size
    assert width / 4 == pytest.approx(196, abs=1) and height > 3 * 196  # four columns, three rows


def test_a_copy_within_the_folder_is_not_its_own_neighbour(made, index, call_launch, tmp_path):
    root, _, _ = made
    result = call_launch('neighbors', root / 'images' / 'cross' / '0.png', '--index', index, '--top_k', 99,
                         '--output', tmp_path / 'sheet.png', '--format', 'json')
    query, = json.loads(result.out)
    names = [found['file'].rpartition('/')[2] for found in query['neighbors']]
    assert len(names) == 9 and 'copy.png' not in names


def test_a_image_that_was_edited_since_is_still_itself(made, call_launch, tmp_path):
    root, _, _ = made
    shutil.copytree(root / 'images', tmp_path / 'images')
    edited = tmp_path / 'images' / 'ring' / '1.png'
    assert call_launch('embed', '--workdir', root / 'run', tmp_path / 'images', '--output', tmp_path / 'x.npz'
                       ).code == 0
    Image.fromarray(np.clip(np.asarray(Image.open(edited)), 2, 253)).save(edited)
    result = call_launch('neighbors', edited, '--index', tmp_path / 'x.npz', '--top_k', 99, '--output',
                         tmp_path / 'sheet.png', '--format', 'json')
    query, = json.loads(result.out)
    assert len(query['neighbors']) == 10 and str(edited) not in [found['file'] for found in query['neighbors']]


def test_a_body_without_a_head_is_enough(made, call_launch, tmp_path):
    root, _, _ = made
    write_run(tmp_path / 'body', head=False)
    for workdir, name in ((root / 'run', 'whole'), (tmp_path / 'body', 'body')):
        assert call_launch('embed', '--workdir', workdir, root / 'images', '--output', tmp_path / f'{name}.npz'
                           ).code == 0
    with np.load(tmp_path / 'whole.npz') as whole, np.load(tmp_path / 'body.npz') as body:
        np.testing.assert_array_equal(whole['features'], body['features'])
        assert str(body['endpoint']) == 'hidden'
    assert_one_line(call_launch('embed', '--workdir', tmp_path / 'body', root / 'images', '--features', 'logits',
                                '--output', tmp_path / 'x.npz'), 'logits', 'no weights', 'params/logits/')
    assert_one_line(call_launch('predict', '--workdir', tmp_path / 'body', root / 'images'), 'without a head')
    assert call_launch('neighbors', root / 'images' / 'ring' / '0.png', '--index', tmp_path / 'body.npz', '--output',
                       tmp_path / 'sheet.png').code == 0


def test_unreadable_images_are_listed_and_the_others_done(made, call_launch, tmp_path):
    root, _, _ = made
    shutil.copytree(root / 'images', tmp_path / 'images')
    (tmp_path / 'images' / 'cross' / '3.png').write_text('no image')
    (tmp_path / 'images' / 'ring' / 'empty.png').touch()
    result = call_launch('embed', '--workdir', root / 'run', tmp_path / 'images', '--output', tmp_path / 'x.npz')
    assert result.code == 2 and 'precision@5' in result.out
    assert ['error' in line for line in result.err.splitlines()] == [True, True] and '3.png' in result.err
    with np.load(tmp_path / 'x.npz') as archive:
        files = archive['files'].tolist()
        np.testing.assert_allclose(archive['features'], expected_features(made, files, 'hidden', np.ravel), atol=1e-5)
    assert len(files) == 10 and 'cross/3.png' not in files

    (tmp_path / 'images' / 'ring' / '0.png').unlink()  # a neighbour that is gone is left blank in the sheet
    result = call_launch('neighbors', root / 'images' / 'ring' / '0.png', tmp_path / 'nothing.png', '--index',
                         tmp_path / 'x.npz', '--output', tmp_path / 'sheet.png', '--top_k', 10, '--format', 'json')
    assert result.code == 2 and 'error: ' in result.err and 'nothing.png' in result.err
    assert len(json.loads(result.out)) == 1 and (tmp_path / 'sheet.png').is_file()


def test_nothing_readable_writes_nothing(made, call_launch, tmp_path):
    root, _, _ = made
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'a.png').write_text('no image')
    assert_one_line(call_launch('embed', '--workdir', root / 'run', tmp_path / 'images', '--output',
                                tmp_path / 'x.npz'), 'a.png')
    assert [path.name for path in tmp_path.iterdir()] == ['images']


def test_images_beside_the_class_folders_have_no_precision(made, call_launch, tmp_path):
    root, _, _ = made
    shutil.copytree(root / 'images', tmp_path / 'images')
    shutil.copy(tmp_path / 'images' / 'ring' / '1.png', tmp_path / 'images' / 'loose.png')
    result = call_launch('embed', '--workdir', root / 'run', tmp_path / 'images', '--output', tmp_path / 'x.npz')
    assert result.code == 0 and 'loose.png' in result.out and 'precision@5' not in result.out
    assert 'precision@5' not in json.loads((tmp_path / 'x.json').read_text())


def test_a_run_that_moved_or_changed_is_one_line(made, call_launch, tmp_path):
    root, _, _ = made
    shutil.copytree(root / 'run', tmp_path / 'run')
    query = root / 'images' / 'ring' / '0.png'
    find = ('neighbors', query, '--index', tmp_path / 'x.npz', '--output', tmp_path / 'sheet.png')
    assert call_launch('embed', '--workdir', tmp_path / 'run', root / 'images', '--output', tmp_path / 'x.npz'
                       ).code == 0
    (tmp_path / 'run').rename(tmp_path / 'moved')
    assert_one_line(call_launch(*find), tmp_path / 'run', 'gone', '--workdir')
    assert call_launch(*find, '--workdir', tmp_path / 'moved').code == 0
    write_run(tmp_path / 'run', seed=1)
    assert_one_line(call_launch(*find), 'x.npz', 'other weights')
    shutil.rmtree(tmp_path / 'run')
    (tmp_path / 'moved').rename(tmp_path / 'run')
    (tmp_path / 'run' / 'checkpoints' / '0').rename(tmp_path / 'run' / 'checkpoints' / '8')
    assert_one_line(call_launch(*find), 'x.npz', 'no step 0', 'embed')


@pytest.mark.parametrize('args, parts', [
    (('--features', 'hiden'), ('--features hiden', 'small_cnn', 'did you mean hidden?')),
    (('--output', 'index.txt'), ('index.txt', '.npz')),
    (('--output', '/dev/null/x.npz'), ('/dev/null/x.npz',)),
    (('--pool', 'avg'), ('--pool', 'mean')),
    (('--step', '7'), ('no step 7',)),
    (('--config.seed=1',), ('--config.seed',)),
])
def test_mistakes_of_embed_are_one_line(args, parts, made, call_launch):
    root, _, _ = made
    assert_one_line(call_launch('embed', '--workdir', root / 'run', root / 'images', *args), *parts)


def test_what_embed_cannot_take_is_one_line(made, call_launch, trained_run, tmp_path):
    root, _, _ = made
    output = ('--output', tmp_path / 'x.npz')
    assert_one_line(call_launch('embed', '--workdir', trained_run, root / 'images', *output), 'mlp', 'no endpoints')
    picture = root / 'images' / 'ring' / '0.png'
    assert_one_line(call_launch('embed', '--workdir', root / 'run', picture, *output), '0.png', 'folder')
    assert_one_line(call_launch('embed', '--workdir', root / 'run', tmp_path, *output), 'no images')


def test_mistakes_of_neighbors_are_one_line(made, index, call_launch, tmp_path):
    root, _, _ = made
    query = tmp_path / 'query.png'
    shutil.copy(root / 'images' / 'ring' / '0.png', query)
    content = query.read_bytes()
    for args, parts in ((('--top_k', '0'), ('--top_k',)), (('--output', 'sheet.gif'), ('sheet.gif', '.png')),
                        (('--output', query), ('query.png', 'another')),
                        (('--output', '/dev/null/x.png'), ('/dev/null/x.png',)),
                        (('--workdir', tmp_path), (str(tmp_path), 'gone'))):
        assert_one_line(call_launch('neighbors', query, '--index', index, *args), *parts)
    assert query.read_bytes() == content
    assert_one_line(call_launch('neighbors', query, '--index', tmp_path / 'none.npz'), 'none.npz', 'embed')
    assert_one_line(call_launch('neighbors', query, '--index', query), 'query.png', 'not an index')


def test_the_how_to_works_as_written(call_launch, monkeypatch, tmp_path):
    """docs/how-to/find-similar-images.md, with an AlexNet of random weights for small images."""
    how_to = Path(__file__).resolve().parent.parent / 'docs' / 'how-to' / 'find-similar-images.md'
    commands = [shlex.split(line)[2:] for line in how_to.read_text().splitlines()
                if line.startswith('.venv/bin/python launch.py')]
    assert [command[0] for command in commands] == ['embed', 'neighbors', 'embed']
    write_run(tmp_path / 'weights' / 'alexnet', head=False, fields={'name': 'alexnet', 'hidden': ()},
              size=(1, 64, 64, 3))
    write_images(tmp_path / 'images', count=3)
    shutil.copy(tmp_path / 'images' / 'ring' / '0.png', tmp_path / 'query.jpg')
    monkeypatch.chdir(tmp_path)
    for command in commands:
        result = call_launch(*command)
        assert result.code == 0, result.err
    assert {path.name for path in tmp_path.iterdir()} == {'weights', 'images', 'query.jpg', 'sheet.png', 'index.npz',
                                                          'index.json', 'places.npz', 'places.json'}
    with np.load('index.npz') as index, np.load('places.npz') as places:
        assert index['features'].shape == (7, 256) and places['features'].shape == (7, 256)  # one pixel is left
        assert {'features', 'files', 'folder', 'labels', 'workdir', 'step', 'endpoint', 'pool'} <= set(index)


def test_csv_and_json_write_no_contact_sheet_unless_told(made, index, call_launch, monkeypatch, tmp_path):
    root, _, _ = made
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    args = ('neighbors', root / 'images' / 'ring' / '0.png', '--index', index)
    for form in ('csv', 'json'):
        result = call_launch(*args, '--format', form)
        assert result.code == 0 and result.out and not any(Path().iterdir())
    assert call_launch(*args).code == 0 and [path.name for path in Path().iterdir()] == ['neighbors.png']


def test_a_file_name_that_is_not_utf8_is_embedded_and_found(made, call_launch, tmp_path):
    root, _, _ = made
    folder = shutil.copytree(root / 'images', tmp_path / 'images')
    (folder / 'ring' / '1.png').rename(folder / 'ring' / os.fsdecode(b'caf\xe9.png'))
    assert call_launch('embed', '--workdir', root / 'run', folder, '--output', tmp_path / 'x.npz').code == 0
    args = ('neighbors', folder / 'ring' / os.fsdecode(b'caf\xe9.png'), '--index', tmp_path / 'x.npz', '--top_k', 9)
    for form in ('csv', 'json'):
        assert call_launch(*args, '--format', form).code == 0
    result = call_launch(*args, '--output', tmp_path / 'sheet.png')
    assert result.code == 0 and r'caf\xe9.png' in result.out
