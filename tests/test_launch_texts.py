"""Translation and classification of texts as users launch them: train, predict, explain, look, export."""

import csv
import json
from pathlib import Path

import pytest

import launch
import practicum
from practicum.inference.text_reader import read_inputs
from tests.conftest import ROOT, _own_logging
from tests.tiny_texts import DIGITS, write_classes, write_table

CONFIG = ROOT / 'tests' / 'tiny_texts.py'


@pytest.fixture(scope='module')
def table(tmp_path_factory) -> Path:
    return write_table(tmp_path_factory.mktemp('texts'))


@pytest.fixture(scope='module')
def run(table, tmp_path_factory) -> Path:
    """The workdir of a translator. Tests only read it."""
    workdir = tmp_path_factory.mktemp('run') / 'translator'
    with _own_logging():
        assert launch.main(['--config', str(CONFIG), f'--config.data.name={table}', '--workdir', str(workdir)]) == 0
    return workdir


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp('classes') / 'numbers')


@pytest.fixture(scope='module')
def classifier(folder, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp('run') / 'classifier'
    with _own_logging():
        assert launch.main(['--config', f'{CONFIG}:classes', f'--config.data.name={folder}', '--workdir',
                            str(workdir)]) == 0
    return workdir


def test_a_translator_learns_to_write_numbers(run):
    assert json.loads((run / 'result.json').read_text())['metrics']['test/exact'] == 1.0
    rows = json.loads((run / 'test_examples.json').read_text())['examples']
    assert len(rows) == 12 and all(row['translation'] == row['right'] for row in rows)
    assert (run / 'test_attention.png').is_file() and (run / 'test_worst_translations.png').is_file()


def test_texts_and_files_of_lines_are_translated(run, call_launch, tmp_path):
    lines = tmp_path / 'lines.txt'
    lines.write_bytes(b'three\r\n\none nine\n')
    result = call_launch('predict', '--workdir', run, 'two three', lines, 'one one one one one', '--output',
                         tmp_path / 'out.csv')
    assert result.code == 2, 'some could not be read'
    with (tmp_path / 'out.csv').open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row['text'] for row in rows] == ['two three', 'three', '', 'one nine', 'one one one one one']
    assert [row['translation'] for row in rows[:3]] == ['23', '3', ''] and rows[3]['unknown'] == 'nine'
    assert [bool(row['error']) for row in rows] == [False, False, True, False, True] and '5 words' in rows[4]['error']
    assert f'{lines}, line 2: an empty text' in result.err and "does not know 'nine'" in result.err
    assert '5 words; at most 4' in result.err


def test_the_texts_of_a_table_are_translated(run, call_launch, tmp_path):
    table = tmp_path / 'numbers.csv'
    table.write_text('target,source\n23,two three\n,"one, two"\n')
    result = call_launch('predict', '--workdir', run, table, '--format', 'json')
    assert result.code == 0 and [row['text'] for row in json.loads(result.out)] == ['two three', 'one, two'], result.err
    assert json.loads(result.out)[0]['translation'] == '23'
    table.write_text('target,english\n23,two three\n')
    result = call_launch('predict', '--workdir', run, table)
    assert result.code == 2 and result.err.count('\n') == 1 and 'with --column' in result.err and not result.out
    result = call_launch('predict', '--workdir', run, table, '--column', 'english', '--output', table)
    assert result.code == 2 and 'is the table itself' in result.err
    result = call_launch('predict', '--workdir', run, table, '--column', 'english')
    assert result.code == 0 and result.out.split() == ['two', 'three', '23']


def test_what_looks_like_a_path_is_no_text(tmp_path):
    unreadable = []
    texts = ['12/05/1998', 'and/or', 'I read it in the README.md', 'one. two', 'x' * 5000]
    paths = ['no_such.csv', f'{tmp_path}/none', './none', f'{tmp_path}/my texts.txt', '~/none.tsv', f'{tmp_path}x/none']
    assert [text for text, _ in read_inputs([*texts, *paths], unreadable)] == texts
    assert unreadable == [f'{path}: there is no such file' for path in paths]


def test_attention_is_told_and_drawn(run, call_launch, tmp_path):
    result = call_launch('predict', '--workdir', run, 'two three', '--format', 'json')
    row = json.loads(result.out)[0]
    assert row['words'] == ['two', 'three'] and row['symbols'] == ['2', '3', '⏎']
    assert [sum(weights) for weights in row['attention']] == pytest.approx([1, 1, 1], abs=0.01)
    drawn = call_launch('predict', '--workdir', run, 'two three', '--output', tmp_path / 'map.png')
    assert drawn.code == 0 and (tmp_path / 'map.png').read_bytes().startswith(b'\x89PNG') and '23' in drawn.out


def test_python_translates_and_an_export_says_the_same(run, tmp_path):
    from practicum.deployment.export import export_run
    loaded = practicum.load(run)
    assert loaded.predict('one two')[0]['translation'] == '12'
    assert [row['text'] for row in loaded.predict(['one', 'two'])] == ['one', 'two']
    meta = export_run(loaded, tmp_path / 'model.zip', platforms='cpu')
    assert meta['inputs']['tokens'] == {'shape': [None, 4], 'least': [1, 4], 'dtype': 'int32'}
    assert meta['batch'] == 'any' and set(DIGITS) <= set(meta['data']['vocabulary']['source']['entries'])


def test_a_classifier_says_classes_and_shows_its_worst_texts(classifier, call_launch):
    result = call_launch('predict', '--workdir', classifier, 'is it one', 'number six', '--top_k', '1')
    assert result.code == 0, result.err
    said = [line.split() for line in result.out.splitlines()]
    assert [line[-4] for line in said] == ['odd', 'even'] and "'it'" in result.err
    assert (classifier / 'test_worst_examples.png').is_file() and (classifier / 'test_confusion_matrix.png').is_file()
    assert {row['text'] for row in json.loads((classifier / 'test_examples.json').read_text())['examples']} >= {
        'The number is one.'}
    assert 'at least 1' in call_launch('predict', '--workdir', classifier, 'one', '--top_k', '0').err


def test_the_page_of_the_data_shows_texts(folder, table, call_launch, tmp_path):
    page = tmp_path / 'look.html'
    result = call_launch('look', '--config', f'{CONFIG}:classes', f'--config.data.name={folder}', '--output', page,
                         '--class', 'odd')
    assert result.code == 0, result.err
    assert 'the number is three &#8594; odd' in page.read_text() and '&#8594; even' not in page.read_text()
    result = call_launch('look', '--config', CONFIG, f'--config.data.name={table}', '--output', page, '--class', 'two')
    assert result.code == 0 and 'two three &#8594; 23' in page.read_text()


@pytest.mark.parametrize('arguments, words', [
    (['predict', 'no_such.txt'], ['no_such.txt', 'no such file']),
    (['predict', str(ROOT)], ['is a folder']),
    (['predict', ''], ['an empty text']),
    (['predict', 'one', '--tile', '4'], ['--tile is for images']),
    (['predict', 'one', '--top_k', '2'], ['--top_k', 'translation']),
    (['predict', 'one', '--output', 'x.pdf'], ['.csv']),
    (['predict', 'one', '--heat_map'], ['reads texts']),
    (['predict', 'one', '--config.text.source.tokens=words'], ['config.text.source.tokens']),
    (['explain', 'one'], ['reads texts']),
    (['generate', '--prompt', 'one'], ['launch.py predict']),
])
def test_mistakes_of_a_reader_are_one_line(run, call_launch, arguments, words):
    result = call_launch(arguments[0], '--workdir', run, *arguments[1:])
    assert result.code == 2 and len(result.err.splitlines()) == 1, result.err
    assert all(word in result.err for word in words), result.err


def test_lines_that_are_not_utf8_are_named(run, call_launch, tmp_path):
    (tmp_path / 'latin.txt').write_bytes('one\nzwölf\n'.encode('latin1'))
    result = call_launch('predict', '--workdir', run, tmp_path / 'latin.txt')
    assert result.code == 2 and 'line 2 is not UTF-8' in result.err and len(result.err.splitlines()) == 1


@pytest.mark.parametrize('content, overrides, words', [
    ('text,label\na,\nb,c\n', [], 'column \'label\' is empty'),
    ('text,label\n,x\nb,c\n', [], 'column \'text\' is empty'),
    ('text,label\na,x\nb,x\n', [], 'at least 2 classes'),
    ('text,klass\na,x\nb,y\n', [], "no column 'label'"),
    ('text,label\na,x\nb,y\n', ["--config.data.columns=('a', 'b', 'c')"], 'config.data.columns'),
    ('text,label\na,x\nb,y\n', ['--config.text.max_length=0'], 'config.text.max_length'),
    ('source,target\na,x\nb,y\n', [], 'at least 2 classes'),
    ('source,target\na,x\nb,y\n', ['--config.text.source.max_length=0'], 'config.text.source.max_length'),
    ('source,target\na,x\nb,y\n', ["--config.data.columns=('source', 'target')", '--config.data.target=y'],
     "config.data.target = 'y'"),
])
def test_mistakes_in_tables_are_one_line(call_launch, tmp_path, content, overrides, words):
    (tmp_path / 'table.csv').write_text(content)
    result = call_launch('--config', f'{CONFIG}:classes', f"--config.data.name={tmp_path / 'table.csv'}", '--workdir',
                         tmp_path / 'run', *overrides)
    assert result.code == 2 and len(result.err.splitlines()) == 1, result.err
    assert words in result.err and not (tmp_path / 'run').exists()


@pytest.mark.parametrize('override, words', [
    ('--config.cached_features.endpoint=summary', 'config.cached_features: it is for images'),
    ('--config.evaluation.tta=flip', "'none' alone"),
    ('--config.text.vocabulary_from={run}', 'translates'),
])
def test_what_is_for_images_or_other_texts_is_refused(call_launch, folder, run, tmp_path, override, words):
    result = call_launch('--config', f'{CONFIG}:classes', f'--config.data.name={folder}', '--workdir',
                         tmp_path / 'run', '--config.text.tokens=characters', override.format(run=run))
    assert result.code == 2 and words in result.err and len(result.err.splitlines()) == 1, result.err


def test_classes_are_no_translations(call_launch, folder, tmp_path):
    result = call_launch('--config', CONFIG, f'--config.data.name={folder}', '--workdir', tmp_path / 'run')
    assert result.code == 2 and 'needs texts with translations' in result.err and len(result.err.splitlines()) == 1


def test_a_class_without_texts_and_an_empty_file_are_named(call_launch, folder, tmp_path):
    numbers = write_classes(tmp_path / 'numbers')
    (numbers / 'even' / '1.txt').write_text('\n')

    def error() -> str:
        return call_launch('--config', f'{CONFIG}:classes', f'--config.data.name={numbers}', '--workdir',
                           tmp_path / 'run').err
    assert 'even/1.txt: is empty' in error()
    for file in (numbers / 'even').iterdir():
        file.unlink()
    assert 'even has no .txt files' in error()


@pytest.mark.parametrize('field', ["columns=('a',)", 'target=a'])
def test_columns_are_for_tables(call_launch, folder, tmp_path, field):
    result = call_launch('--config', f'{CONFIG}:classes', f'--config.data.name={folder}', f'--config.data.{field}',
                         '--workdir', tmp_path / 'run')
    assert result.code == 2 and 'is for tables' in result.err and len(result.err.splitlines()) == 1
