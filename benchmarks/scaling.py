"""A train step over numbers of devices and modes: time, memory and collectives; on one device also beside PyTorch.

    python benchmarks/scaling.py                                         # GPUs where there are some, else virtual CPUs
    python benchmarks/scaling.py --models resnet50 --precisions float32 bfloat16 --remat no yes --torch PYTHON
    python benchmarks/scaling.py --models resnet50 --devices 8 --gpu_layers --rounds 0       # memory of GPUs' programs
    python benchmarks/scaling.py --models resnet50 --devices 8 --lowered                     # collectives, seconds only

Steps are those that `components.build_training` compiles from a config: forward, backward, SGD with momentum and the
metrics of classification, on a batch of noise that lies on the devices. Each number of devices has a process of its
own (benchmarks/scaling_worker.py). On GPUs the batch grows with their number. On a CPU the devices are virtual and
share the same cores, so the batch stays what it is: that shows what dividing the work costs and what memory it saves,
not what it gains. Rounds alternate, on a CPU over the numbers of devices too.

PYTHON is an interpreter with torch and, but for resnet20, torchvision; by default this one. There the same network
takes its steps in channels_last memory with fused SGD, on a GPU compiled and with autocast to bfloat16 (--torch_compile
does that on a CPU too). On GPUs give it an environment of its own: jax and torch bring different libraries of NVIDIA.

Prints a JSON line for each variant, then a table. Columns:
  ms, cpu ms     medians per step, of the clock and of all threads of the process
  images/s       by the clock
  efficiency     images/s to those of the first mode and number of devices, times their ratio; on a CPU instead
  processor      processor time to that of the first, median of the ratios within a round
  state MB       what one device keeps between steps: parameters, momentum and averages
  temporary MB   what one device needs within a step, as XLA plans it
  peak MB        on GPUs, of the first one, of all variants up to this one
  collectives    in the compiled program, and MB that they return on each device in a step
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import step_process

SIZES = {  # side; batch on CPUs, over all devices; side and batch of one GPU; name for PyTorch
    'mlp': (8, 128, 8, 1024, None),
    'resnet20': (32, 128, 32, 1024, 'resnet20'),
    'resnet18': (64, 16, 224, 256, 'resnet18'),
    'resnet50': (64, 16, 224, 256, 'resnet50'),
}
MODES = {
    'pmap': {'mode': 'pmap'},
    'pmap, BatchNorm per device': {'mode': 'pmap', 'batch_norm': 'device'},
    'jit': {'mode': 'jit'},
    'jit, fsdp': {'mode': 'jit', 'sharding': 'fsdp'},
}
_WORKER = ROOT / 'benchmarks' / 'scaling_worker.py'
_COLUMNS = ('model', 'precision', 'remat', 'mode', 'devices', 'batch', 'ms', 'cpu ms', 'images/s', 'efficiency',
            'processor', 'ours / PyTorch', 'state MB', 'temporary MB', 'peak MB', 'PyTorch peak MB', 'collectives')


def machine(python: str = sys.executable) -> tuple[str, str, int]:
    """Returns JAX's platform here, what its devices are called, and how many there are."""
    code = 'import jax; print(jax.default_backend(), jax.local_device_count(), jax.local_devices()[0].device_kind)'
    out = subprocess.run([python, '-c', code], capture_output=True, text=True, check=True).stdout
    platform, count, name = out.split(maxsplit=2)
    return platform, name.strip(), int(count)


def variants(args: argparse.Namespace, model: str, devices: int, gpu: bool) -> list[dict[str, Any]]:
    """Returns what a worker is to build for one model."""
    side, batch, gpu_side, gpu_batch, _ = SIZES[model]
    side, batch = (gpu_side, gpu_batch * devices) if gpu else (side, batch)
    return [{'model': model, 'size': args.size or side, 'batch': args.batch or batch, 'precision': precision,
             'remat': remat == 'yes', 'mode': mode, 'devices': devices,
             'parallel': {'devices': devices, **MODES[mode], 'min_shard_mb': args.min_shard_mb}}
            for precision, remat, mode in itertools.product(args.precisions, args.remat, args.modes)]


class Worker:
    """The variants of one model on one number of devices, and PyTorch's where it is asked for."""

    def __init__(self, args: argparse.Namespace, model: str, devices: int, gpu: bool):
        self.rows = variants(args, model, devices, gpu)
        virtual = devices if not gpu and max(args.devices) > 1 else 0
        command = [sys.executable, _WORKER, json.dumps(self.rows), '--cpu_devices', virtual]
        command += ['--gpu_layers'] if args.gpu_layers or args.lowered else []
        # What lies ready for PyTorch in the same GPU is not to be taken.
        environment = {**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} if args.torch else None
        self._ask = step_process.Script(command + (['--lowered'] if args.lowered else []), environment)
        for row, facts in zip(self.rows, self._ask(None)):
            row |= facts
        self._torch = {}
        if args.torch and devices == 1 and SIZES[model][-1]:
            self._torch = {precision: self._start_torch(args, precision, gpu) for precision in args.precisions}

    def _start_torch(self, args: argparse.Namespace, precision: str, gpu: bool) -> step_process.Script:
        row = self.rows[0]
        command = [args.torch, ROOT / 'benchmarks' / 'baselines' / 'cnn_torch.py', '--model', SIZES[row['model']][-1],
                   '--batch', row['batch'], '--size', row['size'], '--precision', precision, '--momentum', 0.9,
                   '--num_classes', 10 if row['model'] == 'resnet20' else 1000, '--device', 'cuda' if gpu else 'cpu']
        ask = step_process.Script(command + (['--compile'] if gpu or args.torch_compile else []))
        if ask(1)['parameters'] != row['parameters']:
            raise SystemExit(f"error: PyTorch's {row['model']} is not the same network")
        return ask

    def runs(self) -> dict[tuple, Callable[[int], dict[str, float]]]:
        """Returns key of a variant -> run(steps) -> what was measured; keys of PyTorch's end in None."""
        found = {key(row): lambda steps, number=number: self._ask(f'{number} {steps}')
                 for number, row in enumerate(self.rows)}
        model = self.rows[0]['model']
        return found | {(model, precision, None): ask for precision, ask in self._torch.items()}

    def close(self) -> None:
        """Ends the processes."""
        for script in (self._ask, *self._torch.values()):
            script.close()


def key(row: Mapping[str, Any]) -> tuple:
    """Returns what tells one variant from all others."""
    return tuple(row[name] for name in ('model', 'precision', 'remat', 'mode', 'devices'))


def measure(args: argparse.Namespace, model: str, gpu: bool) -> Iterator[dict[str, Any]]:
    """Yields a row for each variant of a model."""
    # Processes that wait keep their memory, of which a GPU has not enough for all.
    groups = [[number] for number in args.devices] if gpu else [args.devices]
    rows, answers = [], {}
    for group in groups:
        workers = [Worker(args, model, number, gpu) for number in group]
        rows += [row for worker in workers for row in worker.rows]
        runs = {name: run for worker in workers for name, run in worker.runs().items()}
        rounds = 0 if args.lowered else args.rounds
        for run in runs.values() if rounds else ():
            run(2)  # the first compiles
        for number in range(rounds):
            for name in (runs if number % 2 else reversed(runs)):
                answers.setdefault(name, []).append(runs[name](args.steps))
        for worker in workers:
            worker.close()
    for row in rows:
        row.pop('parallel')
        if key(row) in answers:
            _compare(row, rows, answers, gpu)
        yield row


def _compare(row: dict[str, Any], rows: Sequence[Mapping[str, Any]], answers: Mapping[tuple, list], gpu: bool) -> None:
    """Adds medians, and ratios to the first variant of the same precision and remat."""
    mine = answers[key(row)]
    first = next(other for other in rows if key(other)[:3] == key(row)[:3])
    theirs = answers[key(first)]
    row['ms'] = round(statistics.median(answer['ms'] for answer in mine), 2)
    row['cpu ms'] = round(statistics.median(answer['cpu_ms'] for answer in mine), 2)
    row['images/s'] = round(1e3 * row['batch'] / row['ms'])
    if gpu:
        row['efficiency'] = round(statistics.median(b['ms'] / a['ms'] for a, b in zip(mine, theirs))
                                  * row['batch'] / first['batch'] * first['devices'] / row['devices'], 3)
        row['peak MB'] = max(answer.get('peak_mb', 0) for answer in mine)
    else:
        row['processor'] = round(statistics.median(a['cpu_ms'] / b['cpu_ms'] for a, b in zip(mine, theirs)), 3)
    if row['devices'] == 1 and (torch := answers.get((row['model'], row['precision'], None))):
        name = 'ms' if gpu else 'cpu_ms'
        row['PyTorch ms'] = round(statistics.median(answer['ms'] for answer in torch), 2)
        row['PyTorch peak MB'] = max(answer.get('peak_mb', 0) for answer in torch)
        row['ours / PyTorch'] = round(statistics.median(a[name] / b[name] for a, b in zip(mine, torch)), 3)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table in Markdown, without the columns that none of them has."""
    columns = [name for name in _COLUMNS if any(row.get(name) for row in rows)]
    lines = [columns, ['---'] * len(columns), *([_cell(row, name) for name in columns] for row in rows)]
    return '\n'.join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if name == 'collectives':
        text = ', '.join(f'{count} {kind}' for kind, count in value.items()) or 'none'
        return text + (f"; {row['collective MB']:.1f} MB" if row.get('collective MB') else '')
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return '' if value is None else f'{value:,}' if not isinstance(value, str) else value


def _check_torch(python: str, models: Sequence[str]) -> None:
    names = {SIZES[model][-1] for model in models} - {None}
    packages = ['torch', 'torchvision'] if names - {'resnet20'} else ['torch']
    done = subprocess.run([python, '-c', f"import {', '.join(packages)}"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: --torch: {python} cannot import {' and '.join(packages)}: name an interpreter that "
                         f"can, or pip install {' '.join(packages)}, from one index, in an environment of its own")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=list(SIZES), default=['mlp', 'resnet20', 'resnet50'])
    parser.add_argument('--devices', nargs='+', type=int, default=[1, 2, 4, 8])
    parser.add_argument('--modes', nargs='+', choices=list(MODES), default=['pmap', 'jit', 'jit, fsdp'])
    parser.add_argument('--precisions', nargs='+', choices=('float32', 'bfloat16'), default=['float32'])
    parser.add_argument('--remat', nargs='+', choices=('no', 'yes'), default=['no'])
    parser.add_argument('--min_shard_mb', type=float, default=4.0, help='config.parallel.min_shard_mb of fsdp')
    parser.add_argument('--batch', type=int, help='over all devices')
    parser.add_argument('--size', type=int, help='side of an image in pixels')
    parser.add_argument('--rounds', type=int, default=5, help='0: only memory and collectives')
    parser.add_argument('--steps', type=int, default=3, help='of each round')
    parser.add_argument('--gpu_layers', action='store_true', help="flax's own layers on a CPU too, as on a GPU")
    parser.add_argument('--lowered', action='store_true', help='collectives of the lowered program; compiles nothing')
    parser.add_argument('--torch', nargs='?', const=sys.executable, metavar='PYTHON')
    parser.add_argument('--torch_compile', action='store_true', help='on a CPU too')
    args = parser.parse_args()
    if args.torch:
        _check_torch(args.torch, args.models)
    platform, name, count = machine()
    gpu = platform != 'cpu'
    args.devices = [number for number in args.devices if not gpu or number <= count]
    print(json.dumps({'device': name, 'virtual' if not gpu else 'count': max(args.devices) if not gpu else count,
                      'cores': len(os.sched_getaffinity(0))}), flush=True)
    rows = []
    for model in args.models:
        for row in measure(args, model, gpu):
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(f'\n{table(rows)}')


if __name__ == '__main__':
    main()
