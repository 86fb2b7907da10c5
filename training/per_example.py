"""What an evaluation finds out about single examples: scores for a file, the worst ones for images."""

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.serialization import msgpack_restore, msgpack_serialize

from ..tasks import PerExample
from .parallel import Parallel

_SHOWN = 8  # the worst so many are kept whole, to be drawn
_FIRST = 12  # and so are the first so many


class ExampleCollector:
    """Measures examples of an evaluation set one by one, on the host: every process those that it reads.

    Args:
      scorer: what scores an example, see tasks/task.py.
      source: the examples.

    Attributes:
      first: {'example', 'outputs', 'scores'} of the first examples of the source.
      rows: one dict per example, in the order of the source: metadata about it, and its scores.
    """

    def __init__(self, scorer: PerExample, source: Any):
        self._scorer, self._source = scorer, source
        self._positions: list[int] = []
        self.rows: list[dict[str, Any]] = []
        self.first: list[dict[str, Any]] = []
        self._worst: list[tuple[float, int, dict[str, Any]]] = []

    def add(self, positions: np.ndarray, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Measures this process's rows of a batch.

        Args:
          positions: int [rows], where in the source they are; after its end for padding, which comes last.
          outputs: `scorer.outputs` of them.
          batch: what the model was given.
        """
        positions = positions[positions < len(self._source)]
        for row, (position, metadata) in enumerate(zip(positions.tolist(), self._source.describe(positions))):
            example = {name: values[row] for name, values in batch.items()}
            output = {name: values[row] for name, values in outputs.items()}
            scores = metadata | self._scorer.measure(output, example, metadata)
            self._positions.append(position)
            self.rows.append(scores)
            kept = {'example': example, 'outputs': output, 'scores': scores}
            if position < _FIRST:
                self.first.append(kept)
            # Of equally bad ones the first in the source is shown.
            heapq.heappush(self._worst, (self._scorer.severity(scores), -position, kept))
            if len(self._worst) > _SHOWN:
                heapq.heappop(self._worst)

    def join(self, parallel: Parallel) -> None:
        """Adds what the other processes measured; all must call it."""
        if parallel.processes == 1:
            return
        mine = {'positions': self._positions, 'rows': self.rows, 'first': self.first,
                'worst': [{'severity': float(severity), 'position': -before, **kept}
                          for severity, before, kept in self._worst]}
        parts = list(map(msgpack_restore, parallel.gather_bytes(msgpack_serialize(mine))))
        rows = {position: row for part in parts for position, row in zip(part['positions'], part['rows'])}
        self._positions = sorted(rows)
        self.rows = [rows[position] for position in self._positions]
        first = {position: kept for part in parts for position, kept in zip(part['positions'], part['first'])}
        self.first = [first[position] for position in sorted(first)]
        self._worst = heapq.nlargest(_SHOWN, [
            (kept.pop('severity'), -kept.pop('position'), kept) for part in parts for kept in part['worst']])

    def worst(self) -> list[dict[str, Any]]:
        """Returns {'example', 'outputs', 'scores'} of the worst examples, the worst first."""
        return [kept for _, _, kept in sorted(self._worst, key=lambda item: item[:2], reverse=True)]

    def summary(self) -> dict[str, Any]:
        """Returns the metrics over all examples."""
        return self._scorer.summarize(self.rows)
