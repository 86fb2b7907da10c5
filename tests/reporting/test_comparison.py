"""Runs side by side: which are found, what differs, in which order they stand, whatever is in their folders."""

import csv
import fcntl
import io
import json
import os
import subprocess
import sys

import pytest

import practicum
from practicum.common.errors import UserError
from practicum.reporting import run_files
from practicum.reporting.comparison import compare
from practicum.reporting.comparison_text import console_text, csv_of, markdown_text
from practicum.reporting.seed_groups import seed_groups
from tests.conftest import ROOT
from tests.reporting.pages import make_run
from tests.reporting.runs import config_of, finished_run, result_of, stopped_run, trial

DEEP = '{"x": ' * 50_000 + '1' + '}' * 50_000
HOSTILE = '\x1b[2J<script>|=cmd\n\ud800'


def three(folder):
    """Three finished runs, the second of them the best."""
    for name, rate, accuracy in (('a', 0.1, 0.5), ('b', 0.01, 0.9), ('c', 0.001, 0.7)):
        finished_run(folder / name, (0.4, accuracy), optimizer__learning_rate=rate)
    return folder


def console(paths, width=200, **options):
    compared = compare(paths, **options)
    return console_text(compared, seed_groups(compared), width)


def lines_of_runs(text):
    """{name: cells} of the console's first table."""
    lines = text.splitlines()
    end = lines.index('') if '' in lines else len(lines)
    return {line.split()[0]: line.split()[1:] for line in lines[3:end]}


# --- which runs ---

@pytest.mark.parametrize('paths', [['.'], ['a', 'b', 'c'], ['*'], ['c', '.', 'a/../b', 'a']])
def test_runs_are_found_once_however_they_are_named(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(three(tmp_path))
    compared = compare(paths)
    assert [entry.name for entry in compared.entries] == ['b', 'c', 'a'] and compared.notes == []


def test_a_sweep_is_its_trials_whatever_became_of_them(tmp_path):
    sweep = tmp_path / 'x'
    for number, (state, accuracy) in enumerate([('complete', 0.8), ('pruned', 0.6), ('failed', 0.0)]):
        folder = sweep / f'{number:04}'
        make = finished_run if state == 'complete' else stopped_run
        make(folder, (0.5, accuracy) if accuracy else (), optimizer__learning_rate=0.1 * (number + 1))
        trial(folder, state, error='the loss is not\nfinite' if state == 'failed' else '')
    trial(sweep / '0003', 'waiting', {'optimizer.learning_rate': '0.7', 'optimizer.name': 'adam'})
    finished_run(sweep / '0000-seed1', (0.5, 0.7), optimizer__learning_rate=0.1, seed=1)
    make_run(sweep, sweep__json={'metric': 'validation/accuracy', 'mode': 'max', 'config': config_of({}),
                                 'search': {'optimizer.learning_rate': 'log:0.01:1'}})
    (sweep / 'logs').mkdir()
    compared = compare([sweep])
    assert {entry.name: entry.state for entry in compared.entries} == {
        '0000': 'finished', '0001': 'pruned', '0002': 'failed', '0003': 'waiting', '0000-seed1': 'finished'}
    assert [entry.name for entry in compared.entries] == ['0000', '0000-seed1', '0001', '0002', '0003']
    assert compared.fields == ['optimizer.learning_rate', 'seed']  # what was searched comes first
    waiting, = (row for row in compared.rows() if row['state'] == 'waiting')
    assert waiting['optimizer.learning_rate'] == 0.7 and waiting['step'] == 0
    note, = compared.notes
    assert str(sweep / 'logs') in note
    assert r'0002 failed: the loss is not\nfinite' in console([sweep])
    assert {entry.name for entry in compare([tmp_path]).entries} == {entry.name for entry in compared.entries}
    assert [entry.state for entry in compare([sweep / '0001']).entries] == ['pruned']


def test_the_metric_of_the_sweep_goes_before_that_of_the_config(tmp_path):
    for name, accuracy, loss in (('0', 0.5, 0.2), ('1', 0.9, 0.7)):
        finished_run(tmp_path / 'x' / name, (accuracy,), {'validation/accuracy': accuracy, 'validation/loss': loss})
    assert [entry.name for entry in compare([tmp_path / 'x']).entries] == ['1', '0']
    make_run(tmp_path / 'x', sweep__json={'metric': 'validation/loss', 'mode': 'min', 'search': {}})
    compared = compare([tmp_path / 'x'])
    assert (compared.metric, compared.mode) == ('validation/loss', 'min')
    assert [entry.name for entry in compared.entries] == ['0', '1']


def test_what_is_no_run_is_a_sentence_and_no_error(tmp_path):
    three(tmp_path)
    (tmp_path / 'notes').mkdir()
    (tmp_path / '.hidden').mkdir()
    (tmp_path / 'file.txt').touch()
    finished_run(tmp_path / 'elsewhere' / 'deep')
    (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere' / 'deep')
    compared = compare([tmp_path, tmp_path / 'file.txt'])
    assert len(compared.entries) == 3
    assert [note.split(' is ')[0] for note in compared.notes] == [
        str(tmp_path / name) for name in ('elsewhere', 'notes', 'file.txt')]
    assert len(compare([tmp_path / 'link']).entries) == 1  # it was named


def test_folders_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    three(tmp_path / 'runs')
    access = os.access
    monkeypatch.setattr(os, 'access', lambda path, mode: path.name != 'b' and access(path, mode))
    compared = compare([tmp_path / 'runs', tmp_path / 'runs' / 'b'])
    assert [entry.name for entry in compared.entries] == ['c', 'a']
    assert compared.notes == [f'{tmp_path / "runs" / "b"} may not be read'] * 2


@pytest.mark.parametrize('path, words', [('rusn', 'did you mean'), ('runs/x*', 'nothing matches'),
                                         ('runs/empty', 'holds none'), ('no/such/thing', 'neither does')])
def test_what_is_not_there_is_one_line(path, words, tmp_path, monkeypatch, call_launch):
    monkeypatch.chdir(tmp_path)
    (three(tmp_path / 'runs') / 'empty').mkdir()
    result = call_launch('compare', path)
    line, = result.err.splitlines()
    assert result.code == 2 and line.startswith('error: ') and words in line and result.out == ''


def test_one_run_is_a_table_too(tmp_path):
    text = console([finished_run(tmp_path / 'only')])
    assert '1 run (1 finished), by validation/accuracy' in text and lines_of_runs(text)['only'][0] == 'finished'


# --- states ---

def test_a_run_that_goes_on_shows_its_latest_evaluation_and_is_left_alone(tmp_path):
    folder = stopped_run(tmp_path / 'runs' / 'a', (0.3, 0.6))
    lock = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    fcntl.flock(lock, fcntl.LOCK_EX)
    row, = compare([folder]).rows()
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert row | {'run': '', 'error': ''} == {
        'run': '', 'error': '', 'state': 'running', 'step': 20, 'wall_seconds': 5.0, 'validation/accuracy': 0.6,
        'validation/loss': 0.4}
    row, = compare([folder]).rows()
    assert row['state'] == 'stopped'
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def test_a_resumed_run_is_not_judged_by_its_earlier_result(tmp_path):
    folder = finished_run(tmp_path / 'a', (0.5, 0.6, 0.7))
    make_run(folder, result__json=result_of({'validation/accuracy': 0.6}, step=20))
    row, = compare([folder]).rows()
    assert (row['state'], row['step'], row['validation/accuracy']) == ('stopped', 30, 0.7)


def test_the_end_of_metrics_is_enough_for_a_finished_run(tmp_path, monkeypatch):
    finished_run(tmp_path / 'a', [0.5] * 3000)
    monkeypatch.setattr(run_files, 'read_evaluations', lambda *args: pytest.fail('all of metrics.jsonl was read'))
    row, = compare([tmp_path / 'a']).rows()
    assert (row['state'], row['step']) == ('finished', 30_000)


def test_a_set_that_was_scored_afterwards_is_shown_if_it_is_of_the_same_step(tmp_path):
    for name, step, overrides in (('a', 20, []), ('b', 10, []), ('c', 20, ['data.name=other'])):
        make_run(finished_run(tmp_path / name), evaluation__json={
            'step': step, 'overrides': overrides, 'metrics': {'test/accuracy': 0.7, 'validation/accuracy': 0.1}})
    rows = {row['run'][-1]: row for row in compare([tmp_path]).rows()}
    assert [rows[name]['test/accuracy'] for name in 'abc'] == [0.7, None, None]
    assert {row['validation/accuracy'] for row in rows.values()} == {0.9}


# --- what differs ---

def test_only_fields_that_differ_are_columns(tmp_path):
    compared = compare([three(tmp_path)])
    assert compared.fields == ['optimizer.learning_rate']
    assert list(compared.rows()[0]) == ['run', 'state', 'step', 'wall_seconds', 'error', 'optimizer.learning_rate',
                                        'validation/accuracy', 'validation/loss']
    header = console([tmp_path]).splitlines()[1].split()
    assert header[:2] == ['run', 'learning_rate'] and 'experiment' not in header


def test_a_field_that_an_earlier_version_did_not_have_has_its_default(tmp_path):
    three(tmp_path)
    config = config_of({'optimizer.learning_rate': 0.1})
    del config['remat'], config['parallel'], config['ema_decay']
    make_run(tmp_path / 'a', config__json=config)
    finished_run(tmp_path / 'b', optimizer__learning_rate=0.1, ema_decay=0.9)
    compared = compare([tmp_path / 'a', tmp_path / 'b'])
    assert compared.fields == ['ema_decay']
    assert {row['ema_decay'] for row in compared.rows()} == {0.0, 0.9}


def test_values_are_compared_as_values(tmp_path):
    for name, value in (('a', 1), ('b', 1.0)):
        finished_run(tmp_path / name, ema_decay=value, model={'hidden': [1, 2]})
    assert compare([tmp_path]).fields == []
    finished_run(tmp_path / 'b', ema_decay=True, model={'hidden': [2, 1]})
    assert compare([tmp_path]).fields == ['ema_decay', 'model.hidden']


def test_two_experiments_have_fields_and_metrics_of_their_own(tmp_path):
    for name, model, metrics in (('mlp', {'name': 'mlp', 'hidden': [128]}, {'test/accuracy': 0.9}),
                                 ('lstm', {'name': 'lstm', 'cells': 3}, {'test/perplexity': 7.0})):
        finished_run(tmp_path / name, (0.5,), metrics)
        make_run(tmp_path / name, config__json=config_of({'model': model, 'experiment': name}))
    compared = compare([tmp_path], ['test/perplexity'])
    assert compared.fields == ['experiment', 'model.cells', 'model.hidden', 'model.name']
    assert compared.mode == 'min' and [entry.name for entry in compared.entries] == ['lstm', 'mlp']
    assert [row['test/accuracy'] for row in compared.rows()] == [None, 0.9]
    assert lines_of_runs(console([tmp_path]))['mlp'][:4] == ['mlp', '-', '[128]', 'mlp']


# --- order ---

def test_the_best_stands_first_and_runs_without_the_metric_last(tmp_path):
    three(tmp_path)
    finished_run(tmp_path / 'nan', (0.4,), {'validation/accuracy': None, 'validation/loss': 0.01})
    finished_run(tmp_path / 'run10', (0.4,), {'test/loss': 1.0})
    finished_run(tmp_path / 'run9', (0.4,), {'test/loss': 1.0})
    compared = compare([tmp_path])
    assert [entry.name for entry in compared.entries] == ['b', 'c', 'a', 'nan', 'run9', 'run10']
    assert [entry.name for entry in compare([tmp_path], ['validation/loss']).entries][:2] == ['nan', 'b']
    assert compare([tmp_path], mode='min').entries[0].name == 'a'
    assert {'nan', '-'} <= set(lines_of_runs(console([tmp_path]))['nan'])


def test_an_unknown_metric_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match='did you mean validation/accuracy?'):
        compare([three(tmp_path)], ['validation/acuracy'])


def test_metrics_of_the_command_line(tmp_path, call_launch):
    three(tmp_path)
    result = call_launch('compare', '--metric', 'validation/loss', tmp_path)
    assert result.code == 0 and result.out.splitlines()[1].split()[-1] == 'validation/loss'
    result = call_launch('compare', '--metric=validation/loss,validation/accuracy', tmp_path)
    assert result.out.splitlines()[1].split()[-2:] == ['validation/loss', 'validation/accuracy']
    assert call_launch('compare', tmp_path, '--mode', 'min').out.splitlines()[3].startswith('a ')


# --- forms ---

def test_a_narrow_terminal_gets_less_and_is_told(tmp_path):
    three(tmp_path)
    text = console([tmp_path], width=50)
    table = text.splitlines()[1:6]
    assert max(map(len, table)) <= 50 and table[0].split() == ['run', 'learning_rate', 'validation/accuracy']
    told, = (line for line in text.splitlines() if line.startswith('no room for '))
    assert all(name in told for name in ('state', 'step', 'wall time', 'validation/loss', '--output'))
    assert 'no room' not in console([tmp_path])


def test_csv_has_everything_with_all_digits(tmp_path, call_launch):
    three(tmp_path)
    metrics = {'validation/accuracy': 1 / 3, 'validation/loss': None, 'test/auc': 0.1 + 0.2}
    finished_run(tmp_path / 'd', (1 / 3,), metrics)
    assert call_launch('compare', tmp_path, '--output', tmp_path / 't.csv').out.strip() == str(tmp_path / 't.csv')
    text = (tmp_path / 't.csv').read_text()
    rows = {row['run']: row for row in csv.DictReader(io.StringIO(text))}
    row = rows[str(tmp_path / 'd')]
    assert float(row['validation/accuracy']) == 1 / 3 and float(row['test/auc']) == 0.1 + 0.2
    assert row['validation/loss'] == 'nan' and rows[str(tmp_path / 'a')]['test/auc'] == ''
    assert csv_of(compare([tmp_path])) == text  # the same every time


def test_markdown(tmp_path):
    three(tmp_path)
    finished_run(tmp_path / 'a|b')
    compared = compare([tmp_path])
    lines = markdown_text(compared, seed_groups(compared)).splitlines()
    assert lines[2].startswith('| run | learning_rate |') and lines[3].startswith('| --- | ---: |')
    assert r'| a\|b |' in '\n'.join(lines)


def test_another_ending_is_refused_before_anything_is_read(call_launch):
    result = call_launch('compare', 'nowhere', '--output', 'table.xls')
    assert result.code == 2 and 'end --output with .csv, .md or .html' in result.err


def test_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(three(tmp_path))
    rows = practicum.compare('*')
    assert rows == practicum.compare(['a', 'b', 'c']) and len(practicum.compare([tmp_path / 'a', 'b'])) == 2
    assert json.loads(json.dumps(rows)) == rows and rows[0]['run'] == 'b' and rows[0]['optimizer.learning_rate'] == 0.01
    assert practicum.compare('*', 'validation/loss')[0]['run'] == 'b'


# --- damage ---

DAMAGES = {
    'config.json': ['', '[]', DEEP, '{"a": NaN, "b": 1e999, "c": ' + '9' * 400 + ', "d": [1, NaN]}', '\x00',
                    json.dumps({HOSTILE: HOSTILE}), '{"x": ' * 400 + '1' + '}' * 400,
                    '{"x": ' + '[' * 900 + ']' * 900 + '}',
                    '{"seed": {"x": 1}, "checkpoint": [], "evaluation": 3, "run": 7, "state": "x"}'],
    'result.json': ['', '[]', DEEP, '{"step": "x"}', '{"step": 20, "metrics": 5}', '{"step": 20, "wall_seconds": "x"}',
                    '{"step": 20, "metrics": {"a/b": {"c": 1}, "validation/accuracy": 1e400, "d/e": true, "f/g": '
                    + '9' * 400 + '}}'],
    'metrics.jsonl': ['', 'x\n' * 9, DEEP, '{"step": 5}\n', '{"step": 5, "timings": 3, "validation/accuracy": "x"}\n',
                      json.dumps({'step': 5, f'{HOSTILE}/x': 1.0, 'validation/accuracy': [1]}) + '\n{"step": 6, "t'],
    'trial.json': ['', '[]', DEEP, '{"state": ["pruned"], "params": [1], "error": {"x": 1}}'],
}


@pytest.mark.parametrize('name, text', [(name, text) for name, texts in DAMAGES.items() for text in texts])
def test_damage_costs_no_more_than_what_is_damaged(name, text, tmp_path, call_launch):
    three(tmp_path)
    (tmp_path / 'a' / name).write_text(text, errors='replace')
    result = call_launch('compare', tmp_path)
    assert result.code == 0, result.err
    assert set('abc') <= set(lines_of_runs(result.out))
    assert '\x1b' not in result.out
    rows = practicum.compare(tmp_path)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert {row['run'] for row in rows} == {str(tmp_path / run) for run in 'abc'}
    for kind in ('csv', 'md', 'html'):
        result = call_launch('compare', tmp_path, '--output', tmp_path / f't.{kind}')
        assert result.code == 0, result.err


def test_links_inside_of_runs_are_not_followed(tmp_path):
    three(tmp_path / 'runs')
    secret = make_run(tmp_path / 'secret', config__json={'password': 'x'}, result__json=result_of({'test/x': 1.0}))
    for name in ('config.json', 'result.json', 'metrics.jsonl'):
        (tmp_path / 'runs' / 'a' / name).unlink()
        (tmp_path / 'runs' / 'a' / name).symlink_to(secret / name)
    (tmp_path / 'runs' / 'd').symlink_to(secret)
    compared = compare([tmp_path / 'runs'])
    assert {entry.name for entry in compared.entries} == {'b', 'c'} and 'password' not in str(compared.rows())
    assert any(str(tmp_path / 'runs' / 'a') in note for note in compared.notes)


def test_a_sweep_of_somebody_else(tmp_path):
    for sweep in ({'metric': ['x'], 'search': [1], 'config': 3, 'mode': {}}, {'metric': 'x/y', 'search': {'a': {}}}):
        trial(finished_run(tmp_path / '0000'), 'complete')
        trial(tmp_path / '0001', 'waiting', {'a': {'b': [1]}})
        make_run(tmp_path, sweep__json=sweep)
        assert {entry.state for entry in compare([tmp_path]).entries} == {'finished', 'waiting'}


def test_nothing_slow_is_imported_for_a_table(tmp_path):
    three(tmp_path)
    program = """
import sys, launch
code = launch.main(["compare", sys.argv[1]])
slow = ("jax", "flax", "numpy", "scipy", "tensorflow", "matplotlib", "optuna", "sklearn", "PIL", "jinja2")
print([name for name in slow if name in sys.modules])
sys.exit(code)
"""
    done = subprocess.run([sys.executable, '-c', program, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == '[]', done.stderr
