"""Devices and hosts: the only file that knows how many there are.

Data parallelism through one named axis. A step function is written for one device and reduces over `AXIS`; `Parallel`
compiles it with `jax.pmap` (one replicated state, no leading device axis) or with `jax.jit(jax.shard_map(...))`.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..common.errors import UserError

AXIS = 'batch'


class Parallel:
    """Compiles steps and places arrays for data parallelism over local devices and all hosts.

    Args:
      mode: 'pmap' or 'shard_map'.
      devices: how many devices of this process to use; 0 for all.

    Raises:
      UserError: more devices asked for than there are, or an unknown mode.
    """

    def __init__(self, mode: str = 'pmap', devices: int = 0):
        if mode not in ('pmap', 'shard_map'):
            raise UserError(f"config.parallel.mode = {mode!r}; there are 'pmap' and 'shard_map'")
        available = jax.local_devices()
        if devices < 0 or devices > len(available):
            raise UserError(f'config.parallel.devices = {devices}, but this process has {len(available)} '
                            f'{available[0].platform} device(s)')
        self.mode = mode
        self.processes = jax.process_count()
        self.rank = jax.process_index()
        self.local = available[:devices or len(available)]
        if self.processes > 1 and len(self.local) < len(available):
            raise UserError('config.parallel.devices works in a single process; with several, give each its devices '
                            'through CUDA_VISIBLE_DEVICES or the scheduler')
        self.count = len(self.local) * self.processes
        # pmap keeps a state that each process addresses alone; shard_map spans all of them.
        over = self.local if mode == 'pmap' or self.processes == 1 else jax.devices()
        self._mesh = Mesh(np.array(over), (AXIS,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._sharded = NamedSharding(self._mesh, PartitionSpec(AXIS))

    def __str__(self) -> str:
        kind = self.local[0].device_kind
        text = f'{len(self.local)} x {kind}'
        return text + (f' on each of {self.processes} processes' if self.processes > 1 else '') + f' ({self.mode})'

    def check_batch(self, batch_size: int, field: str) -> None:
        """Raises UserError if a global batch is empty or cannot be split evenly."""
        if batch_size < 1:
            raise UserError(f'config.{field} = {batch_size}: it must be at least 1')
        if batch_size % self.count:
            raise UserError(f'config.{field} = {batch_size} cannot be split over {self.count} device(s): '
                            f'use a multiple, such as {self.round_up(batch_size)}')

    def round_up(self, rows: int) -> int:
        """Returns the next number of rows, at least these, that all devices share evenly."""
        return math.ceil(rows / self.count) * self.count

    def local_slice(self, batch_size: int) -> slice:
        """Returns which rows of a global batch this process feeds."""
        share = batch_size // self.processes
        return slice(self.rank * share, (self.rank + 1) * share)

    def compile(self, step: Callable, *, donate: bool) -> Callable:
        """Compiles `step(state, batch) -> pytree`: state and result replicated, batch split along its first axis."""
        donated = (0,) if donate else ()
        if self.mode == 'pmap':
            return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=self._pmap_devices(),
                            donate_argnums=donated)
        # check_vma=False: with the default, pmean of gradients would be multiplied by the number of devices.
        mapped = jax.shard_map(step, mesh=self._mesh, in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
                               out_specs=PartitionSpec(), check_vma=False)
        return jax.jit(mapped, donate_argnums=donated)

    def _pmap_devices(self):
        return None if len(self.local) == jax.local_device_count() else self.local

    def replicate(self, tree: Any) -> Any:
        """Places a pytree of host or device arrays on every device."""
        # The mesh axis is named like pmap's, else the first and the second step would compile separately.
        return jax.device_put(tree, self._replicated)

    def shard(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Turns this process's rows [rows, ...] into what a compiled step takes."""
        if self.mode == 'pmap':
            n = len(self.local)
            return {key: value.reshape(n, value.shape[0] // n, *value.shape[1:]) for key, value in batch.items()}
        if self.processes == 1:
            return batch
        return {key: jax.make_array_from_process_local_data(self._sharded, value) for key, value in batch.items()}

    def fetch(self, tree: Any) -> Any:
        """Returns the host copy of replicated results, waiting for them."""
        return jax.tree.map(np.asarray, tree)

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def broadcast(self, tree: Any) -> Any:
        """Returns process 0's pytree of arrays in every process; shapes and types must agree."""
        if self.processes == 1:
            return tree
        return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))

    def check_same(self, text: str, what: str, cure: str = 'start all of them with the same command') -> None:
        """Raises UserError in every process unless all of them have the same text."""
        if self.processes > 1:
            checksums = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
            if len(set(np.asarray(checksums).tolist())) > 1:
                raise UserError(f'the processes have different {what}: {cure}')

    def broadcast_text(self, text: str | None) -> str | None:
        """Returns process 0's text, or None, in every process."""
        if self.processes == 1:
            return text
        data = np.frombuffer((text or '').encode(), np.uint8)
        length = int(self.broadcast(np.asarray(-1 if text is None else data.size, np.int32)))
        if length < 0:
            return None
        padded = np.zeros(length, np.uint8)
        if self.is_writer:
            padded[:] = data
        return self.broadcast(padded).tobytes().decode()


def one_late(results: Iterable[Any]) -> Iterator[Any]:
    """Yields results one later than they are made, so that the devices work on the next while the host takes one."""
    waiting = []
    for result in results:
        waiting.append(result)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting
