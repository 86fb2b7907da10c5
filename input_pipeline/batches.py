"""Batches as pure functions of (seed, step): no iterator state, so the step alone says where a run is."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..common.errors import UserError
from ..common.threads import cores
from .arrays import ArraySource
from .source import Source
from .text_source import StreamBatches, StreamEvalBatches, TokenStream

Batch = dict[str, np.ndarray]

NUM_UNIFORMS = 4  # random numbers for each example, where a source takes them
_UNIFORMS = 2**32  # above every seed, so that no step's numbers are those that an epoch is permuted with
_BALANCED = 2**33  # and those that draw classes

_AHEAD = 4  # batches that are read ahead, or more small ones, so that all threads have work
_AHEAD_BYTES = 512 * 2**20  # that batches which are read ahead may take: that, and one more, is what streaming takes
_ROWS = 8  # of a batch that one thread reads at least


class _SplitBatches:
    """Batches that several threads can read together."""

    def parts(self, number: int, count: int) -> list[Callable[[], Batch]]:
        """Returns functions that read a batch, at most so many; their results one below the other are the batch."""
        raise NotImplementedError

    def __call__(self, number: int) -> Batch:
        """Returns this process's rows of a batch."""
        return self.parts(number, 1)[0]()


class TrainBatches(_SplitBatches):
    """The endless stream of training batches: epoch after epoch, each a permutation of all examples.

    Batches run on across the end of an epoch, so that every epoch shows every example exactly once whatever the batch
    size. Sources that choose at random, such as which part of an image to crop, are given random numbers by the row of
    the global batch, and so their choice depends on nothing but seed, step and row.

    Args:
      source: see input_pipeline/source.py.
      batch_size: examples per step over all processes.
      seed: of the permutations.
      rows: which rows of a global batch this process reads.
      sampling: 'uniform', or 'balanced': in place of permutations, for each row a class is drawn, each equally likely,
        and one of its examples, with replacement. An epoch is as long as before.

    Attributes:
      examples: of an epoch.

    Raises:
      UserError: classes are to be balanced that are not known.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, rows: slice = slice(None),
                 sampling: str = 'uniform'):
        self._source, self._batch_size, self._seed, self._rows = source, batch_size, seed, rows
        self.examples = len(source)
        self._permutation = functools.lru_cache(maxsize=2)(self._permute)
        self._by_class = None
        if sampling == 'balanced':
            if source.labels is None:
                raise UserError("config.data.sampling = 'balanced': these examples have no label each")
            _, members, counts = np.unique(source.labels, return_inverse=True, return_counts=True)
            self._by_class = np.argsort(members, kind='stable'), np.cumsum(counts) - counts, counts

    def _permute(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        return generator.permutation(len(self._source))

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of the global batch of a step, int [batch_size]."""
        if self._by_class is not None:
            order, begins, counts = self._by_class
            generator = np.random.Generator(np.random.Philox(key=[self._seed + _BALANCED, step]))
            kind = generator.integers(len(counts), size=self._batch_size)
            return order[begins[kind] + generator.integers(counts[kind])]
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

    def uniforms(self, step: int) -> np.ndarray:
        """Returns the random numbers of the global batch of a step, float64 [batch_size, 4], uniform in [0, 1)."""
        generator = np.random.Generator(np.random.Philox(key=[self._seed + _UNIFORMS, step]))
        return generator.random((self._batch_size, NUM_UNIFORMS))

    def parts(self, number: int, count: int) -> list[Callable[[], Batch]]:
        """See `_SplitBatches`."""
        indices = self.indices(number)[self._rows]
        uniforms = self.uniforms(number)[self._rows] if self._source.needs_rng else None
        return [functools.partial(self._source.read, indices[rows], None if uniforms is None else uniforms[rows])
                for rows in _slices(len(indices), count)]


class BatchesOfRuns:
    """The training batches of runs that differ in their seeds, read together: [runs, batch_size, ...].

    Args:
      source, batch_size, sampling: as for `TrainBatches`.
      seeds: of the runs; each gets the batches that it has alone.

    Attributes:
      examples: of an epoch.
    """

    def __init__(self, source: Source, batch_size: int, seeds: Sequence[int], sampling: str = 'uniform'):
        distinct = list(dict.fromkeys(seeds))
        self._source, self._order = source, [distinct.index(seed) for seed in seeds]
        self._of_seeds = [TrainBatches(source, batch_size, seed, sampling=sampling) for seed in distinct]
        self.examples = len(source)

    def __call__(self, step: int) -> Batch:
        """Returns the batches of a step."""
        indices = np.concatenate([batches.indices(step) for batches in self._of_seeds])
        uniforms = None
        if self._source.needs_rng:
            uniforms = np.concatenate([batches.uniforms(step) for batches in self._of_seeds])
        batch = self._source.read(indices, uniforms)
        batch = {name: values.reshape(len(self._of_seeds), -1, *values.shape[1:]) for name, values in batch.items()}
        if len(self._of_seeds) < len(self._order):
            batch = {name: values[self._order] for name, values in batch.items()}
        return batch


class EvalBatches(_SplitBatches):
    """Every example once, in order, in batches of one size; the last is padded and 'mask' says where.

    Args:
      source: see input_pipeline/source.py.
      batch_size: examples per step over all processes.
      rows: which rows of a global batch this process reads; the number of batches is the same for all.
      positions: whether batches say where in the source their examples are, 'position' int32 [batch].
    """

    def __init__(self, source: Source, batch_size: int, rows: slice = slice(None), *, positions: bool = False):
        self._source, self._batch_size, self._rows, self._positions = source, batch_size, rows, positions

    def __len__(self) -> int:
        return -(-len(self._source) // self._batch_size)

    def parts(self, number: int, count: int) -> list[Callable[[], Batch]]:
        """See `_SplitBatches`; 'mask' float32 is 1 for examples and 0 for padding."""
        positions = (number * self._batch_size + np.arange(self._batch_size))[self._rows]
        return [functools.partial(self._read, positions[rows]) for rows in _slices(len(positions), count)]

    def _read(self, positions: np.ndarray) -> Batch:
        valid = positions < len(self._source)
        batch = self._source.read(np.where(valid, positions, 0))
        place = {'position': positions.astype(np.int32)} if self._positions else {}
        return batch | place | {'mask': valid.astype(np.float32)}


def _slices(rows: int, count: int) -> list[slice]:
    count = max(1, min(count, rows // _ROWS))
    ends = [rows * part // count for part in range(count + 1)]
    return [slice(begin, end) for begin, end in zip(ends, ends[1:])]


def train_batches(source: Source, batch_size: int, seed: int, rows: slice = slice(None), *, sampling: str = 'uniform'
                  ) -> TrainBatches | StreamBatches:
    """Returns the training batches of a source: windows of streams for texts, else see `TrainBatches`."""
    if isinstance(source, TokenStream):
        return StreamBatches(source, batch_size, rows)
    return TrainBatches(source, batch_size, seed, rows, sampling)


def batches_of_runs(source: Source, batch_size: int, seeds: Sequence[int], *, sampling: str = 'uniform'
                    ) -> TrainBatches | StreamBatches | BatchesOfRuns:
    """Returns the training batches of several runs, or those of one where they are the same for all."""
    if isinstance(source, TokenStream) or len(set(seeds)) == 1:
        return train_batches(source, batch_size, seeds[0], sampling=sampling)
    return BatchesOfRuns(source, batch_size, seeds, sampling)


def eval_batches(source: Source, batch_size: int, rows: slice = slice(None), *, positions: bool = False
                 ) -> EvalBatches | StreamEvalBatches:
    """Returns the evaluation batches of a source; see `train_batches`."""
    kind = StreamEvalBatches if isinstance(source, TokenStream) else EvalBatches
    return kind(source, batch_size, rows, positions=positions)


def stream(make: Callable[[int], Batch], numbers: range, *, source: Source, workers: int = 0) -> Iterator[Batch]:
    """Yields make(n) for the numbers in order; reads ahead in threads unless the source is in memory.

    Each batch is read by all threads together, so that few batches are in flight however many cores there are. Of large
    ones there are fewer: one beside that which is being made use of, and others as far as they fit into 512 MiB.

    Args:
      make: what `train_batches` or `eval_batches` returned.
      numbers: steps or batch numbers.
      source: what `make` reads.
      workers: reading threads; 0 for one per core.
    """
    if isinstance(source, (ArraySource, TokenStream)):
        yield from map(make, numbers)
        return
    workers = workers or cores()

    def parts(number: int) -> list[Callable[[], Batch]]:
        return make.parts(number, workers) if isinstance(make, _SplitBatches) else [lambda: make(number)]

    pool = ThreadPoolExecutor(workers, thread_name_prefix='read')
    ahead: deque[list[Future]] = deque()
    most = 1  # until the first batch says how large they are
    try:
        for number in numbers:
            ahead.append([pool.submit(part) for part in parts(number)])
            if len(ahead) > most:
                batch = _join([future.result() for future in ahead.popleft()])
                most = _most_ahead(batch, max(_AHEAD, -(-2 * workers // len(ahead[-1]))))
                yield batch
                del batch
        while ahead:
            yield _join([future.result() for future in ahead.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)


def _most_ahead(batch: Any, most: int) -> int:
    """Returns how many batches of the size of this one are read ahead, at most so many."""
    size = sum(values.nbytes for values in batch.values()) if isinstance(batch, dict) else 0
    return max(1, min(most, _AHEAD_BYTES // max(1, size)))


def _join(parts: list[Batch]) -> Batch:
    """Returns parts of a batch one below the other."""
    if len(parts) == 1:
        return parts[0]
    for name in parts[0]:
        shapes = sorted({part[name].shape[1:] for part in parts})
        if len(shapes) > 1:
            raise UserError(f'{name} of the examples of one batch differs in shape: {shapes[0]} and {shapes[1]}')
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
