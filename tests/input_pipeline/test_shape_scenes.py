"""Drawn scenes: what is in the image is in the scene; data sets with captions, as images and as videos."""

import json
from pathlib import Path

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.input_pipeline import datasets, memory, prepared_data, tfds_source
from practicum.input_pipeline.datasets import shape_grammar, shape_scenes
from practicum.training.defaults import base

COLOURS = {'blue': (45, 85, 235), 'green': (35, 175, 60), 'purple': (165, 50, 200), 'red': (225, 40, 40),
           'white': (240, 240, 240), 'yellow': (240, 215, 40)}


def examples(name, split, count):
    return [shape_scenes.example(name, split, index) for index in range(count)]


def foreground(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, in cells, of the pixels that belong to shapes: one of their channels is bright."""
    rows, columns = np.nonzero(image.max(-1) > 150)
    return rows / len(image) * 3, columns / len(image) * 3


# --- drawing ---

def test_an_example_depends_on_its_name_alone():
    for name in ('still', 'moving', 'tags'):
        one, again = (shape_scenes.example(name, 'test', 3) for _ in range(2))
        assert one.keys() == again.keys() and one['captions'] == again['captions'] and one['scene'] == again['scene']
        key = 'video' if name == 'moving' else 'image'
        np.testing.assert_array_equal(one[key], again[key])
    with pytest.raises(IndexError):
        shape_scenes.example('still', 'test', 500)


def test_shapes_are_drawn_in_their_cells_with_their_colours():
    for drawn in examples('still', 'train', 60):
        image, scene = drawn['image'], json.loads(drawn['scene'])
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        rows, columns = foreground(image)
        cells = {(s['row'], s['column']) for s in scene['shapes']}
        # All of their pixels are in their own cells, but for a few that jitter moves across.
        inside = [cell in cells for cell in zip(rows.astype(int).tolist(), columns.astype(int).tolist())]
        assert np.mean(inside) > 0.93
        for s in scene['shapes']:
            own = image[round(s['row'] * 64 / 3):, round(s['column'] * 64 / 3):][:21, :21].reshape(-1, 3)
            colour = np.median(own[own.max(1) > 150], axis=0)
            nearest = min(COLOURS, key=lambda name: np.abs(colour - COLOURS[name]).sum())
            assert nearest == s['colour'], (s, colour)


def test_large_is_larger_than_small_for_every_kind():
    areas = {}
    for kind in shape_grammar.SHAPES:
        for size in shape_grammar.SIZES:
            scene = {'shapes': [{'shape': kind, 'colour': 'white', 'size': size, 'row': 1, 'column': 1,
                                 'motion': None}]}
            areas[kind, size] = [len(foreground(shape_scenes.draw(scene, 64, 1, np.random.default_rng(i))[0])[0])
                                 for i in range(20)]
    assert min(min(a) for (_, size), a in areas.items() if size == 'large') > 1.1 * max(
        max(a) for (_, size), a in areas.items() if size == 'small')


@pytest.mark.parametrize('motion, change', [('left', (0, -1)), ('right', (0, 1)), ('up', (-1, 0)), ('down', (1, 0)),
                                            (None, (0, 0))])
def test_shapes_move_by_a_cell(motion, change):
    scene = {'shapes': [{'shape': 'square', 'colour': 'white', 'size': 'small', 'row': 1, 'column': 1,
                         'motion': motion}]}
    video = shape_scenes.draw(scene, 48, 8, np.random.default_rng(0))
    assert video.shape == (8, 48, 48, 3)
    path = np.array([[np.mean(axis) for axis in foreground(frame)] for frame in video])
    np.testing.assert_allclose(path[-1] - path[0], change, atol=0.05)
    np.testing.assert_allclose(np.diff(path, axis=0), np.broadcast_to(np.array(change) / 7, (7, 2)), atol=0.05)


# --- splits ---

def test_no_scene_is_in_two_splits_and_all_captions_are_true():
    seen = {}
    for name in ('still', 'moving'):
        for split in ('train', 'validation', 'test'):
            for drawn in examples(name, split, 100):
                scene = json.loads(drawn['scene'])
                assert len(drawn['captions']) == 5
                assert all(shape_grammar.is_true(caption, scene) for caption in drawn['captions'])
                key = frozenset(json.dumps(s, sort_keys=True) for s in scene['shapes'])
                assert seen.setdefault(key, split) == split
                assert shape_scenes.split_of({'shapes': scene['shapes'][::-1]}) == split


def test_tags_are_the_labels_of_the_still_images():
    for still, tagged in zip(examples('still', 'test', 5), examples('tags', 'test', 5)):
        np.testing.assert_array_equal(still['image'], tagged['image'])
        assert tagged['scene'] == still['scene']
        assert tagged['captions'] == [shape_grammar.tags(json.loads(still['scene']))]


# --- as a source ---

def data(data_dir, name, **fields):
    config = base().data
    config.update(source='tfds', name=name, data_dir=str(data_dir), **fields)
    return config


@pytest.fixture(scope='module')
def prepared(tmp_path_factory) -> Path:
    """A data_dir with the three configurations, of few examples, and a data set of coco_captions' form in tfrecord."""
    folder = tmp_path_factory.mktemp('tfds')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape_scenes, 'EXAMPLES', {kind: {'train': 6, 'validation': 2, 'test': 2}
                                                 for kind in ('still', 'moving')})
        for name in ('still', 'moving', 'tags'):
            prepared_data.prepare(folder, f'shape_scenes/{name}', download=False)
    _prepare_coco(folder)
    return folder


def _prepare_coco(folder: Path) -> None:
    import tensorflow_datasets as tfds

    class TinyCoco(tfds.core.GeneratorBasedBuilder):
        """Two images, of two captions and one."""
        VERSION = tfds.core.Version('1.0.0')

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                'image': tfds.features.Image(shape=(None, None, 3)), 'image/filename': tfds.features.Text(),
                'captions': tfds.features.Sequence({'id': np.int64, 'text': tfds.features.Text()})}))

        def _split_generators(self, dl_manager):
            return {'train': self._generate_examples()}

        def _generate_examples(self):
            for i, texts in enumerate((['one dog', 'a dog \u00e0 la carte'], ['two'])):
                yield i, {'image': np.full((10, 12 + i, 3), 50 * i, np.uint8), 'image/filename': f'{i}.jpg',
                          'captions': [{'id': k, 'text': text} for k, text in enumerate(texts)]}

    TinyCoco(data_dir=str(folder), file_format='tfrecord').download_and_prepare()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))


def test_images_come_with_captions_and_scenes_as_facts(prepared, monkeypatch):
    source = tfds_source.open_split(data(prepared, 'shape_scenes/still'), {'size': (64, 64), 'channels': 3}, 'train')
    assert source.info.to_json() == {'grammar': 'shape_scenes'} and len(source) == 6 and source.frames == 1
    assert source.read(np.arange(6)).keys() == {'image'}
    for facts, image in zip(source.describe(np.arange(6)), source.read(np.arange(6))['image']):
        assert facts.keys() == {'captions', 'scene'} and len(facts['captions']) == 5
        assert all(shape_grammar.is_true(caption, facts['scene']) for caption in facts['captions'])
        (original,) = [e for e in examples('still', 'train', 6) if json.loads(e['scene']) == facts['scene']
                       and e['captions'] == facts['captions']]
        np.testing.assert_array_equal(image, original['image'])
    loaded = memory.load(source)
    assert loaded.describe(np.arange(6)) == source.describe(np.arange(6))
    memory._loaded.clear()
    monkeypatch.setattr(memory, '_decode', None)  # the second time they come from the cache
    assert memory.load(source).describe(np.array([4])) == loaded.describe(np.array([4]))


def test_videos_have_frames_in_the_size_and_channels_asked_for(prepared):
    name = 'shape_scenes/moving'
    source = tfds_source.open_split(data(prepared, name), {'size': (48, 48), 'channels': 3}, 'validation')
    videos = source.read(np.arange(2))['image']
    assert videos.shape == (2, 8, 48, 48, 3) and videos.dtype == np.uint8 and source.frames == 8
    originals = {e['scene']: e['video'] for e in examples('moving', 'validation', 2)}
    for facts, video in zip(source.describe(np.arange(2)), videos):
        np.testing.assert_array_equal(video, originals[json.dumps(facts['scene'])])
    grey = tfds_source.open_split(data(prepared, name), {'size': (24, 20), 'channels': 1}, 'validation')
    assert memory.load(grey).read(np.arange(2))['image'].shape == (2, 8, 24, 20, 1)


def test_tags_are_one_caption(prepared):
    source = tfds_source.open_split(data(prepared, 'shape_scenes/tags'), {'size': (64, 64), 'channels': 3}, 'test')
    assert source.info.to_json() == {'grammar': 'shape_tags'}
    for facts in source.describe(np.arange(2)):
        assert facts['captions'] == [shape_grammar.tags(facts['scene'])]


def test_captions_in_the_form_of_coco(prepared):
    source = tfds_source.open_split(data(prepared, 'tiny_coco'), {'size': (5, 6), 'channels': 3}, 'train')
    assert source.info.to_json() == {} and source.read(np.arange(2))['image'].shape == (2, 5, 6, 3)
    assert sorted(source.describe(np.arange(2)), key=lambda facts: facts['image/filename']) == [
        {'image/filename': '0.jpg', 'captions': ['one dog', 'a dog \u00e0 la carte']},
        {'image/filename': '1.jpg', 'captions': ['two']}]


def test_a_data_set_of_images_has_no_texts(prepared):
    with pytest.raises(UserError, match="shape_scenes is no data set of texts: it has no feature 'text', but captions"):
        tfds_source.read_texts(data(prepared, 'shape_scenes/still'), 'train')


def test_videos_of_different_lengths_are_an_error(prepared):
    source = tfds_source.open_split(data(prepared, 'shape_scenes/moving'), {'size': (48, 48), 'channels': 3}, 'test')
    source.frames, fetch = None, source._fetch
    source._fetch = lambda indices: [e | {'image': e['image'][:8 - i]} for i, e in enumerate(fetch(indices))]
    with pytest.raises(UserError, match='shape_scenes/test has videos of 7 to 8 frames; they must all be'):
        source.read(np.arange(2))


def test_it_is_one_of_our_own_data_sets():
    assert datasets.OWN['shape_scenes'] == 'practicum.input_pipeline.datasets.shape_scenes'
