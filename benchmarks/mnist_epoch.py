"""Whole epochs of LeNet on MNIST, input and evaluation included: this codebase against PyTorch and Keras.

    python benchmarks/mnist_epoch.py --data_dir DIR --baseline_python PYTHON

DIR is a tfds data_dir with MNIST, PYTHON an interpreter of an environment with benchmarks/requirements.txt. All train
the same network with Adam at 0.001 and batch 64 on 60,000 digits and evaluate on the 10,000 test digits after each
epoch, in processes that alternate. An epoch's time covers input, training, evaluation and, for us, checkpoint and
metrics; the first epoch, which compiles, is reported apart. Prints medians over the rounds, and ratios to PyTorch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`

EXAMPLES = 60_000


def write_npz(data_dir: str, path: Path) -> None:
    """Writes MNIST as the baselines read it."""
    import numpy as np

    from practicum.input_pipeline import sources
    from practicum.training import config as config_lib
    config = config_lib.load('mnist_lenet', [f'data.data_dir={data_dir}'])
    arrays = {}
    for split in ('train', 'test'):
        source = sources.open_split(config.data, config.image, split)
        arrays |= {f'{split}_images': source.arrays['image'], f'{split}_labels': source.arrays['label']}
    np.savez(path, **arrays)


def ours(data_dir: str, epochs: int) -> dict:
    """Trains with launch.py and returns what the baselines print."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f'data.data_dir={data_dir}', f'total={epochs} epochs', 'data.train=train',
                     "evaluation.periodic=('test',)", 'evaluation.final=()', 'checkpoint.best_metric=test/accuracy',
                     'log_every=500 steps', 'optimizer.name=adam', 'optimizer.weight_decay=0',
                     'optimizer.learning_rate=0.001', 'schedule.name=constant', 'schedule.warmup=']
        subprocess.run([sys.executable, 'launch.py', '--config', 'mnist_lenet', '--workdir', folder,
                        *(f'--config.{override}' for override in overrides)], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL, env={**os.environ})
        rows = [json.loads(line) for line in (Path(folder) / 'metrics.jsonl').read_text().splitlines()]
    ends = [(0.0, 0.0)] + [(row['timings']['wall_seconds'], row['test/accuracy']) for row in rows if 'test/loss' in row]
    seconds = [(b[0] - a[0], b[1]) for a, b in zip(ends, ends[1:])]
    waits = [row['timings']['data_wait_share'] for row in rows if 'train/loss' in row][1:]
    return {'framework': 'ours', 'data_wait_share': statistics.mean(waits),
            'epochs': [{'seconds': s, 'examples_per_second': EXAMPLES / s, 'test_accuracy': a} for s, a in seconds]}


def baseline(python: str, script: str, npz: Path, epochs: int) -> dict:
    done = subprocess.run([python, ROOT / 'benchmarks' / 'baselines' / script, '--data', npz, '--batch', '64',
                           '--epochs', str(epochs)], capture_output=True, text=True, check=True)
    return json.loads([line for line in done.stdout.splitlines() if line.startswith('{')][-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data_dir', required=True)
    parser.add_argument('--baseline_python', required=True)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        npz = Path(folder) / 'mnist.npz'
        write_npz(args.data_dir, npz)
        runners = {'ours': lambda: ours(args.data_dir, args.epochs),
                   'PyTorch': lambda: baseline(args.baseline_python, 'lenet_torch.py', npz, args.epochs),
                   'Keras': lambda: baseline(args.baseline_python, 'lenet_keras.py', npz, args.epochs)}
        results = {name: [] for name in runners}
        for number in range(args.rounds):
            for name in (runners if number % 2 == 0 else reversed(runners)):
                results[name].append(runners[name]())
                print(name, [round(epoch['examples_per_second']) for epoch in results[name][-1]['epochs']], flush=True)
    steady = {name: statistics.median(epoch['examples_per_second'] for run in runs for epoch in run['epochs'][1:])
              for name, runs in results.items()}
    first = {name: statistics.median(run['epochs'][0]['examples_per_second'] for run in runs)
             for name, runs in results.items()}
    print('\n| | images/s | ratio to PyTorch | first epoch images/s | test accuracy |\n|---|---|---|---|---|')
    for name, runs in results.items():
        accuracy = statistics.mean(run['epochs'][-1]['test_accuracy'] for run in runs)
        print(f"| {name} | {steady[name]:,.0f} | {steady[name] / steady['PyTorch']:.2f} | {first[name]:,.0f} | "
              f'{100 * accuracy:.2f} % |')
    print(f"\ndata wait share of ours: {100 * statistics.median(r['data_wait_share'] for r in results['ours']):.2f} %")


if __name__ == '__main__':
    main()
