"""Rows of results as csv and JSON."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.errors import printable

_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)


def format_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats rows as a list in JSON."""
    return json.dumps(rows, indent=2) + '\n'


def format_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), *, numbers: bool = False) -> str:
    """Formats rows as csv; a text that a spreadsheet would take for a formula begins with an apostrophe.

    Args:
      rows: of equal keys.
      columns: the keys, where there may be no rows.
      numbers: texts may be numbers: '-1.5' is left as it is.
    """
    def cell(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        formula = value.startswith(('=', '+', '-', '@')) and not (numbers and _NUMBER.fullmatch(value))
        return printable(f"'{value}" if formula else value)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(map(cell, columns or rows[0]))
    writer.writerows(map(cell, row.values()) for row in rows)
    return text.getvalue()
