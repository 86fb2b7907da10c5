"""Tables of text: aligned for a terminal, in Markdown, as CSV."""

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any

from ..common.errors import printable, shortened

_LONGEST_CELL = 40
_GAP = '  '


@dataclasses.dataclass
class Column:
    """A column of a table.

    Attributes:
      name: its header.
      cells: texts, one a row.
      right: whether they are numbers, which stand on the right.
      rank: columns of a higher rank are left out first where there is not room for all; None: never.
    """
    name: str
    cells: list[str]
    right: bool = False
    rank: int | None = None

    @property
    def width(self) -> int:
        """Of the widest cell, in characters."""
        return max(map(len, [self.name, *self.cells]))


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """Returns the columns that a terminal of so many characters has room for, and the names of the others.

    Cells are made printable, and long ones shortened in the middle.
    """
    kept = [Column(_cell(column.name), [_cell(text) for text in column.cells], column.right, column.rank)
            for column in columns]
    dropped = []
    while sum(column.width + len(_GAP) for column in kept) - len(_GAP) > width:
        ranked = [column for column in kept if column.rank is not None]
        if not ranked:
            break
        worst = max(ranked, key=lambda column: column.rank or 0)
        kept.remove(worst)
        dropped.append(worst.name)
    return kept, dropped[::-1]


def aligned(columns: Sequence[Column]) -> str:
    """Returns a table for a terminal, its header underlined."""
    widths = [column.width for column in columns]
    lines = [[column.name for column in columns], ['-' * width for width in widths],
             *map(list, zip(*(column.cells for column in columns)))]
    return '\n'.join(_GAP.join(text.rjust(width) if column.right else text.ljust(width)
                               for text, width, column in zip(line, widths, columns)).rstrip() for line in lines)


def markdown(columns: Sequence[Column]) -> str:
    """Returns a table in GitHub's Markdown."""
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"
    texts = [[_markdown(text) for text in (column.name, *column.cells)] for column in columns]
    header, *rows = zip(*texts)
    rule = line(['---:' if column.right else '---' for column in columns])
    return '\n'.join([line(header), rule, *map(line, rows)]) + '\n'


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a CSV file: floats with all their digits, None as an empty cell.

    Text that a spreadsheet would take for a formula gets a ' before it: names in folders of others may be one.
    """
    def cell(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and re.match(r'[=+@\t\r-]', value) else value
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerows([[cell(value) for value in row] for row in (header, *rows)])
    return buffer.getvalue()


def _cell(text: str) -> str:
    return shortened(printable(text), _LONGEST_CELL)


def _markdown(text: str) -> str:
    return re.sub(r'([\\|<>`*\[\]])', r'\\\1', _cell(text))
