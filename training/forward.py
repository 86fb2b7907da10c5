"""How a batch goes through a model: whole, from cached features on, or in several views of each image."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..common.errors import UserError
from ..input_pipeline.views import Views

FEATURES = 'features'  # the key of cached features in a batch


def whole(model, task) -> Callable:
    """Returns forward(variables, batch, **how): the model on what the task takes from a batch."""
    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        return model.apply(variables, *task.inputs(batch), **how)
    return forward


def head(model, task, endpoint: str) -> Callable:
    """Returns forward(variables, batch, **how): what comes after an endpoint, on the batch's cached 'features'."""
    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        return model.apply(variables, *task.inputs({**batch, 'image': batch[FEATURES]}), begin=endpoint, **how)
    return forward


def generating(inner: Callable, model, task, begin: str | None = None) -> Callable:
    """Returns forward(variables, batch, **how) -> {'logits', and what the task generates}, for evaluations.

    Args:
      inner: the forward whose outputs are the logits.
      model, task: of the run; a task that generates nothing gets `inner` back.
      begin: endpoint of cached features; None where the batch has images.
    """
    if not task.generates:
        return inner

    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        return {'logits': inner(variables, batch, **how), **task.generate(model, variables, batch, begin=begin)}
    return forward


def in_views(model, task, views: Views) -> Callable:
    """Returns forward(variables, batch, **how) that combines the outputs of several views of every image.

    Raises:
      UserError: the task cannot combine views.
    """
    if not task.combines_views:
        raise UserError(f"config.evaluation.tta = {views.name!r}: this task takes 'none' alone")
    inner = whole(model, task)

    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        images = views(batch['image'])
        # As one batch: XLA's CPU backend runs convolutions inside a loop ten times slower.
        outputs = inner(variables, {'image': images.reshape(-1, *images.shape[2:])}, **how)
        return task.combine_views(outputs.reshape(images.shape[0], -1, *outputs.shape[1:]))
    return forward


def check_endpoints(model, field: str) -> None:
    """Raises UserError if a model has no endpoints to stop at and to begin from."""
    if 'begin' not in inspect.signature(type(model).__call__).parameters:
        raise UserError(f'config.{field}: {type(model).__name__} has no endpoints')


def body_shapes(model, inputs: tuple, endpoint: str) -> dict[str, Any]:
    """Returns the shapes of the parameters and statistics that an endpoint needs, {'params', 'batch_stats'?}.

    Raises:
      UserError: the model has no such endpoint.
    """
    def init():
        key = jax.random.key(0)
        return model.init({'params': key, 'dropout': key}, *inputs, train=False, features=endpoint)
    return dict(jax.eval_shape(init))


def apply_body(model, endpoint: str) -> Callable:
    """Returns body(variables, batch) -> the value of an endpoint in inference, float32 [batch, ...]."""
    def body(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> jax.Array:
        values = model.apply(variables, batch['image'], train=False, features=endpoint)
        return values.astype(jnp.float32)
    return body


def select_view(batch: Mapping[str, jax.Array], keys: jax.Array) -> dict[str, jax.Array]:
    """Returns a training batch with one of the cached views of each example, drawn by its key."""
    features = batch[FEATURES]
    views = features.shape[1]
    chosen = jax.vmap(lambda key: jax.random.randint(key, (), 0, views))(keys)
    return dict(batch) | {FEATURES: jax.vmap(lambda views, view: views[view])(features, chosen)}


def unchanged(batch: Mapping[str, jax.Array], keys: jax.Array | None) -> dict[str, jax.Array]:
    """Returns the batch: cached features need no preparation."""
    del keys
    return dict(batch)
