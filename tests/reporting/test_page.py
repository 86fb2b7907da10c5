"""The report of a run: all that its folder holds, nothing from elsewhere, whatever is in it."""

import base64
import csv
import fcntl
import io
import json
import os
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.common.files import write_json
from practicum.common.vocabulary import Vocabulary
from practicum.reporting import curves as gallery_curves
from practicum.reporting import page as gallery
from practicum.reporting.html import escape, image
from practicum.reporting.page import write_report
from practicum.reporting.run_files import read_run
from practicum.training.checkpoints import Checkpoints

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&amp;\x00\ud800 \u00e9\U0001f642'
VOID = ('img', 'meta')
LOADING = ('src', 'srcset', 'href', 'xlink:href', 'action', 'data', 'poster', 'background', 'formaction')


class Page(HTMLParser):
    """A parsed report; asserts what must hold of every one."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        text = path.read_bytes().decode('ascii')  # whatever encoding a reader takes it for
        self.tags, self.text, self._open = [], '', []  # tags: (name, attributes, text up to its end)
        self.feed(text)
        self.close()
        assert not self._open
        style = ''.join(text for name, _, text in self.tags if name == 'style')
        assert 'url(' not in style and '@import' not in style

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes)
        assert tag not in ('script', 'link', 'iframe', 'object', 'embed', 'base', 'form', 'foreignobject')
        for name, value in attributes:
            assert not name.startswith('on') and name != 'style'
            if name in LOADING:
                assert value.startswith('data:image/webp;base64,') if name == 'src' else value.startswith('#s')
        entry = [tag, values, '']
        self.tags.append(entry)
        if tag not in VOID:
            self._open.append(entry)

    def handle_startendtag(self, tag, attributes):
        raise AssertionError(f'<{tag}/> is not HTML')

    def handle_endtag(self, tag):
        name, _, text = self._open.pop()
        assert name == tag
        if self._open:
            self._open[-1][2] += text

    def handle_data(self, data):
        self.text += data
        if self._open:
            self._open[-1][2] += data

    def texts(self, tag, class_=None):
        return [text for name, values, text in self.tags
                if name == tag and (class_ is None or class_ in (values.get('class') or '').split())]

    def images(self):
        return [(values['alt'], Image.open(io.BytesIO(base64.b64decode(values['src'].partition(',')[2]))))
                for name, values, _ in self.tags if name == 'img']


def make_run(folder, **files):
    """Writes the files of a run: dicts as JSON, lists of dicts as JSON lines, arrays as PNG; 'a.png' is a__png."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace('__', '.')
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif isinstance(content, str):
            path.write_text(content)
        elif path.suffix == '.jsonl':
            path.write_text(''.join(json.dumps(row) + '\n' for row in content))
        else:
            path.write_text(json.dumps(content))
    return folder


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
    for text in ('config.json is damaged', 'metrics.jsonl: 4 damaged lines', 'samples.jsonl: 1 damaged line is',
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
    # 50 steps took 4 s and the rest will take 6 s at this speed: 125 steps.
    timed = window | {'timings': {'steps_per_second': 12.5, 'wall_seconds': 4.0, 'eta_seconds': 6.0}}
    assert state(metrics__jsonl=[timed]) == 'stopped at step 50 of 125'
    assert state(metrics__jsonl=[timed, window | {'step': 130}]) == 'stopped at step 130 of 2 epochs'
    assert state(result__json=make_result(130)) == 'finished after 130 steps'
    assert state(metrics__jsonl=[timed, window | {'step': 140}]) == 'stopped at step 140 of 2 epochs'  # trained on
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


def test_an_evaluation_set_named_train_is_no_training_window():
    rows = [{'step': 5, 'train/loss': 2.0, 'timings': {'steps_per_second': 1.0}},
            {'step': 5, 'train/loss': 1.0, 'test/loss': 3.0, 'timings': {'wall_seconds': 1.0}}]
    assert gallery_curves.collect(rows) == {'loss': {'train': [(5, 2.0)], gallery_curves.WHOLE_TRAIN: [(5, 1.0)],
                                                     'test': [(5, 3.0)]}}


def curves(tmp_path, rows):
    """Returns the polylines of a run with these rows as lists of (x, y), in the order of the page."""
    page = Page(write_report(make_run(tmp_path / 'run', metrics__jsonl=rows)))
    return page, [[tuple(map(float, point.split(','))) for point in values['points'].split()]
                  for name, values, _ in page.tags if name == 'polyline']


def test_curves_are_to_scale(tmp_path):
    rows = [{'step': step, 'train/loss': 10.0 ** (3 - i), 'validation/accuracy': 0.1 * i}
            for i, step in enumerate((100, 200, 300, 400))]
    page, (loss, accuracy) = curves(tmp_path, rows)  # the loss comes first
    for line in (loss, accuracy):
        assert np.diff(line, 2, axis=0) == pytest.approx(0, abs=0.21)  # equal steps; logarithmic loss: equal factors
    assert loss[0][1] < loss[-1][1] and accuracy[0][1] > accuracy[-1][1]  # y points down
    assert loss[-1][0] / 4 == pytest.approx(loss[-1][0] - loss[-2][0], abs=15)  # begins at step 0
    assert {'1000', '100', '10', '1'} < set(page.texts('text')) and '20 %' in page.texts('text')


def test_long_curves_are_thinned_but_keep_their_peaks(tmp_path):
    values = np.sin(np.arange(20_000) / 300) + 2
    values[12_345], values[17_001] = 9, 0.5
    rows = [{'step': i + 1, 'train/dice': value} for i, value in enumerate(values.tolist())]
    page, (line,) = curves(tmp_path, rows)
    assert len(line) < 600 and (tmp_path / 'run' / 'report.html').stat().st_size < 60_000
    heights = [y for _, y in line]
    x_of = np.interp([12_346, 17_002], [1, 20_000], [line[0][0], line[-1][0]])
    assert line[int(np.argmin(heights))][0] == pytest.approx(x_of[0], abs=0.2)
    assert line[int(np.argmax(heights))][0] == pytest.approx(x_of[1], abs=0.2)
    assert any(text.startswith('train, step 20,000: ') for text in page.texts('title'))


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
    tag = image(tmp_path / 'photo.png', 'photo', pytest.fail)
    assert len(tag) < (tmp_path / 'photo.png').stat().st_size / 3
    Image.new('RGBA', (4, 4)).save(tmp_path / 'clear.png')
    data = re.search('base64,([^"]*)"', image(tmp_path / 'clear.png', '', pytest.fail)).group(1)
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
                'config': {'task': {'name': 'classification', 'per_example': True}}, 'data': {'class_names': ['a', 'b']}})
    page = Page(write_report(run))
    listed = [text for text in page.texts('td') if text.endswith('.jpg')]
    expected = [*range(20), *range(99, 79, -1)] if ranked else [(37 * i) % 100 for i in (*range(20), *range(80, 100))]
    assert listed == [f'{number}.jpg' for number in expected]
    assert page.texts('summary')[:2] == (['the worst 20', 'the best 20'] if ranked else ['the first 20', 'the last 20'])
    assert 'class probability0.49500.4950.99100' in page.texts('tr')  # mean, lowest, median, highest, how many
    assert 'nested right0.94011100' in page.texts('tr')
    assert '100 cases at step 7' in page.texts('h3')


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


@pytest.mark.parametrize('words', [
    ['launch.py', '--config', 'tiny', '--config.total=48 steps', "--config.model.name=it's"],
    ['launch.py', 'train', '--config.total', '3 epochs', '--workdir', 'my runs/a', '--config=x:small'],
])
def test_the_command_can_be_given_to_a_shell(words):
    assert shlex.split(gallery._command(' '.join(['/some where/' + words[0], *words[1:]]))) == ['python', *words]


def test_the_environment_says_what_is_not_in_the_commit(tmp_path):
    start = {'git': {'commit': 'a' * 40, 'dirty': True, 'diff_sha256': 'beef'}, 'command': 'launch.py --config tiny',
             'devices': ['H200', 'H200'], 'packages': {'jax': '0.10'}}
    run = make_run(tmp_path / 'run', config__json={})
    write_json(run / 'environment.json', [start, start])
    page = Page(write_report(run))
    assert f"{'a' * 40}, with changes that were not committed (diff beef)" in page.texts('dd')
    assert '2 \u00d7 H200' in page.texts('dd')
    assert f"git checkout {'a' * 40}\npython launch.py --config tiny" in page.texts('pre')


def test_reading_changes_nothing(trained_run, tmp_path):
    def everything():
        return {path: path.stat().st_mtime_ns for path in sorted(trained_run.rglob('*'))}
    before = everything()
    read_run(trained_run)
    write_report(trained_run, tmp_path / 'a.html')
    assert everything() == before
