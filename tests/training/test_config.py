"""Configs: one file, variants, overrides with types, errors that name the nearest field, and a trip through JSON."""

import json
import os
import sys

import pytest

from practicum.common.errors import UserError, nearest
from practicum.common.files import digest
from practicum.training import config as config_lib
from tests.tiny import tiny_config


@pytest.fixture
def experiment(tmp_path):
    """A file with variants and helpers."""
    path = tmp_path / 'mine.py'
    path.write_text('from experiments.base import base\n'
                    'from experiments.line import get_config as other\n\n\n'
                    'def get_config():\n    config = base()\n'
                    "    config.data.name = 'mnist'\n    return _finish(config)\n\n\n"
                    'def small():\n    """A tenth."""\n    config = get_config()\n'
                    "    config.data.train = 'train[:10%]'\n    return config\n\n\n"
                    'def _finish(config):\n    config.seed = 7\n    return config\n')
    return path


def test_a_variant_is_a_function_of_the_file(experiment):
    plain, small = config_lib.load(str(experiment)), config_lib.load(f'{experiment}:small')
    assert (plain.experiment, small.experiment) == ('mine', 'mine:small')
    assert (plain.data.train, small.data.train) == ('train', 'train[:10%]') and small.seed == 7
    assert config_lib.variants(experiment) == ['small']


@pytest.mark.parametrize('variant', ['smal', '_finish', 'base', 'other', 'config_lib'])
def test_helpers_and_imports_are_no_variants(variant, experiment):
    with pytest.raises(UserError, match='small'):
        config_lib.load(f'{experiment}:{variant}')


def test_the_bare_name_is_enough():
    assert config_lib.load('line') == config_lib.load('experiments/line.py')
    with pytest.raises(UserError, match='did you mean line?'):
        config_lib.load('lime')
    with pytest.raises(UserError):
        config_lib.load('base')


def test_files_that_are_no_experiments(tmp_path):
    (tmp_path / 'notes.txt').write_text('hello')
    (tmp_path / 'empty.py').write_text('')
    with pytest.raises(UserError, match='not a Python file'):
        config_lib.load(str(tmp_path / 'notes.txt'))
    with pytest.raises(UserError, match='no function get_config'):
        config_lib.load(str(tmp_path / 'empty.py'))


def test_loaded_configs_are_locked():
    config = tiny_config()
    with pytest.raises(AttributeError):
        config.optimizer.lerning_rate = 1.0
    with pytest.raises(AttributeError):
        config.new = 1


@pytest.mark.parametrize('override, path, expected', [
    ('batch_size=32', ('batch_size',), 32),
    ('batch_size=1_024', ('batch_size',), 1024),
    ('optimizer.learning_rate=0.03', ('optimizer', 'learning_rate'), 0.03),
    ('optimizer.learning_rate=1', ('optimizer', 'learning_rate'), 1.0),
    ('optimizer.learning_rate=1e-3', ('optimizer', 'learning_rate'), 1e-3),
    ('tensorboard=True', ('tensorboard',), True),
    ('data.name=mnist', ('data', 'name'), 'mnist'),
    ("data.name='mnist'", ('data', 'name'), 'mnist'),
    ('data.name=123', ('data', 'name'), '123'),
    ('data.train=train[:10%]', ('data', 'train'), 'train[:10%]'),
    ('data.name=a=b', ('data', 'name'), 'a=b'),
    ('data.data_dir=/data/tfds', ('data', 'data_dir'), '/data/tfds'),
    ('data.data_dir=None', ('data', 'data_dir'), None),
    ('model.hidden=(32, 16)', ('model', 'hidden'), (32, 16)),
    ('model.hidden=[32, 16]', ('model', 'hidden'), (32, 16)),
    ('model.hidden=32', ('model', 'hidden'), (32,)),
    ('evaluation.final=()', ('evaluation', 'final'), ()),
    ('evaluation.final=test', ('evaluation', 'final'), ('test',)),
    ("optimizer.learning_rate_scales=[['a', 0.1]]", ('optimizer', 'learning_rate_scales'), (('a', 0.1),)),
    ('evaluation.sets.test.invert=True', ('evaluation', 'sets', 'test', 'invert'), True),
    ('total=5 epochs', ('total',), '5 epochs'),
    ('total_epochs=50', ('total',), '50 epochs'),
    ('checkpoint.every_steps=7', ('checkpoint', 'every'), '7 steps'),
    ('schedule.warmup_examples=1e4', ('schedule', 'warmup'), '1e4 examples'),
])
def test_an_override_is_read_as_its_field_s_type(override, path, expected):
    value = tiny_config(override)
    for part in path:
        value = value[part]
    assert value == expected and type(value) is type(expected)


def test_a_switched_off_duration_can_be_given_with_its_unit():
    """experiments/line.py has evaluation.every = ''; the short form works there too."""
    assert config_lib.load('line', ['evaluation.every_steps=10']).evaluation.every == '10 steps'


@pytest.mark.parametrize('override, message', [
    ('optimizer.lerning_rate=1', r'did you mean optimizer\.learning_rate\?'),
    ('lerning_rate=1', r'learning_rate'),
    ('optimiser.learning_rate=1', r'did you mean optimizer\.learning_rate\?'),
    ('total_weeks=1', 'unknown field config.total_weeks'),
    ('batch_size_steps=1', 'unknown field'),
    ('batch_size=1.0', 'a whole number, such as 16'),
    ('batch_size=True', 'a whole number'),
    ('optimizer.learning_rate=True', 'a number'),
    ('tensorboard=1', 'True or False'),
    ('tensorboard=true', 'True or False'),
    ('optimizer=1', 'is a section.*learning_rate'),
    ('seed', 'sets nothing'),
    ('=1', 'sets nothing'),
    ('seed=', 'a whole number'),
    ('seed=__import__("os")', 'a whole number'),
    ('seed.x=1', r'unknown field config\.seed\.x'),
    ('seed={[]}', 'a whole number'),
    ('seed={[]:1}', 'a whole number'),
    ('seed=' + 50_000 * '-' + '1', 'a whole number'),
    ('seed=' + 20_000 * '1+' + '1', 'a whole number'),
    ('seed=' + 5_000 * '9', 'a whole number'),
    ('x' * 5_000 + '=1', 'unknown field config.xxx'),
    ('optimizer.learning_rate=1e400', r'config\.optimizer\.learning_rate = inf: it must be a finite number'),
    ('ema_decay=-1e999', r'config\.ema_decay = -inf'),
])
def test_a_wrong_override_says_what_would_be_right(override, message):
    with pytest.raises(UserError, match=message) as failure:
        tiny_config(override)
    assert '\n' not in str(failure.value) and len(str(failure.value)) < 1500


def test_overrides_change_nothing_else():
    plain, changed = (config_lib.to_dict(c) for c in (tiny_config(), tiny_config('optimizer.learning_rate=0.5')))
    assert config_lib.differences(plain, changed) == ['optimizer.learning_rate: 0.001 -> 0.5']


def test_json_and_back_is_the_same_locked_config():
    config = tiny_config("optimizer.learning_rate_scales=(('logits.*', 0.1),)", 'data.data_dir=/data')
    read = config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config))))
    assert read == config and read.is_locked
    assert read.optimizer.learning_rate_scales == (('logits.*', 0.1),)
    config_lib.apply_override(read, 'data.data_dir=/elsewhere')
    config_lib.apply_override(read, 'batch_size=32')
    with pytest.raises(UserError):
        config_lib.apply_override(read, 'batch_size=many')


def test_a_field_left_empty_can_be_set_after_a_trip_through_json():
    """`launch.py evaluate --config.data.data_dir=...` on a run that was trained with the default."""
    read = config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(tiny_config()))))
    assert read.data.data_dir is None
    config_lib.apply_override(read, 'data.data_dir=2024')
    assert read.data.data_dir == '2024'


def test_differences_are_named_by_field_and_blind_to_lists_and_tuples():
    old = {'a': 1, 'b': {'c': (1, 2), 'd': 'x'}, 'gone': 0}
    new = {'a': 1, 'b': {'c': [1, 2], 'd': 'y'}, 'new': 0}
    assert config_lib.differences(old, new) == ["b.d: 'x' -> 'y'", 'gone: 0 -> None', 'new: None -> 0']


def test_digest_is_stable_and_tells_apart():
    assert digest({'a': 1, 'b': (2, 3)}) == digest({'b': [2, 3], 'a': 1})
    assert digest({'a': 1}) != digest({'a': 2})


@pytest.mark.parametrize('name, known, expected', [
    ('adm', ['adam', 'sgd'], 'did you mean adam?'),
    ('xyz', ['adam', 'sgd'], 'there are: adam, sgd'),
    ('xyz', [], 'there are none'),
    ('voc', ['coco', 'voc_folder', 'yolo_folder'], 'did you mean voc_folder?'),  # not coco, which is more similar
    ('Valid', ['invalid', 'validation_examples'], 'did you mean validation_examples?'),
    ('ada', ['adagrad', 'adam', 'sgd'], 'did you mean adam?'),
    ('vo', ['coco', 'voc_folder'], 'there are: coco, voc_folder'),
])
def test_nearest(name, known, expected):
    assert nearest(name, known) == expected


def test_a_config_from_before_a_field_existed_has_its_default():
    values = json.loads(json.dumps(config_lib.to_dict(tiny_config())))
    del values['image']['local_mean'], values['data']['manual_dir'], values['profile']
    assert config_lib.from_dict(values) == tiny_config()


def test_fields_of_a_model_within_the_model_can_be_overridden():
    config = tiny_config()
    with config.unlocked():
        config.model = {'name': 'captioner', 'body': {'name': 'small_cnn'}}
    config_lib.apply_override(config, 'model.body.batch_norm=False')
    assert config.model.body.batch_norm is False


@pytest.mark.parametrize('line, message', [
    ('config.model = {}', 'config.model needs a name'),
    ('config.model = None', 'config.model needs a name'),
    ("config.task = {'label_smoothing': 0.1}", 'config.task needs a name'),
    ("config.optimizer.learning_rate = float('nan')", r'config\.optimizer\.learning_rate = nan'),
    ("raise SystemExit(0)", r'mine\.py:6: SystemExit: 0'),
    ("raise BaseException('no')", r'mine\.py:6: BaseException: no'),
    ("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()", r'mine\.py:6: Mute: it cannot be printed'),
    ("raise ValueError('x' * 100_000)", r'mine\.py:6: ValueError: xxx'),
])
def test_what_an_experiment_file_does_wrong_is_one_error(tmp_path, line, message):
    path = tmp_path / 'mine.py'
    path.write_text('from tests.tiny import get_config as tiny\n\n\ndef get_config():\n    config = tiny()\n'
                    f'    {line}\n    return config\n')
    with pytest.raises(UserError, match=message) as failure:
        config_lib.load(str(path))
    assert '\n' not in str(failure.value) and len(str(failure.value)) < 1500


def test_a_name_that_is_too_long_for_a_file_is_no_file():
    with pytest.raises(UserError, match='no config file xxx') as failure:
        config_lib.load('x' * 5000)
    assert len(str(failure.value)) < 1500


def test_the_home_folder_can_be_written_as_a_tilde(experiment, monkeypatch):
    monkeypatch.setenv('HOME', str(experiment.parent))
    assert config_lib.load('~/mine.py').experiment == 'mine'


def test_few_of_many_names_are_listed():
    assert nearest('xyz', [f'name{i:03}' for i in range(500)]).endswith('name059, and 440 more')


def test_a_file_that_was_changed_within_a_second_is_read_again(tmp_path, monkeypatch):
    """Python's own cache of modules goes by date and size."""
    monkeypatch.setattr(sys, 'dont_write_bytecode', False)
    file = tmp_path / 'mine.py'
    for total in ('1 steps', '2 steps'):
        file.write_text('from practicum.training.defaults import base\n\n\n'
                        f"def get_config():\n    config = base()\n    config.total = '{total}'\n    return config\n")
        os.utime(file, (1e9, 1e9))
        assert config_lib.load(str(file)).total == total
