"""Layer-wise pretraining, all phases and seeds: where the figures of experiments/mnist_pretraining.py come from.

    python benchmarks/layerwise.py --seeds 0 1 2 --runs runs/layerwise -- --config.data.data_dir=DIR

Every seed has its own 1,000 labels, digits 1000 * seed on. Prints, for each way of learning from them, the error on the
test digits of every seed, their mean and standard deviation, and the processor seconds of the phases. Finished phases
are not run again, so an interrupted series goes on where it was.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = 'experiments/mnist_pretraining.py'
PHASES = ('layer1', 'layer2', 'layer3', 'fine_tuned')  # each from where the one before ended
WAYS = ('fine_tuned', 'scratch', 'scratch_relu')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--runs', type=Path, default=Path('runs/layerwise'))
    ours, rest = sys.argv[1:], []
    if '--' in ours:
        ours, rest = ours[:ours.index('--')], ours[ours.index('--') + 1:]
    args = parser.parse_args(ours)
    for seed in args.seeds:
        folder = (args.runs / f'seed{seed}').absolute()
        labels = f'--config.data.train=train[{1000 * seed}:{1000 * seed + 1000}]'
        for before, phase in zip((None, *PHASES), PHASES):
            start = [f'--config.init_from.workdir={folder / before}'] if before else []
            run(phase, seed, folder, [*start, *([labels] if phase == 'fine_tuned' else []), *rest])
        for way in ('scratch', 'scratch_relu'):
            run(way, seed, folder, [labels, *rest])
    for way in WAYS:
        errors = [100 * (1 - read(args.runs / f'seed{seed}' / way)['metrics']['test/accuracy']) for seed in args.seeds]
        spread = statistics.stdev(errors) if len(errors) > 1 else 0.0
        print(f"{way:13} test error {statistics.mean(errors):5.2f} % ± {spread:.2f}   "
              f"({', '.join(f'{error:.2f}' for error in errors)})")


def run(phase: str, seed: int, folder: Path, arguments: list[str]) -> None:
    """Trains one phase, unless it is done, and says what it cost."""
    workdir = folder / phase
    if (workdir / 'result.json').is_file():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    spec = EXPERIMENT if phase == 'layer1' else f'{EXPERIMENT}:{phase}'
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (workdir / 'console.log').open('w') as log:
        subprocess.run([sys.executable, 'launch.py', '--config', spec, '--workdir', workdir, f'--config.seed={seed}',
                        *arguments], cwd=ROOT, stdout=log, stderr=log, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f'seed {seed}  {phase:12}  {seconds:.0f} processor seconds', flush=True)


def read(workdir: Path) -> dict:
    """Returns the result of a finished run."""
    return json.loads((workdir / 'result.json').read_text())


if __name__ == '__main__':
    main()
