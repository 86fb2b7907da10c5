"""Runs an experiment once per seed and prints the mean of its metrics: where the numbers of docs/results come from.

    python benchmarks/seeds.py mnist_lenet:small --seeds 0 1 2 --runs runs -- --config.data.data_dir=DIR

Finished runs are not run again, so an interrupted series goes on where it was.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('experiments', nargs='+')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--runs', type=Path, default=Path('runs'))
    ours, rest = sys.argv[1:], []
    if '--' in ours:
        ours, rest = ours[:ours.index('--')], ours[ours.index('--') + 1:]
    args = parser.parse_args(ours)
    for experiment in args.experiments:
        results = [run(experiment, seed, args.runs, rest) for seed in args.seeds]
        print(json.dumps(summary(experiment, results)), flush=True)


def run(experiment: str, seed: int, runs: Path, rest: list[str]) -> dict:
    """Returns the result.json of one seed."""
    workdir = runs / f"{experiment.replace(':', '-')}-seed{seed}"
    path = workdir / 'result.json'
    if not path.is_file():
        workdir.mkdir(parents=True, exist_ok=True)
        with (workdir / 'console.log').open('w') as log:
            subprocess.run([sys.executable, 'launch.py', '--config', experiment, '--workdir', workdir.absolute(),
                            f'--config.seed={seed}', *rest], cwd=ROOT, stdout=log, stderr=log, check=True)
    return json.loads(path.read_text())


def summary(experiment: str, results: list[dict]) -> dict:
    """Returns mean and standard deviation of every metric over the seeds, and the median times."""
    metrics = {}
    for name in results[0]['metrics']:
        values = [result['metrics'][name] for result in results]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        metrics[name] = {'mean': round(statistics.mean(values), 6), 'std': round(spread, 6)}
    return {'experiment': experiment, 'seeds': [result['seed'] for result in results], 'metrics': metrics,
            'wall_seconds': statistics.median(result['wall_seconds'] for result in results),
            'examples_per_second': statistics.median(result['examples_per_second'] for result in results)}


if __name__ == '__main__':
    main()
