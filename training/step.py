"""One step of training and one of evaluation, written once; `training/parallel.py` compiles them for all devices."""

from collections.abc import Callable, Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ..models import batch_axis, cpu_kernels
from ..models.layers import refuse_split_norms
from ..tasks import Task
from ..tasks.metrics import over_devices
from .parallel import Place

# What the key of a step is folded with; 0 and 1, its halves, are for augmentation and dropout.
_TASK, _MIX, _COLLECT = 2, 3, 4


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
        the state of an LSTM: a pytree of arrays [rows, ...], which lie where the rows do; {} for others.
      experience: what a task that makes its own batches has lived through, such as a replay memory: a pytree of arrays,
        whole on every device, see `Task.collect`; {} for tasks that learn from data alone.
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
    experience: Any
    hyperparameters: dict[str, jax.Array]

    @classmethod
    def places(cls) -> 'TrainState':
        """Returns where each part lies."""
        return cls(step=Place.SHARED, params=Place.STATE, batch_stats=Place.SHARED, opt_state=Place.STATE,
                   ema=Place.STATE, carry=Place.ROWS, experience=Place.SHARED, hyperparameters=Place.SHARED)

    @property
    def variables(self) -> dict[str, Any]:
        """What a checkpoint's 'variables' item holds."""
        return {'params': self.params, 'batch_stats': self.batch_stats, 'ema': self.ema}

    @property
    def training(self) -> dict[str, Any]:
        """What a checkpoint's 'training' item holds."""
        return {'opt_state': self.opt_state, 'step': self.step, 'carry': self.carry, 'experience': self.experience}


# How `Parallel.compile` is called for the steps below.
VARIABLES = {'params': Place.STATE, 'batch_stats': Place.SHARED}
TRAIN = {'inputs': (TrainState.places(), Place.ROWS), 'outputs': (TrainState.places(), Place.SHARED), 'donate': (0, 1)}
EVALUATE = {'inputs': ({**VARIABLES, 'carry': Place.ROWS, 'seed': Place.SHARED}, Place.ROWS),
            'outputs': (Place.SHARED, Place.ROWS, Place.ROWS)}


def apply_model(model, task: Task) -> Callable:
    """Returns forward(variables, batch, **how): the model on what the task takes from a batch.

    See training/forward.py for the other ways through a model.
    """
    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        return model.apply(variables, *task.inputs(batch), **how)
    return forward


def make_gradients(forward: Callable, task: Task, optimizer, prepare: Callable, *, mix: Callable | None = None,
                   accumulate: int = 1, remat: bool = False) -> Callable:
    """Returns `find(state, batch) -> (gradients, found, batch_stats, experience)`: a step but for its update.

    Args:
      forward, task, optimizer, prepare, mix, accumulate, remat: see `make_train_step`.

    The gradients are those of the mean loss of the global batch, as they are before clipping and weight decay; 'found'
    has the task's 'scores' of this trace's rows and what it carries on.
    """
    def gradients(params, batch_stats, batch, dropout_key):
        def loss_fn(params):
            params = batch_axis.whole(optimizer.stop_frozen(params))
            with nn.intercept_methods(refuse_split_norms):
                outputs, updates = forward({'params': params, 'batch_stats': batch_stats}, batch, train=True,
                                           rngs={'dropout': dropout_key}, mutable=['batch_stats'])
            scores = task.score(outputs, batch)
            found = {'scores': scores, 'carry': task.carried(outputs)}
            return jnp.mean(scores['loss']), (found, updates.get('batch_stats', batch_stats))
        if remat:
            loss_fn = jax.checkpoint(loss_fn, policy=_is_product)
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

    def find(state: TrainState, batch: dict[str, jax.Array]) -> tuple[Any, dict[str, Any], Any, Any]:
        step_key = jax.random.fold_in(jax.random.key(state.hyperparameters['seed']), state.step)
        dropout_key = jax.random.split(step_key)[1]
        rows = batch_axis.positions(len(jax.tree.leaves(batch)[0]))
        batch = prepare_batch(prepare, mix, step_key, batch, rows) | _carried(state.carry)
        if task.needs_rng:
            batch |= {'rng': _keys(jax.random.fold_in(step_key, _TASK), rows)}
        experience = state.experience
        if task.collects:
            variables = {'params': batch_axis.whole(state.params), 'batch_stats': state.batch_stats}
            batch, experience = task.collect(forward, variables, experience, batch, step=state.step,
                                             key=jax.random.fold_in(step_key, _COLLECT))
        grads, found, batch_stats = accumulated(state.params, state.batch_stats, batch, dropout_key)
        return batch_axis.mean(grads), found, batch_stats, experience

    return find


def make_train_step(forward: Callable, task: Task, optimizer, schedule: Callable, prepare: Callable, *,
                    mix: Callable | None = None, ema_decay: float = 0.0, accumulate: int = 1, remat: bool = False,
                    on_trace: Callable[[], None] = lambda: None) -> Callable:
    """Returns `train_step(state, batch) -> (state, metrics)`.

    Args:
      forward: (variables, batch, **how to apply) -> outputs of the model, such as `apply_model`.
      task: see tasks/task.py.
      optimizer: `training.optimizer.Optimizer`.
      schedule: step -> learning rate as a factor of the peak.
      prepare: (batch, keys) -> batch, augmentation and normalisation; keys: one PRNG key per example.
      mix: (key, batch, features of the global batch, rows) -> batch, see input_pipeline/mixing.py.
      ema_decay: of the moving averages of params and batch_stats; 0 switches them off.
      accumulate: number of micro-batches whose gradients are averaged before the one update.
      remat: whether the backward pass computes again what is neither a convolution nor a matrix product.
      on_trace: called whenever the step is traced, to notice recompilation.

    Every random number is a function of the seed, the step and the example's index in the global batch. What a task
    carries from batch to batch is part of the state, and for the task 'carry' of the batch. A task that collects takes
    the batch for places to be filled: gradients are those of what it fills them with.

    The returned metrics are `task.train_metrics` over the global batch, 'gradient_norm' and 'learning_rate', packed by
    `MetricLayout`.
    """
    layout = MetricLayout(task.train_metrics)
    find = make_gradients(forward, task, optimizer, prepare, mix=mix, accumulate=accumulate, remat=remat)

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, jax.Array]:
        on_trace()
        hyperparameters = state.hyperparameters
        grads, found, batch_stats, experience = find(state, batch)
        if batch_axis.norms_differ():
            batch_stats = _mean_of_small(batch_stats)
        learning_rate = hyperparameters['learning_rate'] * schedule(state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, learning_rate=learning_rate,
                                              weight_decay=hyperparameters['weight_decay'])
        params = optax.apply_updates(state.params, updates)
        ema = _average(state, {'params': params, 'batch_stats': batch_stats}, ema_decay)
        metrics = layout.pack(batch_axis.total(layout.sums(found['scores'])), optax.tree.norm(grads), learning_rate)
        state = TrainState(state.step + 1, params, batch_stats, opt_state, ema, found['carry'], experience,
                           hyperparameters)
        return state, metrics

    return train_step


def prepare_batch(prepare: Callable, mix: Callable | None, step_key: jax.Array, batch: Mapping[str, jax.Array],
                  rows: jax.Array) -> dict[str, jax.Array]:
    """Returns a training batch as the model gets it: augmented, normalised, mixed.

    Args:
      prepare, mix: see `make_train_step`.
      step_key: of the seed and the step.
      batch: features [rows, ...] as a source gives them.
      rows: int32 [rows], their places in the global batch.
    """
    batch = prepare(batch, _keys(jax.random.split(step_key)[0], rows))
    if mix is None:
        return batch
    everyone = batch_axis.gather({name: batch[name] for name in ('image', 'label') if name in batch})
    return mix(jax.random.fold_in(step_key, _MIX), batch, everyone, rows)


def make_eval_step(forward: Callable, task: Task, prepare: Callable) -> Callable:
    """Returns `eval_step(variables, batch) -> (metrics, example_outputs, carry)`.

    Args:
      forward: (variables, batch, train=False) -> outputs of the model.
      task, prepare: as for training.

    variables['carry'] is what the step before returned, see `TrainState`; variables['seed'] is that of the run.
    batch['mask'] is 1 for examples and 0 for the padding of the last batch, float32 [batch]; batch['position'], int32
    [batch], is the example's place in the set, where the task needs_rng. The metrics are `task.eval_metrics` over the
    global batch, the others `task.per_example.outputs` of its rows, or {}.
    """
    def eval_step(variables: dict[str, Any], batch: dict[str, jax.Array]):
        mask = batch['mask']
        variables = dict(variables)
        carry, seed = variables.pop('carry'), variables.pop('seed')
        variables['params'] = batch_axis.whole(variables['params'])
        batch = prepare(batch, None) | _carried(carry)
        if task.needs_rng:
            batch |= {'rng': _keys(jax.random.fold_in(jax.random.key(seed), _TASK), batch['position'])}
        outputs = forward(variables, batch, train=False)
        scores = task.score(outputs, batch)
        metrics = over_devices(task.eval_metrics.single_from_model_output(mask=mask, **scores))
        scorer = task.per_example
        return metrics, scorer.outputs(outputs) if scorer else {}, task.carried(outputs)

    return eval_step


class MetricLayout:
    """How the metrics of one step lie in one vector: every array that a step returns costs microseconds.

    Args:
      collection: the task's `train_metrics`, a clu Collection whose leaves are scalar sums and counts.

    Attributes:
      names: what each number of the vector is, "['task'].loss.total" for one.
    """

    def __init__(self, collection):
        self._collection = collection
        template = {'task': jax.eval_shape(collection.empty), 'gradient_norm': 0.0, 'learning_rate': 0.0}
        paths, self._structure = jax.tree_util.tree_flatten_with_path(template)
        self.names = [jax.tree_util.keystr(path) for path, _ in paths]

    def sums(self, scores: dict[str, jax.Array]) -> jax.Array:
        """Returns the collection's sums over the rows of the scores, float32 [numbers], exact for counts to 2**24."""
        leaves = jax.tree.leaves(self._collection.single_from_model_output(**scores))
        return jnp.stack([leaf.astype(jnp.float32) for leaf in leaves])

    def pack(self, sums: jax.Array, gradient_norm: jax.Array, learning_rate: jax.Array) -> jax.Array:
        """Returns the vector of a step, float32 [numbers]; sums: those of the global batch."""
        return jnp.concatenate([jnp.stack([gradient_norm, learning_rate]), sums])  # in the order of `names`

    def unpack(self, vector: np.ndarray) -> dict[str, Any]:
        """Returns {'task': collection, 'gradient_norm', 'learning_rate'} of one step, or of sums over steps."""
        return jax.tree.unflatten(self._structure, [np.float64(number) for number in vector])


def _keys(key: jax.Array, places: jax.Array) -> jax.Array:
    """Returns one key per example, by its place in the global batch or set."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)


def _carried(carry: Any) -> dict[str, Any]:
    """Returns {'carry'}, or {} if nothing is carried."""
    return {'carry': carry} if jax.tree.leaves(carry) else {}


def _mean_of_small(tree: Any) -> Any:
    """Returns the mean over all parts of the batch of many small arrays, in one reduction."""
    vector, unravel = jax.flatten_util.ravel_pytree(tree)
    return unravel(batch_axis.mean(vector))


def _is_product(primitive, *_, **__) -> bool:
    """Whether the result of an operation is kept for the backward pass: the expensive ones are."""
    return primitive.name in ('conv_general_dilated', 'dot_general')


def _average(state: TrainState, new: dict[str, Any], decay: float) -> dict[str, Any]:
    """Exponential moving average whose decay warms up, so that the initial values are soon forgotten."""
    if not decay:
        return {}
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, x: old * decay + x * (1 - decay), state.ema, new)
