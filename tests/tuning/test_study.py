"""The queue of trials in a database: nothing is lost where the database fails, or another worker is faster."""

import secrets

import pytest
import sqlalchemy
from optuna.storages import RDBStorage

from practicum.tuning import study as study_lib
from practicum.tuning.search_space import Range
from practicum.tuning.study import Storage, Study, TakenOver

SPACE = {'optimizer.learning_rate': Range(1e-4, 1.0, log=True)}


@pytest.fixture(scope='module')
def database(tmp_path_factory) -> Storage:
    return Storage(tmp_path_factory.mktemp('database'), '', 60.0)


@pytest.fixture
def new_worker(database, monkeypatch):
    """Returns a function that returns the queue of this test, as one more worker sees it."""
    monkeypatch.setattr(study_lib, '_POLL_SECONDS', 0.01)
    name = secrets.token_hex(8)
    return lambda: Study(database, name, mode='max', space=SPACE, sampler='random')


def fails_once(monkeypatch, owner, name: str) -> None:
    """Lets a database be away at the first call of a method."""
    method, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise sqlalchemy.exc.OperationalError('select', {}, Exception('server closed the connection'))
        return method(*args, **kwargs)
    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize('method', ['_create_new_trial', 'set_trial_user_attr', 'record_heartbeat', '_set_trial_param',
                                    'get_trial'])
def test_a_trial_is_not_lost_where_the_database_is_away(new_worker, monkeypatch, method):
    study = new_worker()
    before = study.claim(1)
    study.finish(before, 'waiting')
    fails_once(monkeypatch, RDBStorage, method)
    claim = study.claim(2)
    assert (claim.number, claim.params) == (0, before.params)
    assert [record.state for record in study.trials()] == ['running']


def taken(new_worker):
    """Returns the claim of the one trial, whoever had it."""
    study = new_worker()
    study._storage.optuna.set_trial_state_values(study._study.trials[0]._trial_id, study_lib.TrialState.WAITING)
    return study.claim(1)


@pytest.mark.parametrize('owner, method', [(study_lib.Storage, '_enter'), (RDBStorage, 'create_new_study')])
def test_a_database_that_is_away_between_two_queues(new_worker, monkeypatch, owner, method):
    fails_once(monkeypatch, owner, method)
    assert new_worker().trials() == []


@pytest.mark.parametrize('method', ['get_trial', 'set_trial_user_attr', 'set_trial_state_values'])
@pytest.mark.parametrize('state', ['complete', 'pruned', 'failed', 'waiting'])
def test_an_end_is_not_lost_where_the_database_is_away(new_worker, monkeypatch, method, state):
    study = new_worker()
    claim = study.claim(1)
    study.report(claim, 1, 0.5)
    fails_once(monkeypatch, RDBStorage, method)
    study.finish(claim, state, 0.5 if state == 'complete' else None, fact=1)
    record, = study.trials()
    assert (record.state, record.facts) == (state, {'fact': 1})


def test_a_trial_that_was_taken_over_is_left_to_the_other(new_worker):
    first, second = new_worker(), new_worker()
    late = first.claim(1)
    first.report(late, 1, 0.5)
    claim = taken(new_worker)
    for call in (lambda: first.beat(late), lambda: first.report(late, 2, 0.6),
                 *(lambda state=state: first.finish(late, state, 0.1) for state in ('complete', 'failed', 'waiting'))):
        with pytest.raises(TakenOver):
            call()
    first.let_go(late)
    assert [record.state for record in second.trials()] == ['running']
    assert second.report(claim, 2, 0.7) is False
    second.finish(claim, 'complete', 0.7)
    with pytest.raises(TakenOver):
        first.finish(late, 'failed', error='late')
    record, = second.trials()
    assert (record.state, record.value, record.error) == ('complete', 0.7, '')


def test_one_that_puts_a_trial_back_does_not_shake_whoever_takes_it(new_worker):
    """The sign that a worker has a trial is a locked file, and the next one's is another file."""
    study, another = new_worker(), new_worker()
    study.finish(study.claim(1), 'waiting')
    claim = another.claim(1)
    assert claim.number == 0 and study.claim(1) is None
    another.finish(claim, 'waiting')
    assert study.claim(1).again
