"""What a run was started from can be rebuilt from its folder."""

import json
import logging
import subprocess
import sys
import types

import pytest

from practicum.training import config as config_lib
from practicum.training import snapshot
from tests.tiny import tiny_config


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git repository with one committed file, which is taken for the checkout of this project."""
    folder = tmp_path / 'checkout'
    folder.mkdir()
    monkeypatch.setattr(config_lib, 'ROOT', folder)
    monkeypatch.setattr(snapshot, '_outside_modules', list)
    (folder / 'model.py').write_text('width = 1\n')
    (folder / '.gitignore').write_text('ignored.py\n')
    git(folder, 'init', '-q')
    git(folder, 'add', '.')
    git(folder, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-q', '-m', 'first')
    return folder


def git(folder, *args) -> str:
    return subprocess.run(('git', *args), cwd=folder, check=True, capture_output=True, text=True).stdout


def start(workdir) -> dict:
    """Returns what environment.json says of the latest start."""
    workdir.mkdir(exist_ok=True)
    snapshot.write(workdir, tiny_config())
    return json.loads((workdir / 'environment.json').read_text())[-1]


def test_a_clean_checkout_needs_nothing_but_its_commit(checkout, tmp_path):
    found = start(tmp_path / 'run')
    assert found['git']['commit'] == git(checkout, 'rev-parse', 'HEAD').strip() and not found['git']['dirty']
    assert found['source'] == {'folder': '', 'files': {}}
    assert not (tmp_path / 'run' / 'source').exists()


def test_changes_and_new_files_are_kept_once_and_rebuild_the_checkout(checkout, tmp_path):
    (checkout / 'model.py').write_text('width = 2\n')
    (checkout / 'new').mkdir()
    for name in ('new/layer.py', 'ignored.py', 'data.bin'):
        (checkout / name).write_text('mine = 1\n')
    found, again = start(tmp_path / 'run'), start(tmp_path / 'run')
    assert found['git']['dirty'] and found['source'] == again['source']
    assert found['source']['files'] == {'diff.patch': len(git(checkout, 'diff', '--binary', 'HEAD')),
                                        'untracked/new/layer.py': 9}
    kept = tmp_path / 'run' / found['source']['folder']
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert (kept / 'untracked' / 'new' / 'layer.py').read_text() == 'mine = 1\n'
    git(checkout, 'checkout', '-q', '.')
    git(checkout, 'apply', str(kept / 'diff.patch'))
    assert (checkout / 'model.py').read_text() == 'width = 2\n'

    (checkout / 'model.py').write_text('width = 3\n')
    assert start(tmp_path / 'run')['source']['folder'] != found['source']['folder'] and kept.is_dir()


def test_too_many_changes_are_not_kept_and_said(checkout, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    (checkout / 'table.py').write_text('#' * (1 << 20))
    (checkout / 'model.py').write_text('width = 2\n')
    found = start(tmp_path / 'run')
    assert found['source'].keys() == {'left_out'} and '2 changed source files' in found['source']['left_out']
    assert len(caplog.records) == 1 and 'commit them' in caplog.text
    assert not (tmp_path / 'run' / 'source').exists()


def test_an_installed_package_has_no_commit_of_the_repository_around_it(checkout, tmp_path, monkeypatch):
    (checkout / 'lib').mkdir()
    (checkout / 'model.py').write_text('width = 2\n')
    monkeypatch.setattr(config_lib, 'ROOT', checkout / 'lib')
    found = start(tmp_path / 'run')
    assert found['git'] == {} and found['source'] == {'folder': '', 'files': {}}
    assert 'practicum' in found['packages']


def test_an_experiment_from_outside_of_the_checkout_is_kept_with_what_it_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, '_git', lambda *args: b'')
    helper = tmp_path / 'helper.py'
    helper.write_text('size = 3\n')
    monkeypatch.setitem(sys.modules, 'helper', types.SimpleNamespace(__file__=str(helper)))
    mine = tmp_path / 'mine.py'
    mine.write_text('from tests.tiny import get_config  # noqa: F401\n')
    config_lib.load(str(mine))
    found = start(tmp_path / 'run')
    kept = tmp_path / 'run' / found['source']['folder'] / 'outside'
    for path in (helper, mine):
        assert (kept / path.relative_to('/')).read_text() == path.read_text()
    assert not any('site-packages' in name or 'json' in name for name in found['source']['files'])


def test_a_damaged_list_of_starts_begins_anew(checkout, tmp_path):
    start(tmp_path / 'run')
    for text in ('{"a": 1}', '7', 'null', '[' * 100_000, '\x00'):
        (tmp_path / 'run' / 'environment.json').write_text(text)
        (tmp_path / 'run' / 'config.json').write_text(text)
        assert start(tmp_path / 'run')['git']['commit']
