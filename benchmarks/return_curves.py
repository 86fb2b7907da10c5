"""Draws a metric over the steps of runs of one experiment, one line for each, beside those of another.

    python benchmarks/return_curves.py 'runs/cartpole/seed*' 'runs/breakout/seed*' --output docs/results/returns.png

Every argument is the folders of a panel. Prints the last and the highest value of every run.
"""

import argparse
import glob
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import launch  # noqa: F401  makes `practicum` importable
from practicum.reporting.run_files import read_json
from practicum.training.learning_curves import COLOURS, plain
from practicum.training.writers import read_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('panels', nargs='+', help='patterns of folders')
    parser.add_argument('--metric', default='validation/mean_return')
    parser.add_argument('--output', type=Path, required=True)
    args = parser.parse_args()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter
    figure = Figure(figsize=(4.8 * len(args.panels), 3.4), layout='constrained', dpi=110)
    for number, pattern in enumerate(args.panels, start=1):
        axes = figure.add_subplot(1, len(args.panels), number)
        for folder, colour in zip(sorted(map(Path, glob.glob(pattern))), COLOURS[1:]):
            config = read_json(folder / 'config.json')
            points = [(row['step'], row[args.metric]) for row in read_rows(folder) if args.metric in row]
            values = [value for _, value in points]
            print(f'{folder}: last {values[-1]:.4g}, highest {max(values):.4g}')
            axes.plot(*zip(*points), color=colour, linewidth=1.4, label=f"seed {config['seed']}")
            axes.set_title(config['experiment'])
        axes.set(xlabel='step', ylabel=plain(args.metric.rpartition('/')[2]), ylim=(0, None))
        axes.xaxis.set_major_formatter(EngFormatter(sep=''))
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(args.output)


if __name__ == '__main__':
    main()
