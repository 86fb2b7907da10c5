"""From the start of a process to the end of its first training step, cold and with warm caches.

    python benchmarks/startup.py --data_dir DIR

Starts launch.py's training of mnist_lenet in fresh processes. 'cold' has no compiled steps cached, 'warm' does; the
decoded MNIST is cached in both ('first' has neither). Prints medians in seconds: total, and its split into imports,
data (reading the decoded arrays), the parameter table, compiling and running initialisation and the first step.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHILD = r'''
import json, sys, time
sys.path.insert(0, {root!r})
marks = [('start', {start!r})]
mark = lambda name: marks.append((name, time.time()))
mark('python')
import launch
from practicum.training import process
process.prepare()
from practicum.training import components, config as config_lib, evaluation, loop
from practicum.training.outputs import Outputs
from practicum.training.preemption import StopRequest
import jax
mark('imports')
config = config_lib.load('mnist_lenet', ['data.data_dir={data_dir}'])
training = components.build_training(config)
evaluation.Evaluations(config, training.parallel, training.task, training.info, ('validation', 'test'))
mark('data')
from pathlib import Path
with StopRequest(), Outputs(config, training.parallel, Path({workdir!r})) as outputs:
    mark('workdir')
    state = training.initial_state()
    jax.block_until_ready(state)
    mark('initialise')
    training.parameter_table(state)
    mark('table')
    state = training.place(state)
    outputs.open(0, redo_evaluation=False)
    mark('snapshot')
    state, metrics = training.train_step(state, training.parallel.shard(training.batches(0)))
    jax.block_until_ready(metrics)
    mark('first step')
names = [n for n, _ in marks]
print(json.dumps(dict([(n, t - marks[i][1]) for i, (n, t) in enumerate(marks[1:])], total=marks[-1][1] - marks[0][1],
      tensorflow='tensorflow' in sys.modules)))
'''


def start(data_dir: str, cache: Path) -> dict:
    with tempfile.TemporaryDirectory() as workdir:
        code = CHILD.format(root=str(ROOT), start=time.time(), data_dir=data_dir, workdir=workdir)
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                              cwd=ROOT, env={**os.environ, 'PRACTICUM_CACHE': str(cache)})
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data_dir', required=True, help='tfds data_dir with MNIST')
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    times: dict[str, list[dict]] = {'first': [], 'cold': [], 'warm': []}
    with tempfile.TemporaryDirectory() as cache:
        times['first'].append(start(args.data_dir, Path(cache)))
        for _ in range(args.rounds):
            shutil.rmtree(Path(cache) / 'compiled')
            times['cold'].append(start(args.data_dir, Path(cache)))
            times['warm'].append(start(args.data_dir, Path(cache)))
    for name, results in times.items():
        medians = {key: round(statistics.median(result[key] for result in results), 3)
                   for key in results[0] if key != 'tensorflow'}
        print(name, json.dumps(medians), 'TensorFlow imported:', any(result['tensorflow'] for result in results))


if __name__ == '__main__':
    main()
