"""Sources made of other sources: a part, chosen examples, inverted images."""

from typing import Any

import numpy as np


def read(source, indices: np.ndarray, draws: np.ndarray | None) -> dict[str, np.ndarray]:
    """Reads examples, with draws where there are any; only sources with `needs_rng` know such an argument."""
    return source.read(indices) if draws is None else source.read(indices, draws)


class Part:
    """Examples begin..end-1 of another source."""

    def __init__(self, source, begin: int, end: int):
        self.info, self._source, self._begin, self._end = source.info, source, begin, end
        self.needs_rng = getattr(source, 'needs_rng', False)

    def __len__(self) -> int:
        return self._end - self._begin

    def read(self, indices: np.ndarray, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `sources.Source`."""
        return read(self._source, indices + self._begin, draws)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `sources.Source`."""
        return self._source.describe(indices + self._begin)


class Selected:
    """Some examples of another source, in a given order.

    Args:
      source: see `sources.Source`.
      chosen: int [n], which of its examples.
      labels: int32 [n], what replaces their labels; None: nothing.
      class_names: what replaces its class names; None: nothing.
    """

    def __init__(self, source, chosen: np.ndarray, labels: np.ndarray | None = None,
                 class_names: list[str] | None = None):
        self.info = source.info if class_names is None else source.info.replace(class_names=tuple(class_names))
        self._source, self._chosen, self._labels = source, chosen, labels
        self.needs_rng = getattr(source, 'needs_rng', False)

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, indices: np.ndarray, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `sources.Source`."""
        examples = read(self._source, self._chosen[indices], draws)
        return examples if self._labels is None else examples | {'label': self._labels[indices]}

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `sources.Source`."""
        return self._source.describe(self._chosen[indices])


class Inverted:
    """Another source with 255 - image."""

    def __init__(self, source):
        self.info, self._source = source.info, source
        self.needs_rng = getattr(source, 'needs_rng', False)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `sources.Source`."""
        examples = read(self._source, indices, draws)
        return examples | {'image': 255 - examples['image']}

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `sources.Source`."""
        return self._source.describe(indices)
