"""The report of a run: everything its folder holds, as one HTML file that needs nothing else.

Numbers first, then learning curves, images and tables of the evaluations, texts generated over time, the config, and
what it ran on. It has no script and loads nothing: it can be mailed, archived, printed. This file gathers what is
shown; report.html (Jinja2, which escapes every text) and page.css say how.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.console import format_metric, format_seconds
from ..common.errors import UserError, file_error
from ..common.files import write_text
from ..training.learning_curves import is_number, plain
from . import images, templates
from .run_files import MOST_ROWS, Run, read_run
from .svg import draw_curves

REPORT_FILE = 'report.html'
_EVALUATION = 'evaluation_'  # what `launch.py evaluate` writes begins so
_FILES = (('images', '.gif'), ('images', '.png'), ('tables', '.csv'), ('examples', '_examples.json'),
          ('examples', '_cases.json'))
# Dark on white, and light on dark in a dark page; no photographs.
_DIAGRAMS = ('confusion_matrix', 'learning_curves', 'precision_recall', 'counts', 'box_sizes')
_LISTED = 20  # the worst and the best so many examples
_STEPS = 8  # whose samples are listed; those of all are folded
_MOST_STEPS = 100
_MOST_CONFIG = 100_000  # characters

Cell = tuple[str, str | None, bool]  # text, the exact value where that is another text, whether it is a number


def write_report(workdir: str | Path, output: str | Path | None = None) -> Path:
    """Writes the report of a run, whatever state it is in.

    Args:
      workdir: the run's folder.
      output: the file to write, .html; <workdir>/report.html by default.

    Returns:
      The file.

    Raises:
      UserError: the folder is not that of a run, or the file cannot be written.
    """
    workdir = Path(workdir)
    output = workdir / REPORT_FILE if output is None else Path(output)
    if output.suffix.lower() not in ('.html', '.htm'):
        raise UserError(f'the report is a web page: end {output} with .html')
    try:
        text = render(read_run(workdir))
    except OSError as error:
        raise file_error(error.filename or workdir, f'cannot be read: {error.strerror}') from error
    except RecursionError as error:
        raise file_error(workdir, 'a JSON file is nested too deeply to be shown') from error
    try:
        write_text(output, text)
    except OSError as error:
        raise file_error(output, f'cannot be written: {error.strerror}; name another --output') from error
    logging.info('%s: %s', output, f'{len(text) / 1e6:.1f} MB' if len(text) >= 1e5 else f'{len(text) / 1e3:.0f} kB')
    return output


def render(run: Run) -> str:
    """Returns the report of a run as HTML. It is ASCII: no encoding can be wrong."""
    task = run.task()
    primary_metric = _primary_metric(run, task)
    sections = {'Results': _results(run, primary_metric), 'Learning curves': _curves(run, primary_metric),
                **_evaluations(run, task), 'Texts over time': _texts(run), 'Exported models': _exports(run),
                'Configuration': _configuration(run), 'Environment': {'kind': 'environment'} if run.starts else None}
    filters = {'plain': plain, 'metric': _metric, 'shorten': _shorten, 'count': _count, 'cell': _cell,
               'is_finite': is_number}
    return templates.render(
        'report.html', filters, run=run, start=run.starts[-1] if run.starts else {}, seconds=format_seconds,
        result=run.result if run.result.get('step') == run.step else {}, state=_state(run),
        folder=run.workdir.resolve().name, classes=len(getattr(task, 'class_names', None) or ()),
        sections={title: content for title, content in sections.items() if content})


def _primary_metric(run: Run, task: Any) -> str:
    """Returns the name of the metric that the task is judged by, of which the largest numbers are."""
    if task is not None:
        return task.primary_metric
    checkpoint = run.config.get('checkpoint')
    best = checkpoint.get('best_metric') if isinstance(checkpoint, dict) else None
    return str(best or 'accuracy').rpartition('/')[2]


def _state(run: Run) -> tuple[str, str]:
    """Returns 'running', 'finished' or 'stopped', and how far the run came."""
    if run.finished:
        return 'finished', f'finished after {run.step:,} steps'
    total = run.total()
    of = f' of {total:,}' if total else f" of {run.config['total']}" if run.config.get('total') else ''
    return ('running', f'running, at step {run.step:,}{of}') if run.running else \
        ('stopped', f'stopped at step {run.step:,}{of}')


def _results(run: Run, primary_metric: str) -> dict[str, Any]:
    """Returns the primary metric of every set, large, all metrics as a table, and those of `launch.py evaluate`."""
    latest = run.latest()
    return {'kind': 'results', 'unfinished': bool(latest) and not run.finished,
            'large': [(_metric(latest[key], primary_metric), f'{plain(name)} {plain(primary_metric)}')
                      for name in run.sets if (key := f'{name}/{primary_metric}') in latest],
            'table': _metrics_table(run, latest, primary_metric),
            'evaluated': _metrics_table(run, run.evaluation.get('metrics'), primary_metric)}


def _metrics_table(run: Run, metrics: Any, primary_metric: str) -> dict[str, Any] | None:
    """Returns metrics as rows and sets as columns; None where there are none."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items() if isinstance(metrics, dict) else ():
        group, slash, name = str(key).partition('/')
        if slash and (value is None or is_number(value)):
            found.setdefault(name, {})[group] = value
    groups = list(dict.fromkeys(group for row in found.values() for group in row))
    groups = [name for name in run.sets if name in groups] + [name for name in groups if name not in run.sets]
    names = sorted(found, key=lambda name: (name != primary_metric, name != 'loss'))

    def cell(name: str, group: str) -> Cell:
        value = found[name].get(group)
        return _metric(value, name) if group in found[name] else '', None if value is None else repr(value), True
    rows = [[(plain(name), None, False), *(cell(name, group) for group in groups)] for name in names]
    return {'header': [('', False), *((plain(group), True) for group in groups)], 'rows': rows} if rows else None


def _curves(run: Run, primary_metric: str) -> dict[str, Any] | None:
    """Returns learning curves, or the image of them where their numbers are lost."""
    if run.rows:
        drawn = draw_curves(run.rows, primary_metric)
        if drawn['panels'] or drawn['constant']:
            return {'kind': 'curves', **drawn}
    files = [path for path in run.files('.png') if path.name == 'learning_curves.png']
    return {'kind': 'set', 'parts': [_images(run, '', [('learning_curves', path) for path in files], {})]} \
        if files else None


def _evaluations(run: Run, task: Any) -> dict[str, dict[str, Any]]:
    """Returns images, tables and examples of every evaluation set; of `launch.py evaluate` after the run's."""
    sets = run.sets + [_EVALUATION + name for name in run.sets]
    found: dict[str, dict[str, list[tuple[str, Path]]]] = {name: {} for name in [*sets, '']}
    for kind, suffix in _FILES:
        for path in run.files(suffix):
            if path.name != 'learning_curves.png':
                name = max((name for name in sets if path.name.startswith(f'{name}_')), key=len, default='')
                stem = path.name.removesuffix(suffix)
                found[name].setdefault(kind, []).append((stem[len(name) + 1:] if name else stem, path))
    rank = task.per_example.severity if task is not None and task.per_example else None
    seen: dict[bytes, str] = {}
    sections = {}
    for name, files in found.items():
        title = plain(name)
        if name.startswith(_EVALUATION):
            title = f'{plain(name.removeprefix(_EVALUATION))} (launch.py evaluate)'
        parts = [_images(run, title, sorted(files.get('images', []), key=lambda item: item[0] in _DIAGRAMS), seen),
                 *(_examples(run, path, rank) for _, path in files.get('examples', [])),
                 *(_csv(run, key, path) for key, path in files.get('tables', []))]
        if any(parts):
            sections[f'Set: {title}' if name else 'Other files'] = {'kind': 'set', 'parts': list(filter(None, parts))}
    return sections


def _images(run: Run, title: str, files: Sequence[tuple[str, Path]], seen: dict[bytes, str]) -> dict[str, Any] | None:
    """Returns images with their names; of equal ones the first."""
    shown, same = [], []
    for key, path in files:
        try:
            digest = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            run.notes.append(f'{path.name} cannot be read: {error.strerror}')
            continue
        if digest in seen:
            same.append(f'{plain(key)}: the same as of {seen[digest]}')
        elif (image := images.embed(path, run.notes.append)) is not None:
            seen[digest] = title
            shown.append({**image, 'name': plain(key), 'alt': f'{title}: {plain(key)}' if title else plain(key),
                          'class': 'diagram' if key in _DIAGRAMS else None})
    return {'kind': 'images', 'images': shown, 'same': same} if shown or same else None


def _csv(run: Run, key: str, path: Path) -> dict[str, Any] | None:
    header, rows = run.csv(path)
    if not rows:
        return None
    return {'kind': 'table', 'title': plain(key), 'table': _table(header, rows), 'cut': len(rows) == MOST_ROWS,
            'file': path.name}


def _examples(run: Run, path: Path, rank: Any) -> dict[str, Any] | None:
    """Returns a summary of the scores of all examples, and the worst and the best of them."""
    found = run.examples(path)
    if found is None:
        return None
    examples, first, last = found['examples'], 'first', 'last'
    if rank is not None:
        try:  # those of an older version may lack what they are ranked by
            examples, first, last = sorted(examples, key=rank, reverse=True), 'worst', 'best'
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            pass
    rows = [_flat(example, ' ') for example in examples]
    names = list(dict.fromkeys(name for row in rows for name in row))
    end = rows[:-_LISTED - 1:-1] if last == 'best' else rows[-_LISTED:]
    parts = {f'the {first} {_LISTED}': rows[:_LISTED], f'the {last} {_LISTED}': end}
    if len(rows) <= 2 * _LISTED:
        parts = {f'all of them, the {first} first': rows}
    return {'kind': 'examples', 'count': len(rows), 'step': found.get('step'), 'summary': _summary(rows, names),
            'lists': [(title, _table(names, [[row.get(name) for name in names] for row in part]))
                      for title, part in parts.items()]}


def _summary(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any] | None:
    """Returns how the numbers of examples are distributed, a row for each."""
    import numpy as np
    lines = []
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values and all(isinstance(value, bool) or is_number(value) for value in values):
            low, median, high = np.quantile(np.array(values, np.float64), (0, 0.5, 1)).tolist()
            lines.append([plain(name), float(np.mean(values)), low, median, high, len(values)])
    return _table(['', 'mean', 'lowest', 'median', 'highest', 'of'], lines) if lines else None


def _texts(run: Run) -> dict[str, Any] | None:
    """Returns texts generated in the course of training, of some steps and of all; of equal sets the longest."""
    groups = {name: [row for row in run.samples if row.get('set', '') == name and row['samples']] for name in run.sets}
    groups[''] = [row for row in run.samples if not row.get('set') and row['samples']]
    texts = {name: [(row['step'], row['samples']) for row in rows] for name, rows in groups.items() if rows}
    shown: dict[str, list[str]] = {}  # set -> others whose texts are among its own
    for name in sorted(texts, key=lambda name: -len(texts[name])):
        owner = next((other for other in shown if all(item in texts[other] for item in texts[name])), name)
        shown.setdefault(owner, [])
        shown[owner] += [name] if owner != name else []
    parts = []
    for name, rows in texts.items():
        if name in shown:
            some, most = ([rows[i] for i in _spread(len(rows), count)] for count in (_STEPS, _MOST_STEPS))
            parts.append({'title': ' and '.join(map(plain, [name, *shown[name]])), 'some': some,
                          'most': most if len(rows) > _STEPS else None,
                          'count': f'all {len(rows):,}' if len(most) == len(rows) else f'{len(most)} of {len(rows):,}'})
    return {'kind': 'texts', 'parts': parts} if parts else None


def _spread(count: int, most: int) -> list[int]:
    """Returns at most so many indices, first and last among them, closer at the beginning, where texts change."""
    if count <= most:
        return list(range(count))
    return sorted({0, count - 1, *(round(count ** (i / (most - 1))) - 1 for i in range(most))})


def _exports(run: Run) -> dict[str, Any] | None:
    """Returns the files that launch.py export made of the run, which may lie anywhere and be gone: it is not looked."""
    def row(export: dict[str, Any]) -> list[Cell]:
        size = export.get('bytes')
        size = f'{size / 1e6:,.1f} MB' if is_number(size) else None
        more = [f'{name}: {_cell(value)[0]}' for name, value in export.items() if name not in known]
        return [_cell(value) for value in (export.get('file'), export.get('step'), size, export.get('made'), more)]
    known = ('file', 'step', 'bytes', 'made')
    if not run.exports:
        return None
    header = [('file', False), ('step', True), ('size', True), ('made', False), ('', False)]
    table = {'header': header, 'rows': [row(export) for export in run.exports[-MOST_ROWS:]]}
    return {'kind': 'set', 'parts': [{'kind': 'table', 'title': 'Written by launch.py export', 'table': table}]}


def _configuration(run: Run) -> dict[str, Any] | None:
    """Returns what differs from the defaults, and everything."""
    if not run.config:
        return None
    from ..training.defaults import base
    defaults, config = (_flat(json.loads(json.dumps(values)), '.') for values in (base().to_dict(), run.config))
    rows = [(key, *(_shorten(json.dumps(values[key], ensure_ascii=False), 200) if key in values else ''
                    for values in (config, defaults)))
            for key, value in config.items() if key != 'experiment' and defaults.get(key, ...) != value]
    whole = json.dumps(run.config, indent=2, ensure_ascii=False)
    return {'kind': 'configuration', 'rows': rows, 'cut': len(whole) > _MOST_CONFIG,
            'whole': _shorten(whole, _MOST_CONFIG)}


def _count(values: Any) -> str:
    """['cpu', 'cpu'] -> '2 x cpu'."""
    kinds = list(map(str, values)) if isinstance(values, list) else []
    return ', '.join(f'{kinds.count(kind)} \u00d7 {kind}' for kind in dict.fromkeys(kinds))


def _metric(value: Any, name: str) -> str:
    """Returns a metric as the console shows it, and '-' for what is no number."""
    return format_metric(name, value) if value is None or is_number(value) else '-'


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f'{text[:length - 1]}\u2026'


def _flat(values: Mapping[str, Any], separator: str, prefix: str = '') -> dict[str, Any]:
    """{'dice': {'left': 0.5}} -> {'dice left': 0.5}, for the separator ' '."""
    row = {}
    for key, value in values.items():
        row |= _flat(value, separator, f'{prefix}{key}{separator}') if isinstance(value, dict) else \
            {f'{prefix}{key}': value}
    return row


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Returns (name, whether it is on the right) of every column, and rows of cells. Numbers are on the right."""
    cells = [list(map(_cell, row)) for row in rows]
    right = [any(row[i][2] for row in cells) and all(row[i][2] or row[i][0] == '\u2013' for row in cells)
             for i in range(len(header))]
    return {'header': [(plain(name), right[i]) for i, name in enumerate(header)],
            'rows': [[(text, exact, right[i]) for i, (text, exact, _) in enumerate(row)] for row in cells]}


def _cell(value: Any) -> Cell:
    if value is None:
        return '\u2013', None, False
    if isinstance(value, bool):
        return ('yes' if value else 'no'), None, False
    if isinstance(value, int):
        return (f'{value:,}' if abs(value) < 1e15 else 'huge'), None, True
    if isinstance(value, float):
        shown = format_metric('', value)
        return shown, None if shown == repr(value) else repr(value), True
    if isinstance(value, list):
        numbers = bool(value) and all(map(is_number, value))
        value = ' \u00d7 '.join(f'{number:.4g}' for number in value) if numbers else ' \u00b7 '.join(map(str, value))
    return _shorten(str(value), 400), None, False
