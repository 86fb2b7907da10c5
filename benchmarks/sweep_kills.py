"""What a sweep promises about kills, tried out many times: tests/tuning has the short versions.

    python benchmarks/sweep_kills.py random --kills 20   # SIGKILL of a worker, of its trial or of both, at random times
    python benchmarks/sweep_kills.py moments             # before every commit to the database and change of a file
    python benchmarks/sweep_kills.py begin --times 50    # two workers that begin in the same second
    python benchmarks/sweep_kills.py begin --times 20 --postgres  # on an empty database of a server, see tests/

`random` runs real trainings, of a few hundred steps of tests/tiny.py; `moments` and `begin` have tests/tuning/
stub_trial.py in their place. All compare with a sweep that nobody disturbed: numbers, parameters, states, reported
values, final metrics and best.json are the same, bit for bit.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from tests.postgres_server import PostgresServer
from tests.tuning.workers import Worker, begin, best_of, check_whole, trials_of

TRIALS = 12
REAL = ('--config.total=320 steps', '--config.evaluation.every=32 steps', '--config.checkpoint.every=32 steps',
        '--config.log_every=64 steps')


def undisturbed(workdir: Path, *words: str, stub: bool) -> tuple:
    """Returns what a sweep gives that one worker runs."""
    worker = Worker(workdir, *words, stub=stub)
    assert worker.wait(1200) == 0, worker.log
    return check_whole(workdir, TRIALS), best_of(workdir)


def children(process: int) -> list[int]:
    """Returns the processes that a process has started."""
    found = []
    for path in Path('/proc').glob('[0-9]*'):
        try:
            if int((path / 'stat').read_text().rpartition(')')[2].split()[1]) == process:
                found.append(int(path.name))
        except (OSError, ValueError):
            pass
    return found


def kill_at_random(folder: Path, kills: int, seed: int) -> None:
    """Kills at random times until there were so many, in as many sweeps as that takes."""
    words = (*begin(trials=TRIALS, sampler_seed=3, seeds=2), *REAL)
    moments, done, sweeps = random.Random(seed), {'worker': 0, 'child': 0, 'both': 0}, 0
    clock = time.monotonic()
    expected = undisturbed(folder / 'undisturbed', *words, stub=False)
    states = [trial['state'] for trial in expected[0]]
    print(f"undisturbed: {states.count('COMPLETE')} complete, {states.count('PRUNED')} pruned, "
          f'{time.monotonic() - clock:.0f} s', flush=True)
    while sum(done.values()) < kills:
        workdir = folder / f'{sweeps}'
        sweeps += 1
        worker = Worker(workdir, *words, stub=False)
        while True:
            deadline = time.monotonic() + moments.uniform(0.5, 9)
            while worker.is_alive() and time.monotonic() < deadline:
                time.sleep(0.02)
            if not worker.is_alive():
                break
            if sum(done.values()) == kills:
                assert worker.wait(1200) == 0, worker.log
                break
            found = children(worker.pid)
            victim = moments.choice(list(done)) if found and (workdir / 'sweep.json').exists() else 'worker'
            for process in ([worker.pid] if victim != 'child' else []) + (found if victim != 'worker' else []):
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            done[victim] += 1
            if victim != 'child':
                worker.wait()
                worker = Worker(workdir, *words, stub=False)
        assert worker.wait() == 0, worker.log
        same = (check_whole(workdir, TRIALS), best_of(workdir)) == expected
        print(f"sweep {sweeps}: {sum(done.values())} kills so far ({done}), "
              f"{'the same' if same else 'DIFFERENT'}, {time.monotonic() - clock:.0f} s", flush=True)
        assert same


def kill_at_every_moment(folder: Path, every: int) -> None:
    """Kills a worker before its first, second, ... commit, and change of a file, until it is not reached any more."""
    words = begin(trials=TRIALS, sampler_seed=3, seeds=2)
    expected = undisturbed(folder / 'undisturbed', *words, stub=True)
    for kind in ('commit', 'file'):
        number, tried = 1, 0
        while True:
            workdir = folder / f'{kind}{number}'
            code = Worker(workdir, *words, kill=f'{kind}:{number}').wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, f'{kind} {number}: {code}'
            worker = Worker(workdir, *words)
            assert worker.wait() == 0, worker.log
            assert (check_whole(workdir, TRIALS), best_of(workdir)) == expected, f'{kind} {number}'
            number, tried = number + every, tried + 1
        print(f'before a {kind}: killed at {tried} of {number} moments, all the same as undisturbed', flush=True)


def begin_at_once(folder: Path, times: int, server: PostgresServer | None) -> None:
    """Starts two workers on nothing, again and again."""
    words = begin(trials=4, pruner='none', storage=server.url if server else '')
    environment = {'STUB_SECONDS': '0.03', **({'PGPASSWORD': server.password} if server else {})}
    os.environ |= environment
    shares, clock = [], time.monotonic()
    for number in range(times):
        workdir = folder / f'{number}'
        if server:  # which makes all tables anew
            server.query('drop schema public cascade')
            server.query('create schema public')
        workers = [Worker(workdir, *words, log=folder / f'{number}-{i}.log') for i in (0, 1)]
        for worker in workers:
            assert worker.wait() == 0, worker.log
        check_whole(workdir, 4)
        assert all(trial['state'] == 'COMPLETE' for trial in trials_of(workdir))
        shares.append(min(worker.log.count(' done: ') for worker in workers))
    print(f'{times} of {times} without error, {time.monotonic() - clock:.0f} s; of 4 trials and the seed of the best '
          f'the busier worker left {sum(shares) / times:.1f} to the other')


def main() -> None:
    """Tries out one of the promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('random', 'moments', 'begin'))
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--times', type=int, default=50)
    parser.add_argument('--postgres', action='store_true', help='begin: in a database of a server')
    parser.add_argument('--every', type=int, default=1, help='moments: the 1st, 1 + every-th, ...')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--folder', type=Path, help='that stays; a temporary one by default')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if args.what == 'random':
            kill_at_random(folder, args.kills, args.seed)
        elif args.what == 'moments':
            kill_at_every_moment(folder, args.every)
        else:
            with PostgresServer() if args.postgres else contextlib.nullcontext() as server:
                begin_at_once(folder, args.times, server)


if __name__ == '__main__':
    main()
