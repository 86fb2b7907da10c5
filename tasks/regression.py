"""Regression of one number."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np
from clu import metrics as clu_metrics

from tasks.metrics import Mean


class Regression:
    """Mean squared error between the model's output and 'y'."""
    fields = ()
    headline = 'loss'

    def __init__(self, config: Mapping[str, Any], meta: Mapping[str, Any]):
        del config, meta

        @flax.struct.dataclass
        class Metrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')

        self.train_metrics = self.eval_metrics = Metrics

    def model_facts(self) -> dict[str, Any]:
        """Nothing of the model follows from the data."""
        return {}

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array]:
        """Returns (x,), float [batch]."""
        return (batch['x'],)

    def score(self, outputs: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the squared error as 'loss', [batch]."""
        return {'loss': (outputs - batch['y']) ** 2}

    def predict(self, outputs: np.ndarray, top_k: int) -> list[dict[str, Any]]:
        """Returns the predicted number of each example."""
        del top_k
        return [{'value': float(value)} for value in outputs]

    def pictures(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """There are none."""
        del metrics
        return {}
