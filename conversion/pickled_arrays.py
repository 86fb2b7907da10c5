"""Arrays from pickles, without unpickling: what a pickle asks for is described, never done.

A pickle is a program for a stack machine, and its opcodes GLOBAL and REDUCE import and call whatever it names. Here
`pickletools.genops` reads the opcodes and `_Machine` interprets the few that files of weights consist of. The names
they may use are those in `_GLOBALS`, each of which stands for something below; every other name is refused. The
`pickle` module itself is not used.
"""

import dataclasses
import math
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError, file_error

MAGIC = 0x1950a86a20f9469cfc6c  # what PyTorch's older format begins with, as a pickle of its own
_MOST_OPCODES = 1_000_000  # a network with a thousand tensors has some 40,000
_LARGEST_SIDE, _MOST_AXES = 2 ** 40, 16
_STORAGES = {'Float': np.float32, 'Half': np.float16, 'BFloat16': jnp.bfloat16, 'Double': np.float64, 'Long': np.int64,
             'Int': np.int32, 'Short': np.int16, 'Char': np.int8, 'Byte': np.uint8, 'Bool': np.bool_}
_DAMAGED = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError, MemoryError)
_MARK = object()


class _Refused(Exception):
    """A pickle that wants something that is not a description of arrays."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers that lie elsewhere in a PyTorch file.

    Attributes:
      key: their name there.
      dtype: of the numbers, little-endian.
      count: how many there are.
      begin: where a view of them begins, in numbers; only files from before 2018 have views.
    """
    key: str
    dtype: np.dtype
    count: int
    begin: int = 0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A PyTorch tensor: a window of a storage; offset and strides count numbers, not bytes."""
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the tensor as a read-only view of its storage's numbers, [count].

        Raises:
          ValueError: it reaches outside, or has more elements than the storage.
        """
        sizes = (*self.shape, *self.strides, self.offset)
        if not all(type(size) is int and 0 <= size <= _LARGEST_SIDE for size in sizes):
            raise ValueError('a size or stride is out of range')
        if len(self.shape) != len(self.strides) or len(self.shape) > _MOST_AXES:
            raise ValueError('shape and strides do not belong together')
        if 0 in self.shape:
            return np.zeros(0, numbers.dtype)  # of any shape: no parameter here is empty
        last = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides))
        if last >= len(numbers) or math.prod(self.shape) > len(numbers):
            raise ValueError('it is larger than its storage: cut off, or a view that repeats numbers')
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset:], self.shape, strides, writeable=False)


@dataclasses.dataclass
class Array:
    """A numpy array; a pickle first makes it and then fills it in, and `value` is None before."""
    value: np.ndarray | None = None


@dataclasses.dataclass
class _DType:
    code: str
    order: str = '='

    def resolve(self) -> np.dtype:
        if not re.fullmatch('[fiub][1248]', self.code):
            raise _Refused(f'has an array of type {self.code[:20]!r}, not of numbers')
        return np.dtype(self.code).newbyteorder(self.order)


def load(file: BinaryIO, name: object, storages: dict[str, Storage] | None = None) -> Any:
    """Returns what the pickle that begins at the file's position describes, and leaves the file after it.

    Args:
      file: opened for reading, seekable.
      name: of the file, for messages.
      storages: filled with every storage that the pickle refers to, by key.

    Returns:
      Dicts, lists, tuples, numbers, text and bytes as they are; `Tensor` and `Array` for arrays.

    Raises:
      UserError: the pickle wants to run code, or is damaged.
    """
    machine = _Machine({} if storages is None else storages)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= _MOST_OPCODES:
                raise _Refused('is longer than any file of weights')
            machine.execute(opcode.name, argument)
        return machine.pop()
    except _Refused as error:
        raise file_error(name, str(error)) from error
    except UserError:
        raise
    except _DAMAGED as error:
        raise file_error(name, f'the pickle in it is damaged or cut off ({type(error).__name__}: '
                               f'{str(error)[:80]})') from error


class _Machine:
    """The stack, the memo and what each opcode does to them; see the documentation of `pickletools`."""

    def __init__(self, storages: dict[str, Storage]):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages = storages

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError('a mark where a value should be')
        return value

    def pop_to_mark(self) -> list[Any]:
        items = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def execute(self, opcode: str, argument: Any) -> None:
        push = self.stack.append
        match opcode:
            case 'PROTO' | 'FRAME' | 'STOP':
                pass
            case ('INT' | 'BININT' | 'BININT1' | 'BININT2' | 'LONG' | 'LONG1' | 'LONG4' | 'FLOAT' | 'BINFLOAT'
                  | 'STRING' | 'BINSTRING' | 'SHORT_BINSTRING' | 'UNICODE' | 'BINUNICODE' | 'SHORT_BINUNICODE'
                  | 'BINUNICODE8' | 'BINBYTES' | 'SHORT_BINBYTES' | 'BINBYTES8' | 'BYTEARRAY8'):
                push(argument)
            case 'NONE' | 'NEWTRUE' | 'NEWFALSE':
                push({'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}[opcode])
            case 'MARK':
                push(_MARK)
            case 'POP':
                self.stack.pop()
            case 'POP_MARK':
                self.pop_to_mark()
            case 'DUP':
                push(self.stack[-1])
            case 'PUT' | 'BINPUT' | 'LONG_BINPUT':
                self.memo[argument] = self.stack[-1]
            case 'MEMOIZE':
                self.memo[len(self.memo)] = self.stack[-1]
            case 'GET' | 'BINGET' | 'LONG_BINGET':
                push(self.memo[argument])
            case 'EMPTY_TUPLE' | 'EMPTY_LIST' | 'EMPTY_DICT':
                push({'EMPTY_TUPLE': tuple, 'EMPTY_LIST': list, 'EMPTY_DICT': dict}[opcode]())
            case 'TUPLE' | 'LIST':
                items = self.pop_to_mark()
                push(tuple(items) if opcode == 'TUPLE' else items)
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                items = [self.pop() for _ in range(int(opcode[-1]))]
                push(tuple(items[::-1]))
            case 'DICT':
                items = self.pop_to_mark()
                push({})
                _set_items(self.stack[-1], items)
            case 'SETITEM':
                value, key = self.pop(), self.pop()
                _set_items(self.stack[-1], [key, value])
            case 'SETITEMS':
                items = self.pop_to_mark()
                _set_items(self.stack[-1], items)
            case 'APPEND':
                self.extend([self.pop()])
            case 'APPENDS':
                items = self.pop_to_mark()
                self.extend(items)
            case 'GLOBAL':
                push(_find(*argument.split(' ', 1)))
            case 'STACK_GLOBAL':
                name, module = self.pop(), self.pop()
                push(_find(module, name))
            case 'INST':
                _find(*argument.split(' ', 1))  # to name what it wants
                raise _Refused('makes objects, which would run code')
            case 'BINPERSID':
                storage = _storage(self.pop())
                self.storages.setdefault(storage.key, storage)
                push(storage)
            case 'REDUCE':
                arguments, function = self.pop(), self.pop()
                if not any(function is known for known in _CALLABLE) or not isinstance(arguments, tuple):
                    raise _Refused('calls something that is no function')
                push(function(*arguments))
            case 'BUILD':
                state = self.pop()
                _build(self.stack[-1], state)
            case _:
                raise _Refused(f'uses {opcode}, which files of weights do not')

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError('items for something that is no list')
        self.stack[-1].extend(items)


def _set_items(target: Any, items: list[Any]) -> None:
    if type(target) is not dict or len(items) % 2:
        raise ValueError('items for something that is no dict')
    for key, value in zip(items[::2], items[1::2]):
        if type(key) not in (str, int, float, bytes, bool, type(None)):  # nested tuples could take ages to hash
            raise _Refused(f'has a {type(key).__name__} for a key')
        target[key] = value


# --- what the known names stand for ---


def _find(module: Any, name: Any) -> Any:
    if type(module) is not str or type(name) is not str:
        raise ValueError('a name that is no text')
    if (module, name) not in _GLOBALS:
        raise _Refused(f'needs {module[:80]}.{name[:80]}, and to load it would run code: where it comes from, save '
                       'model.state_dict() alone, or convert it to safetensors')
    return _GLOBALS[module, name]


def _storage(identity: Any) -> Storage:
    """('storage', type, key, device, count[, view]), where a view is (key, offset, count) or None."""
    kind, dtype, key, _, count, *view = identity
    if kind != 'storage' or not isinstance(dtype, np.dtype) or type(key) is not str or type(count) is not int:
        raise ValueError('a reference to no storage')
    begin = view[0][1] if view and view[0] is not None else 0
    if type(begin) is not int or not 0 <= begin or not 0 <= count <= _LARGEST_SIDE:
        raise ValueError('a storage of no possible size')
    return Storage(key, dtype, count, begin)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2, which adds requires_grad and hooks."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError('a tensor without storage')
    return Tensor(storage, storage.begin + offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _ordered_dict(pairs: Any = ()) -> dict:
    items = {}
    _set_items(items, [item for key, value in pairs for item in (key, value)])
    return items


def _size(values: Any) -> tuple:
    return tuple(values)


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding not in ('latin1', 'latin-1'):
        raise ValueError('bytes in another encoding than latin1')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    """How protocol 2 writes b''."""
    return b''


def _reconstruct(*_: Any) -> Array:
    return Array()


def _dtype(code: Any, *_: Any) -> _DType:
    if type(code) is not str or not code:
        raise ValueError('no type')
    return _DType(code)


def _scalar(dtype: Any, data: Any) -> Any:
    return _numbers(data, dtype.resolve(), (), False).item()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    return Array(_numbers(data, dtype.resolve(), shape, order == 'F'))


def _numbers(data: Any, dtype: np.dtype, shape: Any, fortran: bool) -> np.ndarray:
    if not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        raise ValueError('an array without numbers')
    if not all(type(side) is int and 0 <= side <= _LARGEST_SIDE for side in shape) or len(shape) > _MOST_AXES:
        raise ValueError('a shape of no possible size')
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f'{len(data)} bytes for an array of shape {shape}')
    return np.frombuffer(data, dtype).reshape(shape, order='F' if fortran else 'C')


def _build(target: Any, state: Any) -> None:
    """BUILD: hands an object its state."""
    if isinstance(target, Array):
        _, shape, dtype, fortran, data = state
        target.value = _numbers(data, dtype.resolve(), shape, bool(fortran))
    elif isinstance(target, _DType):
        if state[1] not in ('<', '>', '=', '|'):
            raise ValueError('an unknown byte order')
        target.order = state[1]
    elif type(target) is not dict:  # the attributes of a dict, such as a state dict's _metadata, are not needed
        raise _Refused('sets attributes of an object')


class _NDArray:
    """Stands for numpy.ndarray, which is only ever an argument."""


def _with_numpy(name: str, function: Callable) -> dict[tuple[str, str], Callable]:
    module, _, attribute = name.rpartition('.')
    return {(f'numpy.{core}.{module}', attribute): function for core in ('core', '_core')}  # before and since 2.0


_GLOBALS: Mapping[tuple[str, str], Any] = {
    ('collections', 'OrderedDict'): _ordered_dict,
    ('torch._utils', '_rebuild_tensor'): _rebuild_tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
    ('torch', 'Size'): _size,
    **{('torch', f'{kind}Storage'): np.dtype(dtype).newbyteorder('<') for kind, dtype in _STORAGES.items()},
    **_with_numpy('multiarray._reconstruct', _reconstruct),
    **_with_numpy('multiarray.scalar', _scalar),
    **_with_numpy('numeric._frombuffer', _frombuffer),
    ('numpy', 'dtype'): _dtype,
    ('numpy', 'ndarray'): _NDArray,
    ('_codecs', 'encode'): _encode,
    ('__builtin__', 'bytes'): _no_bytes,
}
_CALLABLE = [value for value in _GLOBALS.values() if callable(value) and value is not _NDArray]
