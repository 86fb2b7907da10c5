"""How long launch.py compare takes over many runs, as a fresh process, imports included.

    python benchmarks/compare_runs.py [--runs 200]

Makes small folders of runs: four in five finished, the others in the middle, with so many rows of metrics each. Prints
medians, wall and processor seconds, for the table on the console, as CSV, and as a page. `--help` is what any command
takes.
"""

import argparse
import copy
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import launch  # noqa: F401  the checkout becomes the package `practicum`
from practicum.training.defaults import base


def make_runs(folder: Path, runs: int, windows: int) -> None:
    """Writes folders of runs as training does: rows of training, an evaluation after every tenth, a result."""
    draw = random.Random(0)
    config = json.loads(json.dumps(base().to_dict()))
    for number in range(runs):
        workdir = folder / f'{number:04}'
        workdir.mkdir(parents=True)
        own = copy.deepcopy(config)
        own['optimizer']['learning_rate'] = 10 ** draw.uniform(-4, -1)
        own['optimizer']['name'] = draw.choice(['adam', 'sgd'])
        own['batch_size'] = draw.choice([32, 64, 128])
        own['seed'] = number % 4
        is_finished = number % 5 != 4
        rows = []
        for i in range(1, windows + 1 if is_finished else windows // 2):
            rows.append({'step': 100 * i, 'train/loss': 2 / i, 'train/accuracy': 1 - 1 / i, 'train/gradient_norm': 0.98,
                         'train/learning_rate': 0.001, 'timings': {
                             'steps_per_second': 74.1, 'examples_per_second': 4738.2, 'data_wait_share': 0.01,
                             'wall_seconds': 1.3 * i, 'eta_seconds': 9.9}})
            if i % 10 == 0:
                metrics = {f'{name}/{metric}': draw.uniform(0.8, 1.0) for name in ('validation', 'test')
                           for metric in ('loss', 'accuracy', 'calibration_error', 'top5_accuracy', 'auc')}
                rows.append({'step': 100 * i, **metrics, 'timings': {'wall_seconds': 1.3 * i}})
        (workdir / 'config.json').write_text(json.dumps(own, indent=2))
        (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
        if is_finished:
            (workdir / 'result.json').write_text(json.dumps({
                'experiment': 'made', 'seed': own['seed'], 'step': 100 * windows, 'wall_seconds': 1.3 * windows,
                'examples_per_second': 4738.2, 'metrics': metrics, 'best': None}))


def start(*arguments: str) -> tuple[float, float]:
    """Returns wall and processor seconds of launch.py."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / 'launch.py'), *arguments], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, 'COLUMNS': '120'})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - begin, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=200)
    parser.add_argument('--windows', type=int, default=200, help='rows of training in every metrics.jsonl')
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder) / 'runs', args.runs, args.windows)
        compare = ('compare', f'{folder}/runs')
        kinds = {'--help': ('--help',), 'console': compare, 'csv': (*compare, '--output', f'{folder}/t.csv'),
                 'html': (*compare, '--output', f'{folder}/t.html')}
        times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(args.rounds):
            for kind, arguments in kinds.items():
                times[kind].append(start(*arguments))
    for kind, pairs in times.items():
        wall, cpu = (statistics.median(values) for values in zip(*pairs))
        print(f'{kind:8} {wall:6.2f} s wall {cpu:6.2f} s processor')


if __name__ == '__main__':
    main()
