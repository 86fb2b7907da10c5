"""PyTorch's two file formats, written opcode by opcode, since the tests have no PyTorch and nothing here pickles."""

import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

KINDS = {'float32': 'Float', 'float16': 'Half', 'bfloat16': 'BFloat16', 'float64': 'Double', 'int64': 'Long'}


class Name(NamedTuple):
    """A global of a module."""
    module: str
    name: str


class Call(NamedTuple):
    """What a function returns for some arguments."""
    function: Name
    arguments: tuple


class Persistent(NamedTuple):
    """Something that lies outside of the pickle."""
    identity: tuple


class Tensor(NamedTuple):
    """A window of a storage; the same storage may be in several."""
    key: str
    numbers: np.ndarray
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def whole(key: str, array: np.ndarray) -> Tensor:
    """Returns a tensor with a storage of its own."""
    strides = tuple(int(np.prod(array.shape[axis + 1:])) for axis in range(array.ndim))
    return Tensor(key, array.ravel(), 0, array.shape, strides)


def pickled(value: Any, *, legacy: bool = False) -> bytes:
    """Returns a pickle of protocol 2."""
    return b'\x80\x02' + _emit(value, legacy) + b'.'


def _emit(value: Any, legacy: bool) -> bytes:
    def emit(item):
        return _emit(item, legacy)
    if isinstance(value, np.ndarray):
        raise TypeError('make a Tensor of it')
    if isinstance(value, Tensor):
        storage = ('storage', Name('torch', KINDS[value.numbers.dtype.name] + 'Storage'), value.key, 'cpu',
                   len(value.numbers), *((None,) if legacy else ()))
        return emit(Call(Name('torch._utils', '_rebuild_tensor_v2'),
                         (Persistent(storage), value.offset, value.shape, value.strides, False,
                          Call(Name('collections', 'OrderedDict'), ()))))
    if isinstance(value, Name):
        return f'c{value.module}\n{value.name}\n'.encode()
    if isinstance(value, Call):
        return emit(value.function) + emit(value.arguments) + b'R'
    if isinstance(value, Persistent):
        return emit(value.identity) + b'Q'
    if value is None or isinstance(value, bool):
        return {None: b'N', True: b'\x88', False: b'\x89'}[value]
    if isinstance(value, int):
        number = value.to_bytes((value.bit_length() + 8) // 8, 'little', signed=True)
        return b'\x8a' + bytes([len(number)]) + number
    if isinstance(value, str):
        text = value.encode()
        return b'X' + struct.pack('<I', len(text)) + text
    if isinstance(value, tuple):
        return b'(' + b''.join(map(emit, value)) + b't'
    if isinstance(value, Mapping):
        return b'}(' + b''.join(emit(item) for pair in value.items() for item in pair) + b'u'
    if isinstance(value, Sequence):
        return b'](' + b''.join(map(emit, value)) + b'e'
    raise TypeError(type(value))


def tensors(value: Any) -> list[Tensor]:
    """Returns the tensors of nested dicts and calls."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value.arguments if isinstance(value, Call) else ()
    return [tensor for item in items for tensor in tensors(item)]


def write_zip(path: Path, value: Any, *, byteorder: str = 'little', compression: int = zipfile.ZIP_STORED,
              leave_out: Sequence[str] = ()) -> Path:
    """Writes what torch.save writes since 2020."""
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', pickled(value))
        archive.writestr('archive/byteorder', byteorder)
        for key, numbers in {tensor.key: tensor.numbers for tensor in tensors(value)}.items():
            if key not in leave_out:
                archive.writestr(f'archive/data/{key}', numbers.tobytes())
        archive.writestr('archive/version', '3\n')
    return path


def write_legacy(path: Path, value: Any, *, little_endian: bool = True) -> Path:
    """Writes what torch.save wrote before."""
    storages = {tensor.key: tensor.numbers for tensor in tensors(value)}
    content = pickled(0x1950a86a20f9469cfc6c) + pickled(1001)
    content += pickled({'protocol_version': 1001, 'little_endian': little_endian, 'type_sizes': {'int': 4}})
    content += pickled(value, legacy=True) + pickled(sorted(storages))
    for key in sorted(storages):
        content += struct.pack('<q', len(storages[key])) + storages[key].tobytes()
    path.write_bytes(content)
    return path


def write_state_dict(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Writes a state dict in the newer format."""
    return write_zip(path, {name: whole(str(index), array) for index, (name, array) in enumerate(arrays.items())})
