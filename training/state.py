"""What a training run carries from step to step."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
    """All that changes while training; together with the config it determines every later step.

    Attributes:
      step: int32 scalar, steps done.
      params: the model's parameters, float32.
      batch_stats: BatchNorm's running statistics, {} for models without.
      opt_state: optax state.
      ema: {'params', 'batch_stats'} moving averages, {} when they are off.
      carry: what the rows of the next batch begin with, where a task carries something from batch to batch, such as
        the state of an LSTM: a pytree of arrays [rows of the global batch, ...]; {} for others.
    """
    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any
    carry: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What a checkpoint's 'variables' item holds."""
        return {'params': self.params, 'batch_stats': self.batch_stats, 'ema': self.ema}

    @property
    def training(self) -> dict[str, Any]:
        """What a checkpoint's 'training' item holds."""
        return {'opt_state': self.opt_state, 'step': self.step, 'carry': self.carry}


def init_state(model, inputs: tuple, optimizer, *, seed: int, ema: bool) -> TrainState:
    """Initialises parameters and optimizer state in one compiled call; nothing is carried yet.

    Args:
      model: a flax module.
      inputs: example inputs of the model, at least one row each.
      optimizer: `training.optimizer.Optimizer`.
      seed: of the parameters.
      ema: whether to keep moving averages; they start at the initial values.
    """
    def init():
        key = jax.random.key(seed)
        variables = model.init({'params': key, 'dropout': key}, *inputs, train=False)
        params = variables['params']
        batch_stats = variables.get('batch_stats', {})
        averages = {'params': params, 'batch_stats': batch_stats} if ema else {}
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), averages, carry={})
    return jax.jit(init)()


def initial_carry(forward: Callable, task, variables: dict[str, Any], batch: dict[str, Any], rows: int) -> Any:
    """Returns zeros for what a task carries from batch to batch, [rows, ...]; {} if it carries nothing.

    Args:
      forward: see training/forward.py.
      task: see tasks/__init__.py.
      variables: of the model.
      batch: prepared, of at least one example.
      rows: of a global batch.
    """
    shapes = jax.eval_shape(lambda: task.carried(forward(variables, batch, train=False)))
    return jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape[1:]), leaf.dtype), shapes)


def evaluated_variables(state_variables: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables to evaluate and predict with: the moving averages where they are kept."""
    chosen = state_variables.get('ema') or state_variables
    return {'params': chosen['params'], 'batch_stats': chosen.get('batch_stats', {})}
