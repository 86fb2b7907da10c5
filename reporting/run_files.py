"""What the folder of a run holds, read for its report.

Whoever sent the folder is not trusted: files are read by the names that a run writes, links are not followed, nothing
named inside a file is opened, and damaged parts are left out and said so.
"""

import csv
import dataclasses
import fcntl
import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import UserError, nearest
from ..training.learning_curves import is_number, is_window, set_order
from ..training.rows import is_step, parse_rows

_MARKS = ('config.json', 'metrics.jsonl', 'result.json')  # a run has one of them
_DURATION = re.compile(r'\s*([0-9][0-9_]*\.?[0-9]*(?:e[0-9]{1,2})?)\s*(steps?|examples?)\s*')
_MOST_ROWS = 2000  # of a csv file


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
        """Returns how many steps the run was to have; None where that cannot be told.

        config.total counts steps, examples or epochs. How many examples an epoch has is in no file, but the first
        logging window says how long the rest would take at its speed, and from this the steps follow.
        """
        if self.finished:
            return self.step
        match = _DURATION.fullmatch(str(self.config.get('total', '')))
        if match:
            number = float(match.group(1))
            if match.group(2).startswith('example'):
                number /= max(1, _int(self.config.get('batch_size')))
            return max(1, -int(-number // 1)) if number < 2 ** 31 else None
        row = next(filter(is_window, self.rows), {})
        timings = _mapping(row.get('timings'))
        left, taken = timings.get('eta_seconds'), timings.get('wall_seconds')
        if not (is_number(left) and is_number(taken) and 0 < taken < 1e12 and 0 <= left < 1e12):
            return None
        total = row['step'] * (1 + left / taken)
        # Time before the first step, spent on caching features, or a later, longer total would give a wrong one.
        return round(total) if abs(total - round(total)) < 0.02 and round(total) >= self.step else None

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

    def csv(self, path: Path) -> tuple[list[str], list[list[Any]], int]:
        """Returns header, rows (cells that are numbers as numbers) and how many rows are left out."""
        try:
            with path.open(newline='', encoding='utf-8', errors='replace') as file:
                lines = csv.reader(file)
                header = next(lines, [])
                rows = [[_value(cell) for cell in itertools.islice(itertools.chain(line, itertools.repeat('')),
                                                                   len(header))]
                        for line in itertools.islice(lines, _MOST_ROWS)]
                left = sum(1 for _ in lines)
        except (OSError, csv.Error) as error:
            self.notes.append(f'{path.name} is left out: {error}')
            return [], [], 0
        return header, rows, left

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
    if not any(_is_own(workdir / name) for name in _MARKS):
        raise UserError(f'{workdir} is not the folder of a run: it has no config.json; {_other_runs(workdir)}')
    run = Run(workdir, running=_is_locked(workdir / '.lock'))

    def load(name: str) -> Any:
        return run.json(workdir / name) if _is_own(workdir / name) else None
    run.config = _mapping(load('config.json'))
    run.starts = [start for start in _sequence(load('environment.json')) if isinstance(start, dict)]
    result = _mapping(load('result.json'))
    if result and not is_step(result.get('step')):
        run.notes.append('result.json says no step and is left out')
    else:
        run.result = result
    run.evaluation = _mapping(load('evaluation.json'))
    run.rows = _rows(run, 'metrics.jsonl')
    run.samples = _rows(run, 'samples.jsonl')
    return run


def _rows(run: Run, name: str) -> list[dict[str, Any]]:
    """Returns the rows of a JSON lines file that can be read, in the order of their steps; counts the others."""
    path = run.workdir / name
    if not _is_own(path):
        return []
    try:
        rows, damaged = parse_rows(path.read_bytes())
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


def _is_locked(path: Path) -> bool:
    """Whether a process holds the writer's lock, see training/checkpoints.py."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


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


def _int(value: Any) -> int:
    return value if is_step(value) else 0
