"""How well a classifier of windows finds objects, and what its two ways cost: net surgery, and windows one by one.

    python benchmarks/window_boxes.py WORKDIR --config experiments/raccoon_detector.py --class raccoon \
        --config.data.name=FOLDER --config.data.fold=0

Looks at the images with boxes of a set of that config at several sizes, prints AP and AP50 of the boxes beside those of
one constant box, the median of the training boxes in shares of width and height, and the processor time of an image.
The windows are cut out of the first images alone: they are the same boxes, which is checked, and slow.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workdir', type=Path)
    parser.add_argument('--config', required=True)
    parser.add_argument('--class', dest='class_name', required=True)
    parser.add_argument('--set', default='validation', help='of the config')
    parser.add_argument('--sizes', type=float, nargs='+', default=[1.0, 1.2, 1.5],
                        help='shorter sides of the image, in windows')
    parser.add_argument('--slow', type=int, default=5, help='images whose windows are cut out')
    args, rest = parser.parse_known_args()
    if not all(text.startswith('--config.') for text in rest):
        parser.error(f'unrecognized arguments: {" ".join(rest)}')

    import numpy as np

    from practicum.inference.heat_map import find_boxes
    from practicum.inference.run import Run
    from practicum.input_pipeline import images, sources
    from practicum.tasks.detection_metrics import DetectedImage, evaluate
    from practicum.training import config as config_lib
    from practicum.training import evaluation_sets, process
    process.prepare()
    config = config_lib.load(args.config, [text.removeprefix('--config.') for text in rest])
    config.image.size, config.image.channels = (640, 640), 3
    run = Run(args.workdir)
    fast, slow = run.heat_map_maker(), run.heat_map_maker(windows=True)

    def read(split):
        """Yields image in its own proportions, boxes in shares of its size, and its (width, height) twice."""
        source = sources.open_split(config.data, config.image, split)
        for index in range(len(source)):
            indices = np.asarray([index])
            example, about = source.read(indices), source.describe(indices)[0]
            own = about['height'], about['width']
            there = (example['box_labels'][0] >= 0) & (example['box_crowd'][0] == 0)
            factors = np.tile(own[::-1], 2).astype(float)
            yield images.resize(example['image'][0], own), example['boxes'][0][there] / 640, factors

    constant = np.median(np.concatenate([boxes for _, boxes, _ in read(config.data.train)]), axis=0)
    found, trivial, seconds, windows, largest = [], [], {'fast': [], 'slow': []}, [], 0.0
    for number, (image, boxes, factors) in enumerate(read(evaluation_sets.resolve(config, args.set).split)):
        scales = [size * min(fast.window) / min(image.shape[:2]) for size in args.sizes]
        for scale in scales:
            fast(image, scale)  # compiled
        begun = time.process_time()
        maps = [fast(image, scale) for scale in scales]
        seconds['fast'].append(time.process_time() - begun)
        windows.append(sum(one.logits.shape[0] * one.logits.shape[1] for one in maps))
        if number < args.slow:
            begun = time.process_time()
            same = [slow(image, scale) for scale in scales]
            seconds['slow'].append((time.process_time() - begun) / seconds['fast'][-1])
            largest = max(largest, *(np.abs(a.logits - b.logits).max() / b.logits.std() for a, b in zip(maps, same)))
        rows = find_boxes(maps, args.class_name, threshold=0.01)
        truth = {'truth_boxes': boxes * factors, 'truth_classes': np.zeros(len(boxes), int),
                 'crowd': np.zeros(len(boxes), bool)}
        found.append(DetectedImage(
            np.asarray([[row[side] for side in ('left', 'top', 'right', 'bottom')] for row in rows]).reshape(-1, 4),
            np.asarray([row['percent'] for row in rows]), np.zeros(len(rows), int), **truth))
        trivial.append(DetectedImage(constant[None] * factors, np.ones(1), np.zeros(1, int), **truth))
    print(f'| {len(found)} images, {args.class_name} | AP50 | AP |\n|---|---|---|')
    for name, detected in (('windows', found), ('one constant box', trivial)):
        scores = evaluate(detected, 1)[0]
        print(f"| {name} | {scores['ap50']:.3f} | {scores['ap']:.3f} |")
    if not args.slow:
        return
    print(f'\n{statistics.median(windows):.0f} windows every {fast.stride} pixels; net surgery '
          f"{1e3 * statistics.median(seconds['fast']):.0f} CPU-ms an image, windows cut out "
          f"{statistics.median(seconds['slow']):.1f} times as much; largest difference of logits {largest:.1e} "
          'of their standard deviation')


if __name__ == '__main__':
    from practicum.common.errors import UserError
    try:
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
