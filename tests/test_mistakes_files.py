"""The user errs in an experiment file, in values that only the engine can judge, and in words: one line each."""

import subprocess
import sys

import pytest

from practicum.training import config as config_lib
from tests.test_mistakes import TINY, assert_one_line


def test_a_missing_package_is_one_line_that_names_the_virtualenv():
    program = """
import sys
sys.path.insert(0, sys.argv.pop(1))
sys.modules['ml_collections'] = None  # as if it were not installed
import launch
sys.exit(launch.main(sys.argv[1:]))
"""
    result = subprocess.run([sys.executable, '-c', program, str(config_lib.ROOT), 'list'],
                            capture_output=True, text=True)
    assert_one_line(result, 'ml_collections is not installed', 'make venv', '.venv/bin/python launch.py')


def test_another_missing_module_is_a_bug_with_its_traceback(call_launch, monkeypatch):
    def broken():
        import no_such_module_of_ours  # noqa: F401
    monkeypatch.setattr('practicum.commands.list_experiments.list_experiments', broken)
    with pytest.raises(ModuleNotFoundError, match='no_such_module_of_ours'):
        call_launch('list')


@pytest.mark.parametrize('text, parts', [
    ('def get_config(:\n    pass\n', ('mine.py:1: SyntaxError',)),
    ('\nimport no_such_module\n\ndef get_config():\n    pass\n', ('mine.py:2: ModuleNotFoundError', 'no_such_module')),
    ('from experiments.base import base\n\ndef get_config():\n    c = base()\n    c.batch_size = "3"\n    return c\n',
     ('mine.py:5: TypeError', 'batch_size')),
    ('def get_config():\n    return 1 / 0\n', ('mine.py:2: ZeroDivisionError',)),
    ('def get_config():\n    pass\n', ('mine.py: get_config() returns NoneType', 'return config')),
    ('def get_config(size):\n    pass\n', ('mine.py: TypeError', 'size')),
])
def test_a_broken_experiment_file_is_one_line(text, parts, call_launch, tmp_path):
    experiment = tmp_path / 'mine.py'
    experiment.write_text(text)
    assert_one_line(call_launch('show', '--config', experiment), str(tmp_path), *parts)


def test_a_function_that_needs_arguments_is_no_variant(call_launch, tmp_path):
    experiment = tmp_path / 'mine.py'
    experiment.write_text('from tests.tiny import get_config\n\ndef sized(size):\n    return get_config()\n\n\n'
                          'def named(*, name):\n    return get_config()\n\n\ndef small(size=1):\n'
                          '    return get_config()\n')
    assert config_lib.variants(experiment) == ['small']
    assert_one_line(call_launch('show', '--config', f'{experiment}:sized'), "'sized'", 'small')
    assert call_launch('show', '--config', f'{experiment}:small').code == 0


def test_list_survives_a_broken_experiment(call_launch, tmp_path, monkeypatch):
    (tmp_path / 'broken.py').write_text('def get_config(:\n')
    (tmp_path / 'latin.py').write_bytes(b'"""\xe9"""\n')
    (tmp_path / 'whole.py').write_text('"""A whole one."""\n')
    monkeypatch.setattr(config_lib, 'ROOT', tmp_path)
    monkeypatch.setattr(config_lib, 'EXPERIMENTS', tmp_path)
    result = call_launch('list')
    assert result.code == 0
    assert 'A whole one.' in result.out and result.out.count('cannot be read: ') == 2


def test_a_relative_path_is_also_looked_for_below_the_repository(call_launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call_launch('show', '--config', 'experiments/line.py').code == 0


@pytest.mark.parametrize('overrides, parts', [
    (('seed=4294967296',), ('config.seed', '2**32')),
    (('total=1e99 steps',), ('config.total', '2,147,483,647')),
    (('evaluation.every=1e12 examples',), ('config.evaluation.every', '2,147,483,647')),
    (('model.hidden=(0,)',), ('config.model.hidden = (0,)', 'at least 1')),
    (('batch_size=0',), ('config.batch_size = 0: it must be at least 1',)),
    (('batch_size=-8',), ('config.batch_size = -8: it must be at least 1',)),
    (("optimizer.learning_rate_scales=('dense1.*', 0.1)",), ('learning_rate_scales', "write (('dense1.*', 0.1),)")),
])
def test_a_value_that_cannot_be_is_one_line_and_writes_nothing(overrides, parts, call_launch, tmp_path):
    changes = [f'--config.{override}' for override in overrides]
    assert_one_line(call_launch('--config', TINY, '--workdir', tmp_path / 'run', *changes), *parts)
    assert not (tmp_path / 'run').exists()


def test_a_lone_pair_of_names_says_how_to_write_it(call_launch, trained_run, tmp_path):
    result = call_launch('--config', TINY, '--workdir', tmp_path / 'run', f'--config.init_from.workdir={trained_run}',
                         "--config.init_from.rename=('dense1', 'encoder')")
    assert_one_line(result, 'init_from.rename', "write (('dense1', 'encoder'),)")


@pytest.mark.parametrize('model, parts', [
    ("{'name': 'mlp', 'num_classes': 7}", ('config.model.num_classes', 'leave it out')),
    ("{'name': 'mlp', 'dtype': 'bfloat16'}", ('config.model.dtype', 'config.precision')),
    ("{'name': 'mlp', 'zzz': 1}", ('there are: activation, dropout, hidden\n',)),
    ("{'name': 'lenet', 'features': (0, 50)}", ('config.model.features', 'at least 1')),
    ("{'name': 'lenet', 'features': (20, -1)}", ('config.model.features', 'at least 1')),
    ("{'name': 'lenet', 'hidden': 0}", ('config.model.hidden = 0', 'at least 1')),
])
def test_a_model_field_that_is_not_the_users_is_one_line(model, parts, call_launch, tmp_path):
    experiment = tmp_path / 'mine.py'
    experiment.write_text('from tests.tiny import get_config as tiny\n\n\ndef get_config():\n    config = tiny()\n'
                          f'    config.model = {model}\n    return config\n')
    assert_one_line(call_launch('--config', experiment, '--workdir', tmp_path / 'run'), *parts)


@pytest.mark.parametrize('args, parts', [
    (('--config', TINY, '--config.batch_size', '--workdir', 'x'), ('--config.batch_size needs a value',)),
    (('--config', TINY, '--config.batch_size'), ('--config.batch_size needs a value',)),
    (('tran', '--config', TINY), ("'tran'", 'did you mean train?')),
    (('lits',), ('did you mean list?',)),
    (('--confg', TINY), ('--confg', 'did you mean --config?')),
    (('predict', '--workdri=x', 'a.png'), ('--workdri', 'did you mean --workdir?')),
])
def test_a_mistyped_word_names_the_nearest(args, parts, call_launch):
    assert_one_line(call_launch(*args), *parts)


def test_a_table_can_be_written_to_a_text_file(call_launch, trained_run, digit_files, tmp_path):
    output = tmp_path / 'p.txt'
    assert call_launch('predict', '--workdir', trained_run, digit_files / '0.png', '--output', output).code == 0
    assert ' % ' in output.read_text()
