"""How long a save stops the training, and what it costs in the background.

    python benchmarks/checkpoint_save.py
    python benchmarks/checkpoint_save.py --against OTHER_CHECKOUT

For LeNet's train state (431,080 parameters with Adam) and for states of 100 MB and 1 GB of random float32 on the
device, medians in milliseconds of: the blocking part, after which the next step may reuse the arrays; the whole save;
the processor time of both; and a verified restore. `orbax` is Orbax's asynchronous manager alone with the same arrays:
it saves what it is given, without checksums or a look for NaNs. With --against the same is measured in another
checkout, in turns.
"""

import argparse
import collections
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STATES = (('LeNet + Adam', 4.93, 26), ('100 MB', 100, 25), ('1 GB', 1000, 100))


def measure(root: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Returns state -> what -> milliseconds of every round, for the checkout in `root`."""
    sys.path.insert(0, root)
    import launch  # noqa: F401  a checkout becomes the package `practicum`
    from practicum.training import process
    process.prepare(training=True)
    import jax
    import numpy as np

    from practicum.training.checkpoints import Checkpoints

    generator, found = np.random.default_rng(0), {}
    for name, megabytes, leaves in STATES:
        state = jax.block_until_ready({
            f'w{i}': jax.device_put(generator.standard_normal(int(megabytes * 2**18 / leaves), np.float32))
            for i in range(leaves)})
        times = collections.defaultdict(list)
        with tempfile.TemporaryDirectory() as folder:
            for step in range(1, rounds + 2):  # the first warms up
                state = jax.block_until_ready(jax.tree.map(lambda leaf: -leaf, state))  # new: JAX keeps host copies
                with Checkpoints(Path(folder, 'ours'), writable=True) as checkpoints:
                    begin, cpu = time.perf_counter(), time.process_time()
                    checkpoints.save(step, {'params': state}, {'step': np.full((), step, np.int32)}, {})
                    blocked, blocked_cpu = time.perf_counter(), time.process_time() - cpu
                    checkpoints.wait()
                    saved, cpu = time.perf_counter(), time.process_time() - cpu
                    checkpoints.restore('last')
                    restored = time.perf_counter()
                orbax = orbax_blocks(Path(folder, 'orbax'), step, state)
                if step > 1:
                    for key, seconds in (('blocking', blocked - begin), ('blocking, CPU', blocked_cpu),
                                         ('whole', saved - begin), ('whole, CPU', cpu),
                                         ('restore', restored - saved), ('orbax blocking', orbax)):
                        times[key].append(1e3 * seconds)
        found[name] = times
    return found


def orbax_blocks(folder: Path, step: int, state: dict) -> float:
    """Returns for how many seconds Orbax's asynchronous manager blocks."""
    import orbax.checkpoint as ocp
    folder.mkdir(exist_ok=True)
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=1)) as manager:
        begin = time.perf_counter()
        manager.save(step, args=ocp.args.PyTreeSave(state))
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--against', help='another checkout to measure in turns')
    parser.add_argument('--root', default=str(Path(__file__).resolve().parent.parent), help='the checkout to measure')
    parser.add_argument('--turns', type=int, default=2, help='how often each checkout is measured')
    parser.add_argument('--json', action='store_true', help='print every number')
    args = parser.parse_args()
    if args.json:
        print(json.dumps(measure(args.root, args.rounds)))
        return
    roots = {'this version': args.root} | ({'the other': args.against} if args.against else {})
    found = collections.defaultdict(list)
    for turn in range(args.turns if args.against else 1):
        for version, root in list(roots.items())[::-1 if turn % 2 else 1]:
            done = subprocess.run([sys.executable, __file__, '--json', '--root', root, '--rounds', str(args.rounds)],
                                  stdout=subprocess.PIPE, check=True, text=True)
            for name, times in json.loads(done.stdout.splitlines()[-1]).items():
                for key, values in times.items():
                    found[name, version, key] += values
    for (name, version, key), values in found.items():
        print(f'{name:14}{version:14}{key:16}{statistics.median(values):9.1f} ms')


if __name__ == '__main__':
    main()
