"""One step of training and one of evaluation, written for one device; `training/parallel.py` maps them over all."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ..models import cpu_kernels
from .parallel import AXIS
from .state import TrainState
from .window import MetricLayout


def make_train_step(forward: Callable, task, optimizer, prepare: Callable, *, seed: int, ema_decay: float = 0.0,
                    accumulate: int = 1, on_trace: Callable[[], None] = lambda: None) -> Callable:
    """Returns `train_step(state, batch) -> (state, metrics)`.

    Args:
      forward: (variables, batch, **how to apply) -> outputs of the model, see training/forward.py; its `axis_name` is
        `AXIS`, if the model has one.
      task: see tasks/__init__.py.
      optimizer: `training.optimizer.Optimizer`.
      prepare: (batch, keys) -> batch, augmentation and normalisation; keys: one PRNG key per example.
      seed: every random number is a function of it, the step and the example's index in the global batch.
      ema_decay: of the moving averages of params and batch_stats; 0 switches them off.
      accumulate: number of micro-batches whose gradients are averaged before the one update.
      on_trace: called whenever the step is traced, to notice recompilation.

    What a task carries from batch to batch is part of the state, for all rows of the global batch; the step puts the
    rows of this device into its batch as 'carry'.

    The returned metrics are `task.train_metrics` merged over all devices and 'gradient_norm', packed by `MetricLayout`.
    """
    layout = MetricLayout(task.train_metrics)

    def gradients(params, batch_stats, batch, dropout_key):
        def loss_fn(params):
            params = optimizer.stop_frozen(params)
            outputs, updates = forward({'params': params, 'batch_stats': batch_stats}, batch, train=True,
                                       rngs={'dropout': dropout_key}, mutable=['batch_stats'])
            scores = task.score(outputs, batch)
            found = {'scores': scores, 'carry': task.carried(outputs)}
            return jnp.mean(scores['loss']), (found, updates.get('batch_stats', batch_stats))
        grads, (found, batch_stats) = jax.grad(loss_fn, has_aux=True)(params)
        return grads, found, batch_stats

    def accumulated(params, batch_stats, batch, dropout_key):
        if accumulate == 1:
            return gradients(params, batch_stats, batch, dropout_key)
        # Every accumulate-th row, so that which examples meet does not depend on the number of devices.
        micro = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)

        def body(carry, inputs):
            total, batch_stats = carry
            index, part = inputs
            grads, found, batch_stats = gradients(params, batch_stats, part, jax.random.fold_in(dropout_key, index))
            return (jax.tree.map(jnp.add, total, grads), batch_stats), found
        zeros = jax.tree.map(jnp.zeros_like, params)
        # XLA's CPU backend runs convolutions inside a loop ten times slower: there the loop is unrolled.
        unroll = accumulate if cpu_kernels.on_cpu() else 1
        (total, batch_stats), found = lax.scan(body, (zeros, batch_stats), (jnp.arange(accumulate), micro),
                                               unroll=unroll)
        found = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), found)
        return jax.tree.map(lambda g: g / accumulate, total), found, batch_stats

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, jax.Array]:
        on_trace()
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        batch = prepare(batch, _example_keys(augment_key, batch)) | _local_rows(state.carry, batch)
        grads, found, batch_stats = accumulated(state.params, state.batch_stats, batch, dropout_key)
        grads = lax.pmean(grads, AXIS)
        # BatchNorm reduced over the axis already, if the model was built with it; the mean is then of equal numbers.
        batch_stats = lax.pmean(batch_stats, AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = _average(state, {'params': params, 'batch_stats': batch_stats}, ema_decay)
        carry = lax.all_gather(found['carry'], AXIS, tiled=True)
        metrics = task.train_metrics.gather_from_model_output(axis_name=AXIS, **found['scores'])
        metrics = layout.pack({'task': metrics, 'gradient_norm': optax.tree.norm(grads)})
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema, carry), metrics

    return train_step


def make_eval_step(forward: Callable, task, prepare: Callable) -> Callable:
    """Returns `eval_step(variables, batch) -> (metrics, case_outputs, carry)`, the same on all devices.

    Args:
      forward: (variables, batch, train=False) -> outputs of the model.
      task, prepare: as for training.

    variables['carry'] is what the step before returned, for all rows of the global batch, see `TrainState`.
    batch['mask'] is 1 for examples and 0 for the padding of the last batch, float32 [batch]. The metrics are
    `task.eval_metrics` merged over all devices, the others `task.per_example.outputs` of the whole global batch, or {}.
    """

    def eval_step(variables: dict[str, Any], batch: dict[str, jax.Array]):
        mask = batch['mask']
        variables = dict(variables)
        batch = prepare(batch, None) | _local_rows(variables.pop('carry'), batch)
        outputs = forward(variables, batch, train=False)
        scores = task.score(outputs, batch)
        metrics = task.eval_metrics.gather_from_model_output(axis_name=AXIS, mask=mask, **scores)
        case_outputs = lax.all_gather(task.per_example.outputs(outputs), AXIS, tiled=True) if task.per_example else {}
        return metrics, case_outputs, lax.all_gather(task.carried(outputs), AXIS, tiled=True)

    return eval_step


def _example_keys(key: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """Returns one key per example of this device, by the example's index in the global batch."""
    rows = jax.tree.leaves(batch)[0].shape[0]
    index = lax.axis_index(AXIS) * rows + jnp.arange(rows)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def _local_rows(carry: Any, batch: dict[str, jax.Array]) -> dict[str, Any]:
    """Returns {'carry'}: this device's rows of what those of the global batch carry; {} if they carry nothing."""
    if not jax.tree.leaves(carry):
        return {}
    rows = jax.tree.leaves(batch)[0].shape[0]
    begin = lax.axis_index(AXIS) * rows
    return {'carry': jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, begin, rows), carry)}


def _average(state: TrainState, new: dict[str, Any], decay: float) -> dict[str, Any]:
    """Exponential moving average whose decay warms up, so that the initial values are soon forgotten."""
    if not decay:
        return {}
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, x: old * decay + x * (1 - decay), state.ema, new)
