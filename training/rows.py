"""Rows of JSON lines files, metrics.jsonl and samples.jsonl, whatever has become of the file."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..common.files import write_text


def to_json(values: Any) -> Any:
    """Returns values as JSON has them: numbers that are not finite become None."""
    if isinstance(values, Mapping):
        return {key: to_json(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [to_json(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def is_step(value: Any) -> bool:
    """Whether a value out of a file can be the number of a step."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2 ** 53


def parse_rows(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Reads JSON lines.

    Args:
      data: the file's content.

    Returns:
      The rows, dicts with a 'step', and how many other lines there are. Half a line at the end is not counted: a kill
      leaves it.
    """
    rows, damaged = [], 0
    lines = data.split(b'\n')
    for number, line in enumerate(lines):
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
            row = None
        if isinstance(row, dict) and is_step(row.get('step')):
            rows.append(row)
        elif number < len(lines) - 1:
            damaged += 1
    return rows, damaged


def keep_rows(path: Path, is_kept: Callable[[Mapping[str, Any]], bool]) -> int:
    """Drops the other rows of a file and returns how many; damaged lines are dropped with a warning, after a copy."""
    if not path.is_file():
        return 0
    rows, damaged = parse_rows(path.read_bytes())
    if damaged:
        logging.warning('%s: %s dropped; the file as it was is %s', path,
                        '1 damaged line is' if damaged == 1 else f'{damaged:,} damaged lines are', copy_damaged(path))
    kept = [row for row in rows if is_kept(row)]
    write_text(path, ''.join(json.dumps(to_json(row)) + '\n' for row in kept))
    return len(rows) - len(kept)


def copy_damaged(path: Path) -> Path:
    """Copies a file to <name>.damaged, in place of an earlier copy, and returns that."""
    copy = path.with_name(f'{path.name}.damaged')
    copy.unlink(missing_ok=True)
    shutil.copyfile(path, copy)
    return copy
