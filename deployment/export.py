"""From a run to one file: its function for every platform, its weights, and what they mean."""

import functools
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from ..common.console import format_seconds
from ..common.errors import UserError, nearest
from ..common.files import write_json
from ..inference.rcnn import RegionNetwork
from ..inference.rows import row_shape
from ..inference.run import Run, check_numbers
from ..models import cpu_kernels
from ..reporting.run_files import EXPORTS_FILE
from ..tasks.text.continuation import continue_texts
from ..training import array_paths
from . import artifact

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
SIZES = (1, 2, 4, 8, 16, 32, 64)  # of batches, for functions that cannot take any
_EXAMPLES = 4
_LEAST = {'length': 2}  # tokens that a text begins with: <end>, of the line before, and one more, or <end> once more
_LARGEST_DIFFERENCE = 1e-4  # from what `predict` computes, of the largest output


def export_run(run: Run, output: Path, *, platforms: Sequence[str] = ('cpu', 'cuda'), sizes: Sequence[int] = (),
               length: int = 100, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> dict[str, Any]:
    """Writes a run as one file that runs without this project, see artifact.py and loader.py.

    Args:
      run: of any task but region_detection, with its task's overrides, such as a beam size.
      output: the file, .zip.
      platforms: that it is to run on, of PLATFORMS; every one gets the layers in its own form.
      sizes: of the only batches it takes; (): any, where the model can be written so.
      length, temperature, top_k, top_p: of a language model's texts, see tasks/text/continuation.py.

    Returns:
      The meta data that are in the file.

    Raises:
      UserError: a run that cannot be exported, an unknown platform, or the function says other things than the run.
    """
    begin = time.monotonic()
    platforms = (platforms,) if isinstance(platforms, str) else tuple(dict.fromkeys(platforms))
    _check(output, platforms, sizes)
    function = Function.of(run, length=length, temperature=temperature, top_k=top_k, top_p=top_p)
    functions: dict[str, dict[str, bytes]] = {}
    exported: dict[str, dict[str, jax_export.Exported]] = {}
    for platform in platforms:
        exported[platform] = function.export(platform, sizes)
        functions[platform] = {batch: bytes(one.serialize()) for batch, one in exported[platform].items()}
    own = {'gpu': 'cuda'}.get(jax.default_backend(), jax.default_backend())
    inputs, outputs = function.examples(_EXAMPLES if not sizes or _EXAMPLES in sizes else min(sizes)), None
    if own in exported:
        outputs = _compare(function, exported[own], inputs)
    else:
        logging.warning('warning: made on %s for %s: what it says there was not compared', own, ', '.join(platforms))
        outputs = _as_numpy(jax.jit(function)(function.weights, inputs))
    batches = {batch for sizes_of in functions.values() for batch in sizes_of}
    meta = function.meta() | {
        'outputs': {name: {'shape': [None, *values.shape[1:]], 'dtype': str(values.dtype)}
                    for name, values in outputs.items()},
        'batch': artifact.ANY if batches == {artifact.ANY} else sorted(map(int, batches - {artifact.ANY}))}
    artifact.write(output, functions, _as_numpy(function.weights), inputs, outputs, meta)
    note_export(run, output, {'platforms': list(platforms)})
    logging.info('%s: %.1f MB of %s of %s, for %s and batches of %s size, in %s', output, output.stat().st_size / 1e6,
                 run.chosen, run.workdir, ' and '.join(platforms), 'any' if meta['batch'] == artifact.ANY else 'fixed',
                 format_seconds(time.monotonic() - begin))
    return artifact.read_meta(output)


def note_export(run: Run, output: Path, facts: Mapping[str, Any]) -> None:
    """Adds a file made of a run to the list in its folder, which its report shows."""
    listing = run.workdir / EXPORTS_FILE
    try:
        known = [row for row in json.loads(listing.read_text()) if row['file'] != str(output)]
    except (OSError, ValueError, TypeError, KeyError):
        known = []
    row = {'file': str(output), 'step': run.step, 'bytes': output.stat().st_size, 'made': time.strftime('%Y-%m-%d'),
           **facts}
    try:
        write_json(listing, [*known, row])
    except OSError as error:  # such as a folder that may only be read
        logging.warning('warning: %s does not list %s: %s', listing, output, error.strerror)


class Function:
    """What a run computes for a batch, as a function of flat dicts: function(weights, inputs) -> outputs.

    Args:
      run: see `Function.of`.
      compute: compute(variables, inputs) -> an array, or a dict of arrays, [batch, ...].
      inputs: name -> shape and dtype; 'batch' in place of a number for the examples, other names for other numbers.

    Attributes:
      weights: path -> array, on the device.
      inputs: as given.
    """

    def __init__(self, run: Run, compute: Callable, variables: Any, inputs: Mapping[str, tuple[tuple, Any]]):
        self._run, self._compute = run, compute
        self._shapes = jax.eval_shape(lambda: variables)
        self.weights, self.inputs = array_paths.flatten(variables), dict(inputs)

    @classmethod
    def of(cls, run: Run, *, length: int = 100, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
           ) -> 'Function':
        """Returns the function of a run; how a language model writes is said as in `export_run`.

        Raises:
          UserError: a run that cannot be exported.
        """
        if run.feature == 'text':
            check_numbers(length=length, temperature=temperature)

            def write(variables: Any, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
                key = jax.random.key(inputs['seed'])
                return {'tokens': continue_texts(
                    run.model, variables, inputs['tokens'], key, length=length, temperature=temperature, top_k=top_k,
                    top_p=top_p)}
            return cls(run, write, run.variables, {'tokens': (('batch', 'length'), np.int32), 'seed': ((), np.uint32)})
        network = run.network()
        if isinstance(network, RegionNetwork):
            raise UserError(f'{run.workdir} finds regions of an image before it looks at them, which an export cannot: '
                            'its task is region_detection; train a detection one')
        frames = (network.frames,) * (network.frames > 1)
        shape: tuple[Any, ...] = (*frames, *network.size, network.channels)
        dtype: Any = np.float32 if run.takes_any_floats else np.dtype(f'uint{network.bits}')
        if run.feature == 'tokens':
            shape, dtype = (run.longest_text,), np.int32
        elif run.feature != 'image':
            shape, dtype = row_shape(run, network), np.float32
            if shape is None:
                raise UserError(f'{run.workdir}: how many numbers its model takes is not known')
        return cls(run, network.function, network.variables, {run.feature: (('batch', *shape), dtype)})

    def __call__(self, weights: Mapping[str, jax.Array], inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns name -> array of outputs."""
        outputs = self._compute(array_paths.fill(self._shapes, weights), inputs)
        return dict(outputs) if isinstance(outputs, Mapping) else {self._run.task.output_name: outputs}

    def export(self, platform: str, sizes: Sequence[int]) -> dict[str, jax_export.Exported]:
        """Returns batch size, or artifact.ANY -> the function for a platform."""
        weights = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), self.weights)
        with cpu_kernels.traced_for(platform):
            if not sizes:
                try:
                    # A new function: JAX would take the one it has traced for another platform.
                    return {artifact.ANY: self._export(platform, weights, self.arguments(None))}
                except (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError) as error:
                    if not any(word in str(error) for word in ('_DimExpr', 'ymbolic', 'polymorphi')):
                        raise
                    sizes = SIZES
                    logging.warning('warning: on %s batches of %s alone: %s', platform, ', '.join(map(str, SIZES)),
                                    ' '.join(str(error).split())[:160])
            return {str(size): self._export(platform, weights, self.arguments(size)) for size in sizes}

    def _export(self, platform: str, weights: Any, arguments: Any) -> jax_export.Exported:
        return jax_export.export(jax.jit(functools.partial(self.__call__)), platforms=[platform])(weights, arguments)

    def arguments(self, batch: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the inputs for a batch of a size; None for any."""
        names = {name for shape, _ in self.inputs.values() for name in shape if isinstance(name, str)} - {'batch'}
        dims = ['batch'] * (batch is None) + sorted(names)
        least = [f'{name} >= {_LEAST[name]}' for name in dims if name in _LEAST]
        known = dict(zip(dims, jax_export.symbolic_shape(', '.join(dims), constraints=least))) if dims else {}
        if batch is not None:
            known['batch'] = batch
        return {name: jax.ShapeDtypeStruct(tuple(known.get(side, side) for side in shape), dtype)
                for name, (shape, dtype) in self.inputs.items()}

    def examples(self, rows: int = _EXAMPLES) -> dict[str, np.ndarray]:
        """Returns inputs that are always the same: images of soft random colours, or random tokens or numbers."""
        random = np.random.default_rng(0)
        found = {}
        for name, (shape, dtype) in self.inputs.items():
            shape = tuple({'batch': rows, 'length': 8}.get(side, side) for side in shape)
            if name == 'tokens':
                vocabulary = self._run.task.input_vocabulary or self._run.task.vocabulary
                values = random.integers(4, vocabulary.size, shape)
            elif np.issubdtype(dtype, np.floating):
                values = random.normal(size=shape)
            elif not shape:
                values = 0
            else:
                coarse = random.integers(0, np.iinfo(dtype).max, (*shape[:-3], 4, 4, shape[-1])).astype(np.float32)
                values = np.asarray(jax.image.resize(coarse, shape, 'linear'))
            found[name] = np.asarray(values).astype(dtype)
        return found

    def meta(self) -> dict[str, Any]:
        """Returns what is known of the function and where it comes from, in JSON's types."""
        run, config = self._run, self._run.config
        inside = '(pixel / 255 - mean) / std' + (', whitened' if config.image.zca_epsilon else '')
        image = dict(config.image.to_dict(), inside=inside) if run.feature == 'image' else None
        return json.loads(json.dumps({
            'experiment': config.experiment, 'step': run.step, 'metrics': run.metrics,
            'task': config.task.to_dict(), 'model': config.model.to_dict(), 'labels': list(run.class_names),
            'data': run.info.replace(whitening=None).to_json(), 'image': image,
            'inputs': {name: {'shape': [None if isinstance(side, str) else side for side in shape],
                              'least': [_LEAST.get(side, 1) if isinstance(side, str) else side for side in shape],
                              'dtype': str(np.dtype(dtype))} for name, (shape, dtype) in self.inputs.items()}}))


def _check(output: Path, platforms: Sequence[str], sizes: Sequence[int]) -> None:
    if output.suffix != '.zip':
        raise UserError(f'--output {output}: an exported model is a .zip')
    if output.is_dir():
        raise UserError(f'--output {output} is a folder')
    for platform in platforms:
        if platform not in PLATFORMS:
            raise UserError(f'--platforms {platform}: {nearest(platform, PLATFORMS)}')
    if not platforms:
        raise UserError(f'--platforms names at least one of {", ".join(PLATFORMS)}')
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise UserError(f'--batches {" ".join(map(str, sizes))}: sizes are whole numbers from 1 on')


def _compare(function: Function, exported: Mapping[str, jax_export.Exported], inputs: Mapping[str, np.ndarray]
             ) -> dict[str, np.ndarray]:
    """Returns what the exported function says of the examples, which must be what the run says."""
    batch = artifact.ANY if artifact.ANY in exported else str(len(next(
        values for values in inputs.values() if np.ndim(values))))
    found = _as_numpy(jax.jit(exported[batch].call)(function.weights, inputs))
    expected = _as_numpy(jax.jit(functools.partial(function.__call__))(function.weights, inputs))
    for name, values in expected.items():
        largest = np.abs(values).max(initial=0)
        difference = np.abs(found[name].astype(np.float64) - values).max(initial=0)
        if not difference <= _LARGEST_DIFFERENCE * max(1e-6, largest):
            raise UserError(f'the exported function says other things than the run: {name} differs by '
                            f'{difference:.3g} of {largest:.3g}; nothing was written')
        if difference:
            logging.warning('warning: %s differs from the run by %.2g of %.2g', name, difference, largest)
    return found


def _as_numpy(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in arrays.items()}
