"""The curve of experiments/transfer.py: accuracy on B over the number of layers that come from another network.

    python benchmarks/transfer_curve.py --seeds 0 1 --runs runs/transfer --output docs/results/transfer.png \
        -- data.source=folder data.name=FOLDER

Every seed has its own networks A and B, B also for twice as many epochs, and from A and B four runs for every number n
of layers: AnB (the first n of A, frozen), AnB+ (they go on learning), and the controls BnB and BnB+ (those of B).
Finished runs are not run again, so an interrupted series goes on where it was; --layers 1 2 runs a part of it. Prints
the table as Markdown, and writes the picture and, beside it, every run as a row of a csv file.
"""

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import launch  # noqa: F401  makes `practicum` importable
import practicum
from practicum.experiments import transfer

# Name of an arm -> the donor, whether its layers stay frozen, and colour.
ARMS = {'BnB': ('b', True, '#1f6fb4'), 'BnB+': ('b', False, '#7fb0dc'),
        'AnB': ('a', True, '#d1620f'), 'AnB+': ('a', False, '#22865b')}
NETWORKS = {'A': 'a0', 'B': 'b0', 'B, 40 epochs': 'b_longer0'}
ALL = range(1, 1 + len(transfer.LAYERS))
Scores = dict[tuple[str, int], list[float]]  # (arm or network, layers) -> test accuracy of every seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--layers', type=int, nargs='+', default=list(ALL))
    parser.add_argument('--runs', type=Path, default=Path('runs/transfer'))
    parser.add_argument('--output', type=Path, required=True)
    ours, overrides = sys.argv[1:], []
    if '--' in ours:
        ours, overrides = ours[:ours.index('--')], ours[ours.index('--') + 1:]
    args = parser.parse_args(ours)
    for seed in args.seeds:
        for name, config in configs(args.runs / f'seed{seed}', seed, args.layers).items():
            train(config, args.runs / f'seed{seed}' / name, overrides)
    rows = collect(args.runs, args.seeds)
    with args.output.with_suffix('.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, ('seed', 'arm', 'layers', 'test_accuracy', 'processor_seconds'))
        writer.writeheader()
        writer.writerows(rows)
    scores: Scores = {}
    for row in rows:
        scores.setdefault((row['arm'], row['layers']), []).append(row['test_accuracy'])
    print(table(scores))
    print(f"{sum(row['processor_seconds'] for row in rows):.0f} processor seconds in {len(rows)} runs")
    draw(scores, args.output)


def configs(folder: Path, seed: int, layers: Sequence[int]) -> dict:
    """Returns the folder's name and the config of every run of a seed, donors first."""
    found = {'a0': transfer.get_config(), 'b0': transfer.b(), 'b_longer0': transfer.b()}
    found['b_longer0'].total = '40 epochs'
    for config in found.values():
        config.seed = seed
    for n in layers:
        for arm, (donor, frozen, _) in ARMS.items():
            config = transfer.transferred(n, str((folder / f'{donor}0').absolute()), frozen)
            config.seed += seed
            found[arm.replace('n', str(n))] = config
    return found


def train(config, workdir: Path, overrides: Sequence[str]) -> None:
    """Trains a run, unless it is done, and says and keeps what it cost."""
    if (workdir / 'cost.json').is_file():
        return
    before = time.process_time()
    result = practicum.train(config, workdir, ['writers=()', 'figures=False', *overrides])
    seconds = time.process_time() - before
    (workdir / 'cost.json').write_text(json.dumps({'processor_seconds': round(seconds, 1)}))
    print(f"{workdir}: {result['metrics']['test/accuracy']:.4f}, {seconds:.0f} processor seconds", flush=True)


def collect(runs: Path, seeds: Sequence[int]) -> list[dict]:
    """Returns a row for every finished run."""
    rows = []
    for seed in seeds:
        for arm, n in (*((network, 0) for network in NETWORKS), *((arm, n) for arm in ARMS for n in ALL)):
            folder = runs / f'seed{seed}' / (NETWORKS.get(arm) or arm.replace('n', str(n)))
            if (folder / 'cost.json').is_file():
                accuracy = json.loads((folder / 'result.json').read_text())['metrics']['test/accuracy']
                seconds = json.loads((folder / 'cost.json').read_text())['processor_seconds']
                rows.append({'seed': seed, 'arm': arm, 'layers': n, 'test_accuracy': round(accuracy, 5),
                             'processor_seconds': seconds})
    return rows


def table(scores: Mapping[tuple[str, int], list[float]]) -> str:
    """Returns a row for every number of layers, Markdown: the mean over the seeds of every arm."""
    lines = ['| n | ' + ' | '.join(ARMS) + ' |', '|---' * (1 + len(ARMS)) + '|']
    for n in ALL:
        lines.append(f'| {n} | ' + ' | '.join(_cell(scores.get((arm, n))) for arm in ARMS) + ' |')
    return '\n'.join([*lines, '', *(f'{name}: {_cell(scores.get((name, 0)))}' for name in NETWORKS)])


def draw(scores: Mapping[tuple[str, int], list[float]], output: Path) -> None:
    """Writes the picture: the mean of every arm as a line, every run as a dot, network B as a level."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(6.4, 4), layout='constrained')
    axes = figure.subplots()
    axes.axhline(100 * statistics.fmean(scores['B', 0]), color='#6b7075', linestyle='--', linewidth=1)
    for name, marker in (('B', 'o'), ('B, 40 epochs', 'x')):
        values = [100 * value for value in scores.get((name, 0), [])]
        axes.plot([0] * len(values), values, marker, color='#6b7075', markersize=4, label=name if values else None)
    for arm, (_, frozen, colour) in ARMS.items():
        points = {n: scores[arm, n] for n in ALL if (arm, n) in scores}
        axes.plot(list(points), [100 * statistics.fmean(values) for values in points.values()], color=colour,
                  linestyle='-' if frozen else '--', linewidth=1.6, label=arm + (', frozen' if frozen else ''))
        pairs = [(n, 100 * value) for n, values in points.items() for value in values]
        axes.plot(*zip(*pairs), 'o', color=colour, markersize=3.5, alpha=0.5)
    axes.set(xlabel='n, layers that come from the other network', ylabel='test accuracy on B, %')
    axes.set_xticks([0, *ALL], ['0', *(f'{n}\n{name}' for n, name in zip(ALL, transfer.LAYERS))])
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(output, dpi=130)


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return ''
    spread = f' ± {100 * statistics.stdev(values):.1f}' if len(values) > 1 else ''
    return f'{100 * statistics.fmean(values):.1f} %{spread}'


if __name__ == '__main__':
    main()
