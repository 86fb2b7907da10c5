"""The model of a config, and how a batch goes through it: whole, from cached features on, or in several views."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from .. import models
from ..common.errors import UserError
from ..input_pipeline import augmentation, box_moves, region_source
from ..input_pipeline.views import Views
from ..tasks import Task
from .step import apply_model

FEATURES = 'features'  # the key of cached features in a batch


def build_model(config: ConfigDict, task: Task):
    """Builds the model of a config for a task."""
    return models.build(config.model, precision=config.precision, **task.model_fields())


def build_forward(config: ConfigDict, model, task: Task) -> Callable:
    """Returns how batches go through the model in this config's training; see training/forward.py."""
    endpoint = config.cached_features.endpoint
    if not endpoint:
        return apply_model(model, task)
    check_endpoints(model, 'cached_features.endpoint')
    if any(config.augment[name] != off for name, off in augmentation.DEFAULTS.items()):
        raise UserError('config.cached_features: images are seen once, so augmentation would change nothing: switch '
                        'config.augment off (config.cached_features.flip adds mirrored images)')
    if config.data.random_resized_crop:
        raise UserError('config.cached_features: images are seen once: switch config.data.random_resized_crop off')
    return head(model, task, endpoint)


def head(model, task, endpoint: str) -> Callable:
    """Returns forward(variables, batch, **how): what comes after an endpoint, on the batch's cached 'features'."""
    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        batch = {**batch, task.input_features[0]: batch[FEATURES]}
        return model.apply(variables, *task.inputs(batch), begin=endpoint, **how)
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
      UserError: the task cannot combine views, or does not look at images.
    """
    if not task.combines_views or task.input_features[0] != 'image':
        raise UserError(f"config.evaluation.tta = {views.name!r}: this task takes 'none' alone")
    inner = apply_model(model, task)

    def forward(variables: Mapping[str, Any], batch: Mapping[str, jax.Array], **how: Any):
        name = task.input_features[0]
        images = views(batch[name])
        # As one batch: XLA's CPU backend runs convolutions inside a loop ten times slower.
        outputs = inner(variables, {name: images.reshape(-1, *images.shape[2:])}, **how)
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


def select_view(batch: Mapping[str, jax.Array], keys: jax.Array, *, width: int) -> dict[str, jax.Array]:
    """Returns a training batch with one of the cached views of each example, drawn by its key.

    Args:
      batch: 'features', float32 [batch, views, ...]: of the image, and of its mirror image where there are two. Its
        boxes, its mask and a region's target are mirrored with it.
      keys: one PRNG key per example.
      width: of the images in pixels.
    """
    features = batch[FEATURES]
    views = features.shape[1]
    chosen = jax.vmap(lambda key: jax.random.randint(key, (), 0, views))(keys)
    batch = dict(batch) | {FEATURES: jax.vmap(lambda views, view: views[view])(features, chosen)}
    is_mirrored = (chosen == 1)[:, None, None]
    if 'boxes' in batch:
        boxes = batch['boxes']
        batch['boxes'] = jnp.where(is_mirrored, box_moves.mirrored(boxes, batch['box_labels'], width), boxes)
    if 'segmentation_mask' in batch:
        masks = batch['segmentation_mask']
        batch['segmentation_mask'] = jnp.where(is_mirrored, masks[:, :, ::-1], masks)
    if region_source.TARGET in batch:
        targets = batch[region_source.TARGET]
        batch[region_source.TARGET] = jnp.where(is_mirrored[:, 0], targets * jnp.array([-1, 1, 1, 1]), targets)
    return batch


def unchanged(batch: Mapping[str, jax.Array], keys: jax.Array | None) -> dict[str, jax.Array]:
    """Returns the batch: cached features need no preparation."""
    del keys
    return dict(batch)
