"""The page of a comparison: it needs nothing else, runs nothing of others, and shows what the table has."""

import base64
import hashlib
import re

import pytest

from practicum.reporting import templates
from practicum.reporting.comparison import compare
from practicum.reporting.comparison_charts import draw_parallel, drawn_entries
from practicum.reporting.comparison_page import render
from practicum.reporting.scales import Scale, scale_of, tick_text
from tests.reporting.pages import Page, make_run
from tests.reporting.runs import config_of, finished_run, stopped_run, trial

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&amp;\x00\ud800 \u00e9\U0001f642'


def page_of(paths, tmp_path, importance=lambda params, values: {}):
    path = tmp_path / 'page.html'
    path.write_text(render(compare(paths), importance))
    return Page(path, script=templates.read('comparison.js'))


def many(folder, count):
    for i in range(count):
        finished_run(folder / f'{i:03}', (0.2, 0.5 + i / 1000), optimizer__learning_rate=10 ** -(1 + i % 4),
                     optimizer__name=('adam', 'sgd')[i % 2], model={'hidden': [8] * (i % 3)})
    return folder


def test_the_page_has_the_table_and_all_charts(tmp_path):
    runs = many(tmp_path / 'runs', 20)
    stopped_run(runs / 'stopped', (0.3,), optimizer__learning_rate=0.5)
    seen = []

    def importance(params, values):
        seen.append((params, values))
        return {'optimizer.learning_rate': 0.9, 'optimizer.name': 0.1}
    page = page_of([runs], tmp_path, importance)
    assert page.texts('h2') == ['Runs', 'Learning curves', 'What matters', 'Parallel coordinates']
    assert [values['data-v'] for name, values, _ in page.tags if name == 'td' and 'title' in values
            and values['title'].startswith(str(runs))][:2] == ['019', '018']
    assert repr(0.5 + 19 / 1000) in [values.get('title') for name, values, _ in page.tags if name == 'td']
    lines = [values for name, values, _ in page.tags if name == 'g' and values['class'].startswith('run')]
    assert len(lines) == 2 * 21 and sum('best' in values['class'] for values in lines) == 2
    assert '019: 51.90 % at step 20 (finished)' in page.texts('title')
    (params, values), = seen  # of finished runs
    assert len(values) == 20 and set(params[0]) == {'optimizer.learning_rate', 'optimizer.name', 'model.hidden'}
    assert '90 %' in page.texts('text') and 'Without model.hidden' in page.text


def test_where_most_were_pruned_importance_is_of_the_step_that_most_reached(tmp_path):
    for i in range(10):
        make = finished_run if i < 2 else stopped_run
        make(tmp_path / f'{i}', (0.1, 0.2, 0.3 + i / 100, 0.9)[:4 if i < 2 else 2 if i == 9 else 3], model={'x': i})
    seen = []
    page = page_of([tmp_path], tmp_path, lambda *args: seen.append(args) or {'model.x': 1.0})
    (params, values), = seen
    assert sorted(values) == pytest.approx([0.3 + i / 100 for i in range(9)])
    assert {row['model.x'] for row in params} == set(range(9))
    assert 'between 9 runs at step 30' in page.text


def test_only_its_own_script_may_run(tmp_path):
    finished_run(tmp_path / 'a')
    page = page_of([tmp_path / 'a'], tmp_path)
    policy, = (values['content'] for name, values, _ in page.tags if values.get('http-equiv'))
    digest = base64.b64encode(hashlib.sha256(page.texts('script')[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_hostile_text_stays_text(tmp_path):
    name = '<b>\'"&amp;'
    for number, value in enumerate([HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}]):
        folder = finished_run(tmp_path / 'runs' / f'{name}{number}', (0.1, 0.2 * number),
                              {f'{HOSTILE}/accuracy': 0.1 * number})
        make_run(folder, config__json=config_of({'model': {HOSTILE: value}, 'total': HOSTILE, 'seed': number}))
        trial(folder, 'failed', error=HOSTILE)
    make_run(tmp_path / 'runs', sweep__json={'metric': f'{HOSTILE}/accuracy', 'search': {HOSTILE: HOSTILE}})
    page = page_of([tmp_path / 'runs'], tmp_path, lambda params, values: {HOSTILE: 1.0})
    assert '<script>alert(1)</script>' in page.text and f'{name}2' in page.text
    assert len(page.texts('script')) == 1


def test_runs_without_metrics_are_a_table(tmp_path):
    make_run(tmp_path / 'a', config__json=config_of({}))
    make_run(tmp_path / 'b', config__json=config_of({'seed': 1}))
    page = page_of([tmp_path], tmp_path)
    assert page.texts('h2') == ['Runs'] and '2 runs (2 stopped), without metrics yet' in page.text


def test_groups_over_seeds_are_a_table(tmp_path):
    for rate in (0.1, 0.01):
        for seed in range(3):
            finished_run(tmp_path / f'{rate}-{seed}', (rate + seed / 100,), optimizer__learning_rate=rate, seed=seed)
    page = page_of([tmp_path], tmp_path)
    assert page.texts('h2')[-1] == 'Seeds' and 'the best' in page.texts('td')
    assert any('n = 3' in text for text in page.texts('td'))


def test_very_many_runs_are_thinned_and_said_to_be(tmp_path):
    runs = many(tmp_path / 'runs', 90)
    drawn, is_all = drawn_entries(compare([runs]))
    assert len(drawn) == 60 and not is_all
    assert [entry.name for entry in drawn[:20]] == [f'{89 - i:03}' for i in range(20)] and drawn[-1].name == '000'
    assert 'of 60 runs' in page_of([runs], tmp_path).text


@pytest.mark.parametrize('values, drawn', [
    ([1, 2, 3], True), ([1, 1, 1], False), (['a', 'b', 'a'], True), ([[1], [2], None], True), ([1, 'a', True], True),
    ([0.001, 1.0, 10.0], True), ([-5, 0, 5], True), ([10 ** 300, 1, 2], True), ([1e-320, 1, 2], True)])
def test_an_axis_for_values_of_any_kind(values, drawn, tmp_path):
    for i, value in enumerate(values):
        finished_run(tmp_path / f'{i}', (0.5 + 0.1 * i,), model={'x': value})
    compared = compare([tmp_path])
    chart, _ = draw_parallel(compared, compared.entries)
    assert (chart is not None) == drawn
    assert 'nan' not in str(chart) and 'inf' not in str(chart)


def test_many_categories_have_no_axis_and_are_named(tmp_path):
    for i in range(20):
        finished_run(tmp_path / f'{i}', (0.5,), model={'name': f'm{i}', 'x': i})
    compared = compare([tmp_path])
    chart, left_out = draw_parallel(compared, compared.entries)
    assert chart is not None and left_out == ['model.name']


@pytest.mark.parametrize('low, high, log', [
    (0, 1, False), (-3, 7, False), (0.9, 0.91, False), (1e-4, 0.03, True), (1e-300, 1e299, True), (0, 1e300, False),
    (-1e300, 1e299, False), (5e-324, 1e-300, True), (1, 1, False), (1000, 1000 + 1e-9, False), (0.98, 0.99, True)])
def test_marks_of_an_axis_lie_on_it(low, high, log):
    scale = Scale(low, high, log)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12 and all(low <= tick <= high for tick in ticks)
    assert all(0 <= scale.place(tick) <= 1 for tick in ticks) and all(map(tick_text, ticks))


def test_a_wide_span_is_logarithmic():
    assert scale_of([0.001, 0.03]).log and not scale_of([0.01, 0.03]).log and not scale_of([0, 5]).log
    assert Scale(0.001, 1, True).ticks() == pytest.approx([0.001, 0.01, 0.1, 1])
    assert Scale(0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert [tick_text(0.5, 'test/accuracy'), tick_text(20_000), tick_text(1e-4)] == ['50 %', '20k', '0.0001']
    assert re.fullmatch('1e-5', tick_text(1e-5))
