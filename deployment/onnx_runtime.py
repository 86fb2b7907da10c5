"""ONNX files that this project wrote, run by ONNX Runtime; an optional extra, see requirements-onnx.txt."""

import base64
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ..common.errors import UserError, file_error
from . import artifact

Arrays = Mapping[str, np.ndarray]
INSTALL = 'pip install -r requirements-onnx.txt'
META, EXAMPLES = 'practicum', 'practicum.examples'  # keys in the metadata of a file: JSON as in artifact.py, and arrays
DIGEST, NO_DIGEST = 'practicum.sha256', 'sha256:' + 64 * '0'  # of the file in which its own digest is NO_DIGEST
_EXAMPLE_BYTES = 2**20  # of examples in a file, or one
_REORDERING = ('ReorderInput', 'ReorderOutput')
_DIFFERENCE, _INT8_DIFFERENCE = 1e-3, 0.1  # of the largest output, from what a file said where it was made


def require() -> tuple[Any, Any]:
    """Returns the packages onnx and onnxruntime.

    Raises:
      UserError: they are not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f'ONNX needs a package that is not installed, {error.name}: {INSTALL}') from error
    return onnx, onnxruntime


def start(model: bytes | Path, optimized: Path | None = None) -> Any:
    """Returns a session on the CPU whose idle threads sleep; optimized: where to write the graph that it runs."""
    onnxruntime = require()[1]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 0
    # Threads that wait for work in a loop take the processor from whatever else a server does.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(model) if isinstance(model, Path) else model, options,
                                        providers=['CPUExecutionProvider'])


def function_of(session: Any) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """Returns what a session computes as a function of dicts of arrays."""
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs))))


def open_model(path: Path, verify: bool = True) -> tuple[dict[str, Any], Callable[[Arrays], dict[str, np.ndarray]]]:
    """Returns what an ONNX file says of itself, see artifact.py, and its function.

    Args:
      path: of the file.
      verify: whether its examples must give here what they gave where it was made. Whether it is the file that was
        written is always looked at.

    Raises:
      UserError: no such file, not one of ours, a damaged one, or ONNX Runtime is not installed.
    """
    require()
    if not path.is_file():
        raise file_error(path, 'no such file')
    try:
        session = start(path)
        known = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # ONNX Runtime's own have no common class of their own
        raise file_error(path, 'is not an ONNX model, or is damaged') from error
    if META not in known:
        raise file_error(path, 'is not one of our ONNX models: launch.py export makes one')
    digest = known.get(DIGEST, '')
    if not digest or _digest(path.read_bytes().replace(digest.encode(), NO_DIGEST.encode(), 1)) != digest:
        raise file_error(path, 'is damaged: it is not the file that was written')
    try:
        meta = json.loads(known[META])
        examples = unpack(known[EXAMPLES])
        version = meta['version']
    except (ValueError, KeyError, TypeError, zlib.error, safetensors.SafetensorError) as error:
        raise file_error(path, 'is damaged: its metadata cannot be read') from error
    if version != artifact.VERSION:
        raise file_error(path, f'is an exported model of version {version}; this is for {artifact.VERSION}')
    function = function_of(session)
    if verify:
        _verify(path, meta, function, examples)
    return meta, function


def sealed(content: bytes) -> bytes:
    """Returns the content of a file, which has NO_DIGEST in it, with its digest in that place."""
    return content.replace(NO_DIGEST.encode(), _digest(content).encode(), 1)


def _digest(content: bytes) -> str:
    return 'sha256:' + hashlib.sha256(content).hexdigest()


def _verify(path: Path, meta: Mapping[str, Any], function: Callable, examples: Arrays) -> None:
    inputs = {name: examples[f'inputs/{name}'] for name in meta['inputs']}
    for name, values in function(inputs).items():
        there = examples[f'outputs/{name}']
        difference = np.abs(values.astype(np.float64) - there) / max(1e-6, np.abs(there).max(initial=0))
        # Processors without instructions for int8 saturate where others do not: most of the values are then equal.
        limit, share = (_INT8_DIFFERENCE, 0.1) if meta.get('int8') else (_DIFFERENCE, 0)
        if not (difference <= limit).mean() >= 1 - share:
            raise file_error(path, f'says other things here than where it was made: {name}, {difference.max():.1g}; '
                                   'it may be damaged')


def pack(inputs: Arrays, outputs: Arrays) -> str:
    """Returns examples as text for a file's metadata: as many as fit into a megabyte, at least one."""
    rows = len(next(iter(inputs.values())))
    size = sum(array.nbytes for array in (*inputs.values(), *outputs.values())) // rows
    count = max(1, min(rows, _EXAMPLE_BYTES // size))
    arrays = {f'inputs/{name}': array[:count] for name, array in inputs.items()}
    arrays |= {f'outputs/{name}': array[:count] for name, array in outputs.items()}
    content = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return base64.b64encode(zlib.compress(content)).decode()


def unpack(text: str) -> dict[str, np.ndarray]:
    """Returns what `pack` was given, 'inputs/<name>' and 'outputs/<name>'."""
    return safetensors.numpy.load(zlib.decompress(base64.b64decode(text)))


def count_operations(path: Path) -> tuple[int, int]:
    """Returns how many operations an ONNX file has, and how many ONNX Runtime runs after it has fused them.

    Copies into and out of the order of values in memory that a processor's convolutions like are not counted.

    Raises:
      UserError: no such file, not an ONNX model, or ONNX Runtime is not installed.
    """
    onnx, _ = require()
    if not path.is_file():
        raise file_error(path, 'no such file')
    with tempfile.TemporaryDirectory() as folder:
        fused = Path(folder) / 'fused.onnx'
        try:
            start(path, fused)
            before, after = (onnx.load(file).graph.node for file in (path, fused))
            return len(before), sum(node.op_type not in _REORDERING for node in after)
        except Exception as error:  # see open_model
            raise file_error(path, 'is not an ONNX model, or is damaged') from error
