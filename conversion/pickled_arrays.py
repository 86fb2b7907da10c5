"""Arrays from pickles, without running what a pickle asks for.

A pickle is a program: GLOBAL imports whatever it names, REDUCE calls it. `_Reader` is Python's unpickler with both
doors closed: the few names that files of weights need stand for inert objects of this file; any other name is refused,
and so is every opcode that such files do not use. It is the unpickler written in Python: its table of opcodes can be
narrowed, and its memory grows with what a file holds; the one in C reserves whatever a file of ten bytes claims.
"""

import operator
import pickle
import pickletools
import re
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError, file_error

MAGIC = 0x1950a86a20f9469cfc6c  # what PyTorch's older format begins with, as a pickle of its own
_MOST_READS = 2 ** 19  # of opcodes and their arguments; a network of a thousand tensors has 70,000
_LONGEST_NAME = 2 ** 10  # bytes
_LARGEST_KEY = 2 ** 60
_STORAGES = {'Float': '<f4', 'Half': '<f2', 'BFloat16': jnp.bfloat16, 'Double': '<f8', 'Long': '<i8', 'Int': '<i4',
             'Short': '<i2', 'Char': 'i1', 'Byte': 'u1', 'Bool': '?'}
# Those of protocols 2 to 5, without objects of classes and without sets.
_OPCODES = ('PROTO STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING '
            'SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE '
            'TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET '
            'LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID')


class Storage(NamedTuple):
    """Numbers that lie elsewhere in a PyTorch file: their name, how many, and where a view of them begins."""
    key: str
    dtype: np.dtype
    count: int
    begin: int = 0  # in numbers; only files from before 2018 have views


class _Inert:
    """Stands for what a function would have made: keeps the arguments and the state that it is handed."""
    __slots__ = ('arguments', 'state')

    def __init__(self, *arguments: Any):
        self.arguments, self.state = arguments, None


class Tensor(_Inert):
    """A PyTorch tensor, which is a window of a storage: (storage, offset, shape, strides, ...), counted in numbers."""
    __slots__ = ()

    def view(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the tensor as a view of its storage's numbers, [count]; raises an Exception if it does not fit."""
        storage, offset, shape, strides = self.arguments[:4]
        begin, *strides = (operator.index(step) * numbers.itemsize for step in (storage.begin + offset, *strides))
        view = np.ndarray(shape, numbers.dtype, numbers, begin, strides)  # which compares them with the buffer
        if view.size > len(numbers):
            raise ValueError('it is larger than its storage: a view that repeats numbers')
        return view


class Array(_Inert):
    """A numpy array: what `_frombuffer` is called with, or the state with which `_reconstruct` is filled in."""
    __slots__ = ()

    def read(self) -> np.ndarray:
        """Returns the array, read-only; raises an Exception if its bytes are not as many as its shape needs."""
        if self.state is None:
            content, dtype, shape, order = self.arguments
        else:
            _, shape, dtype, fortran, content = self.state
            order = 'F' if fortran else 'C'
        (code, *_), (_, byteorder, *_) = dtype.arguments, dtype.state
        if not re.fullmatch('[fiub][1248]', code):
            raise ValueError(f'it is of type {code[:20]}, not of numbers')
        return np.frombuffer(content, np.dtype(code).newbyteorder(byteorder)).reshape(shape, order=order)


class _Dict(dict):
    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        # Nested tuples can take ages to hash, large integers can be chosen to collide, long names be joined to longer.
        if not (type(key) is str and len(key) < _LONGEST_NAME or type(key) is int and abs(key) < _LARGEST_KEY
                or isinstance(key, float | bool | None)):
            raise ValueError(f'an unlikely {type(key).__name__} for a key')
        super().__setitem__(key, value)


class Stream:
    """A file of `size` bytes, from where it is now, to read pickles from: no more than it has, and not without end."""

    def __init__(self, file: BinaryIO, size: int, path: object):
        self.size, self.left, self.path = size, size, path
        self._file, self._reads = file, 0

    def read(self, size: int) -> bytes:
        """Returns exactly so many bytes; raises EOFError before memory is reserved for more than there is."""
        content = self._file.read(size) if size <= self.left else b''
        if len(content) < size:
            raise EOFError('no more bytes')
        return self._count(content)

    def readline(self) -> bytes:
        """Returns what is left of a line."""
        return self._count(self._file.readline(_LONGEST_NAME))

    def _count(self, content: bytes) -> bytes:
        self.left -= len(content)
        self._reads += 1
        if self._reads > _MOST_READS:
            raise ValueError('longer than any file of weights')
        return content


def load(stream: Stream, storages: dict[str, Storage] | None = None) -> Any:
    """Returns what the next pickle of a stream describes: dicts, lists, numbers, text, bytes, `Tensor` and `Array`.

    The stream is left behind the pickle; `storages` is filled with every storage that the pickle refers to, by key. A
    byte of the stream takes at most five in memory, which text may need; all the rest takes 64 MB at most.

    Raises:
      UserError: the pickle wants to run code, or is damaged.
    """
    try:
        return _Reader(stream, {} if storages is None else storages).load()
    except UserError:
        raise
    except Exception as error:  # the unpickler raises whatever the damage led to
        raise file_error(stream.path, f'the pickle in it is damaged or cut off ({type(error).__name__}: '
                                      f'{str(error)[:80]})') from error


class _Reader(pickle._Unpickler):
    def __init__(self, stream: Stream, storages: dict[str, Storage]):
        super().__init__(stream, encoding='latin1')
        self.stream, self.storages, self.may_copy = stream, storages, stream.size + 2 ** 20
        self.names = _NAMES | {('collections', 'OrderedDict'): self.ordered_dict, ('_codecs', 'encode'): self.encode}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise file_error(self.stream.path, f'needs {module[:80]}.{name[:80]}, and to load it would run code: where '
                             'it comes from, save model.state_dict() alone, or convert it to safetensors')
        return self.names[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        _, dtype, key, _, count, *view = pid  # a view is (key, offset, count) or None
        storage = Storage(key, dtype, count, *(view[0][1:2] if view and view[0] else ()))
        if not isinstance(dtype, np.dtype) or [type(key), type(count), type(storage.begin)] != [str, int, int]:
            raise ValueError('a reference to no storage')
        self.storages.setdefault(key, storage)
        return storage

    def count_copy(self, size: int) -> None:  # of what a small file could else have copied again and again
        self.may_copy -= size
        if self.may_copy < 0:
            raise ValueError('it unpacks to more than itself')

    def ordered_dict(self, pairs: Any = ()) -> _Dict:  # with pairs where Python 2 wrote it
        self.count_copy(128 * len(pairs))
        found = _Dict()
        for key, value in pairs:
            found[key] = value
        return found

    def encode(self, text: str, encoding: str) -> bytes:  # how protocol 2 writes bytes
        self.count_copy(len(text))
        if encoding != 'latin1':
            raise ValueError('bytes that are not latin1')
        return text.encode('latin1')

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple:
            raise ValueError('a call without arguments')
        self.append(function(*arguments))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Inert):
            target.state = state
        elif not isinstance(target, _Dict):  # whose attributes, such as _metadata, are not needed
            raise ValueError('attributes of what has none')

    def refuse(self, code: int) -> None:
        raise ValueError(f'{pickletools.code2op[chr(code)].name} is not for files of weights')

    dispatch = {code: lambda self, code=code: self.refuse(code) for code in pickle._Unpickler.dispatch} | {
        code: pickle._Unpickler.dispatch[code] for name in _OPCODES.split() for code in getattr(pickle, name)} | {
        pickle.FRAME[0]: lambda self: self.read(8),  # how far to read ahead; here every read is counted
        pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
        pickle.EMPTY_DICT[0]: lambda self: self.append(_Dict()),
        pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build}


_NAMES: dict[tuple[str, str], Any] = {
    ('torch._utils', '_rebuild_tensor'): Tensor,
    ('torch._utils', '_rebuild_tensor_v2'): Tensor,
    ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
    ('torch', 'Size'): lambda sides: sides,
    **{('torch', f'{kind}Storage'): np.dtype(dtype) for kind, dtype in _STORAGES.items()},
    **{(f'numpy.{core}.{module}', name): stand_in for core in ('core', '_core')  # before and since numpy 2
       for module, name, stand_in in (('multiarray', '_reconstruct', Array), ('multiarray', 'scalar', _Inert),
                                      ('numeric', '_frombuffer', Array))},
    ('numpy', 'dtype'): _Inert,
    ('numpy', 'ndarray'): None,  # only ever an argument
    ('__builtin__', 'bytes'): lambda: b'',  # how protocol 2 writes b''
}
