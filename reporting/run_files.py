"""What the folder of a run holds, read for its report, or in short for a table of many runs.

Whoever sent the folder is not trusted: files are read by the names that a run writes, links are not followed, nothing
named inside a file is opened, and damaged parts are left out and said so.
"""

import csv
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import UserError, nearest
from ..training.durations import to_steps
from ..training.learning_curves import is_number, is_window, set_order
from ..training.rows import is_step, parse_rows
from ..training.workdir import is_locked

_MARKS = ('config.json', 'metrics.jsonl', 'result.json')  # a run has one of them
MOST_ROWS = 2000  # of a csv file
EXPORTS_FILE = 'exports.json'  # what launch.py export made of the run
_TAIL = 2**16  # bytes at the end of metrics.jsonl, among which its last row is


@dataclasses.dataclass
class Run:
    """A run's folder.

    Attributes:
      workdir: the folder.
      config: as in config.json, or {}.
      starts: what was noted at every start: command, commit, versions, devices.
      result: of a run that reached its end, or {}.
      evaluation: of the latest `launch.py evaluate`, or {}.
      rows: of metrics.jsonl.
      samples: rows of samples.jsonl: texts generated over time.
      exports: of every file that launch.py export made of it.
      notes: sentences about what could not be read.
      running: whether a process trains there now.
    """
    workdir: Path
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    starts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    result: dict[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    exports: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    running: bool = False

    @property
    def name(self) -> str:
        """The experiment's."""
        return str(self.config.get('experiment') or self.result.get('experiment') or self.workdir.name)

    @property
    def step(self) -> int:
        """The last step that anything is known of."""
        return max([row['step'] for row in self.rows] + [self.result.get('step', 0)])

    @property
    def finished(self) -> bool:
        """Whether its result is that of its last step."""
        return bool(self.result) and self.result['step'] == self.step and not self.running

    @property
    def sets(self) -> list[str]:
        """Names of the evaluation sets, in the order in which they are listed everywhere."""
        evaluation = _mapping(self.config.get('evaluation'))
        named = [name for key in ('final', 'periodic') for name in _sequence(evaluation.get(key))]
        named += list(_mapping(evaluation.get('sets')))
        named += [key.partition('/')[0] for key in self.latest()]
        named += [str(row.get('set', '')) for row in self.samples]
        return set_order(str(name) for name in named if name)

    def latest(self) -> dict[str, float]:
        """Returns the metrics of the evaluation sets, '<set>/<metric>': the result's, or the latest ones."""
        if self.result and self.result['step'] == self.step:
            return {key: value for key, value in _mapping(self.result.get('metrics')).items() if '/' in key}
        found: dict[str, float] = {}
        for row in self.rows:
            if not is_window(row):
                found |= {key: value for key, value in row.items() if '/' in key and is_number(value)}
        return found

    def total(self) -> int | None:
        """Returns how many steps the run is to have; None where no file says it, only epochs."""
        total = self.starts[-1].get('total_steps') if self.starts else None
        if is_step(total):
            return total
        try:
            return to_steps(self.config.get('total'), batch_size=self.config.get('batch_size') or 0, num_examples=0,
                            field='total') or None
        except (UserError, LookupError, TypeError, ArithmeticError):
            return None

    def files(self, suffix: str) -> list[Path]:
        """Returns the files of the folder whose names end so, sorted; no links."""
        return sorted(path for path in self.workdir.iterdir() if path.name.endswith(suffix) and _is_own(path)
                      and not path.name.startswith('.'))

    def examples(self, path: Path) -> dict[str, Any] | None:
        """Returns {'step', 'metrics', 'examples'} of a file of per-example scores, or None where it is damaged."""
        found = _mapping(self.json(path))
        rows = found.get('examples', found.get('cases'))  # as earlier versions called them
        rows = [row for row in _sequence(rows) if isinstance(row, dict)]
        if found and not rows:
            self.notes.append(f'{path.name} has no examples')
        return {**found, 'examples': rows} if rows else None

    def csv(self, path: Path) -> tuple[list[str], list[list[Any]]]:
        """Returns header and rows, at most `MOST_ROWS`; cells that are numbers as numbers."""
        try:
            with path.open(newline='', encoding='utf-8', errors='replace') as file:
                header, *rows = itertools.islice(csv.reader(file), MOST_ROWS + 1)
        except (OSError, csv.Error, ValueError) as error:  # ValueError: it is empty
            self.notes.append(f'{path.name} is left out: {error}')
            return [], []
        return header, [[_value(cell) for cell in (row + [''] * len(header))[:len(header)]] for row in rows]

    def json(self, path: Path) -> Any:
        """Returns what a JSON file holds; None, after a note, where it is damaged."""
        try:
            return json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError):
            self.notes.append(f'{path.name} is damaged and left out')
        return None

    def task(self) -> Any:
        """Returns the run's task, or None where there is no checkpoint that says."""
        from .. import tasks
        from ..training.checkpoints import Checkpoints
        try:  # metadata of the data set, such as names of classes, travel in checkpoints
            with Checkpoints(self.workdir, writable=False) as checkpoints:
                checkpoint = checkpoints.restore('last', items=())
            return tasks.build(checkpoint.meta['config']['task'], checkpoint.info)
        except Exception:  # no checkpoint yet, a task of another version: the report does without
            return None


def read_run(workdir: Path) -> Run:
    """Reads a run's folder.

    Raises:
      UserError: it is none.
    """
    if not is_run(workdir):
        raise UserError(f'{workdir} is not the folder of a run: it has no config.json; {_other_runs(workdir)}')
    run = _begin(workdir)
    run.starts = [start for start in _sequence(_load(run, 'environment.json')) if isinstance(start, dict)]
    run.evaluation = _mapping(_load(run, 'evaluation.json'))
    run.rows = _rows(run, 'metrics.jsonl')
    run.samples = _rows(run, 'samples.jsonl')
    run.exports = [row for row in _sequence(_load(run, EXPORTS_FILE)) if isinstance(row, dict)]
    return run


def read_summary(workdir: Path) -> Run:
    """Reads of a run's folder what a table of many runs shows: config, result, and its evaluations.

    `rows` has the last row of metrics.jsonl. Where the result is not that of its step, it has all evaluations, too.
    """
    run = _begin(workdir)
    run.evaluation = _mapping(_load(run, 'evaluation.json'))
    run.rows = _last_row(workdir / 'metrics.jsonl')
    if not (run.result and run.rows and run.result['step'] == run.rows[-1]['step']):
        run.rows = sorted(read_evaluations(run) + run.rows, key=lambda row: row['step'])
    return run


def read_evaluations(run: Run, name: str = '') -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl that are of evaluations and have a metric of this name, if one is named."""
    mark = name.encode(errors='replace') if name.isascii() and name.isprintable() else b''  # else JSON may escape it

    def is_wanted(line: bytes) -> bool:
        return b'"steps_per_second"' not in line and mark in line
    return [row for row in _rows(run, 'metrics.jsonl', is_wanted) if not is_window(row) and (not name or name in row)]


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return any(_is_own(folder / name) for name in _MARKS)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds; {} where it has none, is damaged, not there, or a link."""
    return _mapping(Run(path.parent).json(path)) if _is_own(path) else {}


def _begin(workdir: Path) -> Run:
    run = Run(workdir, running=is_locked(workdir))
    run.config = _mapping(_load(run, 'config.json'))
    result = _mapping(_load(run, 'result.json'))
    if result and not is_step(result.get('step')):
        run.notes.append('result.json says no step and is left out')
    else:
        run.result = result
    return run


def _load(run: Run, name: str) -> Any:
    return run.json(run.workdir / name) if _is_own(run.workdir / name) else None


def _last_row(path: Path) -> list[dict[str, Any]]:
    """Returns the last row of a JSON lines file, or none where its end shows none."""
    if not _is_own(path):
        return []
    try:
        with path.open('rb') as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read(2 * _TAIL).split(b'\n')
    except OSError:
        return []  # `_rows` notes it
    rows = (parse_rows(line)[0] for line in reversed(lines[-8:]))  # after it there may be half a row
    return next((row for row in rows if row), [])


def _rows(run: Run, name: str, is_wanted: Callable[[bytes], bool] | None = None) -> list[dict[str, Any]]:
    """Returns the rows of a JSON lines file that can be read, in the order of their steps; counts the others.

    Args:
      run: whose file it is.
      name: of the file.
      is_wanted: tells from its bytes whether a line is needed; the others are not parsed.
    """
    path = run.workdir / name
    if not _is_own(path):
        return []
    try:
        data = path.read_bytes()
        rows, damaged = parse_rows(data if is_wanted is None else b'\n'.join(filter(is_wanted, data.split(b'\n'))))
    except OSError as error:
        run.notes.append(f'{name} cannot be read: {error.strerror}')
        return []
    if name == 'samples.jsonl':
        damaged += len(rows)
        rows = list(filter(_is_sample, rows))
        damaged -= len(rows)
    if damaged:
        run.notes.append(f"{name}: {damaged:,} damaged {'line is' if damaged == 1 else 'lines are'} left out")
    return sorted(rows, key=lambda row: row['step'])


def _is_sample(row: Mapping[str, Any]) -> bool:
    samples = row.get('samples')
    return (isinstance(row.get('set', ''), str) and isinstance(samples, list)
            and all(isinstance(sample, dict) and isinstance(sample.get('text'), str) for sample in samples))


def _is_own(path: Path) -> bool:
    """Whether a path is a file and no link to one, which may lie anywhere."""
    return path.is_file() and not path.is_symlink()


def _other_runs(workdir: Path) -> str:
    for folder in (workdir, workdir.parent):
        try:
            runs = [path for path in folder.iterdir() if path.is_dir() and any((path / name).is_file()
                                                                               for name in _MARKS)]
        except OSError:
            continue
        if runs:
            return nearest(str(folder / workdir.name), [str(path) for path in runs][:200])
    return 'train there first, or name another'


def _value(text: str) -> Any:
    """Returns a cell of a csv file: a number, None, or text, which the class '007' is."""
    if re.fullmatch(r'-?(0|[1-9][0-9]{0,14})', text):
        return int(text)
    if len(text) < 40 and re.fullmatch(r'-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]{1,3})?', text) and re.search('[.e]', text):
        return float(text)
    return text or None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

