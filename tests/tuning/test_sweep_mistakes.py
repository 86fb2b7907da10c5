"""What is wrong with a sweep is said in one line, before its first trial, and nothing is left of it."""

import json
import os

import pytest

from tests.conftest import ROOT

TINY = str(ROOT / 'tests' / 'tiny.py')
RATE = ('--search', 'optimizer.learning_rate=log:1e-4:1')
MISTAKES = {
    'unknown field': (('--search', 'optimizer.lerning_rate=0.1:1'), 'did you mean optimizer.learning_rate?'),
    'unknown section': (('--search', 'optimiser.name=sgd,adam'), 'did you mean optimizer.name?'),
    'nothing to search': ((), 'nothing to search'),
    'one value': (('--search', 'seed=1'), 'one value is no search: --config.seed=1'),
    'empty range': (('--search', 'optimizer.learning_rate=0.1:0.1'), 'the range is empty'),
    'reversed range': (('--search', 'optimizer.learning_rate=log:1:0.1'), 'the range is empty'),
    'logarithm of nothing': (('--search', 'optimizer.learning_rate=log:0:0.1'), 'begins above 0'),
    'a step beyond the range': (('--search', 'model.dropout=0:0.5:0.6'), 'the step is'),
    'a choice of another type': (('--search', 'batch_size=16,many'), 'config.batch_size', 'whole number', 'many'),
    'a fraction of a whole number': (('--search', 'batch_size=16:32.5'), 'whole numbers'),
    'a range for a name': (('--search', 'tensorboard=0:1:0.1'), 'tensorboard'),
    'a field twice': ((*RATE, *RATE), 'optimizer.learning_rate is there twice'),
    'searched and fixed': ((*RATE, '--config.optimizer.learning_rate=0.1'), 'searched or fixed'),
    'what the sweep itself sets': (('--search', 'checkpoint.best_mode=min,max'), 'the same for all trials'),
    'no metric': ((*RATE, '--metric', 'accuracy'), '--metric accuracy', '<set>/<metric>', 'validation'),
    'metric of an unknown set': ((*RATE, '--metric', 'vaildation/loss'), '--metric vaildation/loss', 'validation'),
    'metric of a final set': ((*RATE, '--metric', 'test/accuracy'), "the set 'test' is one of config.evaluation.final"),
    'no trial': ((*RATE, '--trials', '0'), '--trials 0', 'at least 1'),
    'fewer seeds than none': ((*RATE, '--seeds', '-1'), '--seeds -1'),
    'unknown sampler': ((*RATE, '--sampler', 'tpee'), '--sampler tpee', 'did you mean tpe?'),
    'unknown pruner': ((*RATE, '--pruner', 'hyper'), '--pruner hyper', 'asha'),
    'a grid without steps': ((*RATE, '--sampler', 'grid'), 'needs a step'),
    'more than a grid has': (('--search', 'optimizer.name=adam,sgd', '--sampler', 'grid', '--trials', '3'),
                             'the grid has 2'),
    'no heart': ((*RATE, '--heartbeat', '0'), '--heartbeat 0'),
    'a heart that is no number': ((*RATE, '--heartbeat', 'nan'), '--heartbeat nan'),
    'a server without its database': ((*RATE, '--storage', 'nonsense'), 'postgresql://user@host/database'),
    'a server of another kind': ((*RATE, '--storage', 'mysql://me:secret@there/db'), 'postgresql://user@host/database'),
    'an unknown driver': ((*RATE, '--storage', 'postgresql+odbc://me:secret@there/db'), '--storage postgresql'),
    'unknown override': ((*RATE, '--config.batchsize=3'), 'did you mean batch_size?'),
}


@pytest.fixture(autouse=True)
def _no_work(monkeypatch):
    """What goes unnoticed does not run a sweep for it."""
    from practicum.tuning import sweep

    def work(*_):
        raise AssertionError('the sweep has begun')
    if 'changed' not in os.environ['PYTEST_CURRENT_TEST']:
        monkeypatch.setattr(sweep, 'work', work)


def assert_one_line(result, *words: str) -> None:
    """Exit code 2, and one line of an error."""
    assert result.code == 2, result.err
    assert result.err.startswith('error: ') and result.err.count('\n') == 1, result.err
    assert 'Traceback' not in result.err + result.out and 'secret' not in result.err + result.out
    for word in words:
        assert word in result.err, result.err


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake(mistake, call_launch, tmp_path):
    arguments, *words = MISTAKES[mistake]
    result = call_launch('sweep', '--config', TINY, '--workdir', tmp_path / 'sweep', *arguments)
    assert_one_line(result, *words)
    assert not (tmp_path / 'sweep').exists()


@pytest.mark.parametrize('arguments, words', [
    ((*RATE, '--metric', 'validation/acuracy'), ('--metric validation/acuracy', 'did you mean validation/accuracy?')),
    ((*RATE, '--config.data.data_dir=/nowhere', '--config.data.name=nowhere'), ('nowhere',)),
    (('--search', 'optimizer.learning_rate=-0.1:0.1'), ('config.optimizer.learning_rate = -0.1',)),
])
def test_a_mistake_that_the_data_or_the_model_tell(arguments, words, call_launch, tmp_path):
    """In an empty folder that was there, which stays, and is empty."""
    (tmp_path / 'sweep').mkdir()
    result = call_launch('sweep', '--config', TINY, '--workdir', tmp_path / 'sweep', *arguments)
    assert_one_line(result, *words)
    assert list((tmp_path / 'sweep').iterdir()) == []


def test_a_folder_with_runs_is_no_place_for_a_sweep(call_launch, tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    result = call_launch('sweep', '--config', TINY, '--workdir', tmp_path, *RATE)
    assert_one_line(result, 'is not empty (it has config.json) and has no sweep.json')
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']


@pytest.fixture
def begun(tmp_path):
    """A sweep that has begun, without a trial."""
    import dataclasses

    from practicum.tuning import definition
    experiment = tmp_path / 'mine.py'
    experiment.write_text((ROOT / 'tests' / 'tiny.py').read_text())
    (tmp_path / 'sweep').mkdir()
    new = definition.define(str(experiment), (), search={'optimizer.learning_rate': 'log:1e-4:1'})
    definition.write(tmp_path / 'sweep', new)
    assert dataclasses.asdict(definition.read(tmp_path / 'sweep')) == dataclasses.asdict(new)
    return experiment, tmp_path / 'sweep'


@pytest.mark.parametrize('arguments, words', [
    (('--search', 'optimizer.learning_rate=log:1e-3:1'), ('another sweep', 'log:1e-4:1', 'log:1e-3:1')),
    ((*RATE, '--config.batch_size=32'), ('another sweep', 'batch_size')),
    ((*RATE, '--sampler', 'random'), ('another sweep', 'sampler')),
    ((*RATE, '--metric', 'validation/loss'), ('another sweep', 'validation/loss')),
    ((*RATE, '--sampler_seed', '3'), ('another sweep', 'seed')),
])
def test_another_sweep_in_the_same_folder(arguments, words, call_launch, begun):
    experiment, workdir = begun
    text = (workdir / 'sweep.json').read_text()
    assert_one_line(call_launch('sweep', '--config', experiment, '--workdir', workdir, *arguments), *words)
    assert (workdir / 'sweep.json').read_text() == text and not list(workdir.glob('0*'))


def test_an_experiment_that_has_changed_since(call_launch, begun):
    experiment, workdir = begun
    experiment.write_text(experiment.read_text().replace('batch_size = 16', 'batch_size = 32'))
    assert_one_line(call_launch('sweep', '--workdir', workdir), 'has changed since this sweep began: batch_size')
    assert not list(workdir.glob('0*')) and not (workdir / 'study.db').exists()


@pytest.mark.parametrize('arguments, words', [
    (RATE, ('--config is needed to begin one',)),
    (('--trials', '0'), ('--trials 0',)),
    (('--seeds', '-2'), ('--seeds -2',)),
])
def test_joining_with_a_mistake(arguments, words, call_launch, begun):
    _, workdir = begun
    text = (workdir / 'sweep.json').read_text()
    assert_one_line(call_launch('sweep', '--workdir', workdir, *arguments), *words)
    assert (workdir / 'sweep.json').read_text() == text


@pytest.mark.parametrize('text', ['', '{}', '[]', '{"experiment": 1}', '[' * 100000])
def test_a_damaged_definition(text, call_launch, tmp_path):
    (tmp_path / 'sweep.json').write_text(text)
    assert_one_line(call_launch('sweep', '--workdir', tmp_path), 'sweep.json', 'damaged')


def test_names_that_mean_something_to_databases(tmp_path):
    """A path is no URL."""
    from practicum.tuning.study import Storage
    for name in ('a?b=c', '{x}', '%41#d', 'mit äöü:@'):
        (tmp_path / name).mkdir()
        Storage(tmp_path / name, '', 60.0)
        assert (tmp_path / name / 'study.db').exists()
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == json.dumps(
        sorted(('a?b=c', '{x}', '%41#d', 'mit äöü:@')))
