"""Training what comes after a frozen body on the body's outputs, computed once: a head then costs seconds.

`config.cached_features.endpoint` names where the model is cut. The state is that of the whole model all the same, so a
checkpoint predicts, and another run can unfreeze the body, as if nothing had been cached.
"""

import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np
from jax import lax

from ..common import interrupt
from ..common.console import ProgressLog, format_seconds
from ..common.errors import UserError, some
from ..common.files import cache_folder, digest, write_cached
from ..input_pipeline import preprocessing
from ..input_pipeline.arrays import ArraySource
from ..input_pipeline.batches import EvalBatches, train_batches
from . import forward
from .components import Evaluations, Training
from .optimizer import matches
from .parallel import AXIS
from .state import TrainState

_VERSION = 1  # of the files in the cache


def check(training: Training, state: TrainState) -> None:
    """Raises UserError if features of this config cannot be computed once: something before the endpoint may change."""
    config = training.config
    endpoint = config.cached_features.endpoint
    if not endpoint:
        return
    shapes = forward.body_shapes(training.model, training.example(), endpoint)
    body = flax.traverse_util.flatten_dict(shapes.get('params', {}), sep='/')
    frozen = matches(config.optimizer.freeze, state.params, 'optimizer.freeze')
    frozen = flax.traverse_util.flatten_dict(frozen, sep='/')
    learning = [path for path in body if not frozen[path]]
    if learning:
        raise UserError(f'config.cached_features.endpoint = {endpoint!r} needs everything before it frozen, but '
                        f'{some(learning)} would learn: set config.optimizer.freeze')
    if not config.init_from.workdir:
        logging.warning('config.cached_features: the body is frozen as it was initialised, at random; '
                        'config.init_from.workdir would give it weights')


def install(training: Training, evaluations: Evaluations, state: TrainState) -> None:
    """Replaces the images of a run by their features.

    Args:
      training: its batches will have 'features', float32 [batch, views, ...], in place of 'image'.
      evaluations: their batches will have 'features' [batch, ...]; the image too where single examples are looked at.
      state: on the devices, with the weights of the body.
    """
    config, parallel = training.config, training.parallel
    endpoint, flip = config.cached_features.endpoint, config.cached_features.flip
    shapes = forward.body_shapes(training.model, training.example(), endpoint)
    variables = {collection: _part(getattr(state, collection), tree) for collection, tree in shapes.items()}
    extractor = _Extractor(training, variables)
    began = time.monotonic()
    views = [extractor(training.source, 'training', mirrored=view) for view in ((False, True) if flip else (False,))]
    training.batches = train_batches(_with_features(training.source, np.stack(views, axis=1), keep_images=False),
                                     config.batch_size, config.seed, parallel.local_slice(config.batch_size))
    for name, source in evaluations.sources.items():
        evaluations.sources[name] = _with_features(source, extractor(source, name),
                                                   keep_images=evaluations.task.per_example is not None)
    if parallel.is_writer:
        logging.info('features at %r: %s each, in %s', endpoint, 'x'.join(map(str, views[0].shape[1:])),
                     format_seconds(time.monotonic() - began))


class _Extractor:
    """Computes the value of an endpoint for whole sources, or finds it in the cache.

    Args:
      training: the run.
      variables: of the body, on the devices.
    """

    def __init__(self, training: Training, variables: Mapping[str, Any]):
        config = training.config
        self._parallel, self._variables = training.parallel, variables
        self._batch_size = self._parallel.round_up(config.cached_features.batch_size)
        body = forward.apply_body(training.model, config.cached_features.endpoint)
        prepare = preprocessing.build(config.image)

        def step(variables, batch):
            return lax.all_gather(body(variables, prepare(batch, None)), AXIS, tiled=True)
        self._step = self._parallel.compile(step, donate=False)
        weights = hashlib.blake2b()
        for leaf in jax.tree.leaves(self._parallel.fetch(variables)):
            weights.update(np.ascontiguousarray(leaf))
        # The program itself rather than the config: fields of the head, such as its dropout, change nothing here.
        example = {'image': training.source.read(np.zeros(1, np.int64))['image']}
        program = jax.jit(lambda variables, batch: body(variables, prepare(batch, None))).lower(variables, example)
        self._shape = program.out_info.shape[1:]
        self._identity = [_VERSION, hashlib.blake2b(program.as_text().encode()).hexdigest(), weights.hexdigest()]

    def __call__(self, source: ArraySource, name: str, *, mirrored: bool = False) -> np.ndarray:
        """Returns features of every example, float32 [examples, ...]."""
        if not isinstance(source, ArraySource):
            raise UserError(f'config.cached_features: the {name} images must be in memory: raise '
                            'config.data.memory_limit_mb')
        images = hashlib.blake2b(source.arrays['image']).hexdigest()
        file = cache_folder() / 'features' / f'{digest([*self._identity, images, mirrored])}.npz'
        shape = (len(source), *self._shape)
        if file.is_file():
            try:
                with np.load(file, allow_pickle=False) as archive:  # which compares a checksum
                    features = archive[forward.FEATURES]
                if features.shape != shape or features.dtype != np.float32:
                    raise ValueError(f'{features.dtype} of shape {features.shape}')
                return features
            # What a damaged file trips numpy and zipfile into (TokenError, RuntimeError, ...) is a long list.
            except Exception as error:
                logging.warning('the features in %s are damaged (%s): computing them again', file,
                                ' '.join(str(error).split())[:100] or type(error).__name__)
        batches = EvalBatches(source, self._batch_size, self._parallel.local_slice(self._batch_size))
        tick = ProgressLog(f"features of {name}{', mirrored' if mirrored else ''}", len(batches))
        parts: list[Any] = []
        for number in range(len(batches)):
            interrupt.check()
            image = batches(number)['image']
            image = np.ascontiguousarray(image[..., ::-1, :]) if mirrored else image
            parts.append(self._step(self._variables, self._parallel.shard({'image': image})))
            if number:
                parts[-2] = np.asarray(parts[-2])  # one batch late, so that the device never waits for the host
            tick(number)
        features = np.concatenate([np.asarray(part) for part in parts])[:len(source)]
        if self._parallel.is_writer:
            write_cached(file, lambda opened: np.savez(opened, **{forward.FEATURES: features}), 'the features')
        return features


def _with_features(source: ArraySource, features: np.ndarray, *, keep_images: bool) -> ArraySource:
    """Returns the source with its features, and without its images unless they are to be kept."""
    rest = {name: values for name, values in source.arrays.items() if keep_images or name != 'image'}
    return ArraySource({**rest, forward.FEATURES: features}, source.info, source.metadata)


def _part(tree: Any, shapes: Any) -> Any:
    """Returns the leaves of a pytree of dicts that another one has."""
    return {key: _part(tree[key], inner) if isinstance(inner, Mapping) else tree[key] for key, inner in shapes.items()}
