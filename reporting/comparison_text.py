"""A comparison as text: for the terminal, in Markdown, as CSV."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..common.console import format_metric, format_seconds
from ..common.errors import printable, shortened
from ..training.learning_curves import is_number
from .comparison import Comparison, Entry
from .config_fields import NOT_OF_TRAINING, show_value
from .seed_groups import Difference, Group, Summary
from .tables import Column, aligned, csv_text, fit, markdown

MISSING = '-'
_MOST_NAMES = 12  # of columns that are left out, and of lines about failed runs


def console_text(comparison: Comparison, groups: tuple[list[Group], list[str]], width: int) -> str:
    """Returns what `launch.py compare` prints: the table of runs, and that of groups over seeds.

    Args:
      comparison: the runs.
      groups: of `seed_groups`.
      width: of the terminal in characters; columns for which there is no room are left out, and named.
    """
    parts = [headline(comparison), *_fitted(run_columns(comparison), width)]
    failed = [entry for entry in comparison.entries if entry.error and entry.state == 'failed']
    parts += [f'{printable(entry.name)} failed: {printable(shortened(entry.error, 200))}'
              for entry in failed[:_MOST_NAMES]]
    if groups[0]:
        parts += ['', groups_headline(comparison, groups[0]), *_fitted(group_columns(comparison, *groups), width)]
    return '\n'.join(parts)


def _fitted(columns: Sequence[Column], width: int) -> list[str]:
    """Returns a table, and a line about the columns for which there is no room."""
    kept, dropped = fit(columns, width)
    more = f' and {len(dropped) - _MOST_NAMES} more' if len(dropped) > _MOST_NAMES else ''
    return [aligned(kept)] + [f"no room for {', '.join(dropped[:_MOST_NAMES])}{more}: --output has every column"
                              for _ in dropped[:1]]


def markdown_text(comparison: Comparison, groups: tuple[list[Group], list[str]]) -> str:
    """Returns the same as Markdown, with all columns of the fields that differ."""
    parts = [headline(comparison), markdown(run_columns(comparison))]
    if groups[0]:
        parts += [groups_headline(comparison, groups[0]), markdown(group_columns(comparison, *groups))]
    return '\n\n'.join(part.rstrip('\n') for part in parts) + '\n'


def csv_of(comparison: Comparison) -> str:
    """Returns all rows with all their columns, see `Comparison.rows`: a metric that is not finite is 'nan'."""
    def cell(entry: Entry, name: str, value: Any) -> Any:
        if value is None:
            return 'nan' if name in entry.metrics else 'null' if name in entry.config else None
        return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else show_value(value)
    rows = comparison.rows()
    return csv_text(list(rows[0]), [[cell(entry, name, value) for name, value in row.items()]
                                    for entry, row in zip(comparison.entries, rows)])


def headline(comparison: Comparison) -> str:
    """Returns how many runs there are, in which states, and how they are sorted."""
    states = Counter(entry.state for entry in comparison.entries)
    count = len(comparison.entries)
    said = f"{count:,} {'run' if count == 1 else 'runs'} ({', '.join(f'{n:,} {state}' for state, n in states.items())})"
    order = 'highest' if comparison.mode == 'max' else 'lowest'
    return f'{said}, by {comparison.metric}, the {order} first' if comparison.metric else f'{said}, without metrics yet'


def groups_headline(comparison: Comparison, groups: Sequence[Group]) -> str:
    """Returns what the table of groups shows."""
    unfinished = sum(group.unfinished for group in groups)
    left_out = f"; {unfinished:,} not finished {'is' if unfinished == 1 else 'are'} left out" if unfinished else ''
    paired = f'; differences of {comparison.metric} to the best, seed by seed, with 95 % confidence interval' \
        if len(groups) > 1 else ''
    return f'Over seeds, mean ± standard deviation{paired}{left_out}'


def shown_fields(comparison: Comparison) -> list[str]:
    """Returns the fields worth a column: those that differ and have a part in the training."""
    return [name for name in comparison.fields if name not in NOT_OF_TRAINING]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """'optimizer.learning_rate' -> 'learning_rate' where that is clear among the names; 'optimizer.name' stays."""
    ends = {name: name.rpartition('.')[2] for name in names}
    counts = Counter(ends.values())
    return {name: end if counts[end] == 1 and name.count('.') < 2 and end != 'name' else name
            for name, end in ends.items()}


def field_texts(entries_or_groups: Sequence[Entry | Group], name: str) -> list[str]:
    """Returns the values of a field, floats with four digits where that tells them apart."""
    configs = [item.config for item in entries_or_groups]
    exact = [show_value(config[name]) if name in config else MISSING for config in configs]
    short = [f'{value:.4g}' if isinstance(value := config.get(name), float) and is_number(value) else text
             for config, text in zip(configs, exact)]
    return short if len(set(short)) == len(set(exact)) else exact


def run_columns(comparison: Comparison) -> list[Column]:
    """Returns the table of runs: name, fields that differ, state, progress, metrics."""
    entries = comparison.entries
    names = short_names(shown_fields(comparison))
    run = Column('run', [entry.name for entry in entries])
    fields = {name: Column(short, field_texts(entries, name), _is_numeric(entries, name))
              for name, short in names.items()}
    state = Column('state', [entry.state for entry in entries])
    step = Column('step', [f'{entry.step:,}' for entry in entries], True)
    seconds = Column('wall time', [seconds_text(entry) for entry in entries], True)
    metrics = [Column(name, [metric_text(entry, name) for entry in entries], True) for name in comparison.shown]

    having = Counter(name for entry in entries for name in entry.config)
    searched = [column for name, column in fields.items() if name in comparison.searched]
    others = [fields[name] for name in sorted(fields, key=lambda name: -having[name])
              if name not in comparison.searched]
    states = [state] if len(set(state.cells)) > 1 else []  # else the headline says it
    most_useful_first = [*searched, *states, *others, *metrics[1:], step, seconds, *([] if states else [state])]
    for rank, column in enumerate(most_useful_first):
        column.rank = rank
    return [run, *fields.values(), state, step, seconds, *metrics]


def group_columns(comparison: Comparison, groups: Sequence[Group], fields: Sequence[str]) -> list[Column]:
    """Returns the table of groups over seeds."""
    names = short_names(fields)
    columns = [Column(names[name], field_texts(groups, name), _is_numeric(groups, name), 100 + i)
               for i, name in enumerate(fields)]
    columns.insert(0, Column('runs', [f'{group.entries[0].name} and {len(group.entries) - 1} more'
                                      for group in groups], False, 90))
    counts = {metric: [str(group.summaries[metric].n) if metric in group.summaries else '0' for group in groups]
              for metric in comparison.shown}
    for i, metric in enumerate(comparison.shown):
        rank = 5000 + i if i else None
        if not i or counts[metric] != counts[comparison.metric]:
            columns.append(Column(f'n of {metric}' if i else 'n', counts[metric], True, rank))
        columns.append(Column(metric, [summary_text(metric, group.summaries.get(metric)) for group in groups], True,
                              rank))
        if not i and len(groups) > 1:
            columns.append(Column('difference to the best', [
                'the best' if not number else difference_text(metric, group.difference)
                for number, group in enumerate(groups)], False, 50))
    return columns


def metric_text(entry: Entry, metric: str) -> str:
    """Returns a metric of a run as the console shows it everywhere."""
    return format_metric(metric, entry.metrics[metric]) if metric in entry.metrics else MISSING


def seconds_text(entry: Entry) -> str:
    """Returns how long a run took."""
    return MISSING if entry.wall_seconds is None else format_seconds(entry.wall_seconds)


def summary_text(metric: str, summary: Summary | None) -> str:
    """'94.43 % ± 0.50 %'."""
    if summary is None:
        return MISSING
    spread = '' if summary.std is None else f' ± {format_metric(metric, summary.std)}'
    return f'{format_metric(metric, summary.mean)}{spread}'


def difference_text(metric: str, difference: Difference | None) -> str:
    """'-1.20 % [-2.10 %, -0.30 %], n = 3'."""
    if difference is None:
        return 'no shared seed'

    def signed(value: float | None) -> str:
        return f"{'+' if value and value > 0 else ''}{format_metric(metric, value)}"
    if difference.low is None:
        return f'{signed(difference.mean)}, 1 shared seed: no interval'
    return f'{signed(difference.mean)} [{signed(difference.low)}, {signed(difference.high)}], n = {difference.n}'


def _is_numeric(items: Sequence[Entry | Group], name: str) -> bool:
    values = [item.config[name] for item in items if name in item.config]
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
