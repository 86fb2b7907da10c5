"""Copies of a state's arrays on the host, as fast as memory allows; checksums of them, and of which NaNs they hold."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..common.threads import cores
from .checkpoint_meta import NonFiniteError

Arrays = dict[str, np.ndarray]  # 'params/conv1/kernel' -> array

_PIECE = 2**22  # bytes that one thread copies at a time
_THREADS = 8  # memory is not faster with more


def copy(leaves: Sequence[Any]) -> list[np.ndarray]:
    """Returns copies of arrays, from any devices, that nobody else holds; all transfers are on their way at once."""
    copies, pieces = [], []
    for leaf, value in zip(leaves, jax.device_get(list(leaves))):
        value = np.asarray(value)
        if not _is_new(leaf, value):
            source, value = value, np.empty(value.shape, value.dtype)
            if source.nbytes > _PIECE and source.flags.c_contiguous:
                pieces += zip(_pieces(value), _pieces(source))
            else:
                np.copyto(value, source)
        copies.append(value)
    if pieces:
        with ThreadPoolExecutor(min(_THREADS, cores())) as pool:
            list(pool.map(lambda pair: np.copyto(*pair), pieces))
    return copies


def _is_new(leaf: Any, value: np.ndarray) -> bool:
    """Whether `device_get` made the array. On the CPU it may share memory with a buffer that the next step reuses."""
    return isinstance(leaf, jax.Array) and (value.flags.owndata or
                                            all(device.platform != 'cpu' for device in leaf.devices()))


def examine(arrays: Mapping[str, np.ndarray], step: int) -> dict[str, str]:
    """Returns the checksums of arrays by path.

    Raises:
      NonFiniteError: an array holds a NaN or an infinity; it names the path.
    """
    for path, value in arrays.items():
        if jnp.issubdtype(value.dtype, jnp.inexact):  # NumPy does not count bfloat16
            if not all(np.isfinite(piece).all() for piece in _pieces(np.ascontiguousarray(value))):
                raise NonFiniteError(path, step)
    return checksums(arrays)


def checksums(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns the CRC-32 of the bytes of arrays by path."""
    found = {}
    for path, value in arrays.items():
        found[path] = f'{zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8)):08x}'
    return found


def _pieces(value: np.ndarray) -> Iterator[np.ndarray]:
    """Yields views of the parts of a contiguous array."""
    flat, size = value.reshape(-1), max(1, _PIECE // max(1, value.itemsize))
    for start in range(0, flat.size, size):
        yield flat[start:start + size]
