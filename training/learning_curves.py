"""Learning curves, for learning_curves.png and for the report: metrics over steps, all sets of one in a panel."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..common.console import format_metric

Panel = dict[str, list[tuple[int, float]]]  # set -> its curve, (step, value)
TRAIN, WHOLE_TRAIN = 'train', 'train (evaluated)'
COLOURS = ('#8a9097', '#1f6fb4', '#d1620f', '#22865b', '#8b4fb0', '#b8336a', '#8a6d00', '#0f8b8d')  # training first
INK, GRID = '#6b7075', '#ecece8'
_LOGARITHMIC = ('loss', 'perplexity', 'gradient_norm')
_DOTS = 40  # a curve of up to so many points shows them


def plain(name: str) -> str:
    """Returns the name of a metric, figure or column as a person writes it."""
    return str(name).replace('_', ' ')


def is_number(value: Any) -> bool:
    """Whether a value out of a JSON file is a finite number that a float can hold; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300  # False for NaN


def is_window(row: Mapping[str, Any]) -> bool:
    """Whether a row of metrics.jsonl is of training steps, and not of an evaluation set that is named 'train' too."""
    timings = row.get('timings')
    if isinstance(timings, dict) and timings:
        return 'steps_per_second' in timings
    return all(key.startswith('train/') for key in row if '/' in key)


def set_order(names: Iterable[str]) -> list[str]:
    """Returns names of sets as they are always listed: training last, 'validation' before it, others as they come."""
    return sorted(dict.fromkeys(names), key=lambda name: (name.startswith('train'), name.startswith('val')))


def collect(rows: Iterable[Mapping[str, Any]], primary_metric: str = '') -> tuple[dict[str, Panel], dict[str, float]]:
    """Sorts metrics into panels; values that are not finite are left out.

    Args:
      rows: of metrics.jsonl, in the order of their steps.
      primary_metric: the task's.

    Returns:
      Metric -> set -> curve: the loss first, then the primary metric, last what training alone has. And metric ->
      value of those that never change, which are better read than drawn.
    """
    found: dict[str, Panel] = {}
    for row in rows:
        window = is_window(row)
        for key, value in row.items():
            group, slash, name = key.partition('/')
            if slash and is_number(value):
                group = WHOLE_TRAIN if group == TRAIN and not window else group
                found.setdefault(name, {}).setdefault(group, []).append((row['step'], float(value)))
    constant = {name: values.pop() for name, panel in found.items()
                if len(values := {value for points in panel.values() for _, value in points}) == 1
                and max(map(len, panel.values())) > 1}

    def place(name: str):
        return name != 'loss', name != primary_metric, set(found[name]) == {TRAIN}
    return {name: found[name] for name in sorted(found, key=place) if name not in constant}, constant


def colours(panels: Mapping[str, Panel]) -> dict[str, str]:
    """Returns set -> colour, the same in every panel; training first, then as sets are always listed."""
    groups = set_order(group for panel in panels.values() for group in panel)
    evaluated = [group for group in groups if group != TRAIN]
    first = {TRAIN: COLOURS[0]} if TRAIN in groups else {}
    return first | {group: COLOURS[1 + i % (len(COLOURS) - 1)] for i, group in enumerate(evaluated)}


def draw_panel(axes, name: str, panel: Panel, colour_of: Mapping[str, str], last: int) -> None:
    """Draws a metric's curves.

    Args:
      axes: matplotlib's.
      name: of the metric.
      panel: its curves.
      colour_of: set -> colour.
      last: the run's last step, where the axis ends.
    """
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator
    for group in sorted(panel, key=list(colour_of).index):  # training first: it lies below
        points = panel[group]
        axes.plot(*zip(*points), marker='o' if len(points) <= _DOTS else '', markersize=5 if len(points) == 1 else 2.5,
                  linewidth=1.4, color=colour_of[group], label=group, clip_on=False)
    values = [value for points in panel.values() for _, value in points]
    low, high = min(values), max(values)
    if name in _LOGARITHMIC and low > 0 and high > 20 * low:
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0), numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=(1, 2, 2.5, 5, 10)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(axes, name, value)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=(1, 2, 5, 10), integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    axes.set(xlim=(0, max(1, last)))
    axes.set_xlabel('step', color=INK, fontsize=9)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis='y', color=GRID, linewidth=1)


def _tick(axes, name: str, value: float) -> str:
    """Returns the label of a line of the value axis, with as many digits as tell all lines apart."""
    ticks = [tick for tick in axes.get_yticks() if tick]
    digits = next((digits for digits in range(2, 15)
                   if all(math.isclose(float(f'{tick:.{digits}g}'), tick, rel_tol=1e-9) for tick in ticks)), 15)
    value = 0.0 if abs(value) < 1e-15 else float(f'{value:.{digits}g}')
    percent = format_metric(name, 0.5).endswith('%')
    return f'{100 * value:.12g} %' if percent else f'{value:.12g}'.replace('e-0', 'e-')


def draw_learning_curves(rows: Sequence[Mapping[str, Any]], title: str, primary_metric: str = ''):
    """Returns a matplotlib figure of all panels.

    Args:
      rows: of metrics.jsonl.
      title: over all panels.
      primary_metric: see `collect`.
    """
    from matplotlib.figure import Figure
    rows = sorted(rows, key=lambda row: row['step'])
    panels, constant = collect(rows, primary_metric)
    colour_of = colours(panels)
    columns = min(4, max(1, len(panels)))
    lines = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(4.2 * columns, 3.2 * lines + 0.5), layout='constrained')
    for i, (name, panel) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        draw_panel(axes, name, panel, colour_of, rows[-1]['step'])
        axes.set_title(plain(name), parse_math=False)
        if len(panel) > 1:
            for text in axes.legend(frameon=False).get_texts():
                text.set_parse_math(False)
    said = [f'{plain(name)} {format_metric(name, value)}' for name, value in constant.items()]
    figure.suptitle(title, parse_math=False)
    if said:
        figure.supxlabel(f"constant: {', '.join(said)}", color=INK, fontsize=9, parse_math=False)
    return figure
