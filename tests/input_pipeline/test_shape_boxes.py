"""Drawn shapes and their boxes: exact, visible, reproducible; as a source."""

import numpy as np
import pytest

from practicum.input_pipeline import checks, prepared_data, sources
from practicum.input_pipeline.datasets import shape_boxes, shape_scenes
from practicum.training.defaults import base


@pytest.fixture(scope='module')
def examples():
    return [shape_boxes.example('train', index) for index in range(120)]


def test_an_example_depends_on_its_name_alone():
    one, again, other = (shape_boxes.example(split, 3) for split in ('test', 'test', 'train'))
    assert all(np.array_equal(a, b) for a, b in zip(one, again)) and not np.array_equal(one[0], other[0])
    with pytest.raises(IndexError):
        shape_boxes.example('test', 400)


def test_what_is_in_the_images(examples):
    counts = np.array([len(labels) for _, _, labels in examples])
    assert set(counts) == set(range(7)) and 0 < (counts == 0).sum() < 20
    boxes, labels = (np.concatenate([example[i] for example in examples]) for i in (1, 2))
    assert boxes.min() >= 0 and boxes.max() <= 128 and set(labels.tolist()) == {0, 1, 2}
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 3 and 10 <= sides.max(1).min() + 5 and 50 < sides.max() <= 57
    for image, boxes, _ in examples:
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8 and boxes.dtype == np.float32


def test_boxes_are_those_of_the_visible_pixels(monkeypatch):
    """Seen without grain, on an even ground: a shape's own colour is in its box, up to the edges, and nowhere else."""
    class Still:
        """Chance without grain."""

        def __init__(self, *args):
            self._rng = rng(*args)

        def standard_normal(self, size, dtype):
            return np.zeros(size, dtype)

        def __getattr__(self, name):
            return getattr(self._rng, name)

    rng, colours = np.random.default_rng, []
    monkeypatch.setattr(np.random, 'default_rng', Still)
    monkeypatch.setattr(shape_scenes, 'background', lambda size, rng: np.full((size, size, 3), 128, np.float32))
    draw = shape_boxes._colour
    monkeypatch.setattr(shape_boxes, '_colour', lambda *args: colours.append(draw(*args)) or colours[-1])
    for index in range(40):
        colours.clear()
        image, boxes, labels = shape_boxes.example('validation', index)
        for colour, (left, top, right, bottom), label in zip(colours, boxes.astype(int), labels):
            own = (np.abs(image - colour) <= 1).all(2)
            rows, columns = np.nonzero(own)
            assert left <= columns.min() <= left + 2 and right - 2 <= columns.max() + 1 <= right
            assert top <= rows.min() <= top + 3 and bottom - 2 <= rows.max() + 1 <= bottom  # a triangle has a fine tip
            # At least half of a triangle, which has the smallest area of all in its box.
            assert own.sum() > 0.14 * (right - left) * (bottom - top), (index, label)


def test_as_a_source(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(shape_boxes, 'EXAMPLES', {'train': 12, 'validation': 2, 'test': 3})
    prepared_data.prepare(tmp_path / 'tfds', 'shape_boxes', download=False)
    data, image = base().data, base().image
    data.update(name='shape_boxes', data_dir=str(tmp_path / 'tfds'), max_boxes=6)
    image.update(size=(64, 128), channels=3)
    for limit in (2048, 0):
        data.memory_limit_mb = limit
        source = sources.open_split(data, image, 'train')
        assert source.info.class_names == shape_boxes.CLASSES and source.info.input_size == (64, 128)
        checks.check_source(source, image, 'the training set')
        assert source.describe(np.array([5])) == [{'width': 128, 'height': 128}]
        found = source.read(np.arange(12))
        drawn = [(boxes * (1, 0.5, 1, 0.5), labels) for _, boxes, labels in map(
            lambda index: shape_boxes.example('train', index), range(12))]
        assert sorted((found['boxes'][i][found['box_labels'][i] >= 0].tolist(), found['box_labels'][i].max())
                      for i in range(12)) == sorted((boxes.tolist(), labels.max(initial=-1)) for boxes, labels in drawn)
        assert not found['box_crowd'].any()
