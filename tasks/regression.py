"""Regression of one or several numbers."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from . import fit_figures
from .metrics import Mean
from .prediction import Prediction
from .task import Task


class Regression(Task):
    """Mean squared error between the model's output and 'y', [batch] or [batch, targets]."""

    takes_top_k = False

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        # Images and tables alike: the inputs are what the data have.
        self.input_features = ('image',) if 'image' in info.features else ('x',)
        super().__init__(config, info)
        self.train_metrics = self.eval_metrics = clu_metrics.Collection.create(
            loss=Mean.from_output('loss'), mean_absolute_error=Mean.from_output('absolute_error'))

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of targets as that of the model's outputs."""
        return {'num_classes': self.info.targets} if self.info.targets else {}

    def score(self, outputs: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the squared error as 'loss' and the 'absolute_error', each the mean over targets, [batch]."""
        target = batch['y']
        if outputs.size != target.size:
            raise UserError(f'config.task.name: regression of {list(target.shape[1:]) or "one number"} for each '
                            f'example, this model gives {list(outputs.shape[1:])}: another config.model or config.task')
        error = (outputs.reshape(target.shape) - target).reshape(len(target), -1)
        return {'loss': jnp.mean(error ** 2, axis=1), 'absolute_error': jnp.mean(jnp.abs(error), axis=1)}

    def fit_figures(self, model: Any, variables: Mapping[str, Any], sets: Mapping[str, Mapping[str, np.ndarray]]
                    ) -> dict[str, Any]:
        """Returns the curve of a function of one number among the points, as 'fit'."""
        if not fit_figures.is_curve(sets):
            return {}
        shape = next(iter(sets.values()))['x'].shape[1:]
        return {'fit': fit_figures.draw_curve(
            lambda x: fit_figures.apply(model, variables, x.reshape(-1, *shape)).ravel(), sets)}

    def predict(self, outputs: np.ndarray, image: np.ndarray, metadata: Mapping[str, Any], top_k: int) -> Prediction:
        """Returns the predicted number of one example as 'value', several as 'value_1' and so on."""
        del image, metadata, top_k
        values = np.ravel(outputs).astype(float).tolist()
        if self.info.targets and len(values) != self.info.targets:
            raise UserError(f'the model gives {len(values)} numbers for this example, it learned to give '
                            f'{self.info.targets}: the example has too many')
        return Prediction({'value': values[0]} if len(values) == 1 else
                          {f'value_{number}': value for number, value in enumerate(values, start=1)})
