"""Learning curves as SVG for inside a page: matplotlib draws them, the page colours them, numbers are tooltips."""

import io
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from ..common.console import format_metric
from ..training.learning_curves import COLOURS, GRID, INK, Panel, collect, colours, draw_panel, plain

_ELEMENTS = {'svg', 'g', 'path', 'defs', 'use', 'text', 'title'}  # what else matplotlib writes is left out
_ATTRIBUTES = {'d', 'x', 'y', 'transform', 'viewBox', 'fill', 'stroke', 'stroke-width', 'stroke-linecap',
               'stroke-linejoin', 'opacity', 'text-anchor', 'font-size'}
_CLASSES = {**{colour: f'c{i}' for i, colour in enumerate(COLOURS)}, INK: 'ink', GRID: 'grid'}  # see page.css
_MOST_TOOLTIPS = 80  # of a panel


def draw_curves(rows: Sequence[Mapping[str, Any]], primary_metric: str = '') -> dict[str, Any]:
    """Draws metrics over steps, a panel for each.

    Args:
      rows: of metrics.jsonl, in the order of their steps.
      primary_metric: the task's.

    Returns:
      'legend': (set, class of its colour) pairs; 'panels': (name, SVG) pairs; 'constant': name -> value of metrics
      that never change.
    """
    panels, constant = collect(rows, primary_metric)
    colour_of = colours(panels)
    return {'legend': [(group, _CLASSES[colour]) for group, colour in colour_of.items()], 'constant': constant,
            'panels': [(plain(name), _panel(f'p{i}-', name, panel, colour_of, rows[-1]['step']))
                       for i, (name, panel) in enumerate(panels.items())]}


def _panel(prefix: str, name: str, panel: Panel, colour_of: Mapping[str, str], last: int) -> Markup:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    tooltips = _tooltips(name, panel, last)
    buffer = io.StringIO()
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'practicum', 'path.simplify_threshold': 0.5}):
        figure = Figure(figsize=(3.9, 2.4))
        axes = figure.add_axes((0.16, 0.2, 0.81, 0.75))
        draw_panel(axes, name, panel, colour_of, last)
        for i, (begin, end, _) in enumerate(tooltips):
            axes.axvspan(begin, end, facecolor=GRID, gid=f'tooltip-{i}', clip_on=False)
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    ends = ', '.join(f'{group} ends at {format_metric(name, points[-1][1])}' for group, points in panel.items())
    root = _cleaned(ElementTree.fromstring(buffer.getvalue()), prefix, [text for _, _, text in tooltips])
    root.attrib |= {'role': 'img', 'aria-label': f'{plain(name)} over steps: {ends}'}
    return Markup(ElementTree.tostring(root, encoding='unicode', short_empty_elements=False))


def _cleaned(element: ElementTree.Element, prefix: str, tooltips: Sequence[str]) -> ElementTree.Element:
    """Returns an element of matplotlib's as HTML has it: known parts only, classes for colours, ids of its own."""
    style = dict(part.strip().split(': ', 1) for part in element.get('style', '').split(';') if ': ' in part)
    if 'font' in style:  # '9px DejaVu Sans'
        style['font-size'] = style['font'].split()[0]
    found = style | {key.rpartition('}')[2]: value for key, value in element.attrib.items()}
    clean = ElementTree.Element(element.tag.rpartition('}')[2],
                                {key: value for key, value in found.items() if key in _ATTRIBUTES})
    for key in ('fill', 'stroke'):
        if (name := _CLASSES.get(clean.get(key, ''))):  # what has both has one colour
            clean.set('class', f"{clean.get('class', name)} {key}")
    if (target := found.get('href', '')).startswith('#'):
        clean.set('href', f'#{prefix}{target[1:]}')
    identity = found.get('id', '')
    if identity and clean.tag == 'path':  # a marker, which is used by its id
        clean.set('id', prefix + identity)
    if identity.startswith('tooltip-'):
        clean.set('class', 'tooltip')
        ElementTree.SubElement(clean, 'title').text = tooltips[int(identity.removeprefix('tooltip-'))]
    clean.text = element.text if clean.tag == 'text' else None
    clean.extend(_cleaned(child, prefix, tooltips) for child in element
                 if isinstance(child.tag, str) and child.tag.rpartition('}')[2] in _ELEMENTS)
    return clean


def _tooltips(name: str, panel: Panel, last: int) -> list[tuple[float, float, str]]:
    """Cuts the steps into stretches: (begin, end, each set's last value there)."""
    steps = sorted({step for points in panel.values() for step, _ in points})
    length = -(-len(steps) // _MOST_TOOLTIPS)
    chunks = [steps[i:i + length] for i in range(0, len(steps), length)]
    number = {step: i for i, chunk in enumerate(chunks) for step in chunk}
    texts: list[dict[str, str]] = [{} for _ in chunks]
    for group, points in panel.items():
        for step, value in points:
            texts[number[step]][group] = f'{group}, step {step:,}: {format_metric(name, value)}'
    edges = [0, *((a[-1] + b[0]) / 2 for a, b in zip(chunks, chunks[1:])), max(1, last)]
    return [(begin, end, '\n'.join(text.values())) for begin, end, text in zip(edges, edges[1:], texts)]
