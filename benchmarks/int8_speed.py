"""Processor time of ONNX Runtime in float32 and in int8, against JAX in float32.

    python benchmarks/int8_speed.py [--networks alexnet unet resnet50] [--batches 1 8] [--rounds 7] [--output FILE.md]

Needs the packages of requirements-onnx.txt. AlexNet is that of experiments/cats_vs_dogs.py, body and head at 224x224;
U-Net that of experiments/phantom_unet.py with features (16, 32, 64, 128, 256) and one pixel a position at 256x256;
ResNet-50 has 1,000 classes at 224x224. All have random weights, and images of soft random colours: times do not depend
on them. Every network is converted as `launch.py export` does it. Each round calls all three, in turned order; a
number is the median over the rounds of the processor time of all threads, in ms an image, with threads of ONNX Runtime
that do not spin. Prints JSON; --output writes a table, too.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`

NETWORKS = {
    'alexnet': ({'name': 'alexnet', 'global_pool': 'average_max', 'pool_norm': True, 'hidden': (256,)}, (224, 224), 3,
                {'classes': 2}),
    'unet': ({'name': 'unet', 'features': (16, 32, 64, 128, 256)}, (256, 256), 1,
             {'classes': 2, 'task': {'name': 'segmentation', 'loss': 'cross_entropy_dice', 'class_weights': ()}}),
    'resnet50': ({'name': 'resnet', 'depth': 50}, (224, 224), 3, {'classes': 1000}),
}
COLUMNS = ('jax', 'float32', 'int8')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 8])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--output', type=Path)
    args = parser.parse_args()
    from practicum.training import process
    process.prepare()
    rows = []
    for name in args.networks:
        rows += measure(name, args.batches, args.rounds)
        print(json.dumps(rows[-len(args.batches):]), flush=True)
    if args.output:
        args.output.write_text(table(rows))


def measure(name: str, batches: list[int], rounds: int) -> list[dict]:
    """Returns a row for every size of batches."""
    import jax
    import numpy as np
    from PIL import Image

    from practicum.deployment import onnx_runtime
    from practicum.deployment.export import Function
    from practicum.deployment.onnx_export import export_onnx
    from tests.untrained import untrained
    model, size, channels, rest = NETWORKS[name]
    run = untrained(model, size, channels, **rest)
    function = Function.of(run)
    program = jax.jit(function.__call__)
    examples = function.examples()['image']
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / f'{kind}.onnx' for kind in COLUMNS[1:]}
        (Path(folder) / 'images').mkdir()
        for number in range(16):
            Image.fromarray(np.roll(examples[number % len(examples)], 7 * number, 1).squeeze()).save(
                Path(folder) / f'images/{number}.png')
        export_onnx(run, files['float32'])
        export_onnx(run, files['int8'], calibration=Path(folder) / 'images')
        calls = {kind: onnx_runtime.open_model(file, verify=False)[1] for kind, file in files.items()}
        operations = onnx_runtime.count_operations(files['float32'])
        megabytes = {kind: file.stat().st_size / 1e6 for kind, file in files.items()}
    calls['jax'] = lambda inputs: jax.block_until_ready(program(function.weights, inputs))
    rows = []
    for batch in batches:
        inputs = {'image': np.resize(examples, (batch, *examples.shape[1:]))}
        for call in calls.values():
            call(inputs)
        times = {kind: [] for kind in COLUMNS}
        for number in range(rounds):
            for kind in COLUMNS if number % 2 else COLUMNS[::-1]:
                begin = time.process_time()
                calls[kind](inputs)
                times[kind].append(1e3 * (time.process_time() - begin) / batch)
        middle = {kind: statistics.median(values) for kind, values in times.items()}
        rows.append({'network': name, 'batch': batch, 'ms': middle, 'megabytes': megabytes,
                     'operations': dict(zip(('before', 'after'), operations)),
                     'times_faster': {kind: middle['jax'] / middle[kind] for kind in COLUMNS[1:]}})
    return rows


def table(rows: list[dict]) -> str:
    """Returns the rows as markdown."""
    lines = ['| network | batch | JAX ms | ONNX float32 | ONNX int8 | MB float32, int8 | operations before, after |',
             '|---|---|---|---|---|---|---|']
    for row in rows:
        lines.append(f'| {row["network"]} | {row["batch"]} | {row["ms"]["jax"]:.1f} '
                     f'| {row["times_faster"]["float32"]:.2f}x | {row["times_faster"]["int8"]:.2f}x '
                     f'| {row["megabytes"]["float32"]:.1f}, {row["megabytes"]["int8"]:.1f} '
                     f'| {row["operations"]["before"]}, {row["operations"]["after"]} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    main()
