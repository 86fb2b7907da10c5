"""Batches as pure functions of (seed, step): no iterator state, so the step alone says where a run is."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .arrays import ArraySource
from .text_source import StreamBatches, StreamEvalBatches, TokenStream

Batch = dict[str, np.ndarray]

NUM_DRAWS = 4  # random numbers for each example, where a source takes them
_DRAWS = 2**32  # above every seed, so that no step's numbers are those that an epoch is permuted with


class TrainBatches:
    """The endless stream of training batches: epoch after epoch, each a permutation of all examples.

    Batches run on across the end of an epoch, so that every epoch shows every example exactly once whatever the batch
    size. Sources that choose at random, such as which part of an image to crop, are given random numbers by the row of
    the global batch, and so their choice depends on nothing but seed, step and row.

    Args:
      source: see input_pipeline/sources.py.
      batch_size: examples per step over all processes.
      seed: of the permutations.
      rows: which rows of a global batch this process reads.

    Attributes:
      examples: of an epoch.
    """

    def __init__(self, source, batch_size: int, seed: int, rows: slice = slice(None)):
        self._source, self._batch_size, self._seed, self._rows = source, batch_size, seed, rows
        self.examples = len(source)
        self._permutation = functools.lru_cache(maxsize=4)(self._permute)

    def _permute(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        return generator.permutation(len(self._source))

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of the global batch of a step, int [batch_size]."""
        total = len(self._source)
        begin = step * self._batch_size
        epoch, offset = divmod(begin, total)
        if offset + self._batch_size <= total:
            return self._permutation(epoch)[offset:offset + self._batch_size]
        parts, missing = [], self._batch_size
        while missing:
            part = self._permutation(epoch)[offset:offset + missing]
            parts.append(part)
            missing -= len(part)
            epoch, offset = epoch + 1, 0
        return np.concatenate(parts)

    def draws(self, step: int) -> np.ndarray:
        """Returns the random numbers of the global batch of a step, float64 [batch_size, 4], uniform in [0, 1)."""
        generator = np.random.Generator(np.random.Philox(key=[self._seed + _DRAWS, step]))
        return generator.random((self._batch_size, NUM_DRAWS))

    def __call__(self, step: int) -> Batch:
        """Returns this process's rows of the batch of a step."""
        indices = self.indices(step)[self._rows]
        if getattr(self._source, 'needs_rng', False):
            return self._source.read(indices, self.draws(step)[self._rows])
        return self._source.read(indices)


class EvalBatches:
    """Every example once, in order, in batches of one size; the last is padded and 'mask' says where.

    Args:
      source: see input_pipeline/sources.py.
      batch_size: examples per step over all processes.
      rows: which rows of a global batch this process reads; the number of batches is the same for all.
      positions: whether batches say where in the source their examples are, 'position' int32 [batch].
    """

    def __init__(self, source, batch_size: int, rows: slice = slice(None), *, positions: bool = False):
        self._source, self._batch_size, self._rows, self._positions = source, batch_size, rows, positions

    def __len__(self) -> int:
        return -(-len(self._source) // self._batch_size)

    def __call__(self, number: int) -> Batch:
        """Returns this process's rows of a batch, with 'mask' float32: 1 for examples, 0 for padding."""
        positions = (number * self._batch_size + np.arange(self._batch_size))[self._rows]
        valid = positions < len(self._source)
        batch = self._source.read(np.where(valid, positions, 0))
        place = {'position': positions.astype(np.int32)} if self._positions else {}
        return batch | place | {'mask': valid.astype(np.float32)}


def train_batches(source, batch_size: int, seed: int, rows: slice = slice(None)) -> TrainBatches | StreamBatches:
    """Returns the training batches of a source: windows of streams for texts, else permutations of its examples."""
    if isinstance(source, TokenStream):
        return StreamBatches(source, batch_size, rows)
    return TrainBatches(source, batch_size, seed, rows)


def eval_batches(source, batch_size: int, rows: slice = slice(None), *, positions: bool = False
                 ) -> EvalBatches | StreamEvalBatches:
    """Returns the evaluation batches of a source; see `train_batches`."""
    kind = StreamEvalBatches if isinstance(source, TokenStream) else EvalBatches
    return kind(source, batch_size, rows, positions=positions)


def stream(make: Callable[[int], Batch], numbers: range, *, source, workers: int = 0) -> Iterator[Batch]:
    """Yields make(n) for the numbers in order; reads ahead in threads unless the source is in memory.

    Args:
      make: what `train_batches` or `eval_batches` returned.
      numbers: steps or batch numbers.
      source: what `make` reads.
      workers: reading threads; 0 for one per core.
    """
    if isinstance(source, (ArraySource, TokenStream)):
        yield from map(make, numbers)
        return
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix='read') as pool:
        ahead: deque = deque()
        remaining = iter(numbers)
        try:
            for number in remaining:
                ahead.append(pool.submit(make, number))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
