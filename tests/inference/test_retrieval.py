"""Search among features, its score, the file they are kept in, and the image that shows them."""

import json
import math

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.inference import contact_sheet
from practicum.inference.image_index import Index, nearest_others, precision
from practicum.models.alexnet import AlexNet
from practicum.models.mlp import MLP
from practicum.models.stages import endpoints


def on_circle(*degrees):
    """Unit vectors, whose cosine distance is 1 - cos of the angle between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def index(**changes):
    fields = dict(features=on_circle(0, 90), files=np.array(['a/ö.png', 'b/y.png']), labels=np.array(['a', 'b']),
                  digests=np.array(['1', '2']), folder='/images', workdir='/run', step=7, endpoint='pool',
                  pool='mean', weights='abc')
    return Index(**fields | changes)


def test_precision_of_a_worked_example():
    """Six images on a circle; k = 2.

    degrees  0 a   10 a   25 b   100 b   110 b   140 a
    nearest: 0 -> 10 a, 25 b; 10 -> 0 a, 25 b; 25 -> 10 a, 0 a; 100 -> 110 b, 140 a; 110 -> 100 b, 140 a;
    140 -> 110 b, 100 b
    shares of the same class: 1/2, 1/2, 0, 1/2, 1/2, 0; the nearest alone: 1, 1, 0, 1, 1, 0
    """
    scores = precision(on_circle(0, 10, 25, 100, 110, 140), list('aabbba'), list('123456'), k=2)
    assert scores['precision@2'] == pytest.approx(2 / 6)
    assert scores['recall@1'] == pytest.approx(4 / 6)
    assert scores['chance'] == pytest.approx(2 / 5)  # each has two of its class among five others


def test_copies_of_a_image_do_not_count_as_its_neighbours():
    """Degrees 0 a, its copy in b, 30 a, 50 b; with k = 1: 30 a, 30 a, 50 b (20 degrees away), 30 a -> only the first
    is right."""
    features, labels, digests = on_circle(0, 0, 30, 50), list('abab'), ['1', '1', '2', '3']
    scores = precision(features, labels, digests, k=1)
    assert scores['precision@1'] == scores['recall@1'] == pytest.approx(1 / 4)
    assert scores['chance'] == pytest.approx(np.mean([1 / 2, 1 / 2, 1 / 3, 1 / 3]))
    assert precision(features[:2], labels[:2], digests[:2]) == {}


def test_fewer_neighbours_than_asked_for_are_all_looked_at():
    scores = precision(on_circle(0, 10, 20), list('aab'), list('123'), k=5)
    assert scores['precision@5'] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)


def test_neighbours_are_those_of_a_sort_by_distance():
    random = np.random.default_rng(0)
    features, queries = random.normal(size=(50, 6)), random.normal(size=(7, 6))
    digests = [str(i // 2) for i in range(50)]  # every image twice
    same = [{str(3 * i), 'elsewhere'} for i in range(7)]
    found = nearest_others(features.astype(np.float32), digests, queries.astype(np.float32), same, 5)
    for query, contents, others in zip(queries, same, found):
        distances = 1 - features @ query / np.linalg.norm(features, axis=1) / np.linalg.norm(query)
        expected = [row for row in np.argsort(distances) if digests[row] not in contents][:5]
        assert [row for row, _ in others] == expected
        assert [distance for _, distance in others] == pytest.approx(distances[expected], abs=1e-5)


def test_an_index_survives_its_file(tmp_path):
    index().save(tmp_path / 'x.npz')
    found = Index.load(tmp_path / 'x.npz')
    for name, value in vars(index()).items():
        np.testing.assert_array_equal(getattr(found, name), value)
        assert type(getattr(found, name)) is type(value)
    assert [path.name for path in tmp_path.iterdir()] == ['x.npz']


def damages(folder):
    """Files that are no indexes; name -> what the message must say."""
    whole = folder / 'whole.npz'
    index().save(whole)
    content = bytearray(whole.read_bytes())
    (folder / 'cut.npz').write_bytes(content[:len(content) // 2])
    content[content.index(b'NUMPY') + 130] ^= 1  # in the features, behind 128 bytes of header
    (folder / 'flipped.npz').write_bytes(content)
    (folder / 'text.npz').write_text('hello')
    (folder / 'empty.npz').touch()
    (folder / 'folder.npz').mkdir()
    np.save(folder / 'array.npy', np.zeros(3))
    np.savez(folder / 'foreign.npz', features=np.zeros((2, 2)))
    np.savez(folder / 'objects.npz', **vars(index()) | {'files': np.array(['a', None], object)})
    for name, changes in {'rows': {'files': np.array(['a'])}, 'type': {'features': np.zeros((2, 2))},
                          'nan': {'features': np.full((2, 2), np.nan, np.float32)}, 'step': {'step': np.zeros(2)},
                          'none': {'features': np.zeros((0, 2), np.float32)}}.items():
        index(**changes).save(folder / f'{name}.npz')
    return {'cut.npz': 'damaged', 'flipped.npz': 'damaged', 'text.npz': 'not an index', 'empty.npz': 'not an index',
            'folder.npz': 'folder', 'array.npy': 'not an index', 'foreign.npz': 'not an index',
            'objects.npz': 'not an index', 'rows.npz': 'parts', 'type.npz': 'parts', 'nan.npz': 'parts',
            'step.npz': 'parts', 'none.npz': 'parts', 'missing.npz': 'no such index'}


def test_what_is_no_index_is_one_line(tmp_path):
    for name, part in damages(tmp_path).items():
        with pytest.raises(UserError, match=part) as error:
            Index.load(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and '\n' not in str(error.value), name


def test_endpoints_are_those_of_the_model_and_cost_no_computation():
    images = np.zeros((1, 64, 64, 3), np.float32)
    assert endpoints(AlexNet(num_classes=2, hidden=()), images) == (
        'conv1', 'pool1', 'conv2', 'pool2', 'conv3', 'conv4', 'conv5', 'pool5', 'pool', 'logits')
    assert endpoints(MLP(num_classes=2), images) == ()
    with pytest.raises(UserError, match='63x63'):
        endpoints(AlexNet(num_classes=2), images[:, :32, :32])
    assert endpoints(MLP(num_classes=2), images) == ()  # the mistake before left nothing behind


def test_a_sheet_shows_images_in_rows_and_marks_the_query():
    red, blue = (np.zeros((10, 20, 3), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 255, 255
    grey = np.full((4, 4, 1), 128, np.uint8)
    rows = [[contact_sheet.Tile(red, ('query',), marked=True), contact_sheet.Tile(blue, ('b', '0.1'))],
            [contact_sheet.Tile(grey, ('a very long name ' * 9,)), contact_sheet.Tile(None, ())]]
    sheet = np.asarray(contact_sheet.draw(rows)).astype(int)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 2
    tiles = {(i, j): sheet[i * height:(i + 1) * height, j * width:(j + 1) * width] for i in (0, 1) for j in (0, 1)}

    def share(tile, colour):
        return (np.abs(tile - colour).max(axis=-1) <= 1).mean()
    image = 176 * 88 / (width * height)  # twice as wide as high, as the arrays are
    assert share(tiles[0, 0], (255, 0, 0)) == pytest.approx(image, rel=0.02)
    assert share(tiles[0, 1], (0, 0, 255)) == pytest.approx(image, rel=0.02)
    assert share(tiles[1, 0], (128, 128, 128)) == pytest.approx(2 * image, rel=0.02)
    assert share(tiles[1, 1], (225, 225, 225)) == pytest.approx(2 * image, rel=0.02)
    mark = tiles[0, 0][140, 8]  # left of the image, which begins at 10
    assert share(tiles[0, 0], mark) > 0.04 and share(tiles[0, 1], mark) == 0 and mark.max() < 255
    for tile in tiles.values():
        assert (tile[:, :3] == 255).all() and (tile[:, -3:] == 255).all()  # long names do not run into neighbours


def test_scores_are_what_json_can_hold():
    scores = precision(on_circle(0, 10, 25), list('aab'), list('123'))
    assert json.loads(json.dumps(scores)) == scores and all(math.isfinite(value) for value in scores.values())
