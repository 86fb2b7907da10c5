"""Which trials go on, decided from what was reported alone."""

import math

import optuna
import pytest
from optuna.trial import TrialState

from practicum.tuning.pruners import PRUNERS


def study_of(curves: list[list[float]], direction: str = 'maximize') -> optuna.Study:
    """A study whose trials have reported so many evaluations each, from number 1 on."""
    study = optuna.create_study(direction=direction)
    for curve in curves:
        study.add_trial(optuna.create_trial(state=TrialState.RUNNING,
                                            intermediate_values=dict(enumerate(curve, 1))))
    return study


def decisions(study: optuna.Study, name: str = 'asha') -> list[bool]:
    pruner = PRUNERS[name]()
    return [pruner.prune(study, trial) for trial in study.get_trials()]


def test_the_first_evaluation_decides_nothing():
    assert not any(decisions(study_of([[0.1], [0.9], [0.5]])))


@pytest.mark.parametrize('direction, sign', [('maximize', 1), ('minimize', -1)])
def test_a_quarter_goes_on_after_two_evaluations(direction, sign):
    study = study_of([[0.0, sign * value] for value in (0.1, 0.8, 0.3, 0.7, 0.2, 0.4, 0.5, 0.6)], direction)
    assert [i for i, pruned in enumerate(decisions(study)) if not pruned] == [1, 3]


def test_the_best_of_few_goes_on():
    assert decisions(study_of([[0.0, 0.5], [0.0, 0.6]])) == [True, False]
    assert decisions(study_of([[0.0, 0.5]])) == [False]


def test_between_rungs_nothing_is_decided():
    assert not any(decisions(study_of([[0.9] * 3, [0.1] * 3, [0.1] * 7])))
    assert decisions(study_of([[0.9] * 8, [0.1] * 8, [0.1] * 7])) == [False, True, False]


def test_equal_values_go_on_and_a_value_that_is_not_finite_does_not():
    assert decisions(study_of([[0, 0.0]] * 8)) == [False] * 8
    assert decisions(study_of([[0, math.nan], [0, 0.1]])) == [True, False]


def test_to_ask_again_is_the_same():
    """Whoever takes over the trial of a worker that was killed asks again."""
    study = study_of([[0.0, value] for value in (0.1, 0.9, 0.5, 0.3)])
    for name in PRUNERS:
        assert decisions(study, name) == decisions(study, name)
