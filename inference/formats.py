"""Rows of results as csv and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.errors import printable


def format_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats rows as a list in JSON."""
    return json.dumps(rows, indent=2) + '\n'


def format_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Formats rows as csv; a text that a spreadsheet would take for a formula begins with an apostrophe.

    Args:
      rows: of equal keys.
      columns: the keys, where there may be no rows.
    """
    def cell(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return printable(f"'{value}" if value.startswith(('=', '+', '-', '@')) else value)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(map(cell, columns or rows[0]))
    writer.writerows(map(cell, row.values()) for row in rows)
    return text.getvalue()
