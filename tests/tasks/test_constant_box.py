"""The trivial detector that others are compared with."""

import numpy as np
import pytest

from benchmarks import constant_box
from benchmarks.constant_box import median_boxes, scores_of
from practicum.common.dataset_info import DatasetInfo
from practicum.input_pipeline.arrays import ArraySource


def source_of(*images, metadata=None):
    """Images of 50 x 100 (height, width) with rows of (class, crowd, left, top, right, bottom)."""
    rows = np.zeros((len(images), 3, 6), np.float32)
    rows[..., 0] = -1
    for row, image in zip(rows, images):
        row[:len(image)] = np.reshape(image, (-1, 6))
    return ArraySource({'boxes': rows[..., 2:], 'box_labels': rows[..., 0].astype(np.int32),
                        'box_crowd': rows[..., 1].astype(np.uint8)},
                       DatasetInfo(class_names=('a', 'b', 'c'), input_size=(50, 100)), metadata)


TRAIN = source_of([(0, 0, 10, 10, 40, 20), (1, 0, 0, 0, 100, 50)], [],
                  [(0, 0, 20, 20, 60, 50), (0, 0, 20, 10, 50, 30), (1, 1, 50, 0, 60, 50)])


def test_it_is_the_median_of_each_classes_edges_in_shares_of_the_image():
    np.testing.assert_allclose(median_boxes(TRAIN), [[0.2, 0.2, 0.5, 0.6], [0, 0, 1, 1], [np.nan] * 4])


def test_it_is_scored_in_every_image_in_own_pixels():
    """Of a at 20 10 50 30 two of three are right, of b one of one; nothing is said of c."""
    images = [[(0, 0, 20, 10, 50, 30)], [(0, 0, 20, 10, 50, 31), (1, 0, 0, 0, 100, 50)], [(0, 0, 80, 0, 100, 10)]]
    scores = scores_of(median_boxes(TRAIN), source_of(*images))
    first, second = 67 / 101, 1 / 2  # all of two thirds of a's objects; b's image comes second
    assert scores['ap50'] == pytest.approx((first + second) / 2)
    assert 'ap_large' in scores and np.isnan(scores['ap_large'])
    sizes = [{'width': 1000, 'height': 500}] * 3
    assert scores_of(median_boxes(TRAIN), source_of(*images, metadata=sizes))['ap_large'] == pytest.approx(
        scores['ap'])


@pytest.mark.parametrize('arguments, error', [
    (['--config', 'raccoon_detectr'], 'did you mean raccoon_detector?'),
    (['--config', 'raccoon_detector', '--config.data.name=/nowhere'], 'config.data.name'),
    (['--config', 'raccoon_detector', '--config.image.size=5'], 'config.image.size = '),
    (['--config', 'line'], 'line: its examples have no boxes')])
def test_a_mistake_is_one_line(arguments, error, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['constant_box.py', *arguments])
    with pytest.raises(SystemExit) as end:
        constant_box.main()
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith('error: ') and said.count('\n') == 1 and error in said
