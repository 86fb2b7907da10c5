"""Learning curves, in the report and as learning_curves.png."""

import io
import re

import numpy as np
import pytest

from practicum.reporting.page import write_report
from practicum.training import learning_curves
from tests.reporting.pages import Page, make_run


def test_an_evaluation_set_named_train_is_no_training_window():
    rows = [{'step': 5, 'train/loss': 2.0, 'timings': {'steps_per_second': 1.0}},
            {'step': 5, 'train/loss': 1.0, 'test/loss': 3.0, 'timings': {'wall_seconds': 1.0}}]
    panels, constant = learning_curves.collect(rows)
    assert panels == {'loss': {'train': [(5, 2.0)], learning_curves.WHOLE_TRAIN: [(5, 1.0)], 'test': [(5, 3.0)]}}
    assert constant == {}


def curves(tmp_path, rows):
    """Returns the report of a run with these rows, and class -> [(x, y), ...] of each panel, in their order."""
    page = Page(write_report(make_run(tmp_path / 'run', metrics__jsonl=rows)))
    panels = []
    for name, values, _ in page.tags:
        if name == 'svg':
            panels.append({})
        elif name == 'path' and re.fullmatch('c[0-7] stroke', values.get('class', '')):
            numbers = [float(number) for number in re.findall(r'-?[0-9.]+', values['d'])]
            panels[-1].setdefault(values['class'][:2], list(zip(numbers[::2], numbers[1::2])))
    return page, panels


def test_curves_are_to_scale(tmp_path):
    rows = [{'step': step, 'train/loss': 10.0 ** (3 - i), 'validation/accuracy': value}
            for i, (step, value) in enumerate(zip((100, 200, 300, 400), (0.0, 0.2, 0.1, 0.3)))]
    page, panels = curves(tmp_path, rows)
    (loss,), (accuracy,) = (panel.values() for panel in panels)  # the loss comes first
    (begin, high), (end, low) = loss[0], loss[-1]
    assert len(loss) == 2 or np.diff(loss, 2, axis=0) == pytest.approx(0, abs=0.2)  # logarithmic: a straight line
    assert high < low and accuracy[0][1] > accuracy[-1][1]  # y points down
    for (x, y), i, value in zip(accuracy, range(4), (0.0, 0.2, 0.1, 0.3)):
        assert x == pytest.approx(begin + i * (end - begin) / 3, abs=0.1)
        assert y == pytest.approx(accuracy[0][1] + value / 0.3 * (accuracy[-1][1] - accuracy[0][1]), abs=0.1)
    texts = page.texts('text')
    assert {'1000', '100', '10', '1', '20 %'} < set(texts)
    assert texts.count('step') == 2 and texts.count('0') == 2  # both axes have a name and begin at step 0


def test_the_colours_of_curves_are_the_page_s(tmp_path):
    """And so they are others in a dark page."""
    rows = [{'step': step, f'{name}/loss': step * i} for step in (1, 2)
            for i, name in enumerate(('validation', 'train', 'test'))]
    path = write_report(make_run(tmp_path / 'run', metrics__jsonl=rows))
    page = Page(path)
    assert page.texts('p', 'legend') == ['traintestvalidation']
    assert [values['class'] for name, values, _ in page.tags if name == 'i'] == ['c0', 'c1', 'c2']
    svg = re.search('<svg.*?</svg>', path.read_text(), re.DOTALL).group()
    painted = re.findall('<(?:path|use|text)[^>]*(?:fill|stroke)="#[^>]*>', svg)
    assert painted and all('class="' in tag for tag in painted)


def test_long_curves_are_thinned_but_keep_their_peaks(tmp_path):
    values = np.sin(np.arange(20_000) / 300) + 2
    values[12_345], values[17_001] = 9, 0.5
    rows = [{'step': i + 1, 'train/dice': value} for i, value in enumerate(values.tolist())]
    page, panels = curves(tmp_path, rows)
    line = panels[0]['c0']
    assert len(line) < 1000 and (tmp_path / 'run' / 'report.html').stat().st_size < 60_000
    heights = [y for _, y in line]
    x_of = np.interp([12_346, 17_002], [1, 20_000], [line[0][0], line[-1][0]])
    assert line[int(np.argmin(heights))][0] == pytest.approx(x_of[0], abs=0.2)
    assert line[int(np.argmax(heights))][0] == pytest.approx(x_of[1], abs=0.2)
    assert any(text.startswith('train, step 20,000: ') for text in page.texts('title'))


def test_what_never_changes_is_written_and_not_drawn(tmp_path):
    rows = [{'step': step, 'train/learning_rate': 20.0, 'validation/top5_accuracy': 1.0, 'train/loss': 3.0 / step}
            for step in (1, 2, 3)]
    page, panels = curves(tmp_path, rows)
    assert len(panels) == 1 and page.texts('figcaption') == ['loss']
    assert 'Constant: learning rate 20, top5 accuracy 100.00 %' in page.texts('p', 'muted')


@pytest.mark.parametrize('name, values, expected', [
    ('accuracy', (0.2, 1.0), {'100 %', '80 %', '60 %', '40 %', '20 %'}),
    ('auc', (0.99991, 0.99999), {'0.99992', '0.99994', '0.99996', '0.99998'}),
    ('learning_rate', (1e-5, 5e-5), {'1e-5', '2e-5', '3e-5', '4e-5', '5e-5'}),
    ('perplexity', (20.0, 9_000.0), {'100', '1000', '10000'}),
])
def test_ticks_have_the_digits_that_they_need(name, values, expected, tmp_path):
    rows = [{'step': step, f'test/{name}': value} for step, value in enumerate(values)]
    page, _ = curves(tmp_path, rows)
    assert set(page.texts('text')) - {'step', '0', '1'} == expected


def test_the_image_of_learning_curves_shows_the_same_panels():
    """One implementation: what the report leaves out is left out there too, and texts are not read as formulas."""
    rows = [{'step': 2, 'a$/loss': 1.0, 'train/loss': None}, {'step': 1, 'a$/loss': 2.0, 'train/learning_rate': 0.1},
            {'step': 3, 'train/learning_rate': 0.1, 'test/accuracy': 0.5}]
    figure = learning_curves.draw_learning_curves(rows, '$x_$')
    assert [axes.get_title() for axes in figure.axes] == ['loss', 'accuracy']
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    assert 'learning rate 0.1' in figure.get_supxlabel()
    figure.savefig(io.BytesIO(), format='png')
