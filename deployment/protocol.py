"""The JSON of the Open Inference Protocol, version 2 (kserve.github.io), as arrays; and what is wrong with it.

Its optional extension for binary tensors is not here: whoever wants fewer bytes sends image files.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.errors import UserError, nearest, printable, shortened

_DTYPES = {'BOOL': np.bool_, 'UINT8': np.uint8, 'UINT16': np.uint16, 'UINT32': np.uint32, 'UINT64': np.uint64,
           'INT8': np.int8, 'INT16': np.int16, 'INT32': np.int32, 'INT64': np.int64,
           'FP16': np.float16, 'FP32': np.float32, 'FP64': np.float64}
_DATATYPES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
# What JSON may have for an array of a kind.
_MAY_BECOME = {'b': {bool}, 'u': {int}, 'i': {int}, 'f': {int, float}}
_LONGEST_AXIS = 2**31
_MOST_AXES = 32


def datatype(dtype: Any) -> str:
    """Returns what the protocol calls a type of numpy's."""
    return _DATATYPES[np.dtype(dtype)]


def parse(body: bytes) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
      UserError: it is none, or has numbers that are no JSON (NaN, Infinity).
    """
    def refuse(constant: str) -> None:
        raise UserError(f'the body is not JSON: {constant} is no number')
    try:
        found = json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise UserError('the body is not JSON that can be read: its lists lie too deep in each other') from None
    except ValueError as error:  # also of bytes that are no text, and of numbers of thousands of digits
        raise UserError(f'the body is not JSON: {_one_line(error)}') from None
    if not isinstance(found, dict):
        raise UserError(f'the body is not a JSON object but {_kind(found)}')
    return found


def read_request(body: bytes) -> tuple[dict[str, np.ndarray], list[str] | None, str | None]:
    """Returns what a body for .../infer asks.

    Returns:
      Name -> array of the inputs; names of the outputs that are wanted, None for all; the request's id, or None.

    Raises:
      UserError: it is not as the protocol says.
    """
    request = parse(body)
    tensors = request.get('inputs')
    if not isinstance(tensors, list) or not tensors:
        raise UserError('"inputs" is missing: a list of {"name", "shape", "datatype", "data"}')
    inputs: dict[str, np.ndarray] = {}
    for tensor in tensors:
        name, array = _read_tensor(tensor)
        if name in inputs:
            raise UserError(f'input {_shown(name)} is there twice')
        inputs[name] = array
    identity = request.get('id')
    if identity is not None and not isinstance(identity, str):
        raise UserError(f'"id" is not a text but {_kind(identity)}')
    wanted = request.get('outputs')
    if wanted is not None:
        if not isinstance(wanted, list) or not all(isinstance(one, dict) and isinstance(one.get('name'), str)
                                                   for one in wanted):
            raise UserError('"outputs" is not a list of {"name"}')
        wanted = [one['name'] for one in wanted]
    return inputs, wanted, identity


def _read_tensor(tensor: Any) -> tuple[str, np.ndarray]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get('name'), str):
        raise UserError('each of "inputs" is {"name", "shape", "datatype", "data"}')
    name = f'input {_shown(tensor["name"])}'
    for field in ('shape', 'datatype', 'data'):
        if field not in tensor:
            raise UserError(f'{name}: "{field}" is missing')
    shape = tensor['shape']
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise UserError(f'{name}: "shape" is not a list of whole numbers from 0 on')
    if len(shape) > _MOST_AXES:
        raise UserError(f'{name}: "shape" has {len(shape)} axes; at most {_MOST_AXES} are taken')
    if tensor['datatype'] not in _DTYPES.keys() if isinstance(tensor['datatype'], str) else True:
        raise UserError(f'{name}: "datatype" {_shown(tensor["datatype"])}: {nearest(str(tensor["datatype"]), _DTYPES)}')
    if not isinstance(tensor['data'], list):
        raise UserError(f'{name}: "data" is not a list but {_kind(tensor["data"])}')
    if max(shape, default=0) > _LONGEST_AXIS:
        raise UserError(f'{name}: "shape" has a side above {_LONGEST_AXIS:,}')
    values = _array(tensor['data'], tensor['datatype'], name)
    if values.shape != tuple(shape) and values.ndim != 1 or values.size != math.prod(shape):
        raise UserError(f'{name}: "data" has the shape {list(values.shape)}, "shape" says {_shown(shape)}')
    return tensor['name'], values.reshape(shape)


def _array(data: list, name_of_type: str, name: str) -> np.ndarray:
    dtype = np.dtype(_DTYPES[name_of_type])
    try:
        values = np.array(data, object)  # numpy would make every text of a list as long as the longest one
    except (ValueError, RecursionError):
        raise UserError(f'{name}: "data" is not an array: its lists lie too deep in each other') from None
    kinds = set(map(type, values.ravel()))
    if list in kinds:
        raise UserError(f'{name}: "data" is not an array: its lists are of different lengths')
    if kinds - _MAY_BECOME[dtype.kind]:
        raise UserError(f'{name}: "data" has something that is no {name_of_type}')
    if values.size and dtype.kind in 'ui':
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if values.min() < low or values.max() > high:
            raise UserError(f'{name}: "data" is beyond {name_of_type}, {low} to {high}')
    try:
        with np.errstate(over='ignore'):
            values = values.astype(dtype)
        finite = dtype.kind != 'f' or np.isfinite(values).all()
    except OverflowError:  # a whole number that no float holds
        finite = False
    if not finite:
        raise UserError(f'{name}: "data" is beyond {name_of_type}')
    return values


def write_response(model: str, version: str, outputs: Mapping[str, np.ndarray], wanted: Sequence[str] | None,
                   identity: str | None) -> dict[str, Any]:
    """Returns the object that answers a request.

    Raises:
      UserError: an output is wanted that there is not.
    """
    for name in wanted or ():
        if name not in outputs:
            raise UserError(f'no output {_shown(name)}; {nearest(name, list(outputs))}')
    response = {'model_name': model, 'model_version': version, 'outputs': [
        {'name': name, 'shape': list(outputs[name].shape), 'datatype': datatype(outputs[name].dtype),
         'data': outputs[name].ravel().tolist()} for name in wanted or outputs]}
    return response if identity is None else response | {'id': identity}


def tensors(known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns how the protocol describes inputs or outputs of an artefact's meta data; -1 is any number."""
    return [{'name': name, 'datatype': datatype(of['dtype']),
             'shape': [-1 if side is None else side for side in of['shape']]} for name, of in known.items()]


def _kind(value: Any) -> str:
    return {dict: 'an object', list: 'a list', str: 'a text', bool: 'true or false', type(None): 'null'}.get(
        type(value), 'a number')


def _shown(value: Any) -> str:
    return shortened(printable(json.dumps(value, ensure_ascii=False)), 80)


def _one_line(error: Exception) -> str:
    return shortened(printable(' '.join(str(error).split())), 120)
