"""What an evaluation finds out about single examples: scores for a file, the worst ones for images."""

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tasks import PerExample

_SHOWN = 8  # the worst so many are kept whole, to be drawn
_FIRST = 12  # and so are the first so many


class ExampleCollector:
    """Measures the examples of an evaluation set one by one, on the host, in process 0.

    Args:
      scorer: what scores an example, see tasks/task.py.
      source: the examples.
      batch_size: of the evaluation, over all processes.

    Attributes:
      first: {'example', 'outputs', 'scores'} of the first examples of the source.
      rows: one dict per example, in the order of the source: metadata about it, and its scores.
    """

    def __init__(self, scorer: PerExample, source: Any, batch_size: int):
        self._scorer, self._source, self._batch_size = scorer, source, batch_size
        self.rows: list[dict[str, Any]] = []
        self.first: list[dict[str, Any]] = []
        self._worst: list[tuple[float, int, dict[str, Any]]] = []

    def add(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray] | None = None) -> None:
        """Measures the next batch.

        Args:
          outputs: `scorer.outputs` of the global batch, padding included.
          batch: the global batch, if this process has all of it; else its examples are read again.
        """
        begin = len(self.rows)
        positions = np.arange(begin, min(begin + self._batch_size, len(self._source)))
        examples = self._source.read(positions) if batch is None else batch
        for row, (position, metadata) in enumerate(zip(positions.tolist(), self._source.describe(positions))):
            example = {name: values[row] for name, values in examples.items()}
            output = {name: values[row] for name, values in outputs.items()}
            scores = metadata | self._scorer.measure(output, example, metadata)
            self.rows.append(scores)
            kept = {'example': example, 'outputs': output, 'scores': scores}
            if position < _FIRST:
                self.first.append(kept)
            # Of equally bad ones the first in the source is shown.
            heapq.heappush(self._worst, (self._scorer.severity(scores), -position, kept))
            if len(self._worst) > _SHOWN:
                heapq.heappop(self._worst)

    def worst(self) -> list[dict[str, Any]]:
        """Returns {'example', 'outputs', 'scores'} of the worst examples, the worst first."""
        return [kept for _, _, kept in sorted(self._worst, key=lambda item: item[:2], reverse=True)]

    def summary(self) -> dict[str, float]:
        """Returns the metrics over all examples."""
        return self._scorer.summarize(self.rows)
