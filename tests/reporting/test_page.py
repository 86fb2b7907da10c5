"""The report of a run: all that its folder holds, nothing from elsewhere, whatever is in it."""

import base64
import csv
import fcntl
import io
import itertools
import json
import os
import re
from html import escape

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.common.files import write_json
from practicum.common.vocabulary import Vocabulary
from practicum.reporting import images
from practicum.reporting.page import render, write_report
from practicum.reporting.run_files import Run, read_run
from practicum.training.checkpoints import Checkpoints
from tests.reporting.pages import Page, make_run

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&amp;\x00\ud800 \u00e9\U0001f642'


def make_result(step=10, **metrics):
    return {'experiment': 'tiny', 'seed': 3, 'step': step, 'wall_seconds': 65.0, 'examples_per_second': 1234.0,
            'metrics': metrics or {'test/accuracy': 0.9123456789, 'test/loss': 0.25}, 'best': None}


def noise(height=40, width=60, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)


def test_a_trained_run_is_told_whole(trained_run, tmp_path):
    path = write_report(trained_run, tmp_path / 'report.html')
    assert path == tmp_path / 'report.html' and path.stat().st_size < 2_000_000
    page = Page(path)
    result = json.loads((trained_run / 'result.json').read_text())
    assert page.texts('h1') == [result['experiment']]
    assert page.texts('span', 'state') == [f"finished after {result['step']} steps"]
    exact = [values['title'] for name, values, _ in page.tags if name == 'td' and values.get('title')]
    for value in result['metrics'].values():
        assert repr(value) in exact
    for name in ('test', 'validation'):
        shown = f"{100 * result['metrics'][f'{name}/accuracy']:.2f} %"
        assert f'{shown}{name} accuracy' in page.texts('div')  # as a large number
    drawn = sorted(file.name for file in trained_run.glob('*.png') if file.name != 'learning_curves.png')
    assert drawn and len(page.images()) == len(drawn)
    for file in drawn:
        name, _, key = file.removesuffix('.png').partition('_')
        found = dict(page.images())[f'{name}: {key.replace("_", " ")}']
        assert found.size == Image.open(trained_run / file).size
    rows = [json.loads(line) for line in (trained_run / 'metrics.jsonl').read_text().splitlines()]
    titles = '\n'.join(page.texts('title'))
    for row in rows:
        for key, value in row.items():
            if key.endswith('/loss'):
                assert f"{key.partition('/')[0]}, step {row['step']}: {value:.4g}" in titles
    assert 'optimizer.learning_rate0.010.001' in page.texts('tr')
    assert not any(text.startswith('optimizer.momentum') for text in page.texts('tr'))
    environment = json.loads((trained_run / 'environment.json').read_text())[-1]
    assert f"jax {environment['packages']['jax']}" in page.text


def test_the_file_is_put_into_the_workdir(tmp_path):
    run = make_run(tmp_path / 'run', result__json=make_result())
    assert write_report(run) == run / 'report.html'
    first = (run / 'report.html').read_bytes()
    assert write_report(str(run)).read_bytes() == first  # it tells nothing of itself


def test_hostile_text_stays_text(tmp_path):
    name = '<b>\'"&.png'
    run = make_run(
        tmp_path / 'run',
        config__json={'experiment': HOSTILE, 'seed': HOSTILE, 'total': HOSTILE, 'model': {HOSTILE: HOSTILE},
                      'evaluation': {'final': [HOSTILE], 'sets': {'test': {}}}, 'task': {'name': HOSTILE}},
        environment__json=[{'command': HOSTILE, 'git': {'commit': HOSTILE}, 'packages': {HOSTILE: HOSTILE},
                            'devices': [HOSTILE], 'started': HOSTILE}],
        metrics__jsonl=[{'step': step, f'{HOSTILE}/{HOSTILE}': float(step), 'train/loss': 1.0} for step in (1, 2)],
        samples__jsonl=[{'step': 1, 'set': HOSTILE, 'samples': [
            {'text': HOSTILE, 'file': HOSTILE, 'references': [HOSTILE, 1], 'prompt': HOSTILE}]}],
        evaluation__json={'step': HOSTILE, 'overrides': [HOSTILE], 'metrics': {f'{HOSTILE}/{HOSTILE}': 1.0}},
        test_examples__json={'step': 1, 'examples': [{'file': HOSTILE, HOSTILE: {HOSTILE: 1}, 'list': [HOSTILE]}]},
        test_rows__csv=f'{escape("a")},"""><script>"\n<script>x</script>,2\n')
    Image.fromarray(noise()).save(run / f'test_{name}')
    page = Page(write_report(run))
    expected = HOSTILE.replace('\x00', '\ufffd').replace('\ud800', '\ufffd')
    assert page.texts('h1') == [expected]
    assert page.texts('span', 'text') == [expected] and page.texts('span', 'prompt') == [expected]
    assert '<script>x</script>' in page.texts('td')
    assert [alt for alt, _ in page.images()] == [f'test: {name.removesuffix(".png")}']


def test_links_and_names_inside_files_are_not_followed(tmp_path):
    secret = tmp_path / 'secret.csv'
    secret.write_text('password\nhunter2\n')
    Image.fromarray(noise()).save(tmp_path / 'secret.png')
    run = make_run(tmp_path / 'run', config__json={'experiment': 'x', 'evaluation': {'final': ['test']}},
                   test_examples__json={'examples': [{'file': str(secret)}, {'file': str(tmp_path / 'secret.png')}]})
    (run / 'test_table.csv').symlink_to(secret)
    (run / 'test_image.png').symlink_to(tmp_path / 'secret.png')
    (run / 'environment.json').symlink_to(secret)
    page = Page(write_report(run))
    assert str(secret) in page.text  # as text
    assert 'hunter2' not in page.text and not page.images()


def test_damage_is_left_out_and_counted(tmp_path):
    run = make_run(
        tmp_path / 'run', config__json='{', environment__json='[1, {"git": 3, "packages": [], "devices": "x"}]',
        metrics__jsonl='{"step": 1, "train/loss": 2.5}\nnonsense\n[1]\n{"step": "x"}\n{"step": 2, "train/loss": NaN}\n'
                       '{"step": 3, "train/loss": null, "train/accuracy": "high"}\n{"step": 4, "tr',
        samples__jsonl='{"step": 1, "samples": [{"text": 5}]}\n{"step": 1, "set": "v", "samples": [{"text": "ok"}]}\n',
        result__json='{"metrics": {}}', test_examples__json='{"examples": [1', validation_examples__json='[]',
        test_broken__png='not an image', test_empty__csv='', evaluation__json='{"metrics": [], "step": []}')
    page = Page(write_report(run))
    notes = page.texts('div', 'notes')[0]
    for text in ('config.json is damaged', 'metrics.jsonl: 3 damaged lines', 'samples.jsonl: 1 damaged line is',
                 'result.json says no step', 'test_examples.json is damaged', 'test_broken.png is left out'):
        assert text in notes, text
    assert page.texts('span', 'text') == ['ok']
    assert 'train, step 1: 2.5' in page.texts('title') and 'nan' not in page.text.lower()


@pytest.mark.parametrize('files', [
    {'config__json': {}}, {'metrics__jsonl': []}, {'result__json': {'step': 0}},
    {'config__json': {'evaluation': 3, 'checkpoint': [], 'task': None, 'model': {'name': 10 ** 4000}}},
    {'result__json': {'step': 5, 'metrics': {'test/x': 10 ** 999, 'y': 1, 'a/b/c': float('inf')}, 'best': 'x',
                      'wall_seconds': float('nan')}},
])
def test_runs_of_other_versions_have_a_report(files, tmp_path):
    page = Page(write_report(make_run(tmp_path / 'run', **files)))
    assert len(page.texts('h1')) == 1


def test_a_folder_that_is_no_run_is_one_line(tmp_path):
    make_run(tmp_path / 'lenet', result__json=make_result())
    (tmp_path / 'lent').mkdir()
    for workdir, message in ((tmp_path / 'lent', 'did you mean .*lenet'), (tmp_path, 'lenet'),
                             (tmp_path / 'none', 'is not the folder of a run')):
        with pytest.raises(UserError, match=message) as error:
            write_report(workdir)
        assert '\n' not in str(error.value)
    for output, message in ((tmp_path / 'result.json', 'end .* with .html'), (tmp_path / 'no' / 'a.html', '--output')):
        with pytest.raises(UserError, match=message):
            write_report(tmp_path / 'lenet', output)


def test_the_state_of_a_run(tmp_path):
    def state(name='run', **files):
        run = make_run(tmp_path / name, **files)
        return Page(write_report(run)).texts('span', 'state')[0]
    window = {'step': 50, 'train/loss': 1.0}
    assert state(config__json={'total': '48 steps'}, metrics__jsonl=[window]) == 'stopped at step 50 of 48'
    assert state(config__json={'total': '800 examples', 'batch_size': 7}) == 'stopped at step 50 of 115'
    assert state(config__json={'total': '2 epochs'}) == 'stopped at step 50 of 2 epochs'
    assert state(environment__json=[{'total_steps': 125}]) == 'stopped at step 50 of 125'
    assert state(environment__json=[{}, {'total_steps': 'many'}]) == 'stopped at step 50 of 2 epochs'
    assert state(result__json=make_result(130)) == 'finished after 130 steps'
    assert state(metrics__jsonl=[window | {'step': 140}]) == 'stopped at step 140 of 2 epochs'  # trained on
    lock = os.open(tmp_path / 'run' / '.lock', os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert state().startswith('running, at step 140')
    os.close(lock)
    assert state().startswith('stopped')


def test_a_stopped_run_shows_its_latest_evaluations(tmp_path):
    rows = [{'step': step, 'validation/accuracy': step / 100, 'timings': {'wall_seconds': 1.0}} for step in (10, 20)]
    page = Page(write_report(make_run(tmp_path / 'run', metrics__jsonl=rows, result__json=make_result(10))))
    assert page.texts('b') == ['20.00 %']
    assert 'has not reached its end' in page.text


def test_images_belong_to_sets_and_equal_ones_are_shown_once(tmp_path):
    big = np.full((1000, 5000, 3), 200, np.uint8)
    run = make_run(tmp_path / 'run', config__json={'evaluation': {'final': ['test', 'test_inverted']}},
                   test_confusion_matrix__png=noise(), test_inverted_confusion_matrix__png=noise(seed=1),
                   evaluation_test_confusion_matrix__png=noise(), neighbors__png=big)
    page = Page(write_report(run))
    found = dict(page.images())
    assert list(found) == ['test: confusion matrix', 'test inverted: confusion matrix', 'neighbors']
    assert np.array_equal(np.asarray(found['test: confusion matrix']), noise())  # small ones are exact
    assert found['neighbors'].size == (2400, 480)
    assert 'confusion matrix: the same as of test' in page.text


def test_photographs_are_compressed_and_transparency_is_white(tmp_path):
    y, x = np.mgrid[:700, :900]
    photo = np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8) // 2 + noise(700, 900) // 16
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    found = images.embed(tmp_path / 'photo.png', pytest.fail)
    assert (found['width'], found['height']) == (900, 700)
    assert len(found['src']) < (tmp_path / 'photo.png').stat().st_size / 3
    Image.new('RGBA', (4, 4)).save(tmp_path / 'clear.png')
    data = images.embed(tmp_path / 'clear.png', pytest.fail)['src'].partition('base64,')[2]
    assert np.all(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) == 255)


def test_tables_are_right_aligned_and_long_ones_folded(tmp_path):
    run = make_run(tmp_path / 'run', config__json={'evaluation': {'final': ['test']}})
    for name, count in (('per_class', 3), ('many', 50)):
        with (run / f'test_{name}.csv').open('w', newline='') as file:
            writer = csv.writer(file)
            writer.writerows([('class', 'f1_score'), *((f'{i:03}', i / 7) for i in range(count))])
    page = Page(write_report(run))
    assert page.texts('h3')[:2] == ['many', 'per class']
    assert [text for text in page.texts('summary')] == ['50 rows', 'all of config.json']
    cells = [(values.get('class'), values.get('title'), text) for name, values, text in page.tags if name == 'td']
    assert (None, None, '001') in cells and ('n', repr(1 / 7), '0.1429') in cells
    assert page.texts('th', 'n').count('f1 score') == 2


def case(number):
    return {'file': f'{number}.jpg', 'class': 'a', 'class_probability': number / 100, 'nested': {'right': number > 5}}


@pytest.mark.parametrize('ranked', [True, False])
def test_the_worst_and_the_best_cases(ranked, tmp_path):
    run = make_run(tmp_path / 'run', config__json={'evaluation': {'final': ['test']}},
                   test_examples__json={'step': 7, 'examples': [case((37 * i) % 100) for i in range(100)]})
    if ranked:
        with Checkpoints(run, writable=True) as checkpoints:
            checkpoints.save(7, {'params': {'w': np.ones(2)}}, {'step': np.ones(())}, {
                'config': {'task': {'name': 'classification', 'per_example': True}},
                'data': {'class_names': ['a', 'b']}})
    page = Page(write_report(run))
    listed = [text for text in page.texts('td') if text.endswith('.jpg')]
    expected = [*range(20), *range(99, 79, -1)] if ranked else [(37 * i) % 100 for i in (*range(20), *range(80, 100))]
    assert listed == [f'{number}.jpg' for number in expected]
    assert page.texts('summary')[:2] == (['the worst 20', 'the best 20'] if ranked else ['the first 20', 'the last 20'])
    assert 'class probability0.49500.4950.99100' in page.texts('tr')  # mean, lowest, median, highest, how many
    assert 'nested right0.94011100' in page.texts('tr')
    assert '100 examples at step 7' in page.texts('h3')
    opened = [values for name, values, _ in page.tags if name == 'details']
    assert 'open' in opened[0] and 'open' not in opened[1]  # mistakes are shown without a click


@pytest.mark.parametrize('name, key', [('test_examples.json', 'examples'), ('test_cases.json', 'cases')])
def test_files_of_earlier_versions_are_shown(name, key, tmp_path):
    run = make_run(tmp_path / 'run', config__json={'evaluation': {'final': ['test']}})
    write_json(run / name, {'step': 3, key: [case(1), case(2)]})
    page = Page(write_report(run))
    assert '2 examples at step 3' in page.texts('h3') and 'Set: test' in page.texts('h2')
    assert [text for text in page.texts('td') if text.endswith('.jpg')] == ['1.jpg', '2.jpg']


def test_the_primary_metric_is_that_of_the_task(tmp_path):
    """Also where it depends on the data, as that of a language model does."""
    metrics = {'test/loss': 1.0, 'test/perplexity': 2.718, 'test/bits_per_character': 1.443}
    for kind, primary_metric in (('words', 'perplexity'), ('characters', 'bits_per_character')):
        run = make_run(tmp_path / kind, result__json=make_result(7, **metrics))
        vocabulary = Vocabulary.build(['a b'], kind).to_meta()
        with Checkpoints(run, writable=True) as checkpoints:
            checkpoints.save(7, {'params': {'w': np.ones(2)}}, {'step': np.ones(())}, {
                'config': {'task': {'name': 'language_model'}}, 'data': {'vocabulary': vocabulary}})
        page = Page(write_report(run))
        assert page.texts('b') == [f'{metrics["test/" + primary_metric]:.4g}']


def test_texts_over_time(tmp_path):
    rows = [{'step': step, 'set': 'validation', 'samples': [
        {'text': f'text {step}', 'file': 'a.jpg', 'references': ['one', 'two']}]} for step in range(10, 510, 10)]
    page = Page(write_report(make_run(tmp_path / 'run', config__json={}, samples__jsonl=rows)))
    first, everything = page.texts('div', 'samples')
    shown = [int(step) for step in re.findall(r'text (\d+)', first.replace('a.jpg', ' '))]
    assert shown[0] == 10 and shown[-1] == 500 and 5 < len(shown) <= 8 and shown == sorted(shown)
    assert first.count('references: one \u00b7 two') == 1
    assert [int(step) for step in re.findall(r'text (\d+)', everything.replace('a.jpg', ' '))] == \
        list(range(10, 510, 10))
    assert 'all 50 steps' in page.texts('summary')


def test_texts_that_are_the_same_for_two_sets_are_listed_once(tmp_path):
    """Those of a language model do not depend on the set."""
    rows = [{'step': step, 'set': name, 'samples': [{'text': text}]} for step, name, text in (
        (1, 'validation', 'a'), (2, 'validation', 'b'), (2, 'test', 'b'), (2, 'other', 'c'))]
    page = Page(write_report(make_run(tmp_path / 'run', config__json={}, samples__jsonl=rows)))
    assert page.texts('h3') == ['other', 'validation and test']
    assert page.texts('span', 'text') == ['c', 'a', 'b']


def test_the_environment_says_what_is_not_in_the_commit(tmp_path):
    start = {'git': {'commit': 'a' * 40, 'dirty': True, 'diff_sha256': 'beef'}, 'command': 'python launch.py --x "a b"',
             'devices': ['H200', 'H200'], 'packages': {'jax': '0.10'}}
    run = make_run(tmp_path / 'run', config__json={})
    write_json(run / 'environment.json', [start, start])
    page = Page(write_report(run))
    assert f"{'a' * 40}, with changes that were not committed" in page.texts('dd')
    assert '2 \u00d7 H200' in page.texts('dd') and 'jax 0.10' in page.texts('dd')
    assert '2; the latest is shown' in page.texts('dd') and page.texts('pre')[-1] == 'python launch.py --x "a b"'


def test_the_top_says_what_when_and_on_what(tmp_path):
    start = {'started': '2026-01-02T03:04:05+0000', 'git': {'commit': 'a' * 40, 'dirty': True},
             'devices': ['cpu', 'cpu'], 'parameters': 120458, 'dataset': {'name': 'digits', 'train_examples': 1438}}
    run = make_run(tmp_path / 'run', environment__json=[start], result__json=make_result())
    facts, = (re.sub(r'\s+', ' ', text).strip() for text in Page(write_report(run)).texts('p', 'facts'))
    assert facts == ('date 2026-01-02 03:04 duration 65 s data digits training examples 1,438 parameters 120,458 '
                     'commit aaaaaaaaaa and changes devices 2 \u00d7 cpu')


@pytest.mark.parametrize('task, data, metrics, scores', [
    ('classification', {'class_names': ['a', 'b']}, ['accuracy', 'loss'], {'class_probability': 0.5}),
    ('segmentation', {'class_names': ['background', 'heart']}, ['dice', 'loss'], {'dice': {'heart': 0.5}}),
    ('captioning', {'vocabulary': Vocabulary.build(['a b'], 'words').to_meta(), 'caption_length': 3,
                    'tokens_per_example': 3.0}, ['bleu4', 'loss'],
     {'rouge_l': 0.5, 'caption': 'a b'}),
    ('language_model', {'vocabulary': Vocabulary.build(['a b'], 'words').to_meta()}, ['perplexity', 'loss'], None),
    ('regression', {'targets': 1}, ['loss'], None),
])
def test_every_task_has_a_report(task, data, metrics, scores, tmp_path):
    """While it trains, too; the worst examples are known."""
    run = make_run(tmp_path / 'run', config__json={'experiment': 'x', 'task': {'name': task}}, metrics__jsonl=[
        {'step': 7, **{f'validation/{name}': 0.25 for name in metrics}, 'timings': {'wall_seconds': 1.0}}])
    if scores:
        write_json(run / 'validation_examples.json', {'step': 7, 'examples': [scores] * 50})
    with Checkpoints(run, writable=True) as checkpoints:
        config = {'name': task, **({'per_example': True} if task == 'classification' else {})}
        checkpoints.save(7, {'params': {'w': np.ones(2)}}, {'step': np.ones(())}, {'config': {'task': config},
                                                                                   'data': data})
        checkpoints.wait()
        page = Page(write_report(run))
    assert page.texts('span', 'state') == ['running, at step 7']
    assert page.texts('div', 'large') == [f"{'25.00 %' if metrics[0] == 'accuracy' else 0.25}validation {metrics[0]}"]
    assert page.texts('summary')[:2] == (['the worst 20', 'the best 20'] if scores else ['all of config.json'])


def test_a_value_that_is_not_finite_is_named(tmp_path):
    run = make_run(tmp_path / 'run', result__json=make_result(**{'test/loss': None, 'test/accuracy': 0.99997}))
    page = Page(write_report(run))
    assert 'lossnan' in page.texts('tr') and page.texts('b') == ['99.997 %']


def test_images_are_there_at_once(trained_run, tmp_path):
    """Not after the first screenshot or print."""
    page = Page(write_report(trained_run, tmp_path / 'a.html'))
    found = [values for name, values, _ in page.tags if name == 'img']
    assert found and all('decoding' not in values and 'loading' not in values for values in found)
    assert any(values.get('class') == 'diagram' and 'confusion matrix' in values['alt'] for values in found)


def test_reading_changes_nothing(trained_run, tmp_path):
    def everything():
        return {path: path.stat().st_mtime_ns for path in sorted(trained_run.rglob('*'))}
    before = everything()
    read_run(trained_run)
    write_report(trained_run, tmp_path / 'a.html')
    assert everything() == before


@pytest.mark.parametrize('each', [7, pytest.param(1, marks=pytest.mark.thorough)])
def test_values_of_any_shape_make_a_page(tmp_path, monkeypatch, each):
    """Every value of every file, replaced by others: what cannot be shown is left out."""
    monkeypatch.setattr(Run, 'task', lambda run: None)  # there is no checkpoint, and looking for it takes time
    files = {
        'config.json': {'experiment': 'x', 'seed': 1, 'total': '2 epochs', 'batch_size': 4, 'data': {'name': 'd'},
                        'evaluation': {'final': ['test'], 'periodic': [], 'sets': {}},
                        'checkpoint': {'best_metric': ''}},
        'environment.json': [{'started': '', 'command': '', 'git': {'commit': '', 'dirty': True}, 'devices': ['cpu'],
                              'packages': {'a': 'b'}, 'parameters': 1, 'total_steps': 3,
                              'dataset': {'train_examples': 1}}],
        'result.json': {**make_result(), 'best': {'step': 1, 'metric': 'a/b'}},
        'evaluation.json': {'step': 1, 'overrides': ['a'], 'metrics': {'a/b': 1.0}},
        'test_examples.json': {'step': 1, 'examples': [{'a': 1}]},
    }

    def variants(value):
        yield from (None, True, -1.5, float('inf'), 'x', ['x', {}], {'x': [1]})
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            for changed in variants(value[key]):
                copy = value.copy()
                copy[key] = changed
                yield copy
    run = make_run(tmp_path / 'run', metrics__jsonl=[{'step': 1}])
    for name, whole in files.items():
        for changed in itertools.islice(variants(whole), 0, None, each):
            write_json(run / name, changed)
            assert render(read_run(run)).endswith('</html>\n'), (name, changed)
        write_json(run / name, whole)


def test_exported_models_are_named(tmp_path):
    exports = [{'file': 'digits.zip', 'step': 1180, 'bytes': 505254, 'made': '2026-11-22', 'platforms': ['cpu']},
               'no row', {'file': HOSTILE, 'step': {}}]
    workdir = make_run(tmp_path / 'run', config__json={}, exports__json=exports)
    page = Page(write_report(workdir, tmp_path / 'report.html'))
    assert 'Exported models' in page.texts('h2')
    assert {'digits.zip', '1,180', '0.5 MB', '2026-11-22', 'platforms: cpu'} <= {*page.texts('td')}
