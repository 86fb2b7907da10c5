"""A comparison of runs as one HTML file that needs nothing else: tables, learning curves, what matters.

Its only script, comparison.js, sorts tables and lights up a run everywhere; the page's policy lets no other run. All of
it can be read without.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..common.errors import shortened
from . import templates
from .comparison import Comparison, Entry
from .comparison_charts import colour_classes, draw_curves, draw_importances, draw_parallel, drawn_entries
from .comparison_text import (
    MISSING,
    field_texts,
    group_columns,
    groups_headline,
    headline,
    metric_text,
    seconds_text,
    short_names,
    shown_fields,
)
from .config_fields import identity
from .seed_groups import SEED, seed_groups
from .tables import Column

Importance = Callable[[Sequence[Mapping[str, Any]], Sequence[float]], Mapping[str, float]]
_LEGEND = 7  # so many runs have colours of their own
_LONGEST_VALUE = 60


def render(comparison: Comparison, importance: Importance) -> str:
    """Returns a comparison as HTML.

    Args:
      comparison: the runs.
      importance: takes the fields of several runs, and the metric of each; returns field -> share, the largest
        first; {} where there are too few runs.
    """
    drawn, all_drawn = drawn_entries(comparison)
    groups, group_fields = seed_groups(comparison)
    parallel, left_out = draw_parallel(comparison, drawn)
    script = templates.read('comparison.js')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.render(
        'comparison.html', {'shorten': shortened}, comparison=comparison, headline=headline(comparison),
        css=templates.read('comparison.css'), script=Markup(script), digest=digest,
        best=_best(comparison), table=_table(comparison, drawn), curves=draw_curves(comparison, drawn),
        thinned=0 if all_drawn else len(drawn),
        legend=[(entry.name, colour) for entry, colour in zip(drawn, colour_classes(drawn))]
        if len(drawn) <= _LEGEND else [], parallel=parallel, left_out=left_out,
        importance=_importance(comparison, importance),
        groups=[(column.name, column.right, column.cells) for column in group_columns(comparison, groups, group_fields)]
        if groups else [], groups_headline=groups_headline(comparison, groups))


def _best(comparison: Comparison) -> dict[str, Any] | None:
    """Returns the best run: its name, its metrics as large numbers, and its fields."""
    best = comparison.entries[0]
    if best.value(comparison.metric) is None:
        return None
    return {'name': best.name, 'state': best.state,
            'large': [(metric_text(best, name), name) for name in comparison.shown if name in best.metrics
                      and name.rpartition('/')[2] == comparison.metric.rpartition('/')[2]][:4],
            'fields': [(name, shortened(field_texts([best], name)[0], _LONGEST_VALUE))
                       for name in shown_fields(comparison) if name in best.config][:12]}


def _table(comparison: Comparison, drawn: Sequence[Entry]) -> dict[str, Any]:
    """Returns header and rows; a cell is its text, what it is sorted by, its exact value, whether it is a number."""
    entries = comparison.entries
    colours = dict(zip(map(id, drawn), colour_classes(drawn)))
    names = short_names(shown_fields(comparison))
    metrics = [(Column(name, [metric_text(entry, name) for entry in entries]),
                [entry.metrics.get(name) for entry in entries]) for name in comparison.metrics]
    columns = metrics[:1] + [(Column(short, field_texts(entries, name)), [entry.config.get(name) for entry in entries])
                             for name, short in names.items()]
    columns += [(Column('step', [f'{entry.step:,}' for entry in entries]), [entry.step for entry in entries]),
                (Column('wall time', [seconds_text(entry) for entry in entries]),
                 [entry.wall_seconds for entry in entries]), *metrics[1:]]
    header, cells = [], []
    for column, values in columns:
        right = all(isinstance(value, (int, float)) and not isinstance(value, bool) or text in (MISSING, 'nan')
                    for text, value in zip(column.cells, values))
        header.append((column.name, right))
        cells.append([(shortened(text, _LONGEST_VALUE), value if right else text,
                       repr(value) if isinstance(value, float) else text if len(text) > _LONGEST_VALUE else None, right)
                      for text, value in zip(column.cells, values)])
    return {'header': header, 'rows': [
        {'entry': entry, 'colour': colours.get(id(entry), ''), 'cells': [column[i] for column in cells]}
        for i, entry in enumerate(entries)]}


def _importance(comparison: Comparison, importance: Importance) -> dict[str, Any]:
    """Returns the bars and what they are of; no bars where there is too little to tell."""
    entries, values, step = _judged(comparison)
    fields = [name for name in shown_fields(comparison) if name != SEED]
    params = [{name: entry.config[name] for name in fields if name in entry.config} for entry in entries]
    shares = importance(params, values) if values and fields else {}
    several = [name for name in fields if len({identity(row.get(name)) for row in params}) > 1]
    return {'count': len(entries), 'step': step, 'bars': draw_importances(shares) if shares else None,
            'left_out': [name for name in several if name not in shares] if shares else []}


def _judged(comparison: Comparison) -> tuple[list[Entry], list[float], int | None]:
    """Returns runs that can be judged alike, their metric, and at which step; None for the end.

    The finished runs, if they are at least half of all that have the metric. Where most were pruned or go on, those
    that finished are the better ones: then all are judged at the last step that four in five of them reached.
    """
    metric = comparison.metric
    entries = [entry for entry in comparison.entries if entry.value(metric) is not None]
    finished = [entry for entry in entries if entry.state == 'finished']
    if 2 * len(finished) >= len(entries):
        return finished, [entry.value(metric) or 0.0 for entry in finished], None
    curves = [dict(entry.curve(metric)) for entry in entries]
    counts = Counter(step for curve in curves for step in curve)
    step = max((step for step, count in counts.items() if 5 * count >= 4 * len(entries)), default=-1)
    reached = [(entry, curve[step]) for entry, curve in zip(entries, curves) if step in curve]
    return [entry for entry, _ in reached], [value for _, value in reached], step
