"""Files of weights: every format gives the arrays that were written, and a damaged file is one line."""

import gzip
import io
import pickle
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from practicum.common.errors import UserError
from practicum.conversion import weight_files
from tests import torch_files
from tests.torch_files import Call, Name, Tensor, whole

WRITERS = {'zip': torch_files.write_zip, 'legacy': torch_files.write_legacy}


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {'conv.weight': rng.standard_normal((4, 3, 2, 2)).astype(np.float32), 'conv.bias': np.arange(4.0),
            'half': np.arange(5).astype(np.float16), 'brain': np.arange(-3, 3).astype(ml_dtypes.bfloat16),
            'bn.num_batches_tracked': np.array(7)}


def state_dict() -> dict[str, Tensor]:
    return {name: whole(str(index), array) for index, (name, array) in enumerate(arrays().items())}


def assert_same(found, expected) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize('form', WRITERS)
def test_a_state_dict_is_read_exactly(form, tmp_path):
    assert_same(weight_files.read(WRITERS[form](tmp_path / 'w.pth', state_dict())), arrays())


@pytest.mark.parametrize('form', WRITERS)
def test_tensors_may_share_a_storage(form, tmp_path):
    numbers = np.arange(24, dtype=np.float32)
    path = WRITERS[form](tmp_path / 'w.pth', {'whole': Tensor('s', numbers, 0, (4, 6), (6, 1)),
                                              'transposed': Tensor('s', numbers, 0, (6, 4), (1, 6)),
                                              'row': Tensor('s', numbers, 12, (6,), (1,))})
    table = numbers.reshape(4, 6)
    assert_same(weight_files.read(path), {'whole': table, 'transposed': table.T, 'row': table[2]})


@pytest.mark.parametrize('form', WRITERS)
@pytest.mark.parametrize('wrap', [
    lambda weights: {'state_dict': weights, 'epoch': 3, 'optimizer': {'state': {0: {'step': whole('s', np.ones(1))}}}},
    lambda weights: {'epoch': 3, 'best': None, 'model': weights},
    lambda weights: {'module.' + name: value for name, value in weights.items()},
    lambda weights: {'state_dict': {'model._orig_mod.' + name: value for name, value in weights.items()}},
    lambda weights: {'model': {'state_dict': weights}, 'args': {'lr': 1}},
    lambda weights: {name: Call(Name('torch._utils', '_rebuild_parameter'), (value, True, {}))
                     for name, value in weights.items()},
])
def test_the_state_dict_of_a_checkpoint_is_found(form, wrap, tmp_path):
    assert_same(weight_files.read(WRITERS[form](tmp_path / 'w.pth', wrap(state_dict()))), arrays())


def test_safetensors_and_npz_are_read_exactly(tmp_path):
    save_file(arrays(), tmp_path / 'w.safetensors')
    found = weight_files.read(tmp_path / 'w.safetensors')
    assert_same({name: found[name] for name in arrays()}, arrays())
    plain = {name: array for name, array in arrays().items() if name != 'brain'}  # numpy files have no bfloat16
    plain['fortran'] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    for name, save in (('a.npz', np.savez), ('b.npz', np.savez_compressed)):
        save(tmp_path / name, **{f'module.params/{key}': array for key, array in plain.items()})
        assert_same(weight_files.read(tmp_path / name), {f'params/{key}': array for key, array in plain.items()})


def test_a_member_of_an_archive_is_read_and_nothing_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / 'in' / 'lpips.tar.gz'
    path.parent.mkdir()
    content = pickle.dumps({'VGG16_0': {'Conv_0': {'kernel': np.arange(6.0).reshape(2, 3)}}}, 3)
    with tarfile.open(path, 'w:gz') as archive:
        for name, data in (('../../escaped', b'x'), ('/tmp/absolute', b'x'), ('a/weights/vgg16.ckpt', content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo('a/weights/alexnet.ckpt')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(link)
    assert_same(weight_files.read(path, 'weights/vgg16.ckpt'),
                {'VGG16_0/Conv_0/kernel': np.arange(6.0).reshape(2, 3)})
    assert [file.name for file in tmp_path.rglob('*')] == ['in', 'lpips.tar.gz']
    refused(path, 'it has no weights/alexnet.ckpt', member='weights/alexnet.ckpt')
    refused(path, 'unpack it and name the file of weights')
    path.write_bytes(path.read_bytes()[:100])
    refused(path, 'damaged or cut off', member='weights/vgg16.ckpt')


def refused(path: Path, *parts: str, member: str = '') -> None:
    """Reading is a UserError of one line that names the file."""
    with pytest.raises(UserError) as error:
        weight_files.read(path, member)
    text = str(error.value)
    assert str(path) in text and '\n' not in text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize('form', WRITERS)
def test_a_file_that_would_run_code_does_not(form, tmp_path):
    made = tmp_path / 'made'
    payload = Call(Name('os', 'system'), (f'touch {made}',))
    refused(WRITERS[form](tmp_path / 'w.pth', {'weights': payload}), 'needs os.system', 'convert it to safetensors')
    model = Call(Name('torchvision.models.resnet', 'ResNet'), ())
    refused(WRITERS[form](tmp_path / 'm.pth', model), 'needs torchvision.models.resnet.ResNet', 'state_dict')
    assert not made.exists()


@pytest.mark.parametrize('form', [*WRITERS, 'safetensors', 'npz'])
def test_a_file_that_is_cut_off_is_one_line(form, tmp_path):
    path = tmp_path / 'w'
    if form in WRITERS:
        WRITERS[form](path, state_dict())
    elif form == 'safetensors':
        save_file(arrays(), path)
    else:
        with open(path, 'wb') as file:
            np.savez(file, conv=arrays()['conv.weight'])
    content = path.read_bytes()
    for end in [*range(1, 40), *np.linspace(40, len(content) - 1, 60).astype(int)]:
        path.write_bytes(content[:end])
        refused(path)
    path.write_bytes(b'')
    refused(path, 'it is empty')


@pytest.mark.parametrize('form', [*WRITERS, 'safetensors', 'npz'])
@pytest.mark.filterwarnings('ignore')
def test_a_damaged_file_is_read_or_refused(form, tmp_path):
    """Whatever bytes change, there is nothing but arrays or one line."""
    path = tmp_path / 'w'
    if form in WRITERS:
        WRITERS[form](path, state_dict())
    elif form == 'safetensors':
        save_file(arrays(), path)
    else:
        with open(path, 'wb') as file:
            np.savez(file, conv=arrays()['conv.weight'])
    content, rng = path.read_bytes(), np.random.default_rng(0)
    count = 0
    for _ in range(400):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            weight_files.read(path)
        except UserError as error:
            count += 1
            assert '\n' not in str(error)
    assert count > 50


def test_a_storage_has_the_size_that_its_tensors_need(tmp_path):
    path = tmp_path / 'w.pth'
    numbers = np.arange(24, dtype=np.float32)
    refused(torch_files.write_zip(path, {'w': Tensor('s', numbers, 0, (4, 6), (7, 1))}), 'w is damaged')
    refused(torch_files.write_zip(path, {'w': Tensor('s', numbers, 20, (6,), (1,))}), 'w is damaged')
    refused(torch_files.write_zip(path, {'w': Tensor('s', numbers, 0, (100, 100), (0, 0))}), 'larger than its storage')
    refused(torch_files.write_zip(path, {'w': whole('s', numbers)}, leave_out=('s',)), 'it has no archive/data/s')
    refused(torch_files.write_zip(path, {'w': whole('s', numbers)}, byteorder='big'), 'big-endian')
    refused(torch_files.write_legacy(path, {'w': whole('s', numbers)}, little_endian=False), 'big-endian')
    with zipfile.ZipFile(torch_files.write_zip(path, {'w': whole('s', numbers)})) as archive:
        description = archive.read('archive/data.pkl')
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', description)
        archive.writestr('archive/data/s', bytes(4 * 24 + 4))
    refused(path, 'archive/data/s has 100 bytes, its tensors need 96')


def test_a_small_file_cannot_become_a_large_one(tmp_path):
    path = tmp_path / 'w.pth'
    numbers = np.zeros(10 ** 6, np.float32)
    torch_files.write_zip(path, {'w': whole('s', numbers)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10 ** 5
    refused(path, 'compressed, which torch.save does not do')
    with zipfile.ZipFile(tmp_path / 'w.npz', 'w') as archive:
        content = io.BytesIO()
        np.lib.format.write_array_header_1_0(content, {'descr': '<f4', 'fortran_order': False, 'shape': (10 ** 12,)})
        archive.writestr('w.npy', content.getvalue() + bytes(8))
    refused(tmp_path / 'w.npz', 'w.npy is no array: it is too short for its shape (1000000000000,)')


def write_npz(path: Path, *contents: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, 'w', method) as archive:
        for index, content in enumerate(contents):
            archive.writestr(f'w{index}.npy', content)
    return path


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_what_is_compressed_too_well_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, '_SPARE', 2 ** 20)
    zeros = bytes(2 ** 23)
    path = write_npz(tmp_path / 'w.npz', zeros[:2 ** 22], zeros[:2 ** 22], method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2 ** 16
    large = tmp_path / 'w.tar.gz'
    header = tarfile.TarInfo('first')
    header.size = len(zeros)
    weights = tarfile.TarInfo('weights/a.ckpt')
    weights.size = 1
    headers = b''.join(info.tobuf(tarfile.GNU_FORMAT) for info in (header, weights))
    large.write_bytes(gzip.compress(headers[:512] + zeros + headers[512:] + b'N' + bytes(511), 1))
    tracemalloc.start()
    refused(path, 'it unpacks to more than 16 times its size: save it without compression')
    refused(large, 'it unpacks to more than 16 times its size', member='weights/a.ckpt')
    weights.size = 2 ** 33  # and no content
    claim = b'\x80\x04\x8e' + (2 ** 32).to_bytes(8, 'little')
    large.write_bytes(gzip.compress(weights.tobuf(tarfile.GNU_FORMAT) + claim))
    refused(large, 'damaged or cut off', member='weights/a.ckpt')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 21


@pytest.mark.parametrize('form', ['npz', 'tar.gz'])
def test_reading_takes_hardly_more_than_the_arrays(form, tmp_path):
    arrays = {str(index): np.random.default_rng(index).standard_normal(2 ** 18) for index in range(8)}  # 2 MB each
    path = tmp_path / f'w.{form}'
    if form == 'npz':
        np.savez_compressed(path, **arrays)
    else:
        with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
            content = pickle.dumps(arrays, 4)
            info = tarfile.TarInfo('w.ckpt')
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    tracemalloc.start()
    found = weight_files.read(path, 'w.ckpt')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert_same(found, arrays)
    assert peak < (8 + 2.5) * 2 ** 21  # beside it what tarfile joins


def test_damage_of_every_kind_in_an_npz_is_one_line(tmp_path):
    path = tmp_path / 'w.npz'
    good = npy(np.arange(100.0))
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        refused(write_npz(path, good, method=method), 'in a way that numpy does not use')
    for header in (b"{'descr': (", b'{[]: 1}', b'(' * 5000, b'{' * 5000, b"{'descr': 'O'}", b'\xff',
                   b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,)}" % 2 ** 70):
        refused(write_npz(path, b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header + good[128:]),
                'w0.npy is no array')
    refused(write_npz(path, good, b'', good), 'w1.npy is no array')
    refused(write_npz(path, good + b'x'), 'w0.npy is no array: it is too long for its shape (100,)')
    damaged = bytearray(write_npz(path, good).read_bytes())
    damaged[400] ^= 1
    path.write_bytes(damaged)
    refused(path, 'w0.npy is no array: Bad CRC-32')
    write_npz(path, good)
    path.write_bytes(path.read_bytes().replace(b'w0.npy', b'\xff\xfe.npy').replace(
        b'PK\x01\x02\x14\x03\x14\x00\x00\x00', b'PK\x01\x02\x14\x03\x14\x00\x00\x08'))  # names are UTF-8
    refused(path, 'damaged or cut off')


def test_keys_of_dicts_become_names_of_a_sensible_length(tmp_path):
    path = tmp_path / 'w.pkl'
    for key in (10 ** 600, 'k' * 5000, ('a',) * 9):
        path.write_bytes(pickle.dumps({key: np.arange(3.0)}, 4))
        refused(path, 'for a key')
    path.write_bytes(pickle.dumps({5: {None: np.arange(3.0)}}, 4))
    assert_same(weight_files.read(path), {'5/None': np.arange(3.0)})
    path.write_bytes(pickle.dumps({key: np.float32(3) for key in range(9)} | {'w' * 200: {}}, 4))
    refused(path, 'it holds no weights; it has: 0, 1')


def test_files_of_other_kinds_are_one_line(tmp_path):
    np.savez(tmp_path / 'objects.npz', w=np.array([{}, 'a'], dtype=object), allow_pickle=True)
    refused(tmp_path / 'objects.npz', 'Object arrays cannot be loaded')
    (tmp_path / 'text.pth').write_text('<!DOCTYPE html> not found')
    refused(tmp_path / 'text.pth', 'no safetensors file, no npz and no PyTorch file')
    with zipfile.ZipFile(tmp_path / 'other.zip', 'w') as archive:
        archive.writestr('readme.txt', 'x')
    refused(tmp_path / 'other.zip', 'neither an npz nor from torch.save')
    refused(torch_files.write_zip(tmp_path / 'none.pth', {'epoch': 3, 'name': 'x'}), 'no weights; it has: epoch, name')
    refused(torch_files.write_zip(tmp_path / 'list.pth', [1, 2]), 'a list, not a dict of weights')
    refused(tmp_path / 'missing.pth', 'No such file')
    refused(tmp_path, 'Is a directory')
