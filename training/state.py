"""What a training run carries from step to step."""

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
    """
    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What a checkpoint's 'variables' item holds."""
        return {'params': self.params, 'batch_stats': self.batch_stats, 'ema': self.ema}

    @property
    def training(self) -> dict[str, Any]:
        """What a checkpoint's 'training' item holds."""
        return {'opt_state': self.opt_state, 'step': self.step}


def init_state(model, inputs: tuple, optimizer, *, seed: int, ema: bool) -> TrainState:
    """Initialises parameters and optimizer state in one compiled call.

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
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), averages)
    return jax.jit(init)()


def evaluated_variables(state_variables: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables to evaluate and predict with: the moving averages where they are kept."""
    chosen = state_variables.get('ema') or state_variables
    return {'params': chosen['params'], 'batch_stats': chosen.get('batch_stats', {})}
