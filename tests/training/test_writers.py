"""Writers of metrics, and the files of a run whatever has become of them."""

import json
import logging
import math
import shutil
import sys
import types

import numpy as np
import pytest

from practicum.common.console import format_metric
from practicum.training import results, rows, snapshot, writers
from practicum.training.writers import MetricWriters, read_rows
from tests.conftest import ROOT
from tests.tiny import tiny_config

TINY = ROOT / 'tests' / 'tiny.py'
DEEP = '[' * 100_000 + ']' * 100_000


def test_rows_are_valid_json(tmp_path):
    with MetricWriters(tmp_path, resumed_step=0) as metrics:
        metrics.scalars(1, {'train/loss': math.nan, 'train/x': math.inf, 'train/accuracy': 0.1}, {'wall_seconds': 2.0})
        metrics.samples(1, 'test', [{'text': 'a', 'score': -math.inf}])

    def refuse(word):
        raise AssertionError(f'{word} is not JSON')
    row, = (json.loads(line, parse_constant=refuse) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines())
    assert row == {'step': 1, 'train/loss': None, 'train/x': None, 'train/accuracy': 0.1,
                   'timings': {'wall_seconds': 2.0}}
    sample = json.loads((tmp_path / 'samples.jsonl').read_text(), parse_constant=refuse)
    assert sample == {'step': 1, 'set': 'test', 'samples': [{'text': 'a', 'score': None}]}


DAMAGES = {
    'a flipped bit': b'{"step": 3, "train/loss"; 1.0}', 'another tool': b'x}', 'zeros': b'\0' * 40 + b'}',
    'not UTF-8': b'{"step": 3, "train/\xe9": 1.0}', 'no step': b'{"train/loss": 1.0}', 'a list': b'[3]',
    'a strange step': b'{"step": "3"}', 'a deep one': DEEP.encode(), 'a word': b'null', 'an empty line': b'',
}


@pytest.mark.parametrize('line', DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize('name', ['metrics.jsonl', 'samples.jsonl'])
def test_a_damaged_line_is_dropped_with_one_warning(name, line, tmp_path, caplog):
    """Half a line at the end is what a kill leaves and no damage."""
    def row(step):
        return {'step': step, 'train/loss': 1.0, 'set': 'test', 'samples': []}
    whole = [json.dumps(row(step)).encode() for step in (1, 2, 3, 4)]
    before = b'\n'.join([*whole[:2], line, *whole[2:], b'{"step": 5, "trai'])
    (tmp_path / name).write_bytes(before)
    MetricWriters(tmp_path, resumed_step=3).close()
    found = [json.loads(text) for text in (tmp_path / name).read_text().splitlines()]
    assert found == [row(step) for step in (1, 2, 3)]  # 4 will be written again
    message, = (record.getMessage() for record in caplog.records)
    assert '1 damaged line is dropped' in message and f'{name}.damaged' in message and '\n' not in message
    assert (tmp_path / f'{name}.damaged').read_bytes() == before


def test_a_whole_last_line_without_its_end_is_kept(tmp_path, caplog):
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "train/loss": NaN}\n{"step": 2}')
    assert [row['step'] for row in read_rows(tmp_path)] == [1, 2]
    metrics = MetricWriters(tmp_path, resumed_step=2)
    metrics.scalars(3, {'train/loss': 1.0})
    metrics.close()
    assert metrics.dropped == 0 and not caplog.records and not list(tmp_path.glob('*.damaged'))
    assert read_rows(tmp_path) == [{'step': 1, 'train/loss': None}, {'step': 2}, {'step': 3, 'train/loss': 1.0}]


def test_a_run_with_damaged_files_goes_on(call_launch, trained_run, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(trained_run, run)
    with (run / 'metrics.jsonl').open('ab') as file:
        file.write(b'x}\n')
    for name, text in (('config.json', '[1]'), ('environment.json', '{}'), ('result.json', DEEP)):
        (run / name).write_text(text)
    result = call_launch('--config', TINY, '--workdir', run, '--config.total=52 steps', '--config.ema_decay=0.9',
                         '--config.optimizer.learning_rate=0.01')
    assert result.code == 0 and 'resuming at step 48' in result.out, result.err
    for name in ('metrics.jsonl', 'config.json', 'environment.json'):
        line, = (line for line in (result.out + result.err).splitlines() if f'{name}.damaged' in line)
    assert json.loads((run / 'result.json').read_text())['step'] == 52
    assert len(json.loads((run / 'environment.json').read_text())) == 1
    assert json.loads((run / 'config.json').read_text())['total'] == '52 steps'


@pytest.mark.parametrize('text', ['', '[]', '3', 'null', '"x"', '{}', DEEP, '{"step": 4}', '\x00',
                                  '{"step": 4, "metrics": 5}', '{"step": 4, "metrics": {"a/b": "x"}, "best": 1}',
                                  '{"step": [4]}'])
def test_a_damaged_result_is_none(text, tmp_path):
    (tmp_path / 'result.json').write_text(text)
    assert results.print_result(tmp_path, 4, 'accuracy') is False


@pytest.mark.parametrize('text', ['', '[]', '3', 'null', '"x"', DEEP, '{"x": ' * 5000 + '1' + '}' * 5000, '\x00'])
def test_a_damaged_config_is_one_warning(text, tmp_path, caplog):
    (tmp_path / 'config.json').write_text(text)
    assert snapshot.changes(tmp_path, tiny_config()) == []
    message, = (record.getMessage() for record in caplog.records)
    assert 'config.json is damaged' in message and '\n' not in message


def test_a_result_of_values_that_are_not_finite_is_json_and_printed(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    results.write_result(tmp_path, tiny_config(), {'test/loss': math.nan, 'test/auc': 0.99997}, step=4,
                         wall_seconds=1.0, examples_per_second=2.0, best=None, primary_metric='auc',
                         about={'parameters': 5})
    found = json.loads((tmp_path / 'result.json').read_text())
    assert found['metrics'] == {'test/loss': None, 'test/auc': 0.99997} and found['parameters'] == 5
    caplog.clear()
    assert results.print_result(tmp_path, 4, 'auc')
    assert 'test/auc' in caplog.text and '0.99997' in caplog.text and 'nan' in caplog.text


def test_what_is_known_of_a_start_is_noted(tmp_path):
    snapshot.write(tmp_path, tiny_config(), {'total_steps': 12, 'parameters': 5, 'dataset': {'name': 'digits'}})
    start, = json.loads((tmp_path / 'environment.json').read_text())
    assert (start['total_steps'], start['parameters'], start['dataset']) == (12, 5, {'name': 'digits'})
    assert start['command'].startswith('python ')


def test_images_do_not_go_through_links(tmp_path):
    from matplotlib.figure import Figure
    (tmp_path / 'victim').write_text('mine')
    (tmp_path / 'a.png').symlink_to(tmp_path / 'victim')
    results.write_image(tmp_path / 'a.png', Figure())
    assert (tmp_path / 'victim').read_text() == 'mine' and (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('name, value, text', [
    ('test/accuracy', 0.5, '50.00 %'), ('test/accuracy', 1.0, '100.00 %'), ('test/accuracy', 0.0, '0.00 %'),
    ('test/accuracy', 0.99997, '99.997 %'), ('accuracy', 1 - 1e-9, '99.9999999 %'), ('accuracy', 0.00001, '0.001 %'),
    ('calibration_error', 0.0123456, '1.23 %'), ('auc', 0.999974, '0.99997'), ('auc', 1.0, '1'), ('auc', 1, '1'),
    ('auc', 1 - 2 ** -53, '0.9999999999999999'), ('loss', 1.00001, '1.00001'), ('loss', 1.99999, '2'),
    ('loss', 0.123456, '0.1235'), ('loss', None, 'nan'), ('accuracy', math.nan, 'nan'), ('loss', math.inf, 'inf'),
])
def test_a_metric_is_never_rounded_up_to_perfect(name, value, text):
    assert format_metric(name, value) == text


# --- writers of config.writers ---

def write_run(workdir, *names):
    """Writes one of everything."""
    with MetricWriters(workdir, names, resumed_step=0) as metrics:
        metrics.hparams({'seed': 3, 'optimizer.name': 'adam'})
        metrics.scalars(1, {'train/loss': 0.5}, {'wall_seconds': 2.0})
        metrics.images(1, {'test/confusion': np.zeros((2, 3, 3), np.uint8)})
        metrics.samples(1, 'test', [{'text': 'a cat'}, {'text': 'a dog'}])
    assert [row['step'] for row in read_rows(workdir)] == [1]


def test_tensorboard_has_events_in_the_workdir_and_hparams(tmp_path):
    pytest.importorskip('tensorflow')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2
    write_run(tmp_path, 'tensorboard')
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    content = found.SummaryMetadata('_hparams_/session_start_info').plugin_data.content
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert started['seed'].number_value == 3 and started['optimizer.name'].string_value == 'adam'
    assert set(found.Tags()['tensors']) >= {'train/loss', 'timing/wall_seconds', 'test/confusion', 'test/0', 'test/1'}
    assert not (tmp_path / 'tensorboard').exists()


def test_tensorboards_hparams_tab_has_columns_of_fields_and_of_metrics(tmp_path):
    """Asked of TensorBoard itself, which shows the fields that differ first."""
    pytest.importorskip('tensorflow')
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import backend_context
    for rate in (0.1, 0.01):
        (tmp_path / str(rate)).mkdir()
        with MetricWriters(tmp_path / str(rate), ['tensorboard'], resumed_step=0) as metrics:
            metrics.hparams({'optimizer.learning_rate': rate, 'seed': 3})
            metrics.scalars(1, {'validation/accuracy': 0.5 + rate})
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(tmp_path))
    context, request = backend_context.Context(base_plugin.TBContext(data_provider=provider)), RequestContext()
    found = context.experiment_from_metadata(request, '', True, context.hparams_metadata(request, ''), [])
    assert {info.name: info.differs for info in found.hparam_infos} == {'optimizer.learning_rate': True, 'seed': False}
    assert [info.name.tag for info in found.metric_infos] == ['validation/accuracy']


class Recorder(types.ModuleType):
    """A package whose functions note how they are called; what they return does the same."""

    def __init__(self, name, calls):
        super().__init__(name)
        self._calls = calls

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)

        def call(*args, **kwargs):
            self._calls.append((f'{self.__name__}.{name}', args, kwargs))
            return Recorder(f'{self.__name__}.{name}()', self._calls)
        return call


def test_mlflow_gets_everything_and_a_resumed_run_goes_on(tmp_path, monkeypatch):
    calls = []
    package = Recorder('mlflow', calls)
    package.start_run = lambda **kwargs: calls.append(('start', kwargs)) or types.SimpleNamespace(
        info=types.SimpleNamespace(run_id='abc'))
    monkeypatch.setitem(sys.modules, 'mlflow', package)
    write_run(tmp_path, 'mlflow')
    names = [call[0] for call in calls]
    assert names == ['start', 'mlflow.log_params', 'mlflow.log_metrics', 'mlflow.log_image', 'mlflow.log_text',
                     'mlflow.end_run']
    assert calls[0] == ('start', {'run_name': tmp_path.name, 'run_id': None})
    assert calls[1][1] == ({'seed': 3, 'optimizer.name': 'adam'},)
    assert calls[2][1:] == (({'train/loss': 0.5, 'timing/wall_seconds': 2.0},), {'step': 1})
    assert calls[4][1][0] == 'a cat\n\na dog'
    calls.clear()
    with MetricWriters(tmp_path, ['mlflow'], resumed_step=1) as metrics:
        metrics.hparams({'seed': 4})  # MLflow takes no second value
        metrics.scalars(2, {'train/loss': 0.25})
    assert [call[0] for call in calls] == ['start', 'mlflow.log_metrics', 'mlflow.end_run']
    assert calls[0][1]['run_id'] == 'abc'


def test_wandb_gets_everything_under_an_identity_of_the_workdir(tmp_path, monkeypatch):
    calls = []
    package = Recorder('wandb', calls)
    package.init = lambda **kwargs: calls.append(('init', kwargs)) or types.SimpleNamespace(
        config=Recorder('config', calls), log=lambda values, step: calls.append(('log', values, step)),
        finish=lambda: calls.append(('finish',)))
    monkeypatch.setitem(sys.modules, 'wandb', package)
    monkeypatch.setenv('WANDB_PROJECT', 'ours')
    for workdir in (tmp_path / 'a', tmp_path / 'a', tmp_path / 'b'):
        workdir.mkdir(exist_ok=True)
        write_run(workdir, 'wandb') if not (workdir / 'metrics.jsonl').exists() else None
    first, second = (call[1] for call in calls if call[0] == 'init')
    assert first['project'] == 'ours' and first['resume'] == 'allow' and first['id'] != second['id']
    logged = [call for call in calls if call[0] == 'log']
    assert logged[0] == ('log', {'train/loss': 0.5, 'timing/wall_seconds': 2.0}, 1)
    assert [list(call[1]) for call in logged[1:3]] == [['test/confusion'], ['test/samples']]
    assert ('config.update', ({'seed': 3, 'optimizer.name': 'adam'},), {'allow_val_change': True}) in calls
    assert calls[-1] == ('finish',)


def test_a_writer_that_fails_is_one_warning_and_the_training_goes_on(tmp_path, monkeypatch, caplog):
    class Broken(writers.Writer):
        title = 'Broken'

        def __init__(self, workdir):
            raise ConnectionError('no\nnetwork')
    monkeypatch.setitem(writers.WRITERS, 'broken', Broken)
    with MetricWriters(tmp_path, ['broken'], resumed_step=0) as metrics:
        for step in range(1, 100):
            metrics.scalars(step, {'train/loss': 0.5})
    message, = (record.getMessage() for record in caplog.records)
    assert 'Broken' in message and 'no network' in message and 'metrics.jsonl' in message
    assert len(read_rows(tmp_path)) == 99


@pytest.mark.parametrize('overrides, expected', [
    ((), ()), (('tensorboard=True',), ('tensorboard',)), (('writers=()', 'tensorboard=True'), ()),
    (("writers=('tensorboard',)",), ()),  # tests/tiny.py has tensorboard = False
])
def test_which_writers_a_config_chooses(overrides, expected):
    assert writers.chosen(tiny_config(*overrides)) == expected


@pytest.mark.parametrize('name, words', [('tensorbord', ['did you mean tensorboard?']),
                                         ('wandb', ['needs the package wandb', 'pip install wandb'])])
def test_a_writer_that_is_not_there_is_one_line_before_anything_is_written(name, words, call_launch, tmp_path,
                                                                           monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)  # as if not installed
    result = call_launch('--config', TINY, '--workdir', tmp_path / 'run', f'--config.writers={name}')
    assert result.code == 2 and not (tmp_path / 'run').exists()
    line, = result.err.strip().splitlines()
    assert 'config.writers' in line and all(word in line for word in words)


def test_hyperparameters_are_the_fields_that_are_values():
    fields = writers.flat_fields(tiny_config())
    assert fields['optimizer.learning_rate'] == 1e-3 and fields['data.name'] == 'digits' and fields['seed'] == 0
    assert fields['model.name'] == 'mlp' and 'model.hidden' not in fields and 'data' not in fields


def test_to_json_goes_into_everything():
    assert rows.to_json({'a': [1.0, math.nan, (math.inf,)], 'b': {'c': -math.inf}, 'd': 'x'}) == {
        'a': [1.0, None, [None]], 'b': {'c': None}, 'd': 'x'}
