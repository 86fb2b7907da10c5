"""Files are whole or the old ones, links that somebody planted are not followed, and caches do not grow for ever."""

import os
import stat
import time
from pathlib import Path

import pytest

from practicum.common import files


def test_a_file_that_could_not_be_written_is_the_old_one_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / 'a.json'
    files.write_json(path, {'a': 1})
    with pytest.raises(ZeroDivisionError):
        with files.replacing(path) as file:
            file.write(b'half')
            raise ZeroDivisionError
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_what_utf8_does_not_have_is_written_as_an_escape(tmp_path):
    files.write_text(tmp_path / 'a', 'caf\udce9')
    assert (tmp_path / 'a').read_text() == 'caf\\udce9'


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    files.write_text(tmp_path / 'a', 'x')
    (tmp_path / 'b').touch()
    assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == stat.S_IMODE((tmp_path / 'b').stat().st_mode)


def test_links_are_replaced_and_never_followed(tmp_path):
    """In the folder of somebody else's run."""
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    run = tmp_path / 'run'
    run.mkdir()
    for name in ('report.html', '.report.html.new'):
        (run / name).symlink_to(victim)
    files.write_text(run / 'report.html', 'page')
    assert victim.read_text() == 'precious'
    assert (run / 'report.html').read_text() == 'page' and not (run / 'report.html').is_symlink()


def test_a_long_name_is_no_longer_while_it_is_written(tmp_path):
    name = 'ä' * 127
    files.write_text(tmp_path / name, 'x')
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_takes_the_place_of_another_or_of_a_link(tmp_path):
    victim = tmp_path / 'victim'
    victim.mkdir()
    (victim / 'precious').touch()
    (tmp_path / 'link').symlink_to(victim)
    for target in (tmp_path / 'folder', tmp_path / 'folder', tmp_path / 'link'):
        with files.replacing_folder(target) as folder:
            (folder / 'a').touch()
        assert [path.name for path in target.iterdir()] == ['a'] and not target.is_symlink()
    with pytest.raises(ZeroDivisionError):
        with files.replacing_folder(tmp_path / 'folder') as folder:
            (folder / 'a').touch()
            raise ZeroDivisionError
    assert (victim / 'precious').exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['folder', 'link', 'victim']


def test_what_a_killed_process_left_is_removed_later(tmp_path):
    old, fresh, other = tmp_path / '.a.0123.new', tmp_path / '.b.4567.new', tmp_path / '.profile'
    for path in (old, fresh, other):
        path.touch()
    long_ago = time.time() - 86_400
    for path in (old, other):
        os.utime(path, (long_ago, long_ago))
    files.remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == [fresh, other]
    files.remove_abandoned(tmp_path / 'missing')


def fill(folder: Path, name: str, age: float, size: int = 100) -> Path:
    """Makes an entry of a cache, a folder where the name ends so, that was last used so many seconds ago."""
    path = file = folder / name
    if name.endswith('folder'):
        path.mkdir()
        file = path / 'image.npy'
    file.write_bytes(bytes(size))
    os.utime(file, (time.time() - age, time.time() - age))
    return path


def test_what_was_used_longest_ago_leaves_a_cache_that_is_full(tmp_path):
    oldest, older = fill(tmp_path, 'a_folder', 400), fill(tmp_path, 'b', 300)
    newer, newest = fill(tmp_path, 'c_folder', 200), fill(tmp_path, 'd', 100)
    files.trim(tmp_path, 400)
    assert sorted(tmp_path.iterdir()) == [oldest, older, newer, newest]
    os.utime(oldest / 'image.npy')  # it was read
    files.trim(tmp_path, 399)
    assert sorted(tmp_path.iterdir()) == [oldest, newer, newest]
    files.trim(tmp_path, 0, keep=newer)
    assert list(tmp_path.iterdir()) == [newer]
    files.trim(tmp_path / 'missing', 0)


def test_a_cached_file_lets_older_ones_go(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE_GB', '150e-9')
    old = fill(tmp_path, 'old', 100)
    for name in ('new', 'newer'):
        files.write_cached(tmp_path / name, lambda file: file.write(bytes(100)), 'numbers')
        assert not old.exists() and [path.name for path in tmp_path.iterdir()] == [name]


def test_without_a_home_folder_caches_lie_in_a_folder_of_this_user_alone(tmp_path, monkeypatch, caplog):
    def homeless():
        raise RuntimeError('Could not determine home directory.')
    for name in ('PRACTICUM_CACHE', 'XDG_CACHE_HOME'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr(Path, 'home', homeless)
    monkeypatch.setattr(files.tempfile, 'tempdir', str(tmp_path))
    folder = files.cache_folder()
    assert folder == files.cache_folder() == tmp_path / f'practicum-{os.getuid()}'
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [record.getMessage() for record in caplog.records] == [
        f'this user has no home folder: caches are kept in {folder}; $PRACTICUM_CACHE names another']

    monkeypatch.setenv('PRACTICUM_CACHE', '')
    folder.chmod(0o777)  # where others can write they can plant a program
    other = files.cache_folder()
    assert other != folder and stat.S_IMODE(other.stat().st_mode) == 0o700
