"""How long a save stops the training, and how long it takes in the background.

    python benchmarks/checkpoint_save.py

For LeNet's train state (431,080 parameters with Adam) and for states of 100 MB and 1 GB of random float32, medians in
milliseconds of: the blocking part (copy, check for NaN, checksums, hand-over), the whole save, and a verified restore.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training.checkpoints import Checkpoints


def random_state(megabytes: float, leaves: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {f'w{i}': generator.standard_normal(int(megabytes * 2**18 / leaves), np.float32) for i in range(leaves)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    for name, megabytes, leaves in (('LeNet + Adam', 4.93, 26), ('100 MB', 100, 25), ('1 GB', 1000, 100)):
        state = random_state(megabytes, leaves)
        times = {'blocking ms': [], 'whole ms': [], 'restore ms': []}
        with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder), writable=True) as checkpoints:
            for step in range(1, args.rounds + 2):
                begin = time.perf_counter()
                checkpoints.save(step, {'params': state}, {'step': np.int32(step) + np.zeros((), np.int32)}, {})
                blocked = time.perf_counter()
                checkpoints.wait()
                saved = time.perf_counter()
                checkpoints.restore('last')
                restored = time.perf_counter()
                if step > 1:
                    for key, seconds in zip(times, (blocked - begin, saved - begin, restored - saved)):
                        times[key].append(1e3 * seconds)
        print(name, json.dumps({key: round(statistics.median(values), 1) for key, values in times.items()}), flush=True)


if __name__ == '__main__':
    main()
