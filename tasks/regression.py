"""Regression of one number."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import numpy as np
from clu import metrics as clu_metrics

from .metrics import Mean
from .prediction import Prediction


class Regression:
    """Mean squared error between the model's output and 'y'."""
    fields = ()
    primary_metric = 'loss'
    writes_files = False
    cases = None

    def __init__(self, config: Mapping[str, Any], meta: Mapping[str, Any]):
        del config, meta

        @flax.struct.dataclass
        class Metrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')

        self.train_metrics = self.eval_metrics = Metrics

    def model_fields(self) -> dict[str, Any]:
        """Nothing of the model follows from the data."""
        return {}

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array]:
        """Returns (x,), float [batch]."""
        return (batch['x'],)

    def score(self, outputs: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the squared error as 'loss', [batch]."""
        return {'loss': (outputs - batch['y']) ** 2}

    def predict(self, outputs: np.ndarray, image: np.ndarray, facts: Mapping[str, Any], top_k: int) -> Prediction:
        """Returns the predicted number of one example; only outputs, float [], is used."""
        del image, facts, top_k
        return Prediction({'value': float(outputs)})

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a table."""
        return dict(row)

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line."""
        return f"{row['value']:g}"

    def tables(self, metrics: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Returns none."""
        del metrics
        return {}

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                 first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """There are none."""
        del metrics, worst, first
        return {}
