"""What an object detector's parts cost on this machine.

    python benchmarks/detection_speed.py [--baseline_python PYTHON]

First a detector's train step, its prediction, and decoding with non-maximum suppression alone, against the same network
in PyTorch: that of experiments/bccd_detector.py, 8 images of 240x320. PYTHON is an interpreter of an environment with
benchmarks/requirements.txt; without it PyTorch is left out. Milliseconds of a batch, medians of alternated rounds; the
processes that wait are idle.

Then, in processor time, a classifier made fully convolutional, against its windows in batches and one after the other:
AlexNet without padding, windows of 227x227 every 32 pixels of an image of 1024x1024, with a dense part of 256 and of
4096 units. Random weights: neither time nor equality depends on them. The ways are timed in turns; medians, in a table
of Markdown.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`

WINDOW, STRIDE = 227, 32
BATCH = 25
ALONE = 50  # windows that are timed one after the other; all of them take minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--side', type=int, default=1024, help='of the image, in pixels')
    parser.add_argument('--hidden', type=int, nargs='+', default=[256, 4096], help='units of fc6 and of fc7')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--baseline_python', help='with PyTorch')
    args = parser.parse_args()
    from practicum.training import process
    process.prepare(training=True)
    print('| 8 images of 240x320 | ours, ms | PyTorch, ms | PyTorch / ours |\n|---|---|---|---|')
    for row in detector_rows(args.baseline_python, args.rounds):
        print(row, flush=True)
    print()
    columns = ('AlexNet without padding', 'windows', 'in batches, s', 'one by one, s', 'net surgery, s', 'ratios',
               'logits differ by')
    print(f'| {" | ".join(columns)} |\n{"|---" * len(columns)}|')
    for hidden in args.hidden:
        print(windows_row(args.side, hidden, args.rounds), flush=True)


def detector_rows(python: str | None, rounds: int) -> Iterator[str]:
    """Yields rows of a train step, a prediction, and what is done after the network alone."""
    import jax
    import numpy as np

    from benchmarks import alternating, step_process
    from practicum.input_pipeline import preprocessing
    from practicum.training import components, forward
    from practicum.training import config as config_lib

    random, size, batch = np.random.default_rng(0), (240, 320), 8
    corners = random.uniform(0, (size[1] - 40, size[0] - 40), (batch, 40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 40, corners.shape)], axis=-1).astype(np.float32)
    labels = np.where(np.arange(40) < 15, random.integers(0, 3, (batch, 40)), -1).astype(np.int32)
    images = random.integers(0, 256, (batch, *size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / 'train.npz', image=images, boxes=boxes, box_labels=labels,
                 class_names=np.array(['Platelets', 'RBC', 'WBC']))
        config = config_lib.load('bccd_detector', [
            'data.source=npz', f'data.name={folder}', f'batch_size={batch}', *(
                f'augment.{name}=0.0' for name in ('flip_horizontal', 'flip_vertical', 'zoom', 'shift', 'brightness'))])
        training = components.build_training(config)
    state = training.place(training.initial_state())
    data = training.feed(training.batches(0))
    variables = {'params': training.fetch(state).params, 'batch_stats': training.fetch(state).batch_stats}
    prepare = preprocessing.build(config.image)
    apply = forward.build_forward(config, training.model, training.task)
    predict = jax.jit(lambda variables, images: training.task.decode(
        apply(variables, prepare({'image': images}, None), train=False)))
    found = training.model.apply(variables, np.zeros((batch, *size, 3), np.float32))
    noise = {**found, 'logits': 3 * random.normal(size=found['logits'].shape).astype(np.float32),
             'distances': random.uniform(8, 40, found['distances'].shape).astype(np.float32)}
    decode = jax.jit(training.task.decode)

    def train():
        nonlocal state
        state, metrics = training.train_step(state, dict(data))
        return metrics
    ways = {'train': train, 'predict': lambda: predict(variables, images),
            'nms': lambda: decode(noise)}
    script = step_process.Script([python, ROOT / 'benchmarks' / 'baselines' / 'detector_torch.py']) if python else None
    names = {'train': 'train step', 'predict': 'prediction', 'nms': 'decoding and suppression alone'}
    for what, once in ways.items():
        def ours(steps, once=once):
            begun = time.perf_counter()
            for _ in range(steps):
                last = once()
            jax.block_until_ready(last)
            return 1e3 * (time.perf_counter() - begun) / steps
        runs = {'ours': ours}
        if script:
            runs['PyTorch'] = lambda steps, what=what: script(f'{what} {steps}')['ms']
        times = {name: statistics.median(values) for name, values in
                 alternating.measure(runs, rounds, {'nms': 50}.get(what, 10)).items()}
        theirs = f"{times['PyTorch']:.2f} | {times['PyTorch'] / times['ours']:.2f}" if script else '- | -'
        yield f"| {names[what]} | {times['ours']:.2f} | {theirs} |"
    if script:
        yield f"\nsuppression in PyTorch: {script('nms 1')['nms']}"
        script.close()


def windows_row(side: int, hidden: int, rounds: int) -> str:
    """Returns the row of a network with dense layers of so many units."""
    import jax
    import numpy as np

    from practicum import models
    from practicum.models.net_surgery import as_convolution, window_stride
    from practicum.training import array_paths

    config = {'name': 'alexnet', 'padding': 'VALID', 'hidden': (hidden, hidden)}
    model = models.build(config, num_classes=2)
    surgical = models.build({**config, 'window': (WINDOW, WINDOW)}, num_classes=2)
    assert window_stride(surgical, 3) == STRIDE
    random = np.random.default_rng(0)
    image = random.normal(size=(side, side, 3)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), image[None, :WINDOW, :WINDOW])
    shapes = jax.eval_shape(surgical.init, jax.random.key(0), image[None, :WINDOW, :WINDOW])
    flat, needed = array_paths.flatten(variables), array_paths.flatten(shapes)
    new = array_paths.fill(shapes, {path: flat[path] if flat[path].shape == shape.shape else
                                    as_convolution(flat[path], shape.shape) for path, shape in needed.items()})
    apply, dense = jax.jit(model.apply), jax.jit(surgical.apply)
    corners = range(0, side - WINDOW + 1, STRIDE)
    windows = np.stack([image[y : y + WINDOW, x : x + WINDOW] for y in corners for x in corners])
    rest = -len(windows) % BATCH
    batches = np.concatenate([windows, windows[:rest]]).reshape(-1, BATCH, WINDOW, WINDOW, 3)

    def batched():
        return np.concatenate([apply(variables, batch) for batch in batches])[: len(windows)]

    def one_by_one():
        return np.concatenate([apply(variables, windows[i : i + 1]) for i in range(ALONE)])

    def surgery():
        return np.asarray(dense(new, image[None])).reshape(-1, 2)

    ways = {'batched': batched, 'one by one': one_by_one, 'surgery': surgery}
    logits = {name: way() for name, way in ways.items()}
    seconds = {name: [] for name in ways}
    for number in range(rounds):
        for name in ways if number % 2 else reversed(ways):
            begun = time.process_time()
            ways[name]()
            seconds[name].append(time.process_time() - begun)
    batched_s, alone_s, surgery_s = (statistics.median(seconds[name]) for name in ways)
    alone_s *= len(windows) / ALONE
    expected = logits['batched']
    difference = np.abs(logits['surgery'] - expected).max() / expected.std()
    return (f'| fc6 and fc7 of {hidden} | {len(windows)} | {batched_s:.2f} | {alone_s:.2f} | {surgery_s:.3f} | '
            f'{batched_s / surgery_s:.1f}, {alone_s / surgery_s:.1f} | {difference:.0e} std |')


if __name__ == '__main__':
    main()
