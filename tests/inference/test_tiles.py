"""Images in parts: every pixel is looked at, and an object that lies in two parts is found once."""

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.inference.tiles import merge, tiles_of

SIZE = (50, 50)  # of the network's input


def look(tiles, objects):
    """What a perfect detector says of each tile: all objects of which it sees a part, the larger that is the surer.

    Objects are (class, left, top, right, bottom).
    """
    outputs = []
    for rows, columns in tiles:
        found = []
        for kind, *box in objects:
            seen = np.clip(box, [columns.start, rows.start] * 2, [columns.stop, rows.stop] * 2)
            share = np.prod(np.maximum(seen[2:] - seen[:2], 0)) / np.prod(np.subtract(box[2:], box[:2]))
            scale = [SIZE[1] / (columns.stop - columns.start), SIZE[0] / (rows.stop - rows.start)] * 2
            if share > 0:
                found.append((0.9 * share, kind, *((seen - [columns.start, rows.start] * 2) * scale)))
        found = np.array(sorted(found, reverse=True) + [(0, -1, 0, 0, 0, 0)] * 3, np.float32)
        outputs.append({'scores': found[:, 0], 'classes': found[:, 1].astype(int), 'boxes': found[:, 2:]})
    return outputs


@pytest.mark.parametrize('height, width, side', [(100, 100, 40), (97, 230, 50), (30, 200, 50), (51, 51, 50)])
def test_tiles_cover_the_image_and_overlap(height, width, side):
    whole, *tiles = tiles_of(height, width, side)
    assert whole == (slice(0, height), slice(0, width))
    seen = np.zeros((height, width), int)
    for tile in tiles:
        assert seen[tile].shape == (min(side, height), min(side, width))  # whole tiles, inside the image
        seen[tile] += 1
    assert seen.min() >= 1
    for number in (0, 1):
        begins = sorted({tile[number].start for tile in tiles})
        assert begins[0] == 0 and (np.diff(begins) <= 0.8 * side + 1).all()  # a fifth of a tile is in two


def test_an_image_that_is_no_larger_is_one_tile():
    assert tiles_of(40, 50, 50) == [(slice(0, 40), slice(0, 50))]
    with pytest.raises(UserError, match='--tile -3: it is the side of a tile in pixels'):
        tiles_of(40, 50, -3)


def test_objects_at_borders_are_found_once_and_whole():
    tiles = tiles_of(100, 180, 50)
    # In one tile, across two, across four, at the image's edge, and larger than any tile.
    objects = [(0, 4, 4, 14, 14), (1, 36, 8, 48, 20), (0, 40, 38, 52, 48), (1, 168, 88, 180, 100), (0, 60, 20, 150, 90)]
    found = merge(look(tiles, objects), tiles, SIZE, 0.5)
    assert len(found['boxes']) == len(objects) and (np.diff(found['scores']) <= 0).all()
    order = np.lexsort(found['boxes'].T[::-1])
    expected = sorted((tuple(box), kind) for kind, *box in objects)
    np.testing.assert_allclose(found['boxes'][order], [box for box, _ in expected], atol=1e-3)
    assert found['classes'][order].tolist() == [kind for _, kind in expected]


def test_a_cut_box_of_another_class_stays():
    tiles = [(slice(0, 50), slice(0, 100)), (slice(0, 50), slice(0, 50)), (slice(0, 50), slice(50, 100))]
    outputs = look(tiles, [(0, 20, 10, 80, 40)])
    outputs[1]['classes'][0] = 1
    found = merge(outputs, tiles, SIZE, 0.5)
    assert sorted(found['classes'].tolist()) == [0, 1]


def test_nothing_found():
    tiles = tiles_of(100, 100, 50)
    assert all(len(values) == 0 for values in merge(look(tiles, []), tiles, SIZE, 0.5).values())
