"""Promises of deployment/model_store.py: which files are served, and what happens when they change."""

import json
import shutil
import threading

import pytest

from practicum.common.errors import UserError
from practicum.deployment.model_store import find_models
from practicum.deployment.server import Limits
from tests.deployment.running import PREDICT, Running, in_threads, png, wait_for


def test_models_are_found_by_name_and_version(tmp_path):
    for name in ('cats/9.zip', 'cats/10.zip', 'dogs/1.zip', 'dogs/.2.zip', 'empty/readme.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_models([tmp_path])
    assert {name: sorted(files) for name, files in found.items()} == {'cats': ['10', '9'], 'dogs': ['1']}
    assert find_models([tmp_path / 'cats']) == {'cats': found['cats']}
    assert find_models([tmp_path / 'dogs' / '1.zip']) == {'1': {'1': tmp_path / 'dogs' / '1.zip'}}
    for paths, words in (([tmp_path / 'cats', tmp_path], 'two models are called cats'),
                         ([tmp_path / 'empty'], 'no model in this folder'), ([tmp_path / 'x.zip'], 'no such file'),
                         ([tmp_path / 'empty' / 'readme.txt'], 'not an exported model')):
        with pytest.raises(UserError, match=words):
            find_models(paths)
    (tmp_path / 'stray.zip').touch()
    with pytest.raises(UserError, match='stray.zip lies beside cats/10.zip: a folder has versions of one model, or'):
        find_models([tmp_path])


def test_a_new_version_takes_over_under_load_and_no_request_is_lost(exported, tmp_path, caplog):
    """One client on a kept connection and one on new ones ask without a pause while version 10 replaces 9."""
    folder = tmp_path / 'models' / 'digits'
    folder.mkdir(parents=True)
    shutil.copy(exported, folder / '9.zip')
    running = Running(folder.parent, limits=Limits(max_batch=4))
    stop, answers, versions = threading.Event(), [], []

    def client(number):
        kept = running.connect()
        while not stop.is_set():
            if number:
                kept.request('POST', PREDICT, png())
                answer = kept.getresponse()
                answers.append(answer.status)
                versions.append(json.loads(answer.read())['model_version'])
            else:
                answers.append(running.ask(PREDICT, png())[0])
        kept.close()
    threads = in_threads(2, client)
    wait_for(lambda: len(answers) > 10)
    look = running.server.store.look
    (folder / '10.zip').write_bytes(exported.read_bytes()[:-1000])
    running.call(look())
    running.call(look(at_once=True))
    assert running.server.store.versions('digits') == ['9'] and '10.zip' in caplog.text and '9 stays' in caplog.text
    complaints = len(caplog.records)
    running.call(look(at_once=True))
    assert len(caplog.records) == complaints  # it is said once

    shutil.copy(exported, folder / '10.zip')
    running.call(look())  # it might still be copied
    assert running.server.store.versions('digits') == ['9']
    running.call(look())
    assert running.server.store.versions('digits') == ['10']
    (folder / '10.zip').touch()
    before = running.server.store.find('digits')
    running.call(look(at_once=True))
    assert running.server.store.find('digits') is not before
    wait_for(lambda: len(versions) > 2 and versions[-1] == '10')
    wait_for(lambda: not running.server.store._retiring)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {200} and versions == sorted(versions, key=int)
    text = running.ask('/metrics')[2].decode()
    assert 'practicum_loads_total{model="digits",outcome="loaded"} 2.0' in text
    assert 'practicum_loads_total{model="digits",outcome="failed"} 1.0' in text
    (folder / '10.zip').unlink()
    running.call(look(at_once=True))
    assert running.server.store.versions('digits') == ['9']  # back
    (folder / '9.zip').unlink()
    running.call(look(at_once=True))
    assert running.ask(PREDICT, png())[0] == 200  # the last one stays
    running.stop()


def test_what_cannot_be_told_apart_or_is_gone_leaves_what_is_served(exported, tmp_path, caplog):
    several, alone = tmp_path / 'several', tmp_path / 'alone.zip'
    for name in ('first', 'second'):
        (several / name).mkdir(parents=True)
        shutil.copy(exported, several / name / '1.zip')
    shutil.copy(exported, alone)
    running = Running(several, alone, limits=Limits(max_batch=1))
    before = {name: running.server.store.find(name) for name in running.server.store.names}
    (several / 'alone').mkdir()
    shutil.copy(exported, several / 'alone' / '7.zip')
    shutil.rmtree(several / 'second')
    for _ in range(2):
        running.call(running.server.store.look(at_once=True))
    assert {name: running.server.store.find(name) for name in running.server.store.names} == before
    lines = [record.getMessage() for record in caplog.records if 'what is served stays' in record.getMessage()]
    assert len(lines) == 2 and 'has a model called alone, too' in lines[0] and 'second is gone' in lines[1]
    running.stop()
