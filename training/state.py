"""The state a training run begins with."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ..tasks import Task
from .step import TrainState

_BEFORE = 2**32 - 1  # what the key of a run is folded with before its first step; its steps count from 0


def hyperparameters(config: ConfigDict) -> dict[str, np.ndarray]:
    """Returns the config's numbers that are inputs of the compiled step, see `TrainState`."""
    return {'seed': np.uint32(config.seed), 'learning_rate': np.float32(config.optimizer.learning_rate),
            'weight_decay': np.float32(config.optimizer.weight_decay)}


def init_state(model, inputs: tuple, optimizer, hyperparameters: dict[str, np.ndarray], *, ema: bool) -> TrainState:
    """Returns the state of a run at step 0; for arguments and more runs see `init_states`."""
    return init_states(model, inputs, optimizer, [hyperparameters], ema=ema)[0]


def init_states(model, inputs: tuple, optimizer, hyperparameters: Sequence[dict[str, np.ndarray]], *, ema: bool
                ) -> list[TrainState]:
    """Initialises parameters and optimizer state of runs, each in one compiled call; without carry and experience.

    Args:
      model: a flax module.
      inputs: example inputs of the model, at least one row each.
      optimizer: `training.optimizer.Optimizer`.
      hyperparameters: of each run, see `TrainState`; its parameters are drawn from the seed.
      ema: whether to keep moving averages; they start at the initial values.
    """
    @jax.jit
    def init(hyperparameters, inputs):
        key = jax.random.key(hyperparameters['seed'])
        variables = model.init({'params': key, 'dropout': key}, *inputs, train=False)
        params = variables['params']
        batch_stats = variables.get('batch_stats', {})
        averages = {'params': params, 'batch_stats': batch_stats} if ema else {}
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), averages, carry={},
                          experience={}, hyperparameters=hyperparameters)
    return [init(of_run, inputs) for of_run in hyperparameters]


def initial_carry(forward: Callable, task: Task, variables: dict[str, Any], batch: dict[str, Any], rows: int) -> Any:
    """Returns zeros for what a task carries from batch to batch, [rows, ...]; {} if it carries nothing.

    Args:
      forward: see training/forward.py.
      task: see tasks/task.py.
      variables: of the model.
      batch: prepared, of at least one example.
      rows: of a global batch.
    """
    shapes = jax.eval_shape(lambda: task.carried(forward(variables, batch, train=False)))
    return jax.tree.map(lambda leaf: np.zeros((rows, *leaf.shape[1:]), leaf.dtype), shapes)


@functools.partial(jax.jit, static_argnums=0)
def initial_experience(task: Task, state: TrainState) -> Any:
    """Returns what a task that collects begins with, drawn from the seed of the run, see `TrainState`."""
    key = jax.random.fold_in(jax.random.key(state.hyperparameters['seed']), _BEFORE)
    return task.initial_experience({'params': state.params, 'batch_stats': state.batch_stats}, key)


def evaluated_variables(state_variables: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables to evaluate and predict with: the moving averages where they are kept."""
    chosen = state_variables.get('ema') or state_variables
    return {'params': chosen['params'], 'batch_stats': chosen.get('batch_stats', {})}
