"""Ending a training when a metric of an evaluation no longer gets better."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ..common.errors import UserError, nearest


class EarlyStopping:
    """Counts evaluations without improvement (Prechelt 1998, "Early stopping - but when?", the criterion UP).

    Args:
      config: config.early_stopping: 'metric', a flat name such as 'validation/loss', '' for none; 'mode', 'max' or
        'min'; 'patience', evaluations without improvement after which the training ends; 'min_delta', by how much a
        value must be better to count as improvement.
      earlier: what `to_json` returned at the checkpoint a run resumes from; None for a new run.
    """

    def __init__(self, config: ConfigDict, earlier: Mapping[str, Any] | None = None):
        self._config = config
        same = earlier and earlier.get('metric') == config.metric and earlier.get('mode') == config.mode
        self._best, self._step, self._waited = (
            (earlier['best'], earlier['step'], earlier['waited']) if same else (None, 0, 0))
        self._latest = earlier['latest'] if same else -1

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        return bool(self._config.metric) and self._waited >= self._config.patience

    def __str__(self) -> str:
        return (f'early stopping: {self._config.metric} has not been better than {self._best:.6g} of step '
                f'{self._step:,} for {self._waited} evaluations')

    def update(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Takes the metrics of an evaluation; returns whether the training should end."""
        if not self._config.metric:
            return False
        if step == self._latest:  # done again after an interruption
            return self.is_over
        self._latest = step
        value = metrics.get(self._config.metric, math.nan)
        sign = 1 if self._config.mode == 'max' else -1
        if math.isfinite(value) and (self._best is None or sign * (value - self._best) > self._config.min_delta):
            self._best, self._step, self._waited = value, step, 0
        else:
            self._waited += 1
        return self.is_over

    def to_json(self) -> dict[str, Any] | None:
        """Returns what a resumed run goes on with."""
        if not self._config.metric:
            return None
        return {'metric': self._config.metric, 'mode': self._config.mode, 'best': self._best, 'step': self._step,
                'waited': self._waited, 'latest': self._latest}


def check(config: ConfigDict, known: Sequence[str]) -> None:
    """Raises UserError if config.early_stopping does not fit; known: the metrics of periodic evaluations."""
    if not config.metric:
        return
    if config.metric not in known:
        raise UserError(f'config.early_stopping.metric = {config.metric!r} is not a metric of a periodic evaluation '
                        f'set; {nearest(config.metric, known)}')
    if config.mode not in ('max', 'min'):
        raise UserError(f"config.early_stopping.mode = {config.mode!r}: it is 'max' or 'min'")
    if config.patience < 1 or not config.min_delta >= 0:
        raise UserError(f'config.early_stopping: patience = {config.patience} must be at least 1, and min_delta = '
                        f'{config.min_delta} must not be negative')
