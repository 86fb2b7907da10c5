"""A training set that lies whole on every device: batches come as indices and are gathered there."""

import logging

import jax
import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError
from ..input_pipeline.arrays import ArraySource
from ..input_pipeline.batches import Batch
from ..input_pipeline.source import Source
from .parallel import Parallel, Place

_ROW = 'row'  # the only feature of a batch of indices


class Indices(ArraySource):
    """Examples whose only feature is where they lie, int32 'row', in place of those of another source.

    Whatever makes batches of it makes the batches that it would make of the source.

    Args:
      source: whose examples, labels and length these are.
    """

    def __init__(self, source: ArraySource):
        super().__init__({_ROW: np.arange(len(source), dtype=np.int32)}, source.info, name=source.name)
        self._labels = source.labels

    @property
    def labels(self) -> np.ndarray | None:
        """See `Source`."""
        return self._labels


class Resident:
    """Holds the arrays of a source on every device, and gathers batches there.

    Args:
      parallel: the devices.
      source: a training set.

    Attributes:
      indices: the source that batches are to be made of.

    Raises:
      UserError: the set is not kept in memory, or does not fit into that of a device.
    """

    def __init__(self, parallel: Parallel, source: Source):
        if not isinstance(source, ArraySource):
            raise UserError(f'config.data.on_device: {source.name or "a text"} is read while training goes on, as '
                            'texts, random_resized_crop and sets above memory_limit_mb are; set it to False')
        size = sum(values.nbytes for values in source.arrays.values())
        _check_fits(size, parallel)
        self.indices = Indices(source)
        self._parallel, self._arrays = parallel, parallel.place(source.arrays)
        self._gather = parallel.compile(_gather, inputs=(Place.SHARED, Place.ROWS), outputs=Place.ROWS)
        logging.info('the training set, %s MB, is on %s', f'{size / 1e6:,.0f}',
                     'the device' if parallel.count == 1 else 'every device')

    def __call__(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns on the devices what `Parallel.shard` would of the examples that a batch of `indices` names."""
        return self._gather(self._arrays, self._parallel.shard(batch))


def _gather(arrays: dict[str, jax.Array], batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.take(values, batch[_ROW], axis=0, mode='clip') for name, values in arrays.items()}


def _check_fits(size: int, parallel: Parallel) -> None:
    """Raises UserError if a device has not so many bytes free; one that does not say is taken at its word later."""
    stats = parallel.local[0].memory_stats() or {}
    free = stats.get('bytes_limit', 0) - stats.get('bytes_in_use', 0)
    if stats.get('bytes_limit') and size > free:
        raise UserError(f'config.data.on_device: the training set is {size / 2**30:,.1f} GiB, a device has '
                        f'{free / 2**30:,.1f} free: set it to False')
