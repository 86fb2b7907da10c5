"""What exporting costs in speed, and what a small image's larger kernel cost before it got zeros around it.

    python benchmarks/deployment_speed.py untrained FOLDER --networks vgg16 vgg19 googlenet resnet50 resnet152
    python benchmarks/deployment_speed.py exported RUN... [--batches 1 8]
    python benchmarks/deployment_speed.py forward RUN --before CHECKOUT [--batch 64]

`untrained` writes runs with weights at random, as large as those of ImageNet: what an operation takes does not depend
on them. `launch.py export` makes files of them, and `launch.py measure` the tables of docs/results/deployment.md.

`exported` compares a run's function under `jax.jit` with its export in loader.py, in one process: both get arrays of
numpy and return such. `forward` compares `predict`'s network with that of another checkout, each in a process of its
own, idle while the other is timed: CHECKOUT comes from `git worktree add CHECKOUT COMMIT`.

Times are processor time of all threads of the process, in ms per image, which other programs on the machine falsify
less than wall time; the order turns in every round, and ratios are medians over rounds of pairs. Prints JSON.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[2] if sys.argv[1:2] == ['child'] else __file__).resolve()
sys.path.insert(0, str(ROOT if ROOT.is_dir() else ROOT.parent.parent))

import launch  # noqa: E402, F401  a checkout becomes the package `practicum`

SECONDS = 0.1  # of each in each round, at least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    untrained = commands.add_parser('untrained')
    untrained.add_argument('folder', type=Path)
    untrained.add_argument('--networks', nargs='+', default=['vgg16', 'vgg19', 'googlenet', 'resnet50', 'resnet152'])
    exported = commands.add_parser('exported')
    exported.add_argument('workdirs', nargs='+', type=Path)
    exported.add_argument('--batches', nargs='+', type=int, default=[1, 8])
    forward = commands.add_parser('forward')
    forward.add_argument('workdir', type=Path)
    forward.add_argument('--before', type=Path, required=True, help='another checkout')
    forward.add_argument('--batch', type=int, default=64)
    for command in (exported, forward):
        command.add_argument('--rounds', type=int, default=31)
    child = commands.add_parser('child')
    child.add_argument('checkout')
    child.add_argument('workdir', type=Path)
    child.add_argument('batch', type=int)
    args = parser.parse_args()
    if args.command == 'child':
        answer(args.workdir, args.batch)
        return
    if args.command == 'untrained':
        for name in args.networks:
            write_untrained(name, args.folder / name)
        return
    from benchmarks import surroundings
    print(json.dumps(surroundings.describe()))
    if args.command == 'exported':
        for workdir in args.workdirs:
            for batch in args.batches:
                print(json.dumps(compare_export(workdir, batch, args.rounds)), flush=True)
    else:
        print(json.dumps(compare_checkouts(args.workdir, args.before, args.batch, args.rounds)))


def in_turns(functions: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Returns name -> processor ms a call of every round, of name -> run(calls) -> processor seconds of all calls."""
    calls = {}
    for name, run in functions.items():
        run(2)  # compiles
        begin = time.perf_counter()
        run(1)
        calls[name] = max(1, round(SECONDS / max(1e-5, time.perf_counter() - begin)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        for name in functions if number % 2 else reversed(functions):
            times[name].append(1e3 * functions[name](calls[name]) / calls[name])
    return times


def processor_time(call: Callable[[], Any]) -> Callable[[int], float]:
    """Returns run(calls) -> processor seconds of all of them."""
    def run(calls: int) -> float:
        begin = time.process_time()
        for _ in range(calls):
            call()
        return time.process_time() - begin
    return run


def compare_export(workdir: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Returns what a run costs under jax.jit and exported, and the spread of their ratio."""
    import jax
    import numpy as np

    from practicum.deployment import loader
    from practicum.deployment.export import Function, export_run
    from practicum.inference.run import Run
    run = Run(workdir)
    function = Function.of(run)
    compiled = jax.jit(functools.partial(function.__call__))
    (name, (shape, dtype)), = function.inputs.items()
    inputs = np.random.default_rng(0).integers(0, 255, (batch, *shape[1:])).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        run.workdir = Path(folder)  # which is told of the file
        export_run(run, Path(folder, 'model.zip'), platforms=(jax.default_backend(),))
        model, _ = loader.load(Path(folder, 'model.zip'), verify=False)

    def jitted():
        return {key: np.asarray(values) for key, values in compiled(function.weights, {name: inputs}).items()}
    same = all(np.array_equal(values, jitted()[key]) for key, values in model(**{name: inputs}).items())
    times = in_turns({'jit': processor_time(jitted), 'exported': processor_time(lambda: model(**{name: inputs}))},
                     rounds)
    ratios = [exported / jit for exported, jit in zip(times['exported'], times['jit'])]
    return {'run': workdir.name, 'batch': batch, 'same bits': same,
            **{f'{key} ms': round(statistics.median(values) / batch, 4) for key, values in times.items()},
            'exported / jit': round(statistics.median(ratios), 3),
            'of rounds': [round(min(ratios), 3), round(max(ratios), 3)]}


def compare_checkouts(workdir: Path, before: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Returns what the network behind `predict` costs here and in another checkout."""
    from benchmarks.step_process import Script
    here = Path(__file__).resolve()
    children = {name: Script([sys.executable, here, 'child', checkout.resolve(), workdir.resolve(), batch])
                for name, checkout in (('before', before), ('today', here.parent.parent))}
    times = in_turns(children, rounds)
    for child in children.values():
        child.close()
    ratios = [old / new for old, new in zip(times['before'], times['today'])]
    return {'run': workdir.name, 'batch': batch,
            **{f'{key} ms': round(statistics.median(values) / batch, 4) for key, values in times.items()},
            'before / today': round(statistics.median(ratios), 2),
            'of rounds': [round(min(ratios), 2), round(max(ratios), 2)]}


def answer(workdir: Path, batch: int) -> None:
    """Answers each line, a number of calls, with their processor seconds."""
    import jax
    import numpy as np

    from practicum.inference.run import Run
    network = Run(workdir).network()
    network.batch_size = batch  # which `start` fills up to
    images = np.random.default_rng(0).integers(0, 255, (batch, *network.size, network.channels)).astype(np.uint8)
    run = processor_time(lambda: jax.block_until_ready(network.start(images)))
    for line in sys.stdin:
        print(json.dumps(run(int(line))), flush=True)


def write_untrained(name: str, workdir: Path) -> None:
    """Writes a run of an architecture with weights at random, whose outputs stay finite."""
    import jax
    import numpy as np

    from practicum import tasks
    from practicum.common.dataset_info import DatasetInfo
    from practicum.conversion.importing import architectures
    from practicum.training import array_paths, forward
    from practicum.training import config as config_lib
    from practicum.training.checkpoints import Checkpoints
    config = config_lib.defaults()
    config.experiment, config.model = f'untrained:{name}', architectures()[name]
    config.image.update({'size': (224, 224), 'channels': 3})
    info = DatasetInfo(class_names=tuple(f'class {index}' for index in range(1000)))
    model = forward.build_model(config, tasks.build(config.task, info))
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    shapes = jax.eval_shape(lambda key, x: model.init({'params': key, 'dropout': key}, x, train=False),
                            jax.random.key(0), images)
    random = np.random.default_rng(0)

    def fill(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.endswith('kernel'):
            return random.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32)
        return np.full(shape, path.endswith(('scale', 'var')), np.float32)
    arrays = {path: fill(path, leaf.shape) for path, leaf in array_paths.flatten(shapes).items()}
    variables = {'batch_stats': {}, 'ema': {}, **array_paths.fill(dict(shapes), arrays)}
    with Checkpoints(workdir, writable=True) as checkpoints:
        checkpoints.save(0, variables, {'step': np.zeros((), np.int32)},
                         {'config': config_lib.to_dict(config), 'data': info.to_json(), 'metrics': {}})


if __name__ == '__main__':
    main()
