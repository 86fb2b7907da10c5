"""What an object detector's parts cost on this machine, in processor time.

    python benchmarks/detection_speed.py

A classifier made fully convolutional, against its windows in batches and one after the other: AlexNet without padding,
windows of 227x227 every 32 pixels of an image of 1024x1024, with a dense part of 256 and of 4096 units. Random weights:
neither time nor equality depends on them. The ways are timed in turns; medians, in a table of Markdown.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`

WINDOW, STRIDE = 227, 32
BATCH = 25
ALONE = 50  # windows that are timed one after the other; all of them take minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--side', type=int, default=1024, help='of the image, in pixels')
    parser.add_argument('--hidden', type=int, nargs='+', default=[256, 4096], help='units of fc6 and of fc7')
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    from practicum.training import process
    process.prepare()
    columns = ('AlexNet without padding', 'windows', 'in batches, s', 'one by one, s', 'net surgery, s', 'ratios',
               'logits differ by')
    print(f'| {" | ".join(columns)} |\n{"|---" * len(columns)}|')
    for hidden in args.hidden:
        print(windows_row(args.side, hidden, args.rounds), flush=True)


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
