"""What can be written after --search, and what is refused before anything starts."""

import pytest

from practicum.common.errors import UserError
from practicum.tuning.search_space import Choice, Range, from_function, from_words, grid, parse
from tests.tiny import tiny_config


@pytest.fixture(scope='module')
def config():
    return tiny_config()


@pytest.mark.parametrize('text, expected', [
    ('log:1e-4:3e-2', Range(1e-4, 3e-2, log=True)),
    ('0:1', Range(0, 1)),  # the field takes fractions
    ('0:0.6:0.1', Range(0, 0.6, step=0.1)),
    ('0.1,0.01', Choice(('0.1', '0.01'))),
])
def test_forms_of_a_number(config, text, expected):
    field = 'optimizer.learning_rate' if 'log' in text else 'augment.shift' if ',' not in text else 'optimizer.eps'
    assert parse({field: text}, config) == {field: expected}


def test_whole_numbers_stay_whole(config):
    space = parse({'batch_size': '16:64:16', 'total_epochs': '1:30', 'seed': 'log:1:1000'}, config)
    assert space['batch_size'].points == ('16', '32', '48', '64')
    assert len(space['total_epochs'].points) == 30 and space['total_epochs'].text(7.0) == '7'
    assert space['seed'] == Range(1, 1000, log=True, whole=True) and space['seed'].points is None


def test_steps_do_not_show_how_floats_are_stored(config):
    assert parse({'augment.shift': '0:0.6:0.1'}, config)['augment.shift'].points == (
        '0.0', '0.1', '0.2', '0.3', '0.4', '0.5', '0.6')


def test_commas_within_brackets_belong_to_a_value(config):
    space = parse({'model.features': '(8,16),(16,),[4, 8]', 'data.train': 'train[:100],train[100:300]'}, config)
    assert space['model.features'] == Choice(('(8,16)', '(16,)', '[4, 8]'))
    assert space['data.train'] == Choice(('train[:100]', 'train[100:300]'))


def test_the_last_field_of_a_grid_changes_fastest(config):
    space = parse({'optimizer.name': 'adam,sgd', 'seed': '0:2'}, config)
    assert [tuple(point.values()) for point in grid(space)] == [
        ('adam', '0'), ('adam', '1'), ('adam', '2'), ('sgd', '0'), ('sgd', '1'), ('sgd', '2')]


@pytest.mark.parametrize('field, text, words', [
    ('optimizer.learning_rat', '0:1', 'unknown field config.optimizer.learning_rat; did you mean optimizer.learning_r'),
    ('optimizer.learning_rate', '1e-2:1e-3', 'the range is empty: 0.01 is not below 0.001'),
    ('optimizer.learning_rate', '0.1:0.1', 'the range is empty'),
    ('optimizer.learning_rate', 'log:0:1', 'a logarithmic range begins above 0'),
    ('optimizer.learning_rate', 'log:1e-4:1:0.1', "write 'low:high'"),
    ('optimizer.learning_rate', '0:1:2', 'the step is above 0 and at most 1'),
    ('optimizer.learning_rate', '0.01', 'one value is no search: --config.optimizer.learning_rate=0.01'),
    ('optimizer.learning_rate', 'low:high', "write 'low:high'"),
    ('optimizer.learning_rate', '0:inf', "write 'low:high'"),
    ('optimizer.learning_rate', '', "write 'low:high'"),
    ('optimizer.learning_rate', '0.1,fast', "config.optimizer.learning_rate takes a number, such as 0.001; 'fast' is"),
    ('optimizer.name', 'adam,', 'a value is empty or there twice'),
    ('optimizer.name', 'adam,adam', 'a value is empty or there twice'),
    ('optimizer.nesterov', 'True,2', 'config.optimizer.nesterov takes True or False'),
    ('batch_size', '8:64.5', 'config.batch_size takes whole numbers'),
    ('batch_size', '8,16.5', 'config.batch_size takes a whole number'),
    ('optimizer', 'adam,sgd', 'config.optimizer is a section'),
])
def test_mistakes(config, field, text, words):
    with pytest.raises(UserError) as info:
        parse({field: text}, config)
    assert words in str(info.value) and '\n' not in str(info.value)
    assert field in str(info.value)


def test_words_of_the_command_line():
    assert from_words(['seed=0,1', 'config.model.dropout=0:0.5']) == {'seed': '0,1', 'model.dropout': '0:0.5'}
    for words in (['seed'], ['=0,1'], ['seed=0,1', 'seed=2,3']):
        with pytest.raises(UserError, match='--search'):
            from_words(words)


def test_what_an_experiment_may_return(config):
    found = from_function({'model.features': ((8,), (16, 32)), 'optimizer.name': ('adam', 'sgd'), 'seed': (0, 1),
                           'augment.shift': '0:0.2'}, 'mine.py')
    assert parse(found, config) == {'model.features': Choice(('(8,)', '(16, 32)')),
                                    'optimizer.name': Choice(('adam', 'sgd')), 'seed': Choice(('0', '1')),
                                    'augment.shift': Range(0, 0.2)}
    quoted = from_function({'data.train': ('train[:10%]', 'train,test')}, 'mine.py')
    assert parse(quoted, config)['data.train'].values == ('train[:10%]', "'train,test'")
    for value in (None, ['seed'], {'seed': 3}):
        with pytest.raises(UserError, match=r'mine\.py: search_space'):
            from_function(value, 'mine.py')
