"""Which part may know what. Imports are read from the source; that it works without TensorFlow is tried out."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for pattern in ('launch.py', 'experiments/**/*.py', 'input_pipeline/**/*.py', 'models/**/*.py',
                                    'tasks/**/*.py', 'training/**/*.py', 'tests/**/*.py', 'benchmarks/**/*.py')
               for path in ROOT.glob(pattern))


def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: imports are absolute'
            found |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Call) and 'import' in ast.unparse(node.func) and node.args:
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


def importers(*packages: str) -> set[str]:
    """The files that import any of these packages or modules."""
    def hit(name: str) -> bool:
        return any(name == package or name.startswith(package + '.') for package in packages)
    return {path.relative_to(ROOT).as_posix() for path in FILES if any(hit(name) for name in imports(path))}


def below(files: set[str], *folders: str) -> set[str]:
    return {file for file in files if file.startswith(folders)}


def test_models_and_tasks_are_arrays_in_arrays_out():
    known = importers('tensorflow', 'tensorflow_datasets', 'orbax', 'input_pipeline', 'experiments')
    assert below(known, 'models/', 'tasks/') == set()


def test_only_the_input_pipeline_knows_tfds():
    known = importers('tensorflow_datasets')
    assert below(known, 'models/', 'tasks/', 'training/', 'experiments/', 'launch.py') == set()


def test_only_the_writers_and_the_input_pipeline_need_tensorflow():
    """training/process.py is where it is imported, with the GPUs hidden from it."""
    known = importers('tensorflow')
    assert below(known, 'models/', 'tasks/', 'training/', 'input_pipeline/', 'launch.py') == {'training/process.py'}
    users = importers('training.process.import_tensorflow', 'clu.metric_writers')
    assert below(users, 'models/', 'tasks/', 'training/') == {'training/writers.py'}


def test_only_checkpoints_knows_orbax():
    assert {file for file in importers('orbax') if not file.startswith('tests/')} == {'training/checkpoints.py'}


def test_only_parallel_knows_devices():
    mapped = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'training').glob('*.py')
              if any(word in path.read_text() for word in ('jax.pmap(', 'jax.shard_map(', 'NamedSharding('))}
    assert mapped == {'training/parallel.py'}


def test_no_module_is_longer_than_500_lines():
    assert {str(path): lines for path in FILES if (lines := path.read_text().count('\n')) > 500} == {}


def test_no_experiment_is_imported_by_the_engine():
    """experiments/base.py holds the defaults, which the engine checks experiments against."""
    engine = [path for folder in ('models', 'tasks', 'training', 'input_pipeline') for path in FILES
              if path.is_relative_to(ROOT / folder)]
    used = {name for path in engine for name in imports(path) if name.startswith('experiments')}
    assert used == {'experiments.base', 'experiments.base.base'}


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
    from input_pipeline import sources
    from tests.tiny import tiny_config
    config = tiny_config()
    for split in ('train', 'validation', 'test'):
        sources.open_split(config.data, config.image, split)


def test_models_tasks_and_training_import_without_tensorflow():
    program = WITHOUT_TENSORFLOW + '''
import importlib, pathlib
for folder in ('models', 'tasks', 'training'):
    for path in sorted(pathlib.Path(folder).rglob('*.py')):
        importlib.import_module('.'.join(path.with_suffix('').parts).removesuffix('.__init__'))
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
    assert not (tmp_path / 'run' / 'tensorboard').exists()
    assert (tmp_path / 'run' / 'metrics.jsonl').stat().st_size > 0

    program = WITHOUT_TENSORFLOW + 'import launch; sys.exit(launch.main(sys.argv[1:]))'
    result = run_python(program, 'evaluate', '--workdir', tmp_path / 'run')
    assert result.returncode == 0 and result.stderr == '', result.stderr


def test_training_starts_before_tensorflow_is_imported(cached_digits, tmp_path):
    """TensorFlow takes seconds to import; with the decoded cache nothing waits for it."""
    program = '''
import json, sys
sys.path.insert(0, sys.argv.pop(1))
import launch
from training import window
add, seen = window.MetricWindow.add, []
def first_add(self, metrics):
    if not seen:
        seen.append(sorted(name for name in ('tensorflow', 'tensorflow_datasets') if name in sys.modules))
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
