"""Charts of a comparison as SVG for inside a page: learning curves, importances, parallel coordinates.

The page colours them: of a few runs each has a colour, of many the colour tells the rank. Text in them is escaped.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from ..common.console import format_metric
from ..common.errors import shortened
from ..training.learning_curves import is_number
from .comparison import Comparison, Entry
from .comparison_text import field_texts, short_names, shown_fields
from .config_fields import identity
from .scales import Scale, scale_of, tick_text

_WIDTH = 960  # of a chart, in its own units; about pixels
_FEW = 7  # so many runs have colours of their own
_SHADES = 6  # of many runs: classes s0 to s5, and 'top' of the best
_MOST_RUNS = 60  # that are drawn
_MOST_POINTS = 200  # of a curve
_DOTS = 25  # a curve of up to so many points shows them, if there are few runs
_MOST_AXES = 9  # of parallel coordinates, without that of the metric
_MOST_CATEGORIES = 12  # of an axis


def drawn_entries(comparison: Comparison) -> tuple[list[Entry], bool]:
    """Returns the runs that charts show, the best first, and whether they are all that have the metric.

    Of very many a third are the best ones, the others are at equal distances of rank.
    """
    entries = [entry for entry in comparison.entries if entry.value(comparison.metric) is not None]
    best = _MOST_RUNS // 3
    if len(entries) <= _MOST_RUNS:
        return entries, True
    rest = entries[best:]
    count = _MOST_RUNS - best
    return entries[:best] + [rest[round(i * (len(rest) - 1) / (count - 1))] for i in range(count)], False


def colour_classes(entries: Sequence[Entry]) -> list[str]:
    """Returns the class of the colour of every drawn run, see comparison.html."""
    if len(entries) <= _FEW:
        return [f'c{i + 1}' for i in range(len(entries))]
    return ['top'] + [f's{i * _SHADES // len(entries)}' for i in range(1, len(entries))]


def draw_curves(comparison: Comparison, entries: Sequence[Entry]) -> Markup | None:
    """Draws the metric over steps, a line for each run; None where there is nothing to draw."""
    metric = comparison.metric
    curves = [_thinned(entry.curve(metric)) for entry in entries]
    points = [point for curve in curves for point in curve]
    if not points:
        return None
    left, right, top, bottom, height = 70, 16, 12, 44, 400
    x_scale = Scale(0, max(1, *(step for step, _ in points)))
    y_scale = _metric_scale(metric, [value for _, value in points])

    def place(step: float, value: float) -> tuple[float, float]:
        return (left + (_WIDTH - left - right) * x_scale.place(step),
                height - bottom - (height - top - bottom) * y_scale.place(value))
    parts = []
    for value in y_scale.ticks():
        y = place(0, value)[1]
        parts += [Markup('<line class="grid stroke" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"></line>').format(
            left, _WIDTH - right, y, y), _text(left - 8, y + 4, tick_text(value, metric), 'end')]
    parts += [_text(place(step, y_scale.low)[0], height - bottom + 18, tick_text(step), 'middle')
              for step in x_scale.ticks(8) if step == int(step)]
    parts.append(_text((left + _WIDTH - right) / 2, height - 4, 'step', 'middle'))
    lines = list(zip(entries, colour_classes(entries), curves))
    dotted = len(entries) <= _FEW and max(map(len, curves)) <= _DOTS
    for i, (entry, colour, curve) in reversed(list(enumerate(lines))):
        if curve:
            places = [place(*point) for point in curve]
            label = f'{entry.name}: {format_metric(metric, curve[-1][1])} at step {curve[-1][0]:,} ({entry.state})'
            parts.append(_line(comparison, entry, colour, places, label, best=i == 0,
                               dots=dotted or len(curve) == 1))
    return _svg(height, f'{metric} over steps of {len(entries)} runs', parts)


def draw_importances(shares: Mapping[str, float]) -> Markup:
    """Draws the importance of fields as bars."""
    left, row = 260, 28
    parts = []
    for i, (name, share) in enumerate(list(shares.items())[:20]):
        y = i * row
        width = max(1.0, (_WIDTH - left - 70) * share)
        parts += [_text(left - 10, y + 18, shortened(name, 36), 'end', 'name'),
                  Markup('<rect class="c1 fill" x="{}" y="{}" width="{:.1f}" height="16" rx="2"></rect>').format(
                      left, y + 5, width), _text(left + width + 8, y + 18, f'{100 * share:.0f} %', 'start')]
    return _svg(row * min(20, len(shares)) + 4, 'importance of config fields', parts)


def draw_parallel(comparison: Comparison, entries: Sequence[Entry]) -> tuple[Markup | None, list[str]]:
    """Draws a line for each run through its values of the fields that differ, and its metric.

    Returns:
      The chart, None where no field can be drawn; and the names of fields that were left out, since they have too many
      values that are no numbers, or since there are too many fields.
    """
    fields = shown_fields(comparison) if len(entries) > 1 else []
    axes = {name: axis for name in fields if (axis := _axis(entries, name)) is not None}
    kept = list(axes)[:_MOST_AXES]
    if not kept:
        return None, []
    left, right, top, bottom, height = 90, 90, 34, 24, 380
    names = short_names(kept)
    metric_scale = _metric_scale(comparison.metric, [entry.value(comparison.metric) or 0.0 for entry in entries])
    columns = [(names[name], *axes[name]) for name in kept]
    metric = comparison.metric
    columns.append((metric, [metric_scale.place(entry.value(metric) or 0.0) for entry in entries],
                    [(metric_scale.place(value), tick_text(value, metric)) for value in metric_scale.ticks()]))
    xs = [left + i * (_WIDTH - left - right) / (len(columns) - 1) for i in range(len(columns))]

    def y_of(share: float) -> float:
        return height - bottom - share * (height - top - bottom)
    parts = [Markup('<line class="ink stroke" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"></line>').format(
        x, x, y_of(0), y_of(1)) for x in xs]
    for i, (entry, colour) in reversed(list(enumerate(zip(entries, colour_classes(entries))))):
        places = [(x, y_of(column[1][i])) for x, column in zip(xs, columns)]
        label = f'{entry.name}: {format_metric(comparison.metric, entry.value(comparison.metric))}'
        parts.append(_line(comparison, entry, colour, places, label, best=i == 0))
    for number, (x, (name, _, ticks)) in enumerate(zip(xs, columns)):
        room = int((xs[1] - xs[0]) / 6.5)
        last = number == len(xs) - 1
        parts.append(_text(x, 16 if not number % 2 or len(xs) < 7 else 28, shortened(name, max(12, room)), 'middle',
                           'name'))
        beside, anchor = (7, 'start') if last else (-7, 'end')
        parts += [_text(x + beside, y_of(share) + 4, shortened(text, 16), anchor, 'halo') for share, text in ticks]
    return _svg(height, 'parallel coordinates', parts), [name for name in fields if name not in kept]


def _axis(entries: Sequence[Entry], name: str) -> tuple[list[float], list[tuple[float, str]]] | None:
    """Returns where every run lies on the axis of a field, in [0, 1], and the marks; None where it is of no use."""
    values = [entry.config.get(name) for entry in entries]
    if all(is_number(value) for value in values):
        scale = scale_of([float(value) for value in values])  # type: ignore[arg-type]
        few = sorted(set(map(float, values)))  # type: ignore[arg-type]
        ticks = few if len(few) <= 5 else sorted({scale.low, *_apart(scale), scale.high})
        return ([scale.place(float(value)) for value in values],  # type: ignore[arg-type]
                [(scale.place(tick), f'{tick:.3g}') for tick in ticks]) if len(few) > 1 else None
    texts = field_texts(entries, name)
    keys = [identity(value) for value in values]
    order = {key: text for text, key in sorted(zip(texts, keys), key=lambda pair: pair[0])}
    if not 1 < len(order) <= _MOST_CATEGORIES:
        return None
    share = {key: i / (len(order) - 1) for i, key in enumerate(order)}
    return [share[key] for key in keys], [(share[key], text) for key, text in order.items()]


def _apart(scale: Scale) -> list[float]:
    """Returns round values between the ends of an axis and not too near to them."""
    return [tick for tick in scale.ticks(4) if 0.08 < scale.place(tick) < 0.92]


def _thinned(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Returns a curve, of very many points some and the last."""
    return curve if len(curve) <= _MOST_POINTS else [*curve[:-1:-(-len(curve) // _MOST_POINTS)], curve[-1]]


def _metric_scale(metric: str, values: Sequence[float]) -> Scale:
    """Returns the axis of a metric, with some room at its ends; logarithmic only for losses and perplexities."""
    scale = scale_of(values) if 'loss' in metric or 'perplexity' in metric else Scale(min(values), max(values))
    if scale.log:
        return scale
    margin = 0.03 * (scale.high - scale.low) or 0.05 * abs(scale.high) or 1.0
    return Scale(scale.low - margin, scale.high + margin)


def _line(comparison: Comparison, entry: Entry, colour: str, places: Sequence[tuple[float, float]], label: str, *,
          best: bool, dots: bool = False) -> Markup:
    """Returns a run's line, with a wide invisible one to point at."""
    path = 'M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in places)
    number = comparison.entries.index(entry)
    marks = Markup().join(Markup('<circle class="fill" cx="{:.1f}" cy="{:.1f}" r="{}"></circle>').format(
        x, y, 4 if len(places) == 1 else 2.2) for x, y in places) if dots else Markup()
    return Markup('<g class="run {}{}" data-run="{}"><title>{}</title><path class="hit" d="{}"></path>'
                  '<path class="stroke" d="{}"></path>{}</g>').format(
                      colour, ' best' if best else '', number, label, path, path, marks)


def _text(x: float, y: float, text: str, anchor: str, class_: str = 'label') -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        class_, x, y, anchor, text)


def _svg(height: int, label: str, parts: Sequence[Any]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, height, label, Markup('\n').join(map(escape, parts)))
