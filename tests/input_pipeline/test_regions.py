"""Regions of images: where they come from, how they are cut out, and what is to be learned from them."""

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from practicum.common import box_overlaps
from practicum.common.errors import UserError
from practicum.input_pipeline import augmentation, proposals, region_source, sources
from practicum.tasks.region_detection import refine
from practicum.training.defaults import base
from tests import tiny_boxes

SIDE = 64
GRID = [[0, 0, 32, 32], [30, 30, 60, 60], [8, 8, 40, 40], [12, 12, 44, 44], [40, 2, 62, 24], [2, 40, 24, 62]]


def config_of(root, **regions) -> ConfigDict:
    config = base()
    config.data.source = 'voc_folder'
    config.data.name = str(root)
    config.data.regions.update({'kind': 'selective_search', 'image_size': (SIDE, SIDE), **regions})
    config.image.size = (16, 16)
    config.image.channels = 3
    return config


def open_regions(config, split='train', *, training=False):
    return sources.open_split(config.data, config.image, split, training=training)


@pytest.fixture
def searched(monkeypatch, tmp_path):
    """The same six regions are found in every image; returns a list with an entry for each that is searched."""
    calls = []
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(proposals, '_search', lambda image: calls.append(image.shape) or GRID)
    return calls


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tiny_boxes.write_voc(tmp_path_factory.mktemp('boxes'))


def test_every_region_of_an_evaluated_image_is_an_example(folder, searched):
    config = config_of(folder)
    source = open_regions(config)
    # 'b.jpg' and 'd.jpg' in pixels of 64x64; the image itself is its first region.
    assert len(source) == len(tiny_boxes.SCENES) * (1 + len(GRID))
    assert source.info.class_names == ('background', *tiny_boxes.CLASSES) and source.info.input_size == (SIDE, SIDE)
    facts = source.describe(np.arange(len(source)))
    own = [i for i, one in enumerate(facts) if one['file'] == 'a.png']  # a dog in all of it
    assert [facts[i]['region'] for i in own] == [[0, 0, SIDE, SIDE], *GRID]
    assert [facts[i]['objects'] for i in own][0] == [[1, 0, 0, 0, SIDE, SIDE]]
    assert source.labels[own].tolist() == [2, 0, 0, 0, 0, 0, 0]
    assert not any(source.labels[i] for i, one in enumerate(facts) if one['file'] == 'd.jpg'), 'nothing is there'
    assert source.read(np.arange(3))['image'].shape == (3, 16, 16, 3)
    assert len(searched) == len(tiny_boxes.SCENES)
    again = open_regions(config)
    assert len(searched) == len(tiny_boxes.SCENES), 'what was searched once is in the cache'
    assert all(np.array_equal(again.arrays[name], values) for name, values in source.arrays.items())


def test_targets_are_what_makes_a_region_the_box(folder, searched):
    del searched
    source = open_regions(config_of(folder, positive_overlap=0.2))
    targets, facts = source.arrays['box_target'], source.describe(np.arange(len(source)))
    found = np.flatnonzero(source.labels)
    assert len(found) > 6 and (targets[source.labels == 0] == 0).all()
    for i in found:
        box = np.asarray(refine(np.float32(facts[i]['region']), targets[i]))
        objects = np.asarray(facts[i]['objects'])
        assert np.abs(objects[:, 2:] - box).max(axis=1).min() < 1e-3, 'one of the objects'


def test_training_regions_are_few_balanced_and_always_the_same(folder, searched):
    del searched
    config = config_of(folder, per_image=4, positive_share=0.5)
    source, again = (open_regions(config, training=True) for _ in range(2))
    assert all(np.array_equal(again.arrays[name], values) for name, values in source.arrays.items())
    facts = source.describe(np.arange(len(source)))
    by_file = {name: [i for i, one in enumerate(facts) if one['file'] == name] for name in tiny_boxes.SCENES}
    assert all(len(own) == 4 for own in by_file.values())
    labels = {name: source.labels[own].tolist() for name, own in by_file.items()}
    assert labels['a.png'] == [2, 2, 0, 0], 'its own box, and the image, which it fills'
    assert labels['d.jpg'] == [0, 0, 0, 0]
    assert all(sum(map(bool, own)) <= 2 for own in labels.values())
    own_box = [100 / 2, 1 * 4, 128 / 2, 15 * 4]
    assert own_box in [facts[i]['region'] for i in by_file['more/e.png']], "an object's own box is learned from"


def test_a_crowd_is_neither_object_nor_background(folder, searched, monkeypatch):
    del searched
    # In 'b.jpg' an owl is hard to make out, at 8 4 32 12 of 32x32 pixels.
    monkeypatch.setattr(proposals, '_search', lambda image: [[16, 8, 64, 24]])
    facts = open_regions(config_of(folder, per_image=9), training=True)
    regions = [one['region'] for one in facts.describe(np.arange(len(facts))) if one['file'] == 'b.jpg']
    assert [16, 8, 64, 24] not in regions and [0, 0, 64, 64] in regions


def test_folds_part_images_and_not_regions(folder, searched):
    del searched
    config = config_of(folder)
    config.data.folds = 3
    files = [{one['file'] for one in source.describe(np.arange(len(source)))} for source in (
        open_regions(config, 'train'), open_regions(config, 'fold'))]
    assert not files[0] & files[1] and len(files[0] | files[1]) == len(tiny_boxes.SCENES)


def test_what_is_cut_out_is_the_region_and_its_surroundings():
    rows, columns = np.mgrid[:40, :60].astype(np.uint8)
    image = np.stack([4 * columns, 6 * rows, 0 * rows], axis=-1)
    same = proposals.cut_out(image, [[10, 5, 30, 25]], (20, 20), 0.0, (0.0,))[0]
    assert np.array_equal(same, image[5:25, 10:30])
    # A quarter on each side: of 20 pixels the region has the 10 in the middle.
    around = proposals.cut_out(image, [[20, 15, 30, 25]], (20, 20), 0.25, (0.0,))[0]
    assert np.array_equal(around, image[10:30, 15:35])
    outside = proposals.cut_out(image, [[0, 0, 10, 10]], (20, 20), 0.25, (0.2, 0.4, 0.6))[0]
    assert outside[0, 0].tolist() == [51, 102, 153] and np.array_equal(outside[5:, 5:], image[:15, :15])
    grey = proposals.cut_out(image[..., :1], [[0, 0, 60, 40]], (10, 30), 0.0, (0.0,))[0]
    assert grey.shape == (10, 30, 1) and abs(int(grey[0, 29, 0]) - 4 * 58.5) <= 2, 'proportions change'


def test_too_many_regions_are_thinned_in_all_sizes(monkeypatch, folder, searched):
    del searched
    many = [[0, 0, side, side] for side in range(63, 20, -1)]
    monkeypatch.setattr(proposals, '_search', lambda image: many)
    found = proposals.find(np.zeros((SIDE, SIDE, 3), np.uint8), config_of(folder, limit=5).data.regions)
    assert found[:, 2].tolist() == [64, 53, 42, 32, 21]


@pytest.mark.skipif(not hasattr(cv2, 'ximgproc'), reason='needs opencv-contrib-python-headless')
def test_selective_search_finds_what_stands_out_and_always_the_same(monkeypatch, tmp_path, folder):
    image = np.full((96, 128, 3), 90, np.uint8)
    image[20:60, 30:80] = (220, 40, 40)
    image[50:90, 85:125] = (40, 40, 220)
    regions = config_of(folder).data.regions
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'one'))
    found = proposals.find(image, regions)
    truth = np.array([[30, 20, 80, 60], [85, 50, 125, 90]])
    assert (box_overlaps.iou(found, truth).max(axis=0) > 0.8).all()
    sides = found[:, 2:] - found[:, :2]
    assert sides.min() >= 20 and (np.diff(np.prod(sides, axis=1)) <= 0).all()
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'another'))
    assert np.array_equal(proposals.find(image, regions), found)


def test_a_missing_library_is_named(monkeypatch, tmp_path, folder):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path))
    monkeypatch.delattr(cv2, 'ximgproc', raising=False)
    with pytest.raises(UserError, match='needs the package opencv-contrib-python-headless in the place of'):
        proposals.find(np.zeros((21, 22, 3), np.uint8), config_of(folder).data.regions)


@pytest.mark.parametrize('fields, said', [
    ({'kind': 'selective'}, "regions.kind = 'selective'; did you mean selective_search"),
    ({'image_size': (8, 64)}, 'regions.image_size = .*at least 20 pixels'),
    ({'context': 0.5}, 'regions.context = 0.5: it is a share'),
    ({'limit': 0}, 'regions.limit = 0: it must be at least 1'),
    ({'per_image': 0}, 'regions.per_image = 0'),
    ({'positive_share': 0.0}, 'regions.positive_share = 0.0'),
    ({'positive_overlap': 1.5}, 'regions.positive_overlap = 1.5'),
])
def test_fields_out_of_range_are_one_line(folder, fields, said):
    with pytest.raises(UserError, match=said):
        open_regions(config_of(folder, **fields))


def test_data_that_have_no_boxes_or_too_many_regions_are_one_line(folder, searched, tmp_path):
    del searched
    config = config_of(folder)
    config.data.memory_limit_mb = 0
    with pytest.raises(UserError, match=r'the 42 regions of .* take 0 MB, more than config.data.memory_limit_mb = 0'):
        open_regions(config)
    config = config_of(tmp_path)
    for name in ('cat', 'dog'):
        tiny_boxes.write_images(tmp_path / 'train' / name, {'a.png': ((8, 8), [])})
    config.data.source = 'folder'
    with pytest.raises(UserError, match="regions.kind = 'selective_search': .* has no boxes around objects"):
        open_regions(config)
    with pytest.raises(UserError, match='images of 8 bits with 1 or 3 channels, not uint16'):
        proposals.find(np.zeros((32, 32, 3), np.uint16), config.data.regions)


def test_what_would_move_a_region_but_not_its_box_is_refused():
    batch = {'image': np.zeros((1, 16, 16, 3), np.float32), region_source.TARGET: np.zeros((1, 4), np.float32)}
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(UserError, match='flip_horizontal does not know how to move the box of a region'):
        augmentation.apply(augmentation.build({'flip_horizontal': 0.5}), keys, batch)
    augmentation.apply(augmentation.build({'brightness': 0.1}), keys, batch)
