"""When a trial is not worth going on with: decided from reported values alone, so that to ask again is the same."""

import math

import optuna
from optuna.trial import FrozenTrial

_FIRST = 2  # evaluations before anything is decided: the first alone says too little
_KEPT = 4  # one of so many goes on


class SuccessiveHalving(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al. 2018, https://arxiv.org/abs/1810.05934, Algorithm 2).

    After 2, 8, 32, ... evaluations a trial goes on if it is among the best quarter of all that came so far.
    Optuna's own notes in the database that it has decided, before anybody has acted on it: a worker that is killed
    then would leave a trial that is never pruned.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Returns whether a trial ends at its latest evaluation."""
        number = trial.last_step
        if number is None or not _is_rung(number):
            return False
        value = trial.intermediate_values[number]
        if math.isnan(value):
            return True
        values = [other.intermediate_values[number] for other in study.get_trials(deepcopy=False)
                  if number in other.intermediate_values and other.number != trial.number]
        sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
        better = sum(sign * other > sign * value for other in values)  # NaN is not better
        return better >= max(1, (len(values) + 1) // _KEPT)


def _is_rung(number: int) -> bool:
    rung = _FIRST
    while rung < number:
        rung *= _KEPT
    return rung == number


def _median() -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(n_warmup_steps=_FIRST)


PRUNERS = {'asha': SuccessiveHalving, 'median': _median, 'none': optuna.pruners.NopPruner}
