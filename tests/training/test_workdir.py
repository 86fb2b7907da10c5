"""The folder of a run that cannot be one: one line that says why."""

import errno
import fcntl
import os

import pytest

from practicum.common.errors import UserError
from practicum.training.checkpoints import Checkpoints


@pytest.mark.parametrize('name', ['x' * 300, 'file/below'])
def test_a_workdir_that_cannot_be_looked_into_is_one_error(tmp_path, name):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='no checkpoints in|File name too long'):
        Checkpoints(tmp_path / name, writable=False)
    with pytest.raises(UserError, match='cannot make the folder'):
        Checkpoints(tmp_path / name, writable=True)


def test_a_workdir_one_may_not_enter_says_so(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(UserError, match='cannot read .*Permission denied'):
        Checkpoints(tmp_path, writable=False)


def test_a_workdir_whose_name_is_not_utf8_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match='is not UTF-8'):
        Checkpoints(tmp_path / 'caf\udce9', writable=True)
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_warned_of_and_not_taken_for_a_second_run(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    monkeypatch.setattr(fcntl, 'flock', refuse)
    with Checkpoints(tmp_path / 'run', writable=True):
        pass
    assert 'has no locks (Function not implemented)' in caplog.text
