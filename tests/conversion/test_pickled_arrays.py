"""Pickles are described, never executed."""

import io
import os
import pickle
import random
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.conversion import pickled_arrays
from practicum.conversion.pickled_arrays import Storage, Stream, Tensor
from tests.torch_files import Call, Name, Persistent, pickled

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)  # before were those of Python 1


def stream(content: bytes) -> Stream:
    return Stream(io.BytesIO(content), len(content), 'weights.pth')


def load(content: bytes):
    return pickled_arrays.load(stream(content))


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_plain_values_are_what_pickle_makes_of_them(protocol):
    shared = ['a', 'b']
    value = {'text': 'größer', 'bytes': b'\x00\xff', 'numbers': [0, -1, 255, 65535, 2 ** 31, -2 ** 70, 1.5, -0.0],
             'flags': (True, False, None), 'nested': {'a': {}, 1: [], 2.5: ()}, 'twice': [shared, shared],
             'ordered': OrderedDict([('x', 1), ('y', 2)]), 'tuples': ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
             'long': 'x' * 300, 'list of lists': [[1], [2, [3]]]}
    found = load(pickle.dumps(value, protocol))
    assert found == value
    assert found['twice'][0] is found['twice'][1]


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_numpy_arrays_are_what_pickle_makes_of_them(protocol):
    rng = np.random.default_rng(0)
    arrays = {'float': rng.standard_normal((3, 4, 2)).astype(np.float32), 'half': np.arange(5, dtype=np.float16),
              'long': np.arange(6).reshape(2, 3), 'fortran': np.asfortranarray(rng.standard_normal((3, 5))),
              'big-endian': np.arange(4, dtype='>f4'), 'empty': np.zeros((0, 3)), 'scalar': np.array(2.5),
              'flags': np.array([True, False])}
    found = load(pickle.dumps({'arrays': arrays, 'epoch': np.float64(3.5)}, protocol))
    for name, array in arrays.items():
        value = found['arrays'][name].read()
        np.testing.assert_array_equal(value, array, strict=False)
        assert value.shape == array.shape and value.dtype.newbyteorder('=') == array.dtype.newbyteorder('=')


class Payload:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('name, function, form', [
    ('posix.system', os.system, 'touch {}'),
    ('eval', eval, 'open({!r}, "w").close()'),
    ('exec', exec, 'open({!r}, "w").close()'),
])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(name, function, form, protocol, tmp_path):
    made = tmp_path / 'made'
    content = pickle.dumps({'weights': Payload(function, form.format(str(made)))}, protocol)
    with pytest.raises(UserError, match=f'weights.pth: needs .*{name}.*convert it to safetensors'):
        load(content)
    assert not made.exists()
    pickle.loads(content)  # it really would have
    assert made.exists()


@pytest.mark.parametrize('content, part', [
    (b'(U\x0atouch madeios\nsystem\n.', 'INST'),
    (b'(cos\nsystem\nU\x0atouch madeo.', 'os.system'),
    (b'(ccollections\nOrderedDict\no.', 'OBJ'),
    (b'\x80\x04\x8c\x08builtins\x8c\x04eval\x93.', 'builtins.eval'),  # STACK_GLOBAL
    (b'cnumpy\nndarray\n)R.', 'not callable'),
    (b'ccollections\nOrderedDict\n}R.', 'a call without arguments'),
    (b'ccollections\nOrderedDict\n)\x81.', 'NEWOBJ'),
    (b'\x82\x01.', 'EXT1'),
    (b'ctorch.storage\n_load_from_bytes\n(C\x01xtR.', 'torch.storage._load_from_bytes'),
    (b'c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR.', 'arguments'),  # else so many zeros
    (b'ctorch\nFloatStorage\n}b.', 'attributes'),
    (b'ctorch._utils\n_rebuild_tensor\n}U\x0d__globals__xyNsb.', 'attributes'),  # of a stand-in itself
    (b'\x8f.', 'EMPTY_SET'), (b'P1\n.', 'PERSID'), (b'\x97.', 'NEXT_BUFFER'),
])
def test_other_ways_to_names_and_objects_are_closed(content, part):
    with pytest.raises(UserError, match='weights.pth') as error:
        load(content)
    assert part in str(error.value)


def test_every_part_of_a_pickle_is_one_line():
    content = pickle.dumps({'weights': np.arange(4), 'more': [1, (2, 3)]}, 2)
    for end in range(len(content)):
        with pytest.raises(UserError) as error:
            load(content[:end])
        assert '\n' not in str(error.value)


@pytest.mark.filterwarnings('ignore:invalid escape sequence')
def test_damaged_pickles_never_raise_anything_else():
    content = pickled({'w': Call(Name('torch._utils', '_rebuild_tensor_v2'), (
        Persistent(('storage', Name('torch', 'FloatStorage'), '0', 'cpu', 4)), 0, (2, 2), (2, 1), False, {}))})
    content += pickle.dumps([np.arange(3), {'a': np.float32(2)}], 2)
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file = stream(bytes(damaged))
        try:
            pickled_arrays.load(file)
            pickled_arrays.load(file)
        except UserError:
            refused += 1
    assert refused > 1000


def test_bombs_are_refused_at_once():
    # A tuple of itself twice, sixty times over: to hash, compare or print it takes 2 ** 60 steps.
    doubling = b'\x80\x02)' + b''.join(b'q\x00h\x00\x86' for _ in range(60))
    for content in (b'\x80\x02}' + doubling[2:] + b'Ns.', doubling + b'ccollections\nOrderedDict\n\x93.',
                    doubling + b'q\x00c_codecs\nencode\n(X\x01\x00\x00\x00ah\x00tR.', doubling + b'q\x00h\x00\x93.'):
        with pytest.raises(UserError):
            load(content)
    with pytest.raises(UserError, match='longer than any file of weights'):
        load(b'(' * 1_000_001)
    with pytest.raises(UserError):
        load(b'\x8e' + (2 ** 62).to_bytes(8, 'little') + b'x.')  # so many bytes
    colliding = b''.join(pickle.dumps(number * (2 ** 61 - 1), 2)[2:-1] + b'N' for number in range(1, 60_000))
    with pytest.raises(UserError, match='int for a key'):
        load(b'}(' + colliding + b'u.')  # 2e9 comparisons


def calls(function: bytes, arguments: bytes, argument: bytes, count: int) -> bytes:
    """A pickle that calls a function again and again with one tuple of arguments, and keeps what it returns."""
    return argument + b'q\x01' + function + b'q\x00' + arguments + b'q\x02(' + b'h\x00h\x02R' * count + b't.'


def text(length: int) -> bytes:
    return b'X' + length.to_bytes(4, 'little') + b'a' * length


BOMBS = {
    'copies of a text': calls(b'c_codecs\nencode\n', b'h\x01X\x06\x00\x00\x00latin1\x86', text(2 ** 20), 1000),
    'copies of a list': calls(b'ctorch\nSize\n', b'h\x01\x85', b'](' + b'N' * 100_000 + b'e', 1000),
    'copies of pairs': calls(b'ccollections\nOrderedDict\n', b'h\x01\x85', b'](' + b''.join(
        b'K%cN\x86' % number for number in range(200)) + b'e', 50_000),
    'large offsets': calls(b'ctorch._utils\n_rebuild_tensor\n', b'h\x01h\x01h\x01h\x01t', b'(' + text(2 ** 20), 9000),
    'characters as arguments': text(2 ** 22) + b'q\x01ccollections\nOrderedDict\nh\x01R.',
    'a memo of four billion': b'Nr\xff\xff\xff\xff.',
    'a frame of 16 GB': b'\x95\x00\x00\x00\x00\x04\x00\x00\x00N.',
    '16 GB of bytes': b'\x96\x00\x00\x00\x00\x04\x00\x00\x00N.',
    'many dicts': b'}' * 2 ** 20, 'a long memo': b'N' + b'\x94' * 2 ** 20, 'a deep one': b'N' + b'\x85' * 2 ** 20,
    'wide text': b'X' + (2 ** 22).to_bytes(4, 'little') + 'ё😀'.encode() + b'a' * (2 ** 22 - 6) + b'.',
    'many tensors': calls(b'ctorch._utils\n_rebuild_tensor\n', b'h\x01\x85', b'N', 200_000),
}


@pytest.mark.parametrize('content', BOMBS.values(), ids=BOMBS)
def test_a_small_file_takes_no_more_than_a_multiple_of_its_size(content):
    tracemalloc.start()
    try:
        load(b'\x80\x04' + content)
    except UserError as error:
        assert len(str(error)) < 300
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * len(content) + 2 ** 26, (peak >> 20, len(content) >> 20)


def test_a_pickled_array_must_have_as_many_bytes_as_its_shape():
    content = pickle.dumps(np.zeros(100, np.uint8), 2)
    assert load(content).read().shape == (100,)
    for damaged in (content.replace(b'Kd\x85', b'Kc\x85'), content.replace(b'u1', b'O8'), content.replace(b'u1', b'u4'),
                    b'cnumpy.core.multiarray\n_reconstruct\n)R.'):
        with pytest.raises(ValueError):
            load(damaged).read()


def test_tensors_of_the_first_pytorch_versions_may_view_a_part_of_a_storage():
    storage = Persistent(('storage', Name('torch', 'DoubleStorage'), 'k', 'cuda:0', 24, ('view', 6, 12)))
    described = {}
    content = pickled(Call(Name('torch._utils', '_rebuild_tensor'), (storage, 1, (2, 2), (4, 1))))
    tensor = pickled_arrays.load(stream(content), described)
    assert described == {'k': Storage('k', np.dtype('<f8'), 24, 6)}
    np.testing.assert_array_equal(tensor.view(np.arange(24.0)), [[7, 8], [11, 12]])


@pytest.mark.parametrize('offset, shape, strides, expected', [
    (0, (4, 6), (6, 1), lambda n: n),
    (0, (6, 4), (1, 6), lambda n: n.T),
    (7, (2, 2), (6, 2), lambda n: n[1:3, 1:5:2]),
    (23, (), (), lambda n: n[3, 5]),
    (0, (4,), (7,), lambda n: n[range(4), range(4)]),
])
def test_a_tensor_is_a_window_of_its_storage(offset, shape, strides, expected):
    numbers = np.arange(24, dtype=np.float32)
    view = Tensor(Storage('0', numbers.dtype, 24), offset, shape, strides).view(numbers)
    np.testing.assert_array_equal(view, expected(numbers.reshape(4, 6)), strict=False)
    assert np.shares_memory(view, numbers)


@pytest.mark.parametrize('offset, shape, strides', [
    (0, (4, 6), (7, 1)), (1, (24,), (1,)), (24, (), ()), (-1, (2,), (1,)), (1, (3,), (-1,)), (0, (25,), (0,)),
    (0, (2 ** 62, 2), (0, 0)), (0, (2,), (2 ** 63,)), (0, (2, 2), (1,)), (0, (1,) * 400, (0,) * 400), (0.0, (2,), (1,)),
    (0, (2.0,), (1,)), (0, ('2',), (1,)), (0, (2,), ('1',)), (0, (2 ** 1000,) * 9999, (1,)), (0, (-2,), (1,)),
    (0, (2,), (-2 ** 62,)), ('0', (2,), (1,)),
])
def test_a_tensor_cannot_look_outside_its_storage(offset, shape, strides):
    numbers = np.arange(24, dtype=np.float32)
    with pytest.raises((ValueError, TypeError, OverflowError)):
        Tensor(Storage('0', numbers.dtype, 24), offset, shape, strides).view(numbers)
