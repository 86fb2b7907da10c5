"""Which part may know what. Imports are read from the source; that it works without TensorFlow is tried out."""

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import of_the_repository

ROOT = Path(__file__).resolve().parent.parent
# The floors, from the top down: a file imports what lies on lower floors, or in its own room, and nothing above.
FLOORS = (
    ('tests', 'benchmarks'),
    ('launch',),
    ('commands', ''),  # '': practicum itself, load() and train()
    ('deployment',),
    ('reporting', 'inference', 'conversion', 'tuning'),
    ('experiments',),
    ('training',),
    ('tasks',),
    ('models', 'input_pipeline'),
    ('common',),
)
FLOOR = {room: -number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = of_the_repository(sorted([
    *ROOT.glob('*.py'), *(path for room in FLOOR if room for path in (ROOT / room).rglob('*.py'))]))


def room(path: Path) -> str:
    """The room a file lies in; '' for the package's own __init__.py."""
    return path.relative_to(ROOT).with_suffix('').parts[0].removeprefix('__init__')


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """The modules that a file imports anywhere, functions included; those of ours without 'practicum.' before them."""
    found = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[:len(package) - node.level + 1], *([node.module] if node.module else [])]
            module = '.'.join(base) if node.level else node.module
            found |= {module} | {f'{module}.{alias.name}'.lstrip('.') for alias in node.names}
        elif isinstance(node, ast.Call) and 'import' in ast.unparse(node.func) and node.args:
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return frozenset(name.removeprefix('practicum.') for name in found if name)


def importers(*packages: str) -> set[str]:
    """The files that import any of these packages or modules, tests and benchmarks apart."""
    def hit(name: str) -> bool:
        return any(name == package or name.startswith(package + '.') for package in packages)
    return {path.relative_to(ROOT).as_posix() for path in FILES
            if room(path) not in FLOORS[0] and any(hit(name) for name in imports(path))}


def test_imports_go_down():
    """The one rule of the house; rooms on one floor do not know each other."""
    up = {}
    for path in FILES:
        here = room(path)
        for name in imports(path):
            there = name.partition('.')[0]
            if there in FLOOR and there != here and FLOOR[there] >= FLOOR[here] and here not in FLOORS[0]:
                up.setdefault(path.relative_to(ROOT).as_posix(), set()).add(name)
    assert up == {}


def test_the_ground_floor_imports_nothing_of_ours():
    ours = {path.relative_to(ROOT).as_posix(): names for path in FILES if room(path) == 'common'
            if (names := {name for name in imports(path) if name.partition('.')[0] in FLOOR and not
                          name.startswith('common')})}
    assert ours == {}


def test_only_the_input_pipeline_knows_tfds_and_only_one_file_tensorflow():
    assert all(file.startswith('input_pipeline/') for file in importers('tensorflow_datasets'))
    assert importers('tensorflow') == {'common/tensorflow.py'}
    assert all(file.startswith(('input_pipeline/', 'training/writers'))
               for file in importers('common.tensorflow', 'clu.metric_writers'))


def test_only_one_file_knows_orbax():
    assert importers('orbax') == {'training/step_folders.py'}


def test_only_the_room_of_sweeps_knows_optuna():
    assert importers('optuna', 'sqlalchemy') == {f'tuning/{name}.py' for name in ('importance', 'pruners', 'study')}


def test_only_parallel_knows_devices():
    mapped = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'training').glob('*.py')
              if any(word in path.read_text() for word in ('jax.pmap(', 'jax.shard_map(', 'NamedSharding('))}
    assert mapped == {'training/parallel.py'}


def test_no_module_is_longer_than_500_lines():
    assert {str(path): lines for path in FILES if (lines := path.read_text().count('\n')) > 500} == {}


# --- what really happens, in processes of their own ---

WITHOUT_TENSORFLOW = '''
import sys
from importlib.machinery import PathFinder
class WithoutTensorFlow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition('.')[0] not in ('tensorflow', 'tensorflow_datasets', 'tensorboard', 'keras'):
            return PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTensorFlow
sys.path.insert(0, sys.argv.pop(1))
'''


def run_python(program: str, *args, timeout: float = 120) -> subprocess.CompletedProcess:
    """Runs a program in a fresh interpreter; its first argument is the root of the repository."""
    return subprocess.run([sys.executable, '-c', program, str(ROOT), *map(str, args)], capture_output=True, text=True,
                          timeout=timeout, cwd=ROOT, env=dict(os.environ))


@pytest.fixture(scope='module')
def cached_digits() -> None:
    """Makes sure that the decoded digits are in the cache."""
    from practicum.input_pipeline import sources
    from tests.tiny import tiny_config
    config = tiny_config()
    for split in ('train', 'validation', 'test'):
        sources.open_split(config.data, config.image, split)


def test_models_tasks_and_training_import_without_tensorflow():
    program = WITHOUT_TENSORFLOW + '''
import importlib, pathlib
import launch
for folder in ('common', 'models', 'tasks', 'training', 'inference', 'conversion', 'reporting', 'tuning', 'commands'):
    for path in sorted(pathlib.Path(folder).rglob('*.py')):
        importlib.import_module('.'.join(('practicum', *path.with_suffix('').parts)).removesuffix('.__init__'))
print('imported')
'''
    result = run_python(program)
    assert result.returncode == 0 and result.stdout == 'imported\n', result.stderr


def test_a_run_without_tensorflow_finishes_with_one_warning(cached_digits, tmp_path):
    """Data in the decoded cache, TensorBoard wanted: metrics.jsonl has the numbers, one line says what is missing."""
    program = WITHOUT_TENSORFLOW + 'import launch; sys.exit(launch.main(sys.argv[1:]))'
    result = run_python(program, '--config', ROOT / 'tests' / 'tiny.py', '--workdir', tmp_path / 'run',
                        '--config.tensorboard=True', '--config.total=4 steps')
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    warnings = [line for line in result.stdout.splitlines() if 'TensorBoard' in line]
    assert len(warnings) == 1 and 'tensorflow' in warnings[0]
    assert json.loads((tmp_path / 'run' / 'result.json').read_text())['step'] == 4
    assert not list((tmp_path / 'run').glob('events.out.tfevents.*'))
    assert (tmp_path / 'run' / 'metrics.jsonl').stat().st_size > 0

    program = WITHOUT_TENSORFLOW + 'import launch; sys.exit(launch.main(sys.argv[1:]))'
    result = run_python(program, 'evaluate', '--workdir', tmp_path / 'run')
    assert result.returncode == 0 and result.stderr == '', result.stderr


def test_what_takes_long_to_import_is_not_imported_before_the_first_step(cached_digits, tmp_path):
    """Each takes from a tenth of a second to seconds; with the decoded cache nothing waits for them."""
    program = '''
import json, sys
sys.path.insert(0, sys.argv.pop(1))
import launch
from practicum.training import window
add, seen = window.MetricWindow.add, []
def first_add(self, metrics):
    if not seen:
        slow = ('tensorflow', 'tensorflow_datasets', 'matplotlib', 'scipy.stats', 'sklearn', 'skimage', 'pydicom',
                'cv2', 'jinja2')
        seen.append(sorted(name for name in slow if name in sys.modules))
    add(self, metrics)
window.MetricWindow.add = first_add
code = launch.main(sys.argv[1:])
print(json.dumps(seen), 'tensorflow' in sys.modules)
sys.exit(code)
'''
    result = run_python(program, '--config', ROOT / 'tests' / 'tiny.py', '--workdir', tmp_path / 'run',
                        '--config.tensorboard=True', '--config.total=4 steps')
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == '[[]] True'
