"""Training what comes after a frozen body on the body's outputs, computed once: a head then costs seconds.

`config.cached_features.endpoint` names where the model is cut. The state is that of the whole model all the same, so a
checkpoint predicts, and another run can unfreeze the body, as if nothing had been cached.
"""

import hashlib
import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import flax
import jax
import numpy as np

from ..common.console import ProgressLog, format_seconds
from ..common.errors import UserError, some
from ..common.files import cache_folder, digest, write_cached
from ..input_pipeline import preprocessing
from ..input_pipeline.arrays import ArraySource
from ..input_pipeline.batches import EvalBatches, train_batches
from ..models import batch_axis
from . import array_paths, forward
from .components import Training
from .evaluation import Evaluations
from .optimizer import matches
from .parallel import Parallel, Place, one_late
from .preemption import Interrupted
from .step import VARIABLES, TrainState

_VERSION = 2  # of the files in the cache
_SENT_BYTES = 2**26  # how much process 0 sends to the others at once, through the memory of the devices


def check(training: Training, state: TrainState) -> None:
    """Raises UserError if features of this config cannot be computed once: something before the endpoint may change."""
    config = training.config
    endpoint = config.cached_features.endpoint
    if not endpoint:
        return
    if training.task.input_features[0] != 'image':
        raise UserError(f'config.cached_features: it is for images, and {config.task.name} here reads '
                        f'{training.task.input_features[0]}: leave config.cached_features.endpoint empty')
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


def install(training: Training, evaluations: Evaluations, state: TrainState,
            stop: Callable[[], bool] = lambda: False) -> None:
    """Replaces the images of a run by their features.

    Args:
      training: its batches will have 'features', float32 [batch, views, ...], in place of 'image': of the image and,
        with config.cached_features.flip, of its mirror image, see `forward.select_view`.
      evaluations: their batches will have 'features' [batch, ...]; the image too where single examples are looked at.
      state: on the devices, with the weights of the body.
      stop: is asked before every batch, by all processes equally often.

    Raises:
      Interrupted: `stop` said so. The sets that were finished are in the cache.
    """
    config, parallel = training.config, training.parallel
    endpoint, flip = config.cached_features.endpoint, config.cached_features.flip
    shapes = forward.body_shapes(training.model, training.example(), endpoint)
    variables = array_paths.fill(shapes, array_paths.flatten({name: getattr(state, name) for name in shapes}))
    extractor = _Extractor(training, variables, stop)
    began = time.monotonic()
    views = [extractor(training.source, 'training', mirrored=view) for view in ((False, True) if flip else (False,))]
    training.batches = train_batches(_with_features(training.source, np.stack(views, axis=1), keep_images=False),
                                     config.batch_size, config.seed, parallel.local_slice(config.batch_size),
                                     sampling=config.data.sampling)
    for name, source in evaluations.sources.items():
        evaluations.sources[name] = _with_features(source, extractor(source, name),
                                                   keep_images=evaluations.task.per_example is not None)
    if parallel.is_writer:
        logging.info('features at %r: %s each, in %s', endpoint, 'x'.join(map(str, views[0].shape[1:])),
                     format_seconds(time.monotonic() - began))


class _Extractor:
    """Computes the value of an endpoint for whole sources, or finds it in the cache of process 0.

    Args:
      training: the run.
      variables: of the body, on the devices.
      stop: see `install`.
    """

    def __init__(self, training: Training, variables: Mapping[str, Any], stop: Callable[[], bool]):
        config = training.config
        self._parallel, self._variables, self._stop = training.parallel, variables, stop
        self._batch_size = self._parallel.round_up(config.cached_features.batch_size)
        body = forward.apply_body(training.model, config.cached_features.endpoint)
        prepare = preprocessing.build(config.image, info=training.info)

        def step(variables, batch):
            variables = {**variables, 'params': batch_axis.whole(variables['params'])}
            return batch_axis.gather(body(variables, prepare(batch, None)))
        places = {name: VARIABLES[name] for name in variables}
        self._step = self._parallel.compile(step, inputs=(places, Place.ROWS), outputs=Place.SHARED)
        weights = hashlib.blake2b()
        for leaf in jax.tree.leaves(self._parallel.fetch(variables)):
            weights.update(np.ascontiguousarray(leaf))
        # The program itself rather than the config: fields of the head, such as its dropout, change nothing here.
        example = {'image': training.source.read(np.zeros(1, np.int64))['image']}
        program = jax.jit(lambda variables, batch: body(variables, prepare(batch, None))).lower(variables, example)
        self._shape = program.out_info.shape[1:]
        self._identity = [_VERSION, hashlib.blake2b(program.as_text().encode()).hexdigest(), weights.hexdigest()]
        if whitening := training.info.whitening:
            self._identity += [whitening['of'], whitening['epsilon']]

    def __call__(self, source: ArraySource, name: str, *, mirrored: bool = False) -> np.ndarray:
        """Returns features of every example, float32 [examples, ...], the same in all processes."""
        if not isinstance(source, ArraySource):
            raise UserError(f'config.cached_features: the {name} images must be in memory: raise '
                            'config.data.memory_limit_mb')
        images = hashlib.blake2b(source.arrays['image']).hexdigest()
        file = cache_folder() / 'features' / digest([*self._identity, images, mirrored])
        what = f"features of {name}{', mirrored' if mirrored else ''}"
        # The others may have no such file, or another: all take what process 0 has, or all compute.
        cached = _shared(_read(file, len(source), what) if self._parallel.is_writer else None, self._parallel)
        if cached is not None:
            return cached
        batches = EvalBatches(source, self._batch_size, self._parallel.local_slice(self._batch_size))
        progress = ProgressLog(what, len(batches))

        def steps():
            for number in range(len(batches)):
                if self._stop():
                    raise Interrupted
                image = batches(number)['image']
                image = np.ascontiguousarray(image[..., ::-1, :]) if mirrored else image
                yield self._step(self._variables, self._parallel.shard({'image': image}))
                progress(number)

        features = np.concatenate([np.asarray(part) for part in one_late(steps())])[:len(source)]
        if self._parallel.is_writer:
            write_cached(file, lambda opened: _write(opened, features), 'the features')
        return features


def _write(file: BinaryIO, features: np.ndarray) -> None:
    """Writes float32 features: a line of JSON with shape and checksum, then the numbers."""
    features = np.ascontiguousarray(features, np.float32)
    header = {'shape': features.shape, 'checksum': _checksum(features)}
    file.write(json.dumps(header).encode() + b'\n')
    file.write(features.data)


def _read(file: Path, examples: int, what: str) -> np.ndarray | None:
    """Returns what `_write` wrote; None if it is not there, or after a line if it is damaged."""
    try:
        with file.open('rb') as opened:
            header = json.loads(opened.readline(1000))
            values = np.fromfile(opened, np.float32)
        features = values.reshape([int(length) for length in header['shape']])
        if len(features) == examples and header['checksum'] == _checksum(features):
            return features
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        pass
    logging.warning('the %s in the cache are damaged: they are computed again', what)
    return None


def _checksum(features: np.ndarray) -> int:
    """Of shape and numbers."""
    return zlib.crc32(features, zlib.crc32(json.dumps(features.shape).encode()))


def _shared(features: np.ndarray | None, parallel: Parallel) -> np.ndarray | None:
    """Returns process 0's features, or None, in every process."""
    if parallel.processes == 1:
        return features
    text = parallel.broadcast_text(None if features is None else json.dumps(features.shape))
    if text is None:
        return None
    shape = json.loads(text)
    rows = max(1, _SENT_BYTES // (4 * math.prod(shape[1:])))
    received = np.empty(shape, np.float32) if features is None else features
    for begin in range(0, shape[0], rows):
        received[begin:begin + rows] = parallel.broadcast(received[begin:begin + rows])
    return received


def _with_features(source: ArraySource, features: np.ndarray, *, keep_images: bool) -> ArraySource:
    """Returns the source with its features, and without its images unless they are to be kept."""
    rest = {name: values for name, values in source.arrays.items() if keep_images or name != 'image'}
    return ArraySource({**rest, forward.FEATURES: features}, source.info, source.metadata, source.name)
