"""Found boxes in formats of other tools, read back."""

import contextlib
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from practicum.inference.detection_files import (
    CSV_COLUMNS,
    FoundBoxes,
    coco_results,
    csv_rows,
    image_ids,
    voc_xml,
    yolo_text,
)
from practicum.inference.formats import format_csv

NAMES = ('red cell', '<b> & "Łódź"', 'c')
BOXES = np.array([[10.25, 20.5, 60.75, 80.125], [0, 0, 400, 300], [-20, 250, 30, 500]])
KEPT = np.array([[10.25, 20.5, 60.75, 80.125], [0, 0, 400, 300], [0, 250, 30, 300]])  # cut at the border


@pytest.fixture
def image():
    nowhere = [[500, 10, 600, 20], [np.nan, 0, 10, 10], [50, 50, 50, 60], [70, 50, 60, 60],
               [10, 10, 20, 20]]
    return FoundBoxes('plates/a & b.jpg', 400, 300, np.concatenate([BOXES, nowhere]).astype(np.float32),
                      np.array([0.875, 0.5, 0.25, 1, 1, 1, 1, 0], np.float32),
                      np.array([0, 1, 2, 0, 0, 0, 0, -1], np.int32))


@pytest.fixture
def empty():
    return FoundBoxes('plates/empty.jpg', 40, 30, np.zeros((0, 4), np.float32), np.zeros(0, np.float32),
                      np.zeros(0, np.int32))


def test_coco_results_are_what_pycocotools_reads(image, empty):
    coco = pytest.importorskip('pycocotools.coco')
    results = json.loads(json.dumps(coco_results([empty, image])))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {'images': [{'id': 1}, {'id': 2}], 'annotations': [], 'info': {},
                         'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(NAMES)]}
        truth.createIndex()
        read = truth.loadRes(results)
    assert read.getAnnIds(imgIds=[1]) == []
    found = read.loadAnns(read.getAnnIds(imgIds=[2]))
    corners = [[left, top, left + width, top + height] for left, top, width, height in (one['bbox'] for one in found)]
    np.testing.assert_allclose(corners, KEPT, atol=1e-3)
    assert [(one['category_id'], one['score']) for one in found] == [(1, 0.875), (2, 0.5), (3, 0.25)]


def test_coco_results_have_the_ids_of_the_data_set_where_they_are_given(image):
    first = coco_results([image], ids=[139], category_ids=[7, 18, 90])
    assert first[0] == {'image_id': 139, 'file_name': 'plates/a & b.jpg', 'category_id': 7,
                        'bbox': [10.25, 20.5, 50.5, 59.625], 'score': 0.875}
    assert [one['category_id'] for one in first] == [7, 18, 90]


@pytest.mark.parametrize('files, expected', [
    (['val/000000000139.jpg', 'val/000000000285.jpg'], [139, 285]),
    (['a/1.jpg', 'b/01.jpg'], [1, 2]), (['5.jpg', 'x.jpg'], [1, 2]), (['²³.jpg'], [1]), (['9' * 30 + '.jpg'], [1]),
    ([], [])])
def test_images_have_the_numbers_of_their_names_or_are_counted(files, expected):
    assert image_ids(files) == expected


def test_rows_of_a_table_have_corners_in_own_pixels(image, empty):
    lines = format_csv(csv_rows([image, empty], NAMES), CSV_COLUMNS).splitlines()
    assert lines == ['file,class,score,x1,y1,x2,y2',
                     'plates/a & b.jpg,red cell,0.875,10.25,20.5,60.75,80.12',
                     'plates/a & b.jpg,"<b> & ""Łódź""",0.5,0.0,0.0,400.0,300.0',
                     'plates/a & b.jpg,c,0.25,0.0,250.0,30.0,300.0']
    assert csv_rows([empty], NAMES) == []


def test_yolo_lines_give_the_boxes_back(image, empty):
    lines = [line.split(' ') for line in yolo_text(image).splitlines()]
    assert [(line[0], float(line[5])) for line in lines] == [('0', 0.875), ('1', 0.5), ('2', 0.25)]
    x, y, width, height = np.array([line[1:5] for line in lines], float).T * [[400], [300], [400], [300]]
    np.testing.assert_allclose(np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1), KEPT,
                               atol=1e-3)
    labels = [line.split(' ') for line in yolo_text(image, with_scores=False).splitlines()]
    assert labels == [line[:5] for line in lines]
    assert yolo_text(empty) == ''


def test_voc_annotations_count_from_one_and_hold_the_boxes(image, empty):
    root = ElementTree.fromstring(voc_xml(image, NAMES))
    assert root.tag == 'annotation' and root.findtext('folder') == 'plates' and root.findtext('filename') == 'a & b.jpg'
    assert [root.findtext(f'size/{name}') for name in ('width', 'height', 'depth')] == ['400', '300', '3']
    assert [found.findtext('name') for found in root.iter('object')] == list(NAMES)
    assert [float(found.findtext('confidence')) for found in root.iter('object')] == [0.875, 0.5, 0.25]
    edges = [[int(box.findtext(name)) for name in ('xmin', 'ymin', 'xmax', 'ymax')] for box in root.iter('bndbox')]
    assert edges == [[11, 21, 61, 80], [1, 1, 400, 300], [1, 251, 30, 300]]
    assert np.abs(np.array(edges) - [1, 1, 0, 0] - KEPT).max() <= 0.5
    assert ElementTree.fromstring(voc_xml(empty, NAMES)).find('object') is None


def test_the_smallest_box_is_one_pixel_within_the_image():
    boxes = np.array([[399.8, 299.7, 400, 300], [0, 0, 0.2, 0.3], [9.9, 9.9, 10.1, 10.1]])
    root = ElementTree.fromstring(voc_xml(FoundBoxes('a.png', 400, 300, boxes, np.ones(3), np.zeros(3, int)), NAMES))
    edges = [[int(edge.text) for edge in box] for box in root.iter('bndbox')]
    assert edges == [[400, 300, 400, 300], [1, 1, 1, 1], [11, 11, 11, 11]]


def test_names_that_xml_cannot_hold_are_escaped():
    image = FoundBoxes('x\x1b\udce9]]>.png', 10, 10, np.array([[1, 1, 5, 5]], float), np.ones(1), np.zeros(1, int))
    text = voc_xml(image, ('a\x00</name>',))
    root = ElementTree.fromstring(text.encode())
    assert root.findtext('object/name') == r'a\x00</name>' and root.findtext('filename') == r'x\x1b\xe9]]>.png'
