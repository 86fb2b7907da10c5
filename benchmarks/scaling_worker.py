"""The steps of benchmarks/scaling.py for one number of devices, in a process of its own.

Builds each variant as training does, on made images, prints a JSON list of what is known of them before they run, and
then answers lines 'VARIANT STEPS' with JSON: milliseconds per step, of the clock and of the processors.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import numpy as np
from ml_collections import ConfigDict

import launch  # noqa: F401  a checkout becomes the package `practicum`
from benchmarks import alternating
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.models import cpu_kernels
from practicum.training import components, process
from practicum.training import config as config_lib
from practicum.training.defaults import base

MODELS = {  # config.model, channels, classes
    'mlp': ({'name': 'mlp', 'hidden': (128, 128)}, 1, 10),
    'resnet20': ({'name': 'resnet_cifar', 'depth': 20}, 3, 10),
    'resnet18': ({'name': 'resnet', 'depth': 18}, 3, 1000),
    'resnet50': ({'name': 'resnet', 'depth': 50}, 3, 1000),
}
_COLLECTIVES = 'all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute'
_BYTES = {'pred': 1, 'bf16': 2, 'f16': 2, 'f32': 4, 'f64': 8, 's32': 4, 'u32': 4, 's64': 8, 'u64': 8}


def made_images(classes: int, examples: int) -> Callable:
    """Returns a function that opens a data set of noise, see input_pipeline/sources.py."""
    def open_split(data, image, name, crop_area):
        shape = (examples, *image['size'], image['channels'])
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        info = DatasetInfo(class_names=tuple(map(str, range(classes))))
        return ArraySource({'image': images, 'label': (np.arange(examples) % classes).astype(np.int32)}, info)
    return open_split


def configure(variant: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of a variant: SGD with momentum on plain batches of noise."""
    model, channels, classes = MODELS[variant['model']]
    config = base()
    config.data.source = 'made'
    config.batch_size = variant['batch']
    config.total = '1000000 steps'
    config.image.size, config.image.channels = (variant['size'], variant['size']), channels
    config.model = model
    config.optimizer.name, config.optimizer.learning_rate = 'sgd', 0.01
    config.precision, config.remat = variant['precision'], variant['remat']
    config.parallel.update(variant['parallel'])
    sources.SOURCES['made'] = made_images(classes, variant['batch'])
    return config_lib.complete(config, 'scaling')


def build(variant: Mapping[str, Any]) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Returns run(steps) -> milliseconds per step, and what is known of the compiled step."""
    training = components.build_training(configure(variant))
    state, batch = training.place(training.initial_state()), training.feed(training.batches(0))
    begin = time.process_time()
    compiled = training.train_step.lower(state, batch).compile()
    memory = compiled.memory_analysis()
    device = training.parallel.local[0]
    kept = [shard.data for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards
            if shard.device == device]
    facts = {
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        'compile cpu s': round(time.process_time() - begin, 1),
        'state MB': round(sum(array.nbytes for array in kept) / 1e6, 3),
        'temporary MB': round(memory.temp_size_in_bytes / 1e6, 1),
        **collectives(compiled.as_text()),
    }
    return alternating.training(training.train_step, state, batch), facts


def collectives(text: str) -> dict[str, Any]:
    """Returns how many of which kind a compiled program has, and the megabytes that they return."""
    found = re.findall(rf'= (.*?) ({_COLLECTIVES})(?:-start)?\(', text)
    kinds = [kind for _, kind in found]
    arrays = [array for types, _ in found for array in re.findall(r'(\w+)\[([\d,]*)\]', types)]
    size = sum(_BYTES.get(dtype, 4) * int(np.prod([int(side) for side in shape.split(',') if side]))
               for dtype, shape in arrays)
    return {'collectives': {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            'collective MB': round(size / 1e6, 3)}


def lowered(variant: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the collectives of a step before XLA joins or adds any."""
    training = components.build_training(configure(variant))
    state = training.place(training.initial_state())
    text = training.train_step.lower(state, training.feed(training.batches(0))).as_text()
    names = re.findall(rf'stablehlo[.]({_COLLECTIVES})'.replace('-', '_'), text)
    return {'arrays of parameters': len(jax.tree.leaves(state.params)),
            'norms': len(jax.tree.leaves(state.batch_stats)) // 2,
            'collectives': {name: names.count(name) for name in sorted(set(names))}}


def main() -> None:
    """Answers until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('variants', help='JSON list of {model, batch, size, precision, remat, parallel}')
    parser.add_argument('--cpu_devices', type=int, default=0)
    parser.add_argument('--gpu_layers', action='store_true', help="flax's own layers, on a CPU too")
    parser.add_argument('--lowered', action='store_true', help='compile nothing, count collectives')
    args = parser.parse_args()
    process.prepare(cpu_devices=args.cpu_devices, training=True)
    if args.gpu_layers:
        mock.patch.object(cpu_kernels, 'on_cpu', lambda: False).start()
    variants = json.loads(args.variants)
    try:
        built = [lowered(variant) if args.lowered else build(variant) for variant in variants]
    except UserError as error:
        raise SystemExit(f'error: {error}') from None
    if args.lowered:
        print(json.dumps(built), flush=True)
        return
    device = jax.local_devices()[0]
    print(json.dumps([facts for _, facts in built]), flush=True)
    for line in sys.stdin:
        number, steps = map(int, line.split())
        begin = time.process_time()
        milliseconds = built[number][0](steps)
        answer = {'ms': milliseconds, 'cpu_ms': 1e3 * (time.process_time() - begin) / steps}
        if peak := (device.memory_stats() or {}).get('peak_bytes_in_use'):
            answer['peak_mb'] = round(peak / 1e6)
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()
