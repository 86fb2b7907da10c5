"""One step of training and one of evaluation, written for one device; `training/parallel.py` maps them over all."""

from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ..models import cpu_kernels
from ..tasks import Task
from .parallel import AXIS

# What the key of a step is folded with; 0 and 1, its halves, are for augmentation and dropout.
_TASK, _MIX = 2, 3


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
      hyperparameters: 'seed' uint32, 'learning_rate' (the peak) and 'weight_decay' float32 scalars. They come from the
        config, never from a checkpoint. As inputs of the compiled step, not constants of it, they let runs that differ
        in nothing else share one executable.
    """
    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any
    carry: Any
    hyperparameters: dict[str, jax.Array]

    @property
    def variables(self) -> dict[str, Any]:
        """What a checkpoint's 'variables' item holds."""
        return {'params': self.params, 'batch_stats': self.batch_stats, 'ema': self.ema}

    @property
    def training(self) -> dict[str, Any]:
        """What a checkpoint's 'training' item holds."""
        return {'opt_state': self.opt_state, 'step': self.step, 'carry': self.carry}


def apply_model(model, task: Task) -> Callable:
    """Returns forward(variables, batch, **how): the model on what the task takes from a batch.

    See training/forward.py for the other ways through a model.
    """
    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        return model.apply(variables, *task.inputs(batch), **how)
    return forward


def make_train_step(forward: Callable, task: Task, optimizer, schedule: Callable, prepare: Callable, *,
                    mix: Callable | None = None, ema_decay: float = 0.0, accumulate: int = 1,
                    on_trace: Callable[[], None] = lambda: None) -> Callable:
    """Returns `train_step(state, batch) -> (state, metrics)`.

    Args:
      forward: (variables, batch, **how to apply) -> outputs of the model, such as `apply_model`; the model's
        `axis_name` is `AXIS`, if it has one.
      task: see tasks/task.py.
      optimizer: `training.optimizer.Optimizer`.
      schedule: step -> learning rate as a factor of the peak.
      prepare: (batch, keys) -> batch, augmentation and normalisation; keys: one PRNG key per example.
      mix: (key, batch, features of the global batch, rows) -> batch, see input_pipeline/mixing.py.
      ema_decay: of the moving averages of params and batch_stats; 0 switches them off.
      accumulate: number of micro-batches whose gradients are averaged before the one update.
      on_trace: called whenever the step is traced, to notice recompilation.

    Every random number is a function of the seed, the step and the example's index in the global batch. What a task
    carries from batch to batch is part of the state, for all rows of the global batch; the step puts the rows of this
    device into its batch as 'carry'.

    The returned metrics are `task.train_metrics` merged over all devices, 'gradient_norm' and 'learning_rate', packed
    by `MetricLayout`.
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
        hyperparameters = state.hyperparameters
        step_key = jax.random.fold_in(jax.random.key(hyperparameters['seed']), state.step)
        augment_key, dropout_key = jax.random.split(step_key)
        rows = _rows(batch)
        batch = prepare(batch, _keys(augment_key, rows)) | _local_carry(state.carry, rows)
        if mix is not None:
            everyone = {name: batch[name] for name in ('image', 'label') if name in batch}
            everyone = lax.all_gather(everyone, AXIS, tiled=True)
            batch = mix(jax.random.fold_in(step_key, _MIX), batch, everyone, rows)
        if task.needs_rng:
            batch |= {'rng': _keys(jax.random.fold_in(step_key, _TASK), rows)}
        grads, found, batch_stats = accumulated(state.params, state.batch_stats, batch, dropout_key)
        grads = lax.pmean(grads, AXIS)
        # BatchNorm reduced over the axis already, if the model was built with it; the mean is then of equal numbers.
        batch_stats = lax.pmean(batch_stats, AXIS)
        learning_rate = hyperparameters['learning_rate'] * schedule(state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, learning_rate=learning_rate,
                                              weight_decay=hyperparameters['weight_decay'])
        params = optax.apply_updates(state.params, updates)
        ema = _average(state, {'params': params, 'batch_stats': batch_stats}, ema_decay)
        carry = lax.all_gather(found['carry'], AXIS, tiled=True)
        metrics = task.train_metrics.gather_from_model_output(axis_name=AXIS, **found['scores'])
        metrics = layout.pack({'task': metrics, 'gradient_norm': optax.tree.norm(grads),
                               'learning_rate': learning_rate})
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema, carry, hyperparameters), metrics

    return train_step


def make_eval_step(forward: Callable, task: Task, prepare: Callable) -> Callable:
    """Returns `eval_step(variables, batch) -> (metrics, example_outputs, carry)`, the same on all devices.

    Args:
      forward: (variables, batch, train=False) -> outputs of the model.
      task, prepare: as for training.

    variables['carry'] is what the step before returned, for all rows of the global batch, see `TrainState`;
    variables['seed'] is that of the run. batch['mask'] is 1 for examples and 0 for the padding of the last batch,
    float32 [batch]; batch['position'], int32 [batch], is the example's place in the set, where the task needs_rng. The
    metrics are `task.eval_metrics` merged over all devices, the others `task.per_example.outputs` of the whole global
    batch, or {}.
    """
    def eval_step(variables: dict[str, Any], batch: dict[str, jax.Array]):
        mask = batch['mask']
        variables = dict(variables)
        carry, seed = variables.pop('carry'), variables.pop('seed')
        batch = prepare(batch, None) | _local_carry(carry, _rows(batch))
        if task.needs_rng:
            batch |= {'rng': _keys(jax.random.fold_in(jax.random.key(seed), _TASK), batch['position'])}
        outputs = forward(variables, batch, train=False)
        scores = task.score(outputs, batch)
        metrics = task.eval_metrics.gather_from_model_output(axis_name=AXIS, mask=mask, **scores)
        scorer = task.per_example
        example_outputs = lax.all_gather(scorer.outputs(outputs), AXIS, tiled=True) if scorer else {}
        return metrics, example_outputs, lax.all_gather(task.carried(outputs), AXIS, tiled=True)

    return eval_step


class MetricLayout:
    """How the metrics of one step lie in one vector: every array that a step returns costs microseconds.

    Args:
      collection: the task's `train_metrics`, a clu Collection whose leaves are scalar sums and counts.

    Attributes:
      names: what each number of the vector is, "['task'].loss.total" for one.
    """

    def __init__(self, collection):
        template = {'task': jax.eval_shape(collection.empty), 'gradient_norm': 0.0, 'learning_rate': 0.0}
        paths, self._structure = jax.tree_util.tree_flatten_with_path(template)
        self.names = [jax.tree_util.keystr(path) for path, _ in paths]

    def pack(self, metrics: dict[str, Any]) -> jax.Array:
        """{'task': collection, 'gradient_norm', ...: scalars} -> float32 [numbers]; exact for counts up to 2**24."""
        return jnp.stack([leaf.astype(jnp.float32) for leaf in self._structure.flatten_up_to(metrics)])

    def unpack(self, vector: np.ndarray) -> dict[str, Any]:
        """The inverse of `pack`, for one step or for sums over steps."""
        return jax.tree.unflatten(self._structure, [np.float64(number) for number in vector])


def _rows(batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns which rows of the global batch this device has, int32 [batch]."""
    count = jax.tree.leaves(batch)[0].shape[0]
    return lax.axis_index(AXIS) * count + jnp.arange(count)


def _keys(key: jax.Array, places: jax.Array) -> jax.Array:
    """Returns one key per example, by its place in the global batch or set."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)


def _local_carry(carry: Any, rows: jax.Array) -> dict[str, Any]:
    """Returns {'carry'}: this device's rows of what those of the global batch carry; {} if they carry nothing."""
    if not jax.tree.leaves(carry):
        return {}
    return {'carry': jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, rows[0], len(rows)), carry)}


def _average(state: TrainState, new: dict[str, Any], decay: float) -> dict[str, Any]:
    """Exponential moving average whose decay warms up, so that the initial values are soon forgotten."""
    if not decay:
        return {}
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, x: old * decay + x * (1 - decay), state.ema, new)
