"""The report of a run: everything its folder says, as one HTML file that needs nothing else.

Numbers first, then learning curves, what the evaluations drew and listed, texts generated over time, the config, and
what it ran on. It has no script and loads nothing: it can be mailed, archived, printed.
"""

import hashlib
import json
import logging
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.console import format_seconds
from ..common.errors import UserError, file_error
from ..common.files import write_text
from .curves import draw_curves
from .html import Html, details, element, is_number, join, metric, picture, plain, shorten, table
from .run_files import Run, read_run

REPORT_FILE = 'report.html'
_STYLE = Path(__file__).with_name('page.css')
_EVALUATION = 'evaluation_'  # what `launch.py evaluate` writes begins so
_OPEN_ROWS = 30  # longer tables are folded
_CASES = 20  # the worst and the best so many are listed
_STEPS = 8  # whose samples are listed; those of all are folded
_MOST_STEPS = 100
_MOST_SAMPLES = 6  # of a step
_MOST_TEXT = 1000  # characters of a sample
_MOST_CONFIG = 100_000  # characters


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
        text = page(read_run(workdir))
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


def page(run: Run) -> str:
    """Returns the report of a run as HTML, ASCII."""
    task = run.task()
    primary_metric = _primary_metric(run, task)
    curves = draw_curves(run.rows, primary_metric)
    image_of_curves = run.workdir / 'learning_curves.png'
    if curves is None and image_of_curves in run.files('.png'):
        curves = picture(image_of_curves, 'learning curves', run.notes.append)
    sections = [('Results', _results(run, primary_metric)), ('Learning curves', curves), *_evaluations(run, task),
                ('Texts over time', _samples(run)), ('Configuration', _configuration(run)),
                ('Environment', _environment(run))]
    sections = [(f's{number}', title, content) for number, (title, content) in enumerate(sections) if content]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element('head', element('meta', charset='utf-8'),
                   element('meta', http_equiv='Content-Security-Policy', content=policy),
                   element('meta', name='viewport', content='width=device-width, initial-scale=1'),
                   element('title', f'{run.name} (seed {_seed(run)})'),
                   element('style', Html(_STYLE.read_text(encoding='ascii'))))
    notes = element('div', (element('p', note) for note in run.notes), class_='notes') if run.notes else None
    body = element('body', element('header', element('h1', run.name), _state(run)),
                   element('nav', (element('a', title, href=f'#{name}') for name, title, _ in sections)), notes,
                   (element('section', element('h2', title), content, id=name) for name, title, content in sections))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _seed(run: Run) -> Any:
    return run.config.get('seed', run.result.get('seed', '?'))


def _primary_metric(run: Run, task: Any) -> str:
    """Returns the name of the metric that the task is judged by, of which the largest numbers are."""
    if task is not None:
        return task.primary_metric
    from .. import tasks
    section, checkpoint = run.config.get('task'), run.config.get('checkpoint')
    name = section.get('name') if isinstance(section, dict) else None
    primary_metric = getattr(tasks.TASKS.get(str(name)), 'primary_metric', None)  # of some it depends on the data
    best = checkpoint.get('best_metric') if isinstance(checkpoint, dict) else None
    return primary_metric if isinstance(primary_metric, str) else str(best or 'accuracy').rpartition('/')[2]


def _state(run: Run) -> Html:
    """Says whether the run is finished, and how far it came."""
    total, of = run.total(), ''
    if total and not run.finished:
        of = f' of {total:,}'
    elif run.config.get('total') and not run.finished:
        of = f" of {run.config['total']}"
    if run.running:
        state = 'running', f'running, at step {run.step:,}{of}'
    elif run.finished:
        state = 'finished', f'finished after {run.step:,} steps'
    else:
        state = 'stopped', f'stopped at step {run.step:,}{of}'
    return element('p', element('span', f'seed {_seed(run)} \u00b7 ', class_='muted'),
                   element('span', state[1], class_=f'state {state[0]}'),
                   element('span', f' \u00b7 {run.workdir.resolve().name}', class_='muted'))


def _results(run: Run, primary_metric: str) -> Html | None:
    """Returns the primary metric of every set, large, all metrics as a table, and those of `launch.py evaluate`."""
    latest = run.latest()
    parts = []
    if latest and not run.finished:
        parts.append(element('p', 'The latest evaluations: this run has not reached its end.', class_='muted'))
    parts.append(_large_numbers(latest, primary_metric, run.sets))
    facts = {'steps': f'{run.step:,}'}
    at_end = bool(run.result) and run.result['step'] == run.step
    if at_end and is_number(seconds := run.result.get('wall_seconds')) and math.isfinite(seconds):
        facts['wall time'] = format_seconds(seconds)
    if at_end and is_number(run.result.get('examples_per_second')):
        facts['training speed'] = f"{run.result['examples_per_second']:,.0f} examples/s"
    best = run.result.get('best') if at_end else None
    if isinstance(best, dict):
        facts[f"best {best.get('metric')}"] = f"at step {best.get('step')}"
    parts.append(element('div', _metrics_table(latest, primary_metric, run.sets), _definitions(facts), class_='beside'))
    metrics = run.evaluation.get('metrics')
    if isinstance(metrics, dict):
        overrides = run.evaluation.get('overrides') or []
        parts += [element('h3', f"Scored by launch.py evaluate at step {run.evaluation.get('step')}",
                          f', with {", ".join(map(str, overrides))}' if isinstance(overrides, list) and overrides
                          else None),
                  _metrics_table(metrics, primary_metric, run.sets)]
    return join(parts)


def _large_numbers(metrics: Mapping[str, Any], primary_metric: str, sets: Sequence[str]) -> Html | None:
    shown = [(name, metrics[f'{name}/{primary_metric}']) for name in sets if f'{name}/{primary_metric}' in metrics]
    if not shown:
        return None
    return element('div', (element('div', element('b', metric(primary_metric, value)),
                                   element('span', f'{plain(name)} {plain(primary_metric)}')) for name, value in shown),
                   class_='headline')


def _metrics_table(metrics: Mapping[str, Any], primary_metric: str, sets: Sequence[str]) -> Html | None:
    """Returns metrics as rows and sets as columns; the exact values are tooltips."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        group, slash, name = str(key).partition('/')
        if slash and is_number(value):
            found.setdefault(name, {})[group] = value
    if not found:
        return None
    columns = [name for name in sets if any(name in row for row in found.values())]
    columns += [name for name in dict.fromkeys(group for row in found.values() for group in row)
                if name not in columns]
    names = sorted(found, key=lambda name: (name != primary_metric, name != 'loss'))

    def cell(name: str, group: str) -> Html:
        value = found[name].get(group)
        exact = repr(value) if is_number(value) and math.isfinite(value) else None
        return element('td', metric(name, value), class_='n', title=exact)
    head = element('tr', element('th', scope='col'), (element('th', plain(c), scope='col', class_='n')
                                                      for c in columns))
    body = (element('tr', element('td', plain(name)), (cell(name, group) for group in columns)) for name in names)
    return element('div', element('table', element('thead', head), element('tbody', body)), class_='scroll metrics')


def _evaluations(run: Run, task: Any) -> list[tuple[str, Html | None]]:
    """Returns (title, images, tables and cases) of every evaluation set; of `launch.py evaluate` after the run's."""
    sets = run.sets + [_EVALUATION + name for name in run.sets]
    found: dict[str, dict[str, list[tuple[str, Path]]]] = {name: {} for name in sets}
    for kind, suffix in (('png', '.png'), ('csv', '.csv'), ('cases', '_examples.json')):
        for path in run.files(suffix):
            if path.name == 'learning_curves.png':
                continue
            names = [name for name in sets if path.name.startswith(f'{name}_')]
            name = max(names, key=len, default='')  # of 'test' and 'test_inverted' the longer
            stem = path.name.removesuffix(suffix)
            found.setdefault(name, {}).setdefault(kind, []).append((stem[len(name) + 1:] if name else stem, path))
    rank = task.per_example.severity if task is not None and task.per_example else None
    seen: dict[bytes, str] = {}
    sections = []
    for name, files in found.items():
        title = plain(name)
        if name.startswith(_EVALUATION):
            title = f'{plain(name.removeprefix(_EVALUATION))} (launch.py evaluate)'
        parts = [_images(run, title, files.get('png', []), seen)]
        parts += [_csv(run, key, path) for key, path in files.get('csv', [])]
        parts += [_cases(run, path, rank) for _, path in files.get('cases', [])]
        sections.append((f'Set: {title}' if name else 'Other files', join(parts)))
    return sections


def _images(run: Run, title: str, files: Sequence[tuple[str, Path]], seen: dict[bytes, str]) -> Html | None:
    """Returns images with their names; of equal ones the first."""
    figures = []
    for key, path in files:
        try:
            digest = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            run.notes.append(f'{path.name} cannot be read: {error.strerror}')
            continue
        if digest in seen:
            figures.append(element('p', f'{plain(key)}: the same as of {seen[digest]}', class_='muted'))
            continue
        image = picture(path, f'{title}: {plain(key)}' if title else plain(key), run.notes.append)
        if image is not None:
            seen[digest] = title
            figures.append(element('figure', element('figcaption', plain(key)), image))
    return element('div', figures, class_='images') if figures else None


def _csv(run: Run, key: str, path: Path) -> Html | None:
    header, rows, left = run.csv(path)
    if not header or not rows:
        return None
    content = table([plain(name) for name in header], rows)
    if left:
        content = join([content, element('p', f'and {left:,} more rows in {path.name}', class_='muted')])
    if len(rows) <= _OPEN_ROWS:
        return join([element('h3', plain(key)), content])
    return join([element('h3', plain(key)), details(f'{len(rows) + left:,} rows', content)])


def _cases(run: Run, path: Path, rank: Any) -> Html | None:
    """Returns a summary of the cases of an evaluation, and the worst and the best of them."""
    found = run.cases(path)
    if found is None:
        return None
    cases, order = found['examples'], ''
    if rank is not None:
        try:  # cases of an older version may lack what they are ranked by
            cases, order = sorted(cases, key=rank, reverse=True), 'the worst first'
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            pass
    rows = [_flat(case) for case in cases]
    names = list(dict.fromkeys(name for row in rows for name in row))

    def listing(part: Sequence[Mapping[str, Any]]) -> Html:
        return table([plain(name) for name in names], [[_cell(row.get(name)) for name in names] for row in part])
    step = f" at step {found['step']}" if is_number(found.get('step')) else ''
    parts = [element('h3', f'{len(rows):,} cases{step}'), _summary(rows, names)]
    if len(rows) <= 2 * _CASES:
        parts.append(details(f'all of them{", " if order else ""}{order}', listing(rows)))
    elif order:
        parts += [details(f'the worst {_CASES}', listing(rows[:_CASES])),
                  details(f'the best {_CASES}', listing(rows[:-_CASES - 1:-1]))]
    else:
        parts += [details(f'the first {_CASES}', listing(rows[:_CASES])),
                  details(f'the last {_CASES}', listing(rows[-_CASES:]))]
    return join(parts)


def _flat(case: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """{'dice': {'left': 0.5}} -> {'dice left': 0.5}."""
    row = {}
    for key, value in case.items():
        row |= _flat(value, f'{prefix}{key} ') if isinstance(value, dict) else {f'{prefix}{key}': value}
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        numbers = bool(value) and all(map(is_number, value))
        value = ' \u00d7 '.join(f'{number:.4g}' for number in value) if numbers else ' \u00b7 '.join(map(str, value))
    return shorten(value, 400) if isinstance(value, str) else value


def _summary(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Html | None:
    """Returns how the numbers of cases are distributed, a row for each."""
    import numpy as np
    lines = []
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values and all(isinstance(value, bool) or is_number(value) and math.isfinite(value) for value in values):
            low, median, high = np.quantile(np.array(values, np.float64), (0, 0.5, 1)).tolist()
            lines.append([plain(name), float(np.mean(values)), low, median, high, len(values)])
    return table(['', 'mean', 'lowest', 'median', 'highest', 'of'], lines) if lines else None


def _samples(run: Run) -> Html | None:
    """Returns texts generated in the course of training: of some steps, then of all."""
    sets = dict.fromkeys(row.get('set', '') for row in run.samples)
    parts = []
    for name in sets:
        rows = [row for row in run.samples if row.get('set', '') == name and row['samples']]
        if not rows:
            continue
        chosen = _spread(len(rows), _STEPS)
        parts += [element('h3', plain(name)), _sample_table([rows[i] for i in chosen])]
        if len(rows) > len(chosen):
            most = _spread(len(rows), _MOST_STEPS)
            title = f'all {len(rows):,} steps' if len(most) == len(rows) else f'{len(most)} of {len(rows):,} steps'
            parts.append(details(title, _sample_table([rows[i] for i in most])))
    return join(parts) if parts else None


def _spread(count: int, most: int) -> list[int]:
    """Returns at most so many indices, the first and the last among them, closer at the beginning: texts change there.
    """
    if count <= most:
        return list(range(count))
    return sorted({0, count - 1, *(round(count ** (i / (most - 1))) - 1 for i in range(most))})


def _sample_table(rows: Sequence[Mapping[str, Any]]) -> Html:
    last = {_of(sample): row['step'] for row in rows for sample in row['samples']}  # references are told once

    def one(sample: Mapping[str, Any], step: int) -> Html:
        prompt, references = sample.get('prompt'), sample.get('references')
        told = isinstance(references, list) and references and last[_of(sample)] == step
        return element('li', element('span', shorten(prompt, _MOST_TEXT), class_='prompt')
                       if isinstance(prompt, str) else None,
                       element('span', shorten(sample['text'], _MOST_TEXT), class_='text'),
                       element('small', _cell(sample['file'])) if isinstance(sample.get('file'), str) else None,
                       element('small', 'references: ', _cell(references)) if told else None)
    cells = ([row['step'], element('ol', (one(sample, row['step']) for sample in row['samples'][:_MOST_SAMPLES]))]
             for row in rows)
    return table(['step', 'texts'], cells, class_='samples')


def _of(sample: Mapping[str, Any]) -> str:
    return json.dumps([sample.get('file'), sample.get('references')])


def _configuration(run: Run) -> Html | None:
    """Returns what differs from the defaults, and everything."""
    if not run.config:
        return None
    from ..training.defaults import base
    defaults, config = _flat_config(base().to_dict()), _flat_config(run.config)
    rows = [[element('code', key), _literal(value), _literal(defaults[key]) if key in defaults else None]
            for key, value in config.items() if key != 'experiment' and defaults.get(key, ...) != value]
    whole = json.dumps(run.config, indent=2, ensure_ascii=False)
    cut = '' if len(whole) <= _MOST_CONFIG else ' (its beginning)'
    parts = [element('p', 'What differs from the defaults of experiments/base.py:', class_='muted'),
             table(['field', 'value', 'default'], rows)] if rows else []
    return join([parts, details(f'all of config.json{cut}', element('pre', shorten(whole, _MOST_CONFIG)))])


def _flat_config(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Returns a config as {'model.name': value}, as it is after a trip through JSON."""
    flat = {}
    for key, value in values.items():
        flat |= _flat_config(value, f'{prefix}{key}.') if isinstance(value, dict) else \
            {f'{prefix}{key}': json.loads(json.dumps(value))}
    return flat


def _literal(value: Any) -> Html:
    return element('code', shorten(json.dumps(value, ensure_ascii=False), 200))


def _environment(run: Run) -> Html | None:
    """Returns commit, versions and devices of the latest start, and how to do it again."""
    if not run.starts:
        return None
    start = run.starts[-1]
    git = start.get('git') if isinstance(start.get('git'), dict) else {}
    facts = {'started': start.get('started'), 'commit': git.get('commit'), 'Python': start.get('python')}
    if git.get('commit') and git.get('dirty'):
        facts['commit'] = f"{git['commit']}, with changes that were not committed (diff {git.get('diff_sha256')})"
    elif not git.get('commit'):
        facts['commit'] = 'unknown: not started in a git checkout'
    if isinstance(start.get('packages'), dict):
        facts['packages'] = ', '.join(f'{name} {version}' for name, version in start['packages'].items() if version)
    if isinstance(start.get('devices'), list):
        kinds = dict.fromkeys(map(str, start['devices']))
        facts['devices'] = ', '.join(f"{start['devices'].count(kind)} \u00d7 {kind}" for kind in kinds)
    facts |= {'CPU cores': start.get('cpu_cores'), 'processes': start.get('processes')}
    if len(run.starts) > 1:
        facts['starts'] = f'{len(run.starts)}; the latest is shown'
    parts = [_definitions(facts)]
    if isinstance(start.get('command'), str):
        checkout = f"git checkout {git['commit']}\n" if re.fullmatch('[0-9a-f]{40}', str(git.get('commit'))) else ''
        parts += [element('h3', 'To do it again'), element('pre', checkout + _command(start['command']))]
    return join(parts)


def _command(command: str) -> str:
    """Returns the noted command as a shell takes it: words were joined by spaces, also those with spaces in them."""
    match = re.match(r'(?:\S.*/)?(launch\.py)((?: (?!--)\S+)*)((?: --.*)?)$', command, re.DOTALL)
    if match is None:
        return command
    words = ['python', match.group(1), *map(shlex.quote, match.group(2).split())]
    for option in re.split(r' (?=--[a-z])', match.group(3))[1:]:
        if re.match(r'--[\w.]+=', option):
            words.append(shlex.quote(option))
        else:  # an option, and its value as a word of its own
            name, space, value = option.partition(' ')
            words += [shlex.quote(name), *([shlex.quote(value)] if space else [])]
    return ' '.join(words)


def _definitions(facts: Mapping[str, Any]) -> Html:
    return element('dl', ((element('dt', name), element('dd', value)) for name, value in facts.items()
                          if value is not None))
