"""Tables: CSV files with a header, of numbers and texts, or of image files and what belongs to them.

<name>/<split>.csv is a split, or <name> itself, a .csv, is all 'train'. config.data.target names the column to be
predicted, or several of numbers; a column of texts becomes 'label', one of numbers 'y', and one of whole numbers from 0
on both. config.data.columns are the inputs 'x', by default all other columns; config.data.image_column names image
files instead, relative to the CSV. The order of rows is a fixed shuffle, as in folders of images, so that parts of a
split are fair samples; all columns that are no inputs are metadata of the examples, with 'line'.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, file_error, nearest, printable
from . import images, memory
from .arrays import ArraySource
from .image_files import ImageFilesSource
from .source import Source
from .splits import file_of_split

_MOST_CLASSES = 1000  # whole numbers with more values are quantities


class Table:
    """The rows of a CSV file as texts.

    Args:
      file: with a header.

    Attributes:
      header: names of the columns.
      rows: one list of texts for each, in the order of the file.
      lines: the line each of them ends in.

    Raises:
      UserError: it cannot be read, has no header or rows, or a row of another length.
    """

    def __init__(self, file: Path):
        self.file, self.rows, self.lines = file, [], []
        try:
            with file.open(newline='', encoding='utf-8-sig') as opened:
                reader = csv.reader(opened, strict=True)
                self.header = [name.strip() for name in next(reader, [])]
                for row in reader:
                    if not any(cell.strip() for cell in row):
                        continue
                    if len(row) != len(self.header):
                        raise file_error(file, f'line {reader.line_num} has {len(row)} cells, the header has '
                                               f'{len(self.header)}')
                    self.rows.append([cell.strip() for cell in row])
                    self.lines.append(reader.line_num)
        except UnicodeDecodeError as error:
            raise file_error(file, f'is not UTF-8 (byte {error.start}): save it in that encoding') from error
        except csv.Error as error:
            raise file_error(file, f'line {reader.line_num}: {error}') from error
        except OSError as error:
            raise file_error(file, f'cannot be read: {error.strerror}') from error
        if not self.rows:
            raise file_error(file, 'holds no rows below a header')
        if len(set(self.header)) < len(self.header) or all(_number(name) is not None for name in self.header):
            raise file_error(file, f'its first line should name the columns, each differently: {self.header[:5]}')

    def column(self, name: str, field: str) -> list[str]:
        """Returns the cells of a column.

        Raises:
          UserError: there is none of this name.
        """
        if name not in self.header:
            raise UserError(f'{field}: {self.file} has no column {name!r}; {nearest(name, self.header)}')
        index = self.header.index(name)
        return [row[index] for row in self.rows]

    def numbers(self, name: str, field: str) -> np.ndarray:
        """Returns a column of numbers, float32 [n].

        Raises:
          UserError: a cell is none; the message names its line.
        """
        cells = self.column(name, field)
        found = [_number(cell) for cell in cells]
        if None in found:
            row = found.index(None)
            raise file_error(self.file, f'line {self.lines[row]}, column {name!r}: {cells[row]!r} is not a number '
                                        f'({field})')
        return np.asarray(found, np.float32)


class _TableImages(ImageFilesSource):
    """Image files that a table names, with its columns as metadata."""

    def __init__(self, table: Path, metadata: Sequence[dict[str, Any]], *args: Any):
        super().__init__(*args)
        self._table, self._metadata = table, metadata

    @property
    def identity(self) -> list:
        """See `Source`."""
        return ['csv', str(self._table.absolute()), memory.fingerprint([self._table]), self._size, self._channels,
                self._resize, self._bits, self.info.to_json(), sorted(self._features), *self.files_identity]

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns for each 'file', relative to the table, 'line', and the cells of its row."""
        return [dict(self._metadata[i]) for i in indices]


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> Source:
    """Opens a split of a table, see the top of this file.

    Raises:
      UserError: no such file or column, or a cell that should be a number and is none.
    """
    del crop_area
    file, others = _find(data, split)
    table = Table(file)
    targets = _names(data['target'], table)
    inputs, image_column = _inputs(data, table, targets), data['image_column']
    if set(inputs) & {*targets, image_column}:
        raise UserError(f'config.data.columns names {sorted(set(inputs) & {*targets, image_column})[0]!r}, which is a '
                        'target or the column of images')
    # Drawn from the number of rows alone: the same in every run.
    order = np.random.Generator(np.random.Philox(key=[0, len(table.rows)])).permutation(len(table.rows))
    features, class_names = _targets(table, targets, others)
    if inputs:
        features['x'] = np.stack([table.numbers(name, 'config.data.columns') for name in inputs], axis=1)
    features = {name: values[order] for name, values in features.items()}
    info = DatasetInfo(class_names=class_names, targets=math.prod(features['y'].shape[1:]) if 'y' in features else None)
    shown = [index for index, name in enumerate(table.header) if name not in (*inputs, image_column)]
    metadata = [{'line': table.lines[row]} | {table.header[index]: table.rows[row][index] for index in shown}
                for row in order.tolist()]
    if not image_column:
        return ArraySource(features, info, metadata, printable(str(file)))
    names = table.column(image_column, 'config.data.image_column')
    for name, line in zip(names, table.lines):
        if not name or '\0' in name:
            raise file_error(file, f'line {line}, column {image_column!r} names no image file')
    metadata = [{'file': printable(names[row])} | example for row, example in zip(order.tolist(), metadata)]
    files = [file.parent / names[row] for row in order.tolist()]
    images.depth(image.get('bits', 8))
    return _TableImages(file, metadata, printable(str(file)), file.parent, files, features, info, image)


def column_names(data: Mapping[str, Any], split: str) -> tuple[list[str], list[str]]:
    """Returns the names of the columns that are the inputs 'x' and the target of a split.

    Raises:
      UserError: no such file.
    """
    table = Table(_find(data, split)[0])
    targets = _names(data['target'], table)
    return _inputs(data, table, targets), targets


def _inputs(data: Mapping[str, Any], table: Table, targets: Sequence[str]) -> list[str]:
    if data['columns'] or data['image_column']:
        return list(data['columns'])
    return [name for name in table.header if name not in (*targets, data['group_by'])]


def _targets(table: Table, names: Sequence[str], others: Sequence[Path]
             ) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Returns 'label', 'y' or both, in the order of the file, and the names of the classes."""
    field = 'config.data.target'
    if len(names) > 1:
        return {'y': np.stack([table.numbers(name, field) for name in names], axis=1)}, None
    if not names:
        return {}, None
    cells = table.column(names[0], field)
    # The classes are those of all splits.
    known = set(cells).union(*(Table(other).column(names[0], field) for other in others if other != table.file))
    if '' in cells:
        raise file_error(table.file, f'line {table.lines[cells.index("")]}, column {names[0]!r} is empty ({field})')
    numbers = {cell: _number(cell) for cell in known}
    features: dict[str, np.ndarray] = {}
    if all(number is not None for number in numbers.values()):
        features['y'] = table.numbers(names[0], field)
        if not all(cell.isdecimal() for cell in known) or len(known) > _MOST_CLASSES:
            return features, None
    elif sum(number is not None for number in numbers.values()) > len(known) / 2:
        table.numbers(names[0], field)  # a slip in a column of numbers, rather than a class of that name
    classes = sorted(known - {''}, key=lambda cell: (numbers[cell] if 'y' in features else 0, cell))
    index = {name: number for number, name in enumerate(classes)}
    return features | {'label': np.asarray([index[cell] for cell in cells], np.int32)}, tuple(classes)


def _names(target: str, table: Table) -> list[str]:
    """'a' and 'a,b' -> columns; a header may hold a comma itself."""
    if not target:
        return []
    return [target] if target in table.header else [name.strip() for name in target.split(',')]


def _number(cell: str) -> float | None:
    """Returns a cell as a finite number; None if it is none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and '_' not in cell else None


def _find(data: Mapping[str, Any], split: str) -> tuple[Path, list[Path]]:
    """Returns the file of a split and all files of the data set."""
    if not data['name']:
        raise UserError('config.data.name is empty: give a .csv file, or a folder with train.csv')
    root = Path(data['name']).expanduser()
    if root.is_dir():
        return file_of_split(root, split, '.csv')
    if not root.is_file():
        raise UserError(f"config.data.name = {data['name']!r} is neither a .csv file nor a folder of them")
    if split != 'train':
        raise UserError(f"{root} is one file: all of it is 'train'; take parts of that instead of {split!r}, such as "
                        "--config.data.train='train[:80%]' --config.evaluation.sets.test.split='train[80%:]'")
    return root, [root]
