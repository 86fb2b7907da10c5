"""The queue of trials in a database: nothing is lost where the database fails, or another worker is faster."""

import pytest
import sqlalchemy

from practicum.sweeps import study as study_lib
from practicum.sweeps.search_space import Range
from practicum.sweeps.study import Storage, Study, TakenOver

SPACE = {'optimizer.learning_rate': Range(1e-4, 1.0, log=True)}


@pytest.fixture
def storage(tmp_path, monkeypatch) -> Storage:
    """A database, which is asked again at once when it was away."""
    monkeypatch.setattr(study_lib, '_POLL_SECONDS', 0.01)
    return Storage(tmp_path, '', 60.0)


def study_of(storage: Storage, **more) -> Study:
    """Returns the queue, as another worker sees it."""
    return Study(storage, 'one', mode='max', space=SPACE, sampler='random', **more)


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
def test_a_trial_is_not_lost_where_the_database_is_away(storage, monkeypatch, method):
    study = study_of(storage)
    before = study.claim(1)
    study.finish(before, 'waiting')
    fails_once(monkeypatch, type(storage.optuna), method)
    claim = study.claim(2)
    assert (claim.number, claim.params) == (0, before.params)
    assert [record.state for record in study.trials()] == ['running']


def taken(storage: Storage):
    """Returns the claim of the one trial, whoever had it."""
    study = study_of(storage)
    study._storage.optuna.set_trial_state_values(study._study.trials[0]._trial_id, study_lib.TrialState.WAITING)
    return study.claim(1)


@pytest.mark.parametrize('method', ['get_trial', 'set_trial_user_attr', 'set_trial_state_values'])
@pytest.mark.parametrize('state', ['complete', 'pruned', 'failed', 'waiting'])
def test_an_end_is_not_lost_where_the_database_is_away(storage, monkeypatch, method, state):
    study = study_of(storage)
    claim = study.claim(1)
    study.report(claim, 1, 0.5)
    fails_once(monkeypatch, type(storage.optuna), method)
    study.finish(claim, state, 0.5 if state == 'complete' else None, fact=1)
    record, = study.trials()
    assert (record.state, record.facts) == (state, {'fact': 1})


def test_a_trial_that_was_taken_over_is_left_to_the_other(storage):
    first, second = study_of(storage), study_of(storage)
    late = first.claim(1)
    first.report(late, 1, 0.5)
    claim = taken(storage)
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


def test_one_that_puts_a_trial_back_does_not_shake_whoever_takes_it(storage):
    """The sign that a worker has a trial is a locked file, and the next one's is another file."""
    study, another = study_of(storage), study_of(storage)
    study.finish(study.claim(1), 'waiting')
    claim = another.claim(1)
    assert claim.number == 0 and study.claim(1) is None
    another.finish(claim, 'waiting')
    assert study.claim(1).again
