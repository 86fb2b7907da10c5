"""Learning curves as SVG inside a page: crisp at any size, in the page's colours, with the numbers under the mouse."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .html import Html, element, is_number, metric, plain
from .run_files import is_window

Points = list[tuple[int, float]]  # (step, value)
Panel = dict[str, Points]  # set -> its curve

_WIDTH, _HEIGHT = 340, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 22  # margins
_MOST_POINTS = 500  # of a curve; longer ones keep the extremes of each stretch
_MOST_CELLS = 80  # stretches of steps with a tooltip of their own
_DOTS = 40  # a curve of up to so many points shows them
_COLOURS = 7  # --c1 to --c7 of the style sheet; --c0 is training
_LOGARITHMIC = ('loss', 'perplexity', 'gradient_norm')
TRAIN, WHOLE_TRAIN = 'train', 'train (evaluated)'


def collect(rows: Sequence[Mapping[str, Any]]) -> dict[str, Panel]:
    """Returns metric -> set -> curve, from rows of metrics.jsonl; what is not finite is left out."""
    panels: dict[str, Panel] = {}
    for row in rows:
        training = is_window(row)
        for key, value in row.items():
            group, slash, name = key.partition('/')
            if slash and is_number(value) and abs(value) < 1e300:  # NaN compares as False
                group = WHOLE_TRAIN if group == TRAIN and not training else group
                panels.setdefault(name, {}).setdefault(group, []).append((row['step'], float(value)))
    return panels


def draw_curves(rows: Sequence[Mapping[str, Any]], primary_metric: str = '') -> Html | None:
    """Draws one panel per metric over steps, all sets together; the loss first, then the primary metric.

    Args:
      rows: of metrics.jsonl, in the order of their steps.
      primary_metric: the task's.

    Returns:
      A legend and panels; None where there is nothing to draw.
    """
    panels = collect(rows)
    if not panels:
        return None
    groups = list(dict.fromkeys(group for panel in panels.values() for group in panel))
    groups.sort(key=lambda group: group != TRAIN)
    evaluated = [group for group in groups if group != TRAIN]
    colours = {group: f'c{1 + evaluated.index(group) % _COLOURS}' if group in evaluated else 'c0' for group in groups}

    def place(name: str):
        return name != 'loss', name != primary_metric, set(panels[name]) == {TRAIN}, list(panels).index(name)
    legend = element('p', ([element('span', element('i', class_=colours[group]), group)] for group in groups),
                     class_='legend')
    last = max(1, max(row['step'] for row in rows))
    figures = (element('figure', element('figcaption', plain(name)), _panel(name, panels[name], last, colours))
               for name in sorted(panels, key=place))
    return element('div', legend, element('div', figures, class_='panels'))


def _panel(name: str, panel: Panel, last: int, colours: Mapping[str, str]) -> Html:
    """Returns a metric's curves from step 0 to the run's last one."""
    values = [value for points in panel.values() for _, value in points]
    low, high = min(values), max(values)
    logarithmic = name in _LOGARITHMIC and low > 0 and high > 20 * low
    bottom, top, ticks = _value_axis(low, high, logarithmic)
    scale = math.log10 if logarithmic else float

    def x(step: float) -> float:
        return _LEFT + step / last * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (scale(value) - scale(bottom)) / (scale(top) - scale(bottom))
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for value in ticks:
        parts += [element('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=_f(y(value)), y2=_f(y(value)), class_='grid'),
                  element('text', _tick(name, value), x=_LEFT - 6, y=_f(y(value) + 3.5), text_anchor='end')]
    for step in _step_ticks(last):
        parts.append(element('text', _short(step), x=_f(x(step)), y=_HEIGHT - 6, text_anchor='middle'))
    order = sorted(panel, key=lambda group: group != TRAIN)  # training lies below
    for group in order:
        points = [(x(step), y(value)) for step, value in _thinned(panel[group])]
        line = ' '.join(f'{_f(a)},{_f(b)}' for a, b in points)
        parts.append(element('polyline', points=line, class_=f'curve {colours[group]}'))
        if len(points) <= _DOTS:
            parts.append(element('g', (element('circle', cx=_f(a), cy=_f(b), r=2) for a, b in points),
                                 class_=f'dots {colours[group]}'))
    for begin, end, found in _cells(panel, last):
        shown = [element('circle', cx=_f(x(step)), cy=_f(y(value)), r=3.5, class_=colours[group])
                 for group, (step, value) in found.items()]
        parts.append(element(
            'g', element('title', '\n'.join(f'{group}, step {step:,}: {metric(name, value)}'
                                            for group, (step, value) in found.items())),
            element('rect', x=_f(x(begin)), width=_f(x(end) - x(begin)), y=_TOP, height=_HEIGHT - _TOP - _BOTTOM),
            shown, class_='cell'))
    label = f'{plain(name)} over steps: ' + ', '.join(
        f'{group} ends at {metric(name, panel[group][-1][1])}' for group in order)
    return element('svg', parts, viewBox=f'0 0 {_WIDTH} {_HEIGHT}', role='img', aria_label=label)


def _value_axis(low: float, high: float, logarithmic: bool) -> tuple[float, float, list[float]]:
    """Returns the ends of the axis and where its lines are."""
    from matplotlib.ticker import LogLocator, MaxNLocator
    if logarithmic:
        margin = (high / low) ** 0.04
        low, high = low / margin, high * margin
        ticks = LogLocator(subs=(1.0,) if high / low > 300 else (1.0, 2.0, 5.0), numticks=6).tick_values(low, high)
    else:
        if low == high:
            return low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1), [low]
        margin = 0.04 * (high - low)
        low, high = low - margin, high + margin
        ticks = MaxNLocator(nbins=5, steps=(1, 2, 2.5, 5, 10)).tick_values(low, high)
    return low, high, [float(tick) for tick in ticks if low <= tick <= high]


def _step_ticks(last: int) -> list[int]:
    from matplotlib.ticker import MaxNLocator
    ticks = MaxNLocator(nbins=5, steps=(1, 2, 5, 10), integer=True).tick_values(0, last)
    return [int(tick) for tick in ticks if 0 <= tick <= last]


def _tick(name: str, value: float) -> str:
    value = 0.0 if abs(value) < 1e-15 else value
    return f'{100 * value:.4g} %' if name.endswith('accuracy') else f'{value:.4g}'.replace('e-0', 'e-')


def _short(step: int) -> str:
    for size, unit in ((1_000_000, 'M'), (1_000, 'k')):
        if abs(step) >= size:
            return f'{step / size:.4g}{unit}'
    return str(step)


def _f(value: float) -> str:
    return f'{value:.1f}'.removesuffix('.0')


def _thinned(points: Points) -> Points:
    """Returns a curve with the lowest and the highest point of each stretch, so that peaks stay; the ends stay too."""
    if len(points) <= _MOST_POINTS:
        return points
    length = -(-len(points) * 2 // _MOST_POINTS)
    kept = {0: points[0], len(points) - 1: points[-1]}
    for begin in range(0, len(points), length):
        stretch = range(begin, min(begin + length, len(points)))
        for i in (min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])):
            kept[i] = points[i]
    return [kept[i] for i in sorted(kept)]


def _cells(panel: Panel, last: int) -> list[tuple[float, float, dict[str, tuple[int, float]]]]:
    """Cuts the steps into stretches: (begin, end, {set: its last point there})."""
    steps = sorted({step for points in panel.values() for step, _ in points})
    length = -(-len(steps) // _MOST_CELLS)
    chunks = [steps[i:i + length] for i in range(0, len(steps), length)]
    number = {step: i for i, chunk in enumerate(chunks) for step in chunk}
    found: list[dict[str, tuple[int, float]]] = [{} for _ in chunks]
    for group, points in panel.items():
        for step, value in points:
            found[number[step]][group] = (step, value)
    edges = [0, *((a[-1] + b[0]) / 2 for a, b in zip(chunks, chunks[1:])), last]
    return list(zip(edges, edges[1:], found))
