"""Which configuration is the best, and what a sweep may change when it is started again."""

import dataclasses
import json

import pytest

import practicum
from practicum.common.errors import UserError
from practicum.tuning import definition, trial
from practicum.tuning.study import Record
from practicum.tuning.sweep import best_trials
from tests.conftest import ROOT
from tests.tuning.workers import STUB

NAMES = {'optimizer.name': 'adam,sgd'}


@pytest.fixture(scope='module')
def sweep():
    return definition.define('tests/tiny.py', ['batch_size=16'], search={'optimizer.learning_rate': 'log:1e-4:1e-1'})


def records(*trials: tuple[dict[str, str], str, float | None]) -> list[Record]:
    return [Record(number, params, state, value, '', 1.0, {}) for number, (params, state, value) in enumerate(trials)]


def numbers(found: list[Record]) -> list[int]:
    return [record.number for record in found]


def test_the_best_is_one_that_came_to_its_end(sweep):
    found = records(({'a': '1'}, 'complete', 0.5), ({'a': '2'}, 'pruned', 0.9), ({'a': '3'}, 'complete', 0.7),
                    ({'a': '4'}, 'failed', None), ({'a': '5'}, 'running', None), ({'a': '6'}, 'complete', 0.7))
    assert numbers(best_trials(found, sweep)) == [2]  # the first of equals
    assert numbers(best_trials(found, dataclasses.replace(sweep, mode='min'))) == [0]
    assert best_trials(found[3:5], sweep) == []


def test_a_configuration_that_is_drawn_again_counts_once(sweep):
    sweep = dataclasses.replace(sweep, search={**sweep.search, 'seed': '0,1'})
    found = records(*[({'a': '1', 'seed': '0'}, 'complete', 0.5)] * 3, ({'a': '2', 'seed': '0'}, 'complete', 0.9),
                    ({'a': '2', 'seed': '1'}, 'complete', 0.8))
    assert numbers(best_trials(found, sweep)) == [3, 4]


def test_where_seeds_are_searched_the_mean_counts(sweep):
    sweep = dataclasses.replace(sweep, search={**sweep.search, 'seed': '0,1'})
    found = records(({'a': '1', 'seed': '0'}, 'complete', 0.9), ({'a': '1', 'seed': '1'}, 'complete', 0.1),
                    ({'a': '2', 'seed': '0'}, 'complete', 0.6), ({'a': '2', 'seed': '1'}, 'complete', 0.6),
                    ({'a': '3', 'seed': '0'}, 'complete', 0.99), ({'a': '3', 'seed': '1'}, 'failed', None))
    assert numbers(best_trials(found, sweep)) == [2, 3]


def test_trials_do_not_see_the_final_sets(sweep):
    assert sweep.final == ('test',)
    overrides = sweep.trial_overrides({'optimizer.learning_rate': '0.01'})
    assert 'evaluation.final=()' in overrides and "evaluation.periodic=('validation',)" in overrides
    both = definition.define('tests/tiny.py', ["evaluation.periodic=('validation','test')"],
                             search={'optimizer.name': 'adam,sgd'})
    assert "evaluation.periodic=('validation',)" in both.trial_overrides({})


@pytest.mark.parametrize('metric', ['test/accuracy', 'accuracy', 'train/loss', ''])
def test_the_objective_is_of_a_periodic_set(metric):
    overrides = ["checkpoint.best_metric=''"] if not metric else []
    with pytest.raises(UserError, match='--metric'):
        definition.define('tests/tiny.py', overrides, search={'optimizer.name': 'adam,sgd'}, metric=metric)


def test_the_direction_of_a_metric():
    def mode(metric: str, **settings: str) -> str:
        return definition.define('tests/tiny.py', [], search=NAMES, metric=metric, **settings).mode
    assert mode('validation/loss') == 'min' and mode('validation/accuracy') == 'max'
    assert mode('validation/loss', mode='max') == 'max'


@pytest.mark.parametrize('settings, words', [
    ({'trials': 0}, 'at least 1 trial'),
    ({'seeds': -1}, 'and 0 seeds'),
    ({'sampler': 'tpee'}, '--sampler tpee; did you mean tpe?'),
    ({'pruner': 'hyperband'}, '--pruner hyperband; there are: asha, median, none'),
    ({'sampler': 'grid'}, 'optimizer.learning_rate needs a step'),
    ({'sampler': 'grid', 'search': NAMES, 'trials': 3}, 'the grid has 2'),
    ({'search': {'seed': '0,1'}, 'sampler': 'grid', 'pruner': 'none', 'seeds': 2}, 'the seed is searched already'),
    ({'search': {'seed': '0,1'}}, 'add --sampler grid --pruner none'),
    ({'search': {'seed': '0,1'}, 'sampler': 'grid', 'pruner': 'asha'}, 'add --sampler grid --pruner none'),
    ({'search': {'population': '1,2'}}, 'is the same for all trials'),
    ({'search': {'writers': "('mlflow',),()"}}, 'is the same for all trials'),
    ({'search': {'optimizer.learning_rate': 0.1}}, 'search_space(config)'),
    ({'search': ['seed=0,1']}, 'not a dict'),
    ({'trials': '5'}, '--trials 5: it is a whole number'),
    ({'pruner': None}, '--pruner None'),
    ({'search': {'evaluation.batch_size': '1:4'}}, 'is the same for all trials'),
    ({'search': {'batch_size': '8,16'}}, 'a field is searched or fixed'),
    ({'search': None}, 'nothing to search'),
])
def test_mistakes(settings, words):
    settings = {'search': {'optimizer.learning_rate': 'log:1e-4:1e-1'}, **settings}
    with pytest.raises(UserError) as info:
        definition.define('tests/tiny.py', ['batch_size=16'], **settings)
    assert words in str(info.value) and '\n' not in str(info.value)


def test_a_later_start_may_ask_for_more_and_for_nothing_else(sweep, tmp_path):
    definition.write(tmp_path, sweep)
    there = definition.read(tmp_path)
    assert there == sweep
    again = definition.define('tests/tiny.py', ['batch_size=16'], search=sweep.search)
    assert definition.joined(there, again, None, None) == there
    assert definition.joined(there, again, 50, None) == dataclasses.replace(there, trials=50)
    for other, words in ((['batch_size=32'], 'batch_size'), (['batch_size=16', 'total=1 epochs'], 'total')):
        with pytest.raises(UserError, match=f'another sweep: .*{words}'):
            definition.joined(there, definition.define('tests/tiny.py', other, search=sweep.search), None, None)
    for field, value in (('trials', 'five'), ('trials', 5.5), ('pruner', 'foo'), ('mode', 'best'), ('heartbeat', -1),
                         ('search', {'seed': 3}), ('config', []), ('population', 0), ('overrides', 4)):
        (tmp_path / 'sweep.json').write_text(json.dumps(dataclasses.asdict(sweep) | {field: value}))
        with pytest.raises(UserError, match=r'sweep\.json.*damaged'):
            definition.read(tmp_path)
    (tmp_path / 'sweep.json').write_text('{"experiment": 3')
    with pytest.raises(UserError, match=r'sweep\.json.*damaged'):
        definition.read(tmp_path)


def test_a_sweep_of_an_earlier_version_goes_on(sweep, tmp_path):
    """Fields that its config did not have yet have their defaults."""
    definition.write(tmp_path, sweep)
    values = json.loads((tmp_path / 'sweep.json').read_text())
    del values['config']['remat'], values['config']['optimizer']['clip_norm'], values['population']
    (tmp_path / 'sweep.json').write_text(json.dumps(values))
    assert definition.read(tmp_path) == sweep
    definition.read(tmp_path).check_unchanged()


@pytest.mark.parametrize('search, pruner, words', [
    ({'batch_size': '8,16'}, 'none', 'config.population: .* alone, not in batch_size'),
    ({'optimizer.learning_rate': 'log:0.1:1'}, 'asha', '--pruner asha: a trial of a population'),
    ({'optimizer.weight_decay': '0:0.1'}, 'none', 'config.population: without weight decay'),
])
def test_what_a_population_cannot_be(search, pruner, words):
    with pytest.raises(UserError, match=words):
        definition.define('tests/tiny.py', ['population=4'], search=search, pruner=pruner)


def test_a_sweep_from_python(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, '_CHILD', STUB)
    arguments = {'search': {'optimizer.learning_rate': 'log:1e-4:1'}, 'seeds': 2}
    best = practicum.sweep('tests/tiny.py', tmp_path / 'x', ['batch_size=16'], trials=3, **arguments)
    assert best == json.loads((tmp_path / 'x' / 'best.json').read_text())
    assert set(best['metrics']) == {'validation/accuracy', 'test/accuracy'} and best['seeds'] == [0, 1]
    again = practicum.sweep('tests/tiny.py', tmp_path / 'x', ['batch_size=16'], trials=5, **arguments)
    assert len(list((tmp_path / 'x').glob('*/trial.json'))) == 5
    assert again['metrics']['validation/accuracy']['mean'] >= best['metrics']['validation/accuracy']['mean'] - 0.05
    with pytest.raises(UserError, match='another sweep'):
        practicum.sweep('tests/tiny.py', tmp_path / 'x', trials=5, **arguments)


def test_an_experiment_that_has_changed_is_noticed(tmp_path):
    file = tmp_path / 'mine.py'
    text = (ROOT / 'tests' / 'tiny.py').read_text()
    file.write_text(f'{text}\n\ndef search_space(config):\n    return {{"batch_size": (16, 32)}}\n')
    sweep = definition.define(str(file), [])
    assert sweep.search == {'batch_size': '16,32'}
    sweep.check_unchanged()
    file.write_text(text.replace('config.batch_size = 16', 'config.batch_size = 7'))
    with pytest.raises(UserError, match='has changed since this sweep began: batch_size'):
        sweep.check_unchanged()
