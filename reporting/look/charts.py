"""Charts of a data set as SVG for inside a page, which colours them; numbers are tooltips."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from ..scales import Scale, tick_text

_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 14, 14, 10, 26
_RADIUS = 3


def bar(share: float) -> Markup:
    """Returns a bar of a share of the width of its cell."""
    return Markup('<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
                  '<rect class="fill c1" x="0" y="0" width="{:.2f}" height="10"></rect></svg>').format(
                      max(0.5, 100 * share) if share > 0 else 0)


def spark(counts: Sequence[int]) -> Markup:
    """Returns a small histogram for a cell of a table."""
    highest = max([*counts, 1])
    bars = Markup().join(Markup('<rect class="fill c1" x="{}" y="{:.2f}" width="3.4" height="{:.2f}"></rect>').format(
        4 * i, 20 - 20 * count / highest, 20 * count / highest) for i, count in enumerate(counts))
    return Markup('<svg class="spark" viewBox="0 0 {} 20" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
                  ).format(4 * len(counts), bars)


def histogram(values: Sequence[float], label: str, *, unit: str = '', mark: float | None = None, bins: int = 30
              ) -> Markup:
    """Draws how values are distributed.

    Args:
      values: at least one.
      label: what they are, for those who do not see it.
      unit: of the values, for tooltips.
      mark: a value that is marked on the axis.
      bins: at most so many; of few whole numbers one for each.
    """
    numbers = np.asarray(values, np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    whole = bool((numbers == np.round(numbers)).all())
    if mark is not None:
        low, high = min(low, mark), max(high, mark)
    if whole:
        step = max(1, -(-int(high - low + 1) // bins))
        edges = np.arange(low - 0.5, high + 0.5 + step, step)
    else:
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts = np.histogram(numbers, edges)[0]
    texts = []
    for begin, end, count in zip(edges, edges[1:], counts):
        first, last = (int(begin + 0.5), int(end - 0.5)) if whole else (begin, end)
        span = f'{first:,.6g}' if first == last else f'{first:,.6g} to {last:,.6g}'
        texts.append(f'{span}{unit}: {count:,}')
    return _bars(Scale(float(edges[0]), float(edges[-1])), counts, texts, label, mark)


def _bars(scale: Scale, counts: np.ndarray, texts: Sequence[str], label: str, mark: float | None) -> Markup:
    wide = (_WIDTH - _LEFT - _RIGHT) / len(counts)
    high = _HEIGHT - _TOP - _BOTTOM
    parts = []
    for i, (count, text) in enumerate(zip(counts.tolist(), texts)):
        tall = high * count / max(1, int(counts.max()))
        parts.append(Markup('<g><title>{}</title><rect class="fill c1" x="{:.2f}" y="{:.2f}" width="{:.2f}" '
                            'height="{:.2f}"></rect></g>').format(
                                text, _LEFT + i * wide, _TOP + high - tall, max(0.5, wide - min(1, wide / 6)), tall))
    if mark is not None:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * scale.place(mark)
        parts.append(Markup('<line class="stroke c2" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"></line>').format(
            x, _TOP, _TOP + high))
    return _svg(label, [*parts, *_axis(scale)])


def lines(histograms: np.ndarray, scale: Scale, classes: Sequence[str], label: str) -> Markup:
    """Draws histograms of several channels as outlines, int [channels, bins]."""
    high, wide = _HEIGHT - _TOP - _BOTTOM, _WIDTH - _LEFT - _RIGHT
    most = max(1.0, float(np.sqrt(histograms.max())))
    parts = []
    for counts, name in zip(histograms, classes):
        points = [(_LEFT + wide * i / len(counts), _TOP + high * (1 - np.sqrt(count) / most))
                  for i, count in enumerate(counts.tolist())]
        path = f'M{points[0][0]:.1f} {points[0][1]:.1f}' + ''.join(
            f'V{y:.1f}H{x + wide / len(points):.1f}' for x, y in points)
        area = f'{path}V{_TOP + high}H{_LEFT}Z'
        parts.append(Markup('<path class="area fill {0}" d="{1}"></path><path class="outline stroke {0}" d="{2}">'
                            '</path>').format(name, area, path))
    return _svg(label, [*parts, *_axis(scale)])


def scatter(points: np.ndarray, classes: np.ndarray, label: str, names: tuple[str, str]) -> Markup:
    """Draws points, float [n, 2], in the colours of their classes, int [n]; names: of the two axes."""
    scales = [Scale(*_with_margin(points[:, axis])) for axis in (0, 1)]
    left = 52
    parts = []
    for value in scales[1].ticks(4):
        y = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - scales[1].place(value))
        parts += [Markup('<line class="stroke grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"></line>').format(
            left, _WIDTH - _RIGHT, y, y), _text(left - 6, y + 4, tick_text(value), 'end')]
    for (x, y), kind in zip(points.tolist(), classes.tolist()):
        parts.append(Markup('<g><title>{}</title><circle class="fill c{}" cx="{:.1f}" cy="{:.1f}" r="{}"></circle></g>'
                            ).format(f'{names[0]} {x:.4g}, {names[1]} {y:.4g}', 1 + int(kind) % 7,
                                     left + (_WIDTH - left - _RIGHT) * scales[0].place(x),
                                     _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - scales[1].place(y)), _RADIUS))
    return _svg(label, [*parts, *_axis(scales[0], left)])


def legend(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (class, colour) pairs of a scatter plot."""
    return [(name, f'c{1 + i % 7}') for i, name in enumerate(names)]


def channel_colours(count: int) -> Mapping[int, str]:
    """Returns the colour of each channel: red, green and blue of three, grey of one."""
    return dict(enumerate(('c5', 'c3', 'c1') if count == 3 else ('ink',) if count == 1 else
                          [f'c{1 + i % 7}' for i in range(count)]))


def _with_margin(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _axis(scale: Scale, left: int = _LEFT) -> list[Markup]:
    base, wide = _HEIGHT - _BOTTOM, _WIDTH - left - _RIGHT
    parts = [Markup('<line class="stroke grid" x1="{}" x2="{}" y1="{}" y2="{}"></line>').format(
        left, left + wide, base, base)]
    return parts + [_text(left + wide * scale.place(value), base + 18, tick_text(value), 'middle')
                    for value in scale.ticks(6)]


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _svg(label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, label, Markup('').join(parts))
