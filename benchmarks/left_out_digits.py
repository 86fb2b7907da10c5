"""Every digit left out of training once: where the table of anomalies in docs/results/autoencoders.md comes from.

    python benchmarks/left_out_digits.py --runs runs/left_out -- --config.data.data_dir=DIR

Prints the area under the ROC curve of the squared error among all test digits, for each digit that training has not
seen. Finished runs are not run again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = 'experiments/mnist_autoencoder.py:anomaly'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--digits', type=int, nargs='+', default=list(range(10)))
    parser.add_argument('--runs', type=Path, default=Path('runs/left_out'))
    ours, rest = sys.argv[1:], []
    if '--' in ours:
        ours, rest = ours[:ours.index('--')], ours[ours.index('--') + 1:]
    args = parser.parse_args(ours)
    areas = {}
    for digit in args.digits:
        workdir = (args.runs / str(digit)).absolute()
        trained = f"(('known', ('[^{digit}]',)), ('unknown', ()))"
        tested = f"(('known', ('[^{digit}]',)), ('unknown', ('{digit}',)))"
        if not (workdir / 'result.json').is_file():
            workdir.mkdir(parents=True, exist_ok=True)
            with (workdir / 'console.log').open('w') as log:
                subprocess.run([sys.executable, 'launch.py', '--config', EXPERIMENT, '--workdir', workdir,
                                f'--config.data.merge_classes={trained}',
                                f'--config.evaluation.sets.test.data.merge_classes={tested}', *rest],
                               cwd=ROOT, stdout=log, stderr=log, check=True)
        areas[digit] = json.loads((workdir / 'result.json').read_text())['metrics']['test/auc']
        print(f'{digit}  {areas[digit]:.3f}', flush=True)
    print(f'mean  {sum(areas.values()) / len(areas):.3f}')


if __name__ == '__main__':
    main()
