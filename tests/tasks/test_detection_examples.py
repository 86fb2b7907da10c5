"""Detection, image by image: own pixels, rows, files and figures."""

import json

import numpy as np
import pytest
from flax.serialization import msgpack_restore, msgpack_serialize
from matplotlib.backends.backend_agg import FigureCanvasAgg

from practicum.common.metric_names import usual_mode
from practicum.tasks import detection_figures
from practicum.tasks.detection_examples import DetectionExamples, class_rows
from practicum.training.evaluation import Evaluation
from practicum.training.results import write_evaluation
from practicum.training.rows import to_json

NAMES = ('red cell', '$a/b$', '_none')
INPUT = (50, 100)  # height, width


def scorer(names=NAMES) -> DetectionExamples:
    return DetectionExamples(names, INPUT, lambda outputs: outputs, 0.5)


def padded(rows, width):
    """Rows of numbers as arrays of eight, and which of them are there."""
    array = np.zeros((8, width), np.float32)
    array[:len(rows)] = np.reshape(rows, (-1, width))
    return array, np.arange(8) < len(rows)


def case_of(found=(), truth=(), **metadata):
    """An image with (class, score, left, top, right, bottom) found, and (class, crowd, left, ...) there."""
    (seen, is_seen), (there, is_there) = padded(found, 6), padded(truth, 6)
    output = {'boxes': seen[:, 2:], 'scores': seen[:, 1],
              'classes': np.where(is_seen, seen[:, 0], -1).astype(np.int32)}
    example = {'image': np.full((*INPUT, 3), 90, np.uint8), 'boxes': there[:, 2:],
               'box_labels': np.where(is_there, there[:, 0], -1).astype(np.int32),
               'box_crowd': there[:, 1].astype(np.uint8)}
    metadata = {'file': 'a.png', **metadata}
    return {'example': example, 'outputs': output, 'scores': metadata | scorer().measure(output, example, metadata)}


@pytest.fixture(scope='module')
def cases():
    return [
        case_of([(0, 0.9, 0, 0, 20, 20), (0, 0.8, 50, 20, 60, 30), (0, 0.3, 80, 0, 90, 10), (1, 0.6, 70, 30, 80, 40)],
                [(0, 0, 0, 0, 20, 20), (0, 0, 80, 0, 90, 10), (1, 1, 60, 20, 100, 50)], width=400, height=100),
        case_of([(0, 0.9, 1, 1, 20, 20)], [(0, 0, 0, 0, 20, 20), (1, 0, 30, 30, 40, 40)], file='b.png'),
        case_of(file='c.png')]


@pytest.fixture(scope='module')
def metrics(cases):
    return scorer().summarize([case['scores'] for case in cases])


def test_objects_are_counted_as_found_or_missed_and_boxes_as_false(cases):
    counted = [[case['scores'][name] for name in ('objects', 'found', 'missed', 'false')] for case in cases]
    assert counted == [[2, 1, 1, 1], [2, 1, 1, 0], [0, 0, 0, 0]]  # of the crowd nothing
    assert [scorer().severity(case['scores']) for case in cases] == [2, 1, 0]


def test_boxes_are_in_pixels_of_the_images_own_size(cases):
    row = cases[0]['scores']
    assert row['detections'].dtype == np.float64
    np.testing.assert_allclose(row['detections'][:, 2:][:2], [[0, 0, 80, 40], [200, 40, 240, 60]])  # times 4 and 2
    np.testing.assert_allclose(row['truth'], [[0, 0, 1, 0, 0, 80, 40], [0, 0, 0, 320, 0, 360, 20],
                                              [1, 1, 0, 240, 40, 400, 100]])
    np.testing.assert_allclose(cases[1]['scores']['detections'][0, 2:], [1, 1, 20, 20])  # the size is not known


def test_ranges_of_area_are_of_the_own_size():
    """20 x 20 in the input, and 100 x 100 in the image as it was."""
    case = [(0, 0.9, 0, 0, 20, 20)], [(0, 0, 0, 0, 20, 20)]
    small, large = (scorer().summarize([case_of(*case, **size)['scores']])
                    for size in ({}, {'width': 500, 'height': 250}))
    assert small['ap_small'] == 1 and 'ap_large' not in small
    assert large['ap_large'] == 1 and 'ap_small' not in large


def test_scalars_are_those_that_are_named_before_and_never_nan(metrics):
    scalars = Evaluation(metrics).scalars()
    assert set(scalars) <= set(scorer().metrics)
    assert all(np.isfinite(value) for value in scalars.values())
    assert scalars['count_error'] == pytest.approx((0 + 1 + 0) / 3)
    # Right, right, false, right (below the shown score counts, too) of three; nothing of one.
    assert scalars['ap50_red cell'] == pytest.approx((67 + 34 * 3 / 4) / 101)
    assert scalars['ap50_$a_b$'] == 0 and 'ap50__none' not in scalars
    assert scalars['ap50'] == pytest.approx(scalars['ap50_red cell'] / 2)
    assert list(scorer().summarize([])) == []


def test_a_metric_of_each_class_where_there_are_several_but_not_hundreds():
    assert not any(name.startswith('ap50_') for name in scorer(('cell',)).metrics)
    assert len(scorer(tuple(map(str, range(20)))).metrics) == 11 + 20
    assert len(scorer(tuple(map(str, range(21)))).metrics) == 11


def test_more_of_every_score_is_better_but_of_the_count_error():
    assert [name for name in scorer(('glossy', 'errors')).metrics if usual_mode(f'test/{name}') == 'min'] == [
        'count_error']


def test_arrays_hold_what_figures_and_tables_need(metrics):
    assert metrics['precision_at_recall'].shape == (3, 101) and metrics['class_scores'].shape == (3, 9)
    assert metrics['confusion'].tolist() == [[2, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert metrics['counts'].tolist() == [[[2, 2], [0, 0], [0, 0]], [[1, 1], [1, 0], [0, 0]], [[0, 0]] * 3]
    np.testing.assert_allclose(metrics['sizes'], [[0, 1, 80, 40, 20, 20], [0, 0, 40, 20, 10, 10],
                                                  [0, 1, 20, 20, 20, 20], [1, 0, 10, 10, 10, 10]])


def test_the_table_has_a_row_for_each_class_and_none_where_nothing_is_known(metrics):
    first, second, third = class_rows(metrics, NAMES)
    assert first == {'class': 'red cell', 'objects': 3, 'ap': pytest.approx(metrics['class_scores'][0, 1]),
                     'ap50': pytest.approx(metrics['ap50_red cell']), 'ap75': pytest.approx(metrics['ap50_red cell']),
                     'best_score': pytest.approx(0.3), 'precision': pytest.approx(3 / 4), 'recall': 1,
                     'f1': pytest.approx(6 / 7), 'count_error': 0}
    assert second['objects'] == 1 and second['best_score'] is None and second['recall'] == 0
    assert third['objects'] == 0 and {third[key] for key in list(third)[2:-1]} == {None}


def test_rows_join_over_processes(cases, metrics):
    rows = msgpack_restore(msgpack_serialize([case['scores'] for case in cases]))
    joined = scorer().summarize(rows)
    assert list(joined) == list(metrics)
    for name, value in metrics.items():
        np.testing.assert_array_equal(joined[name], value)


def test_the_file_lists_missed_and_false_boxes(cases, metrics, tmp_path):
    class Task:
        per_example = scorer()

        def tables(self, metrics):
            return {'per_class': class_rows(metrics, NAMES)}

        def figures(self, metrics, worst, first):
            return {}
    rows = [case['scores'] for case in cases]
    write_evaluation(tmp_path, 'test', 7, Task(), Evaluation(metrics, rows))
    examples = json.loads((tmp_path / 'test_examples.json').read_text())['examples']
    assert examples[0] == {
        'file': 'a.png', 'width': 400, 'height': 100, 'objects': 2, 'found': 1, 'missed': 1, 'false': 1,
        'missed_boxes': ['red cell 320.0 0.0 360.0 20.0'], 'false_boxes': ['red cell 0.800 200.0 40.0 240.0 60.0']}
    assert [scorer().severity(row) for row in examples] == [2, 1, 0]
    assert (tmp_path / 'test_per_class.csv').read_text().splitlines()[3].startswith('_none,0,,,,,')


def test_what_a_diverged_model_says_is_written_all_the_same():
    nan = float('nan')
    case = case_of([(0, 0.9, nan, nan, nan, nan)], [(0, 0, 0, 0, 20, 20)])
    assert case['scores']['false'] == 1 and case['scores']['missed'] == 1
    json.dumps(to_json(scorer().listed(case['scores'])))
    found = scorer().summarize([case['scores']])
    assert found['ap'] == 0
    drawn(detection_figures.draw_worst([case], NAMES, 0.5))


def drawn(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def share_of(picture, colour):
    return np.all(picture == colour, axis=-1).mean()


def test_figures_are_drawn_of_everything_and_of_next_to_nothing(cases, metrics):
    figures = detection_figures.draw(metrics, cases, NAMES, 0.5)
    assert list(figures) == ['worst_examples', 'precision_recall', 'confusion_matrix', 'counts', 'box_sizes']
    for figure in figures.values():
        assert drawn(figure).std() > 5
    empty = scorer(('cell',)).summarize([cases[2]['scores']])
    for figure in detection_figures.draw(empty, [], ('cell',), 0.5).values():
        drawn(figure)
    assert detection_figures.draw({}, [], NAMES, 0.5) == {}


def test_curves_of_many_classes_are_drawn_with_their_mean(cases):
    names = tuple(f'class {i}' for i in range(30))
    found = scorer(names).summarize([case['scores'] for case in cases])
    legend = detection_figures.draw_precision_recall(found, names).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [f"{found['ap50']:.3f}  mean"]
    drawn(detection_figures.draw_confusion_matrix(found['confusion'], names, 0.5))


def test_the_worst_are_drawn_with_missed_objects_on_the_left_and_false_boxes_on_the_right(cases):
    figure = detection_figures.draw_worst(cases[:1], NAMES, 0.5)
    left, right = (axes.images[0].get_array() for axes in figure.axes)
    missed, false, found = (getattr(detection_figures, name) for name in ('_MISSED', '_FALSE', '_FOUND'))
    assert share_of(left, missed) and not share_of(left, false) and share_of(left, found)
    assert share_of(right, false) and not share_of(right, missed) and share_of(right, found)
    assert [axes.get_title() for axes in figure.axes] == ['a.png', '1 of 2 missed, 1 false']
    # The missed object is 10 wide at (80, 0) of 100 x 50; the image is enlarged five times.
    where = np.argwhere(np.all(left == missed, axis=-1))[:, ::-1] / 5
    assert where[:, 0].max() == pytest.approx(90, abs=0.5) and where[:, 1].max() == pytest.approx(10, abs=4)


@pytest.mark.parametrize('image', [np.full((50, 100, 1), 200, np.uint8), np.full((50, 100, 1), 51400, np.uint16),
                                   np.full((50, 100, 1), 200, np.float32)])
def test_images_of_any_kind_are_drawn(image):
    case = case_of([], [(0, 0, 0, 0, 20, 20)])
    case['example']['image'] = image
    left = detection_figures.draw_worst([case], NAMES, 0.5).axes[0].images[0].get_array()
    assert left[-1, -1].tolist() == [200, 200, 200]


def test_counts_are_at_whole_numbers_and_legends_beside_the_points():
    counts = np.random.default_rng(0).integers(0, 2, (9, 2, 2))
    sizes = np.array([[0, 1, 40, 30, 20, 15], [0, 0, 8, 9, 4, 4.5]])
    for figure in (detection_figures.draw_counts(counts, NAMES[:2], 0.5), detection_figures.draw_sizes(sizes, 0.5)):
        FigureCanvasAgg(figure).draw()
        legend = figure.legends[0].get_window_extent()
        assert not any(legend.overlaps(axes.get_window_extent()) for axes in figure.axes)
        assert all(float(tick).is_integer() for tick in figure.axes[-1].get_yticks())
