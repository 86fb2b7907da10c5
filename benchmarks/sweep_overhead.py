"""What a sweep costs beside its trainings: processor time of the worker a trial.

    python benchmarks/sweep_overhead.py [--trials 20] [--postgres]

The worker runs trials of tests/tiny.py that evaluate ten times; their own processor time is not counted. Prints the
milliseconds of getrusage(RUSAGE_SELF) from the first trial's beginning to the last one's end, a trial, and those of
imports, of checking and of the database's beginning, once a worker.
"""

import argparse
import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from tests.postgres_server import PostgresServer
from tests.tuning.workers import STUB, begin

STEPS = 400


def spent() -> float:
    """Returns the seconds of processor time of this process, without its children's."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Runs a sweep in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=20)
    parser.add_argument('--postgres', action='store_true', help='trials in a database of a server, see tests/')
    parser.add_argument('--stub', action='store_true', help='with tests/tuning/stub_trial.py in place of trainings')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, \
            PostgresServer() if args.postgres else contextlib.nullcontext() as server:
        begun = spent()
        from practicum.tuning import trial, worker
        imported = spent()
        marks: list[float] = []
        claimed = worker.Worker.__call__

        def measured(*words) -> None:
            marks.append(spent())
            claimed(*words)
            marks.append(spent())
        worker.Worker.__call__ = measured
        if args.stub:
            trial._CHILD = STUB
        if server:
            os.environ['PGPASSWORD'] = server.password
        assert launch.main([
            'sweep', '--workdir', f'{folder}/sweep',
            *begin(trials=args.trials, pruner='none', seeds=0, storage=server.url if server else ''),
            f'--config.total={STEPS} steps', '--config.log_every=100 steps',
            *(f'--config.{name}.every={STEPS // 10} steps' for name in ('evaluation', 'checkpoint'))]) == 0
        ended = spent()
    print(f'{(marks[1] - marks[0]) / args.trials * 1000:.0f} ms a trial; all of the worker, imports included, '
          f'{(ended - begun) / args.trials * 1000:.0f} ms a trial; once: imports {imported - begun:.2f} s, beginning '
          f'{marks[0] - imported:.2f} s (CPU, {args.trials} trials)')


if __name__ == '__main__':
    main()
