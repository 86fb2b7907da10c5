"""What `pip install .` installs: the package `practicum`, whole, and nothing beside it."""

import fnmatch
import importlib
import tomllib

from tests.conftest import ROOT

NOT_INSTALLED = ('benchmarks', 'docs', 'tests')


def packages() -> set[str]:
    """The folders with Python files, as packages."""
    files = [path.relative_to(ROOT) for path in ROOT.rglob('*.py')]
    folders = {path.parent for path in files if not path.parts[0].startswith('.')}
    return {'.'.join(('practicum', *folder.parts)) for folder in folders
            if not folder.parts or folder.parts[0] not in (*NOT_INSTALLED, 'build')}


def test_the_packages_are_the_folders_that_there_are():
    settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['setuptools']
    assert settings['package-dir'] == {'practicum': '.'}
    assert sorted(settings['packages']) == sorted(packages())


def test_files_that_are_not_python_are_installed_too():
    settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['setuptools']
    for package in packages() - {'practicum'}:
        folder = ROOT.joinpath(*package.split('.')[1:])
        for file in folder.iterdir():
            if file.is_file() and file.suffix not in ('.py', '.pyc'):
                patterns = settings['package-data'].get(package, ())
                assert any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns), file


def test_the_console_command_is_there():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    module, _, function = project['scripts']['practicum'].partition(':')
    assert callable(getattr(importlib.import_module(module), function))


def test_requirements_and_dependencies_name_the_same_packages():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    names = {line.partition('>=')[0] for line in (*project['dependencies'],
                                                  *project['optional-dependencies']['test'])}
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    assert names == {line.partition('==')[0] for line in lines if not line.startswith('#')}
