"""Columns of numbers: what values they have, and which rows are there twice."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ...input_pipeline import csv_source
from .data_sets import DataSet

MOST_COLUMNS = 60
_BINS = 24


@dataclasses.dataclass
class Column:
    """One column of inputs or targets.

    Attributes:
      name: as the table has it.
      low, quarter, median, three_quarters, high, mean, std: of its values.
      distinct: how many different ones.
      histogram: int [bins] from `low` to `high`.
    """
    name: str
    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float
    mean: float
    std: float
    distinct: int
    histogram: list[int]


def columns_of(data_set: DataSet, arrays: Mapping[str, np.ndarray]) -> tuple[list[Column], int]:
    """Returns the columns of the inputs 'x' and the targets 'y', at most 60, and how many there are."""
    names: dict[str, Sequence[str]] = {}
    if data_set.data.source == 'csv':
        names['x'], names['y'] = csv_source.column_names(data_set.data, data_set.split.partition('[')[0])
    found, total = [], 0
    for feature in ('x', 'y'):
        if feature not in arrays:
            continue
        values = arrays[feature].reshape(len(arrays[feature]), -1)
        own = names.get(feature, ())
        if len(own) != values.shape[1]:
            own = [feature] if values.shape[1] == 1 else [f'{feature}[{i}]' for i in range(values.shape[1])]
        total += len(own)
        found += [_column(name, column) for name, column in zip(own, values.T)][:MOST_COLUMNS - len(found)]
    return found, total


def _column(name: str, values: np.ndarray) -> Column:
    values = values.astype(np.float64)
    low, quarter, median, three_quarters, high = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
    histogram = np.histogram(values, _BINS, (low, high if high > low else low + 1))[0].tolist()
    return Column(name, low, quarter, median, three_quarters, high, float(values.mean()), float(values.std()),
                  len(np.unique(values)), histogram)


def row_keys(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns for each row of the inputs 'x' what is equal for equal rows, [n] of bytes."""
    values = np.ascontiguousarray(arrays['x'].reshape(len(arrays['x']), -1))
    return values.view(np.dtype((np.void, values.dtype.itemsize * values.shape[1]))).ravel()
