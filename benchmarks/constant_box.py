"""AP of one and the same box in every image: what a detector must exceed to have learned anything.

    python benchmarks/constant_box.py --config raccoon_detector
    python benchmarks/constant_box.py --config bccd_detector --config.data.name=DIR

For each class the box whose edges are the medians of those of the class's training boxes, in shares of the width and
height of their images, is said to be in every image, with one and the same score: which of them counts first in AP is
decided by the order of the images. Prints a JSON line for each final evaluation set of the experiment.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare()

import numpy as np

from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.input_pipeline.source import Source
from practicum.tasks import detection_metrics
from practicum.tasks.detection_metrics import DetectedImage
from practicum.training import components, evaluation_sets
from practicum.training import config as config_lib


def median_boxes(train: Source) -> np.ndarray:
    """Returns the median box of each class, float64 [classes, 4] in shares of the image's sides; NaN for no box."""
    rows = [(example['box_labels'][there], example['boxes'][there]) for example in _examples(train)
            if (there := (example['box_labels'] >= 0) & (example['box_crowd'] == 0)).any()]
    labels, boxes = map(np.concatenate, zip(*rows)) if rows else (np.zeros(0, int), np.zeros((0, 4)))
    result = np.full((len(train.info.class_names), 4), np.nan)
    for label in np.unique(labels):
        result[label] = np.median(boxes[labels == label].astype(np.float64), axis=0)
    return result / _sides(train.info.input_size)


def scores_of(constant: np.ndarray, evaluated: Source) -> dict[str, float]:
    """Returns COCO's scores of saying that these boxes are in every image, see `detection_metrics.coco_scores`.

    Args:
      constant: of `median_boxes`.
      evaluated: the images.
    """
    classes = np.flatnonzero(~np.isnan(constant).any(axis=1))
    images = []
    described = evaluated.describe(np.arange(len(evaluated)))
    for example, metadata in zip(_examples(evaluated), described):
        height, width = evaluated.info.input_size
        own = _sides((metadata.get('height', height), metadata.get('width', width)))
        there = example['box_labels'] >= 0
        truth = example['boxes'][there].astype(np.float64) / _sides((height, width))
        images.append(DetectedImage(constant[classes] * own, np.ones(len(classes)), classes, truth * own,
                                    example['box_labels'][there], example['box_crowd'][there] > 0))
    return detection_metrics.evaluate(images, len(constant))[0]


def _sides(size: tuple[int, int]) -> np.ndarray:
    """What left, top, right and bottom are divided by; of (height, width)."""
    return np.array([size[1], size[0]] * 2, np.float64)


def _examples(source: Source) -> Iterator[dict[str, Any]]:
    for index in range(len(source)):
        yield {name: values[0] for name, values in source.read(np.array([index])).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', required=True, help='a detection experiment')
    args, rest = parser.parse_known_args()
    if not all(text.startswith('--config.') for text in rest):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        config = config_lib.load(args.config, [text.removeprefix('--config.') for text in rest])
        components.check_fields(config)
        train = sources.open_split(config.data, config.image, config.data.train)
        if not train.has_boxes:
            raise UserError(f'{args.config}: its examples have no boxes')
        constant = median_boxes(train)
        boxes = {name: None if np.isnan(box).any() else box.round(4).tolist()
                 for name, box in zip(train.info.class_names, constant)}
        for name in config.evaluation.final:
            chosen = evaluation_sets.resolve(config, name)
            found = scores_of(constant, sources.open_split(chosen.data, chosen.image, chosen.split))
            print(json.dumps({'experiment': config.experiment, 'set': name, 'boxes': boxes,
                              **{key: round(value, 4) for key, value in found.items() if not np.isnan(value)}}),
                  flush=True)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
