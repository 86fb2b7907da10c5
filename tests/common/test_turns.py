"""Work that several processes want is done by one of them; who waits says so, and is not stopped by a dead one."""

import logging
import subprocess
import sys
import threading
import time

import pytest

from practicum.common import interrupt
from practicum.common.json_cache import cached_json
from practicum.common.turns import one_at_a_time
from tests.conftest import ROOT

HOLDER = '''
import sys, time
sys.path.insert(0, sys.argv[1])
import launch
from practicum.common.turns import one_at_a_time
with one_at_a_time('checking pets', 'pets'):
    print('begun', flush=True)
    time.sleep(60)
'''


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(cache):
    """Another process, whose turn it is."""
    child = subprocess.Popen([sys.executable, '-c', HOLDER, str(ROOT)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == 'begun\n'
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def in_threads(count, function):
    results = []
    threads = [threading.Thread(target=lambda: results.append(function())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_what_many_want_is_computed_once(cache, caplog):
    computed = []

    def compute():
        computed.append(1)
        time.sleep(0.3)
        return ['value']
    with caplog.at_level(logging.INFO):
        assert in_threads(5, lambda: cached_json('things', 'a', compute, 'counting things')) == [['value']] * 5
    assert computed == [1]
    assert caplog.text.count('another process is counting things: waiting for its result') == 4
    assert list((cache / 'turns').iterdir()) == []


def test_turns_never_overlap_and_all_get_theirs():
    inside, most = [], []

    def turn():
        for _ in range(5):
            with one_at_a_time('counting', 'a'):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
    in_threads(4, turn)
    assert len(most) == 20 and set(most) == {1}


def test_the_turn_of_a_process_that_was_killed_is_over(holder, caplog):
    entered = []
    with caplog.at_level(logging.INFO):
        waiting = threading.Thread(target=lambda: entered.append(cached_json('x', 'y', list)) or _enter(entered))
        waiting.start()
        while 'another process is checking pets' not in caplog.text:
            time.sleep(0.01)
    assert entered == [[]], 'other work is not waited for'
    holder.kill()
    waiting.join(10)
    assert entered == [[], 'turn']


def _enter(entered):
    with one_at_a_time('checking pets', 'pets'):
        entered.append('turn')


def test_who_waits_hears_a_request_to_stop(holder):
    interrupt.request()
    try:
        with pytest.raises(interrupt.Interrupted), one_at_a_time('checking pets', 'pets'):
            pass
    finally:
        interrupt.clear()


def test_without_a_cache_nobody_waits(cache, monkeypatch):
    (cache / 'file').touch()
    monkeypatch.setenv('PRACTICUM_CACHE', str(cache / 'file'))
    with one_at_a_time('a', 'a'), one_at_a_time('a', 'a'):
        assert cached_json('things', 'a', lambda: 3) == 3


def test_an_error_ends_the_turn():
    with pytest.raises(ValueError), one_at_a_time('a', 'a'):
        raise ValueError
    with one_at_a_time('a', 'a'):
        pass
