"""Devices and hosts: the only file that knows how many there are.

A step is written once, see models/batch_axis.py. `Parallel` compiles it in one of two modes:
  pmap  every device runs the step on its rows of the batch and joins the others through a named axis; parameters are
        on every device
  jit   one program for the whole batch, which XLA divides; parameters, optimizer state and moving averages lie on
        every device or in shards, see sharding.py
"""

import contextlib
import enum
import math
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ..common.errors import UserError
from ..models import batch_axis, cpu_kernels
from .sharding import Sharding

AXIS = 'batch'
_MODES = ('pmap', 'jit')
_NORMS = ('global', 'device')


class Place(enum.Enum):
    """Where the arrays of a step's inputs and outputs lie."""
    SHARED = 'the same on every device'
    ROWS = 'divided along the first dimension, the rows of the batch'
    STATE = 'on every device or in shards, as config.parallel.sharding says'


class Parallel:
    """Compiles steps and places arrays over the devices of all hosts.

    Args:
      config: config.parallel.

    Attributes:
      count: devices of all processes.
      sharding: which arrays of a state are divided.

    Raises:
      UserError: more devices asked for than there are, an unknown mode, or fields that do not fit it.
    """

    def __init__(self, config: ConfigDict):
        if config.mode not in _MODES:
            raise UserError(f"config.parallel.mode = {config.mode!r}; there are 'pmap' and 'jit', which replaced "
                            "'shard_map'")
        if config.batch_norm not in _NORMS:
            raise UserError(f"config.parallel.batch_norm = {config.batch_norm!r}; there are 'global' and 'device'")
        if config.mode == 'jit' and config.batch_norm == 'device':
            raise UserError("config.parallel.batch_norm = 'device' needs config.parallel.mode = 'pmap': in mode 'jit' "
                            'a step sees the whole batch')
        available = jax.local_devices()
        devices = config.devices
        if devices < 0 or devices > len(available):
            raise UserError(f'config.parallel.devices = {devices}, but this process has {len(available)} '
                            f'{available[0].platform} device(s)')
        self.mode = config.mode
        self._normalizes_globally = config.batch_norm == 'global'
        self.processes = jax.process_count()
        self.rank = jax.process_index()
        self.local = available[:devices or len(available)]
        if self.processes > 1 and len(self.local) < len(available):
            raise UserError('config.parallel.devices works in a single process; with several, give each its devices '
                            'through CUDA_VISIBLE_DEVICES or the scheduler')
        self.count = len(self.local) * self.processes
        self.sharding = Sharding(config, self.count)
        if config.mode == 'pmap' and not self.sharding.is_replicated:
            raise UserError("config.parallel.sharding and sharding_rules need config.parallel.mode = 'jit': in mode "
                            "'pmap' every device keeps everything")
        # pmap takes and returns what each process addresses alone; jit's arrays span all of them.
        over = self.local if self.mode == 'pmap' or self.processes == 1 else jax.devices()
        # The mesh axis is named like pmap's, else the first and the second step would compile separately.
        self._mesh = Mesh(np.array(over), (AXIS,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._rows = NamedSharding(self._mesh, PartitionSpec(AXIS))

    def __str__(self) -> str:
        kind = self.local[0].device_kind
        text = f'{len(self.local)} x {kind}'
        text += f' on each of {self.processes} processes' if self.processes > 1 else ''
        return text + f" ({self.mode}{'' if self.sharding.is_replicated else ', sharded'})"

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

    def compile(self, step: Callable, *, inputs: tuple, outputs: Any, donate: tuple[int, ...] = ()) -> Callable:
        """Compiles a step for all devices.

        Args:
          step: function of pytrees, traced within `batch_axis.divided`.
          inputs: for each argument a pytree of `Place`s, a prefix of it.
          outputs: the same of what it returns.
          donate: numbers of the arguments whose memory the results may take.
        """
        def traced(*arguments):
            if self.mode == 'pmap':
                with batch_axis.divided(AXIS, normalizes_globally=self._normalizes_globally):
                    return step(*arguments)
            with batch_axis.divided(None, by_xla=self.count > 1, gather_parameters=self._gathered):
                return self._constrained(step(*self._constrained(arguments, inputs)), outputs)
        traced.__name__ = getattr(step, '__name__', 'step')  # in profiles
        if cpu_kernels.on_cpu():  # there a batch may be the memory of the host's own array
            donate = tuple(number for number in donate if inputs[number] is not Place.ROWS)
        # A batch has the shape of no result: its memory is free during the step, which JAX would warn of.
        warnings.filterwarnings('ignore', 'Some donated buffers were not usable')
        if self.mode == 'jit':
            return jax.jit(traced, donate_argnums=donate)
        return jax.pmap(traced, axis_name=AXIS, in_axes=_axes(inputs), out_axes=_axes(outputs), donate_argnums=donate,
                        devices=None if len(self.local) == jax.local_device_count() else self.local)

    def _constrained(self, tree: Any, places: Any) -> Any:
        def constrain(place, path, leaf):
            return jax.lax.with_sharding_constraint(leaf, self._sharding_of(place, path, leaf))
        return _map_places(constrain, places, tree)

    def _gathered(self, parameters: Any) -> Any:
        if self.sharding.is_replicated:
            return parameters
        # Said outright: left to itself, XLA may move activations where it is cheaper to move parameters.
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, self._replicated), parameters)

    def _sharding_of(self, place: Place, path: str, leaf: Any) -> NamedSharding:
        if place is Place.ROWS:
            return self._rows
        dimension = self.sharding.dimension(path, leaf) if place is Place.STATE and self.mode == 'jit' else None
        if dimension is None:
            return self._replicated
        return NamedSharding(self._mesh, PartitionSpec(*[None] * dimension, AXIS))

    def place(self, tree: Any, places: Any = Place.SHARED) -> Any:
        """Puts a pytree of whole host or device arrays, the same in all processes, on the devices.

        Args:
          tree: arrays of global shapes.
          places: a prefix of it.
        """
        def put(place, path, leaf):
            if place is Place.ROWS:
                return self._put_rows({'': np.asarray(leaf)[self.local_slice(len(leaf))]})['']
            sharding = self._sharding_of(place, path, leaf)
            if sharding.is_fully_replicated and sharding.is_fully_addressable:
                return jax.device_put(leaf, sharding)
            # Each device gets its part alone; and device_put would compare whole arrays between processes.
            leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])
        return _map_places(put, places, tree)

    def shard(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Puts this process's rows of a batch, [rows, ...] each, on its devices; returns before they are there.

        One CPU computes where the batch is already: there it stays as it is, a tenth of a millisecond sooner.
        """
        return self._by_device(batch) if self._on_one_cpu else self._put_rows(batch)

    def _by_device(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.mode == 'jit':
            return batch
        n = len(self.local)
        return {key: value.reshape(n, value.shape[0] // n, *value.shape[1:]) for key, value in batch.items()}

    def _put_rows(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        if self.mode == 'pmap' or self.processes == 1:
            return jax.device_put(self._by_device(batch), self._rows)
        with jax.transfer_guard('allow'):  # it is meant, but JAX does not take it for an explicit one
            return {key: jax.make_array_from_process_local_data(self._rows, value) for key, value in batch.items()}

    def guard(self) -> contextlib.AbstractContextManager:
        """Returns a context in which whatever `shard` or `place` did not put on the devices is an error of JAX.

        It would be moved in every step, and waited for.
        """
        return contextlib.nullcontext() if self._on_one_cpu else jax.transfer_guard('disallow')

    @property
    def _on_one_cpu(self) -> bool:
        return self.count == 1 and cpu_kernels.on_cpu()

    def fetch(self, tree: Any) -> Any:
        """Returns the host copy of arrays that are `SHARED` or `STATE`, whole, waiting for them.

        All processes must call it for a state that is in shards.
        """
        if self.shards_over_processes:
            tree = jax.jit(lambda tree: tree, out_shardings=self._replicated)(tree)
        return jax.device_get(tree)

    def fetch_rows(self, tree: Any) -> Any:
        """Returns this process's rows [rows, ...] of arrays that are `ROWS`, on the host; what is there stays."""
        def rows(leaf):
            if isinstance(leaf, np.ndarray):
                return leaf
            if leaf.is_fully_addressable:
                leaf = jax.device_get(leaf)
                return leaf.reshape(-1, *leaf.shape[2:]) if self.mode == 'pmap' else leaf
            shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
            return np.concatenate([jax.device_get(shard.data) for shard in shards])
        return jax.tree.map(rows, tree)

    def assemble(self, tree: Any, places: Any) -> Any:
        """Returns the tree with its `ROWS` as host arrays of all rows, [rows of all processes, ...]; collective."""
        def whole(place, path, leaf):
            del path
            if place is not Place.ROWS:
                return leaf
            rows = self.fetch_rows(leaf)
            return multihost_utils.process_allgather(rows, tiled=True) if self.processes > 1 else rows
        return _map_places(whole, places, tree)

    @property
    def shards_over_processes(self) -> bool:
        """Whether no process alone has the whole state."""
        return self.processes > 1 and not self.sharding.is_replicated

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

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Returns what every process has, in the order of their ranks, in all of them."""
        if self.processes == 1:
            return [data]
        lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(data))))
        padded = np.zeros(lengths.max(), np.uint8)
        padded[:len(data)] = np.frombuffer(data, np.uint8)
        parts = np.asarray(multihost_utils.process_allgather(padded))
        return [part[:length].tobytes() for part, length in zip(parts, lengths)]

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


def _axes(places: Any) -> Any:
    """Places -> what jax.pmap calls axes."""
    return jax.tree.map(lambda place: 0 if place is Place.ROWS else None, places)


def _map_places(function: Callable, places: Any, tree: Any) -> Any:
    """Maps function(place, path, leaf) over a pytree; places: a prefix of it."""
    def under(place, subtree):
        return jax.tree_util.tree_map_with_path(
            lambda keys, leaf: function(place, jax.tree_util.keystr(keys, simple=True, separator='/'), leaf), subtree)
    return jax.tree.map(under, places, tree)
