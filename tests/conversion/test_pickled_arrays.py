"""Pickles are described, never executed."""

import io
import os
import pickle
import random
import time
from collections import OrderedDict

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.conversion import pickled_arrays
from practicum.conversion.pickled_arrays import Array, Storage, Tensor
from tests.torch_files import Call, Name, Persistent, pickled

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def load(content: bytes):
    return pickled_arrays.load(io.BytesIO(content), 'weights.pth')


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
    assert found['epoch'] == 3.5
    for name, array in arrays.items():
        value = found['arrays'][name].value
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
    (b'(S"touch made"\nios\nsystem\n.', 'os.system'),  # INST
    (b'\x80\x04\x8c\x08builtins\x8c\x04eval\x93.', 'builtins.eval'),  # STACK_GLOBAL
    (b'cnumpy\nndarray\n)R.', 'no function'),
    (b'ccollections\nOrderedDict\n)\x81.', 'NEWOBJ'),
    (b'\x82\x01.', 'EXT1'),
    (b'ctorch.storage\n_load_from_bytes\n(C\x01xtR.', 'torch.storage._load_from_bytes'),
    (b'ctorch\nFloatStorage\n}b.', 'attributes'),
    (b'cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR.', None),
])
def test_other_ways_to_names_and_objects_are_closed(content, part):
    if part is None:  # a type alone is nothing yet
        load(content)
        part, content = "'O8'", (b'cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00O8tRC\x01xtR.')
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
        file = io.BytesIO(bytes(damaged))
        try:
            pickled_arrays.load(file, 'x')
            pickled_arrays.load(file, 'x')
        except UserError:
            refused += 1
    assert refused > 1000


def test_bombs_are_refused_at_once():
    started = time.monotonic()
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
    assert time.monotonic() - started < 20


def test_a_pickled_array_must_have_as_many_bytes_as_its_shape():
    content = pickle.dumps(np.zeros(100, np.uint8), 2)
    assert load(content).value.shape == (100,)
    with pytest.raises(UserError, match='100 bytes'):
        load(content.replace(b'Kd\x85', b'Kc\x85'))
    assert isinstance(load(b'cnumpy.core.multiarray\n_reconstruct\n)R.'), Array)


def test_tensors_of_the_first_pytorch_versions_may_view_a_part_of_a_storage():
    storage = Persistent(('storage', Name('torch', 'DoubleStorage'), 'k', 'cuda:0', 24, ('view', 6, 12)))
    described = {}
    content = pickled(Call(Name('torch._utils', '_rebuild_tensor'), (storage, 1, (2, 2), (4, 1))))
    tensor = pickled_arrays.load(io.BytesIO(content), 'w.pth', described)
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
    assert not view.flags.writeable


@pytest.mark.parametrize('offset, shape, strides', [
    (0, (4, 6), (7, 1)), (1, (24,), (1,)), (24, (), ()), (-1, (2,), (1,)), (3, (2,), (-1,)), (0, (25,), (0,)),
    (0, (2 ** 62, 2), (0, 0)), (0, (2,), (2 ** 63,)), (0, (2, 2), (1,)), (0, (1,) * 40, (0,) * 40), (0.0, (2,), (1,)),
    (0, (2.0,), (1,)), (0, ('2',), (1,)), (True, (2,), (1,)),
])
def test_a_tensor_cannot_look_outside_its_storage(offset, shape, strides):
    numbers = np.arange(24, dtype=np.float32)
    with pytest.raises(ValueError):
        Tensor(Storage('0', numbers.dtype, 24), offset, shape, strides).view(numbers)
