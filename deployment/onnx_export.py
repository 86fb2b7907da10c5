"""From a run to one ONNX file: images in, preprocessing inside, batches of any size, checked against JAX."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..common.console import format_seconds
from ..common.errors import UserError, file_error
from ..common.files import replacing
from ..inference.run import Run
from ..models import cpu_kernels
from . import artifact, int8, onnx_graph, onnx_runtime
from .export import Function, note_export
from .folding import folded

BATCHES = (1, 3, 8)  # that are compared with JAX
_LARGEST_DIFFERENCE = 1e-4  # of the largest output
_LARGEST_FILE = 2**31 - 1  # of protocol buffers


def export_onnx(run: Run, output: Path, *, calibration: Path | None = None, labelled: Path | None = None
                ) -> dict[str, Any]:
    """Writes a run as an ONNX file.

    Args:
      run: of any task whose network runs in one go, in float32.
      output: the file, .onnx.
      calibration: folder of training images, for a model in int8; None for float32.
      labelled: folder with a folder of images for each class, on which the accuracy before and after int8 is measured.

    Returns:
      The meta data that are in the file: those of artifact.py, and 'int8', see int8.py.

    Raises:
      UserError: a run that ONNX cannot hold, a package that is not installed, or the file says other things than the
        run; nothing is written then.
    """
    begin = time.monotonic()
    onnx, _ = onnx_runtime.require()
    check(output, calibration, labelled)
    function = _function(run)
    model, inputs = _converted(run, function)
    outputs = _compare(function, onnx_runtime.function_of(onnx_runtime.start(_serialized(model))), inputs)
    known: dict[str, Any] | None = None
    if calibration is not None:
        model, known = int8.quantized(run, model, calibration, labelled)
        outputs = onnx_runtime.function_of(onnx_runtime.start(_serialized(model)))(inputs)
    meta = _meta(function, outputs, known)
    onnx.helper.set_model_props(model, {onnx_runtime.META: json.dumps(meta),
                                        onnx_runtime.EXAMPLES: onnx_runtime.pack(inputs, outputs),
                                        onnx_runtime.DIGEST: onnx_runtime.NO_DIGEST})
    content = onnx_runtime.sealed(_serialized(model))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as file:
            file.write(content)
    except OSError as error:
        raise file_error(output, f'cannot be written: {error.strerror}') from error
    note_export(run, output, {'platforms': ['onnx int8' if known else 'onnx']})
    logging.info('%s: %.1f MB of %s of %s, ONNX %sin %s', output, len(content) / 1e6, run.chosen, run.workdir,
                 'int8 ' if known else '', format_seconds(time.monotonic() - begin))
    return meta


def check(output: Path, calibration: Path | None, labelled: Path | None) -> None:
    """Raises UserError unless the options fit one another."""
    if output.suffix != '.onnx':
        raise UserError(f'--output {output}: an ONNX model is an .onnx')
    if output.is_dir():
        raise UserError(f'--output {output} is a folder')
    if labelled is not None and calibration is None:
        raise UserError(f'--labelled {labelled}: it is for --int8, whose accuracy is measured on it')


def _function(run: Run) -> Function:
    task = run.config.task.name
    if run.feature == 'text' or (run.task is not None and run.task.generates):
        raise UserError(f'{run.workdir}: {task} writes texts in a loop, which our ONNX files cannot hold: export '
                        'a .zip')
    if task == 'detection':
        raise UserError(f'{run.workdir}: overlapping boxes are removed one after the other, which our ONNX files '
                        'cannot hold: export a .zip')
    if run.config.precision != 'float32':
        raise UserError(f'{run.workdir}: ONNX files are made in float32: give --config.precision=float32')
    return Function.of(run)


def _converted(run: Run, function: Function) -> tuple[Any, dict[str, np.ndarray]]:
    """Returns the ONNX model of a function, and examples of its inputs."""
    weights = {name: np.asarray(array) for name, array in function.weights.items()}
    with cpu_kernels.traced_for('onnx'):  # layers in their plain forms
        try:
            model = onnx_graph.convert(folded(lambda inputs: function(weights, inputs)), function.arguments())
        except onnx_graph.Unsupported as error:
            raise UserError(f'{run.workdir}: {run.config.task.name} with {run.config.model.name} computes {error}, '
                            'which our ONNX files cannot hold: export a .zip') from error
    return model, function.examples()


def _compare(function: Function, found: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs for examples; raises UserError unless they are those of JAX, for several sizes of batches."""
    program = jax.jit(function.__call__)
    for size in BATCHES:
        batch = {name: np.resize(values, (size, *values.shape[1:])) for name, values in inputs.items()}
        outputs = found(batch)
        for name, expected in program(function.weights, batch).items():
            expected = np.asarray(expected)
            largest = np.abs(expected).max(initial=0)
            difference = np.abs(outputs[name].astype(np.float64) - expected).max(initial=0)
            if outputs[name].shape != expected.shape or not difference <= _LARGEST_DIFFERENCE * max(1e-6, largest):
                raise UserError(f'the ONNX model says other things than the run: {name} differs by {difference:.3g} of '
                                f'{largest:.3g} for a batch of {size}; nothing was written')
    return found(inputs)


def _serialized(model: Any) -> bytes:
    if model.ByteSize() > _LARGEST_FILE:
        raise UserError(f'the ONNX model has {model.ByteSize() / 1e9:.1f} GB; one file holds 2: export a .zip')
    return model.SerializeToString()


def _meta(function: Function, outputs: Mapping[str, np.ndarray], known: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is in the file as JSON, with the names of artifact.py."""
    onnx, onnxruntime = onnx_runtime.require()
    return {'format': artifact.FORMAT, 'version': artifact.VERSION, **function.meta(),
            'outputs': {name: {'shape': [None, *values.shape[1:]], 'dtype': str(values.dtype)}
                        for name, values in outputs.items()},
            'batch': artifact.ANY, 'functions': {'cpu': {artifact.ANY: 'onnx'}}, 'opset': onnx_graph.OPSET,
            'int8': known, 'created': time.strftime('%Y-%m-%d'),
            'packages': {'jax': jax.__version__, 'onnx': onnx.__version__, 'onnxruntime': onnxruntime.__version__}}
