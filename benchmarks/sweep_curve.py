"""Draws a metric of the runs of sweeps over one field of their configs, mean and standard deviation over seeds.

    python benchmarks/sweep_curve.py sweeps/mnist_lenet-sizes --field data.train --output docs/results/mnist_sizes.png
    python benchmarks/sweep_curve.py sweeps/sgd sweeps/adam --field optimizer.learning_rate --by optimizer.name \
        --output docs/results/digits_rates.png

Of a field that is a text, 'train[:300]', the last number in it counts. Prints the table that is drawn, as Markdown.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import launch  # noqa: F401  makes `practicum` importable
import practicum
from practicum.common.console import format_metric

Points = dict[float, list[float]]  # value of the field -> metric of every run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sweeps', nargs='+')
    parser.add_argument('--field', required=True)
    parser.add_argument('--by', default='', help='field with a curve for each of its values')
    parser.add_argument('--metric', default='validation/accuracy')
    parser.add_argument('--label', default='', help='of the horizontal axis; the field by default')
    parser.add_argument('--output', type=Path, required=True)
    args = parser.parse_args()
    curves = collect(practicum.compare(args.sweeps, [args.metric]), args.field, args.by, args.metric)
    print(table(curves, args.metric, args.label or args.field))
    draw(curves, args.metric, args.label or args.field, args.output)


def collect(rows: Sequence[Mapping[str, Any]], field: str, by: str, metric: str) -> dict[str, Points]:
    """Returns the points of every curve, in the order of the field's values; runs that came to their ends."""
    curves: dict[str, Points] = {}
    for row in rows:
        if row['state'] == 'finished' and row.get(metric) is not None:
            points = curves.setdefault(str(row[by]) if by else '', {})
            points.setdefault(_number(row[field]), []).append(row[metric])
    return {name: dict(sorted(points.items())) for name, points in sorted(curves.items())}


def table(curves: Mapping[str, Points], metric: str, label: str) -> str:
    """Returns the curves as Markdown: a row for each value of the field."""
    lines = ['| ' + ' | '.join([label, *(f'{name} {metric}'.strip() for name in curves)]) + ' |',
             '|---' * (1 + len(curves)) + '|']
    for x in sorted({x for points in curves.values() for x in points}):
        cells = [f'{format_metric(metric, statistics.fmean(values))} ± {format_metric(metric, _spread(values))}'
                 if (values := points.get(x)) else '' for points in curves.values()]
        lines.append(f'| {x:,g} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def draw(curves: Mapping[str, Points], metric: str, label: str, output: Path) -> None:
    """Writes the picture: means joined by lines, every run as a dot."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(6, 3.6), layout='constrained')
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), ('#1f6fb4', '#d1620f', '#22865b', '#8b4fb0')):
        axes.plot(list(points), [statistics.fmean(values) for values in points.values()], color=colour, label=name)
        pairs = [(x, value) for x, values in points.items() for value in values]
        axes.plot(*zip(*pairs), 'o', color=colour, markersize=4, alpha=0.5)
    axes.set(xscale='log', xlabel=label, ylabel=metric)
    axes.yaxis.set_major_formatter(lambda value, _: format_metric(metric, value))
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False)
    figure.savefig(output, dpi=130)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float(re.findall(r'\d+', str(value))[-1])


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == '__main__':
    main()
