"""Examples that are regions of images with boxes: for classifiers that say whether a part of an image is an object.

With `config.data.regions.kind` any source with boxes gives them, for R-CNN (Girshick et al. 2014, "Rich feature
hierarchies for accurate object detection and semantic segmentation"). Images are read in
config.data.regions.image_size, what is cut out of them has config.image.size. The features of a region:
  image       uint8 [n, height, width, channels]
  label       int32 [n], 0 for the background, then the classes of the objects
  box_target  float32 [n, 4], how the object's box differs from the region: centre x and y in shares of
              the region's width and height, and the logarithms of the ratios of widths and of heights (appendix C of
              the paper); 0 for the background. No augmentation moves it: those that would have to are refused

Folds and parts of splits are of images, so all regions of an image are on the same side.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..common import box_overlaps
from ..common.console import ProgressLog
from ..common.errors import UserError
from ..common.threads import parallel_map
from . import proposals
from .arrays import ArraySource
from .source import Source

BACKGROUND = 'background'
TARGET = 'box_target'  # it would have to move with the image, and cannot

_HARD_OVERLAP = 0.1  # with an object, from which on background is hard to tell from it, as in Fast R-CNN
_HARD_SHARE = 0.5  # of an image's background that is such, where there is enough
_IN_CROWD = 0.5  # share of a region that lies in a crowd, from which on nothing is learned from it


def cut_regions(source: Source, data: Mapping[str, Any], image: Mapping[str, Any], *, training: bool) -> ArraySource:
    """Returns the regions of all images of a source, one image after the other.

    In training `regions.per_image` of each, at most a share of `positive_share` of them objects, drawn once and always
    alike: regions that overlap an object by `positive_overlap` or more are of its class, its own box among them; all
    others are background, half of them such that an object is partly in them. Regions in crowds are left out. Else all
    regions of every image, and an object's own box is not among them: nobody knows it.

    Args:
      source: of images with boxes in the size regions.image_size.
      data: config.data.
      image: config.image.
      training: see above.

    Raises:
      UserError: images without boxes, or more regions than config.data.memory_limit_mb has room for.
    """
    regions = data['regions']
    if not source.has_boxes:
        raise UserError(f"config.data.regions.kind = {regions['kind']!r}: {source.name} has no boxes around objects")
    count, info = len(source), source.info
    described = source.describe(np.arange(count))
    tick = ProgressLog(f'looking for regions in {source.name}', count)
    chosen, facts, labels, targets = [], [], [], []
    for number, (found, example) in enumerate(parallel_map(lambda i: _look(source, i, regions), range(count))):
        there = example['box_labels'] >= 0
        truth = {name: example[name][there] for name in ('boxes', 'box_labels', 'box_crowd')}
        if training:
            found = _draw(found, truth, regions, np.random.default_rng(number))
        label, target = _compare(found, truth, regions['positive_overlap'])
        objects = np.column_stack([truth['box_labels'], truth['box_crowd'], truth['boxes']]).astype(float).tolist()
        chosen.append(found)
        labels.append(label)
        targets.append(target)
        facts += [described[number] | {'image_number': number, 'region': region, 'objects': objects}
                  for region in found.tolist()]
        tick(number)
    _check_memory(len(facts), image, data, source.name)
    size, context = tuple(image['size']), regions['context']
    cut = np.empty((len(facts), *size, image['channels']), np.uint8)
    places = np.split(cut, np.cumsum([len(found) for found in chosen])[:-1])  # views

    def fill(number: int) -> None:
        pixels = source.read(np.array([number]))['image'][0]
        places[number][...] = proposals.cut_out(pixels, chosen[number], size, context, image['mean'])
    list(parallel_map(fill, range(count)))
    return ArraySource({'image': cut, 'label': np.concatenate(labels), TARGET: np.concatenate(targets)},
                       info.replace(class_names=(BACKGROUND, *(info.class_names or ()))), facts, source.name)


def box_targets(regions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns how boxes differ from regions, float32 [n, 4], see above; the inverse is `region_detection.refine`.

    Args:
      regions: [n, 4].
      boxes: [n, 4], all of them with an area.
    """
    regions, boxes = regions.astype(np.float64), boxes.astype(np.float64)
    sides, wanted = regions[:, 2:] - regions[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - regions[:, :2] - regions[:, 2:]) / 2 / sides
    return np.concatenate([shift, np.log(wanted / sides)], axis=1).astype(np.float32)


def _look(source: Source, number: int, regions: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the regions of an image, and its other features."""
    example = {name: values[0] for name, values in source.read(np.array([number])).items()}
    return proposals.find(example['image'], regions), example


def _compare(found: np.ndarray, truth: Mapping[str, np.ndarray], enough: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels, int32 [n], and targets, float32 [n, 4], of regions by the object that each overlaps most."""
    labels, targets = np.zeros(len(found), np.int32), np.zeros((len(found), 4), np.float32)
    to_find = truth['box_crowd'] == 0
    boxes = truth['boxes'][to_find]
    if len(boxes):
        overlaps = box_overlaps.iou(found, boxes)
        best = overlaps.argmax(axis=1)
        right = overlaps.max(axis=1) >= enough
        labels[right] = 1 + truth['box_labels'][to_find][best[right]]
        targets[right] = box_targets(found[right], boxes[best[right]])
    return labels, targets


def _draw(found: np.ndarray, truth: Mapping[str, np.ndarray], regions: Mapping[str, Any], generator: np.random.Generator
          ) -> np.ndarray:
    """Returns the regions of an image that are learned from, objects first."""
    crowd = truth['box_crowd'] != 0
    boxes = truth['boxes'][~crowd]
    found = np.concatenate([boxes, found])
    overlaps = box_overlaps.iou(found, boxes).max(axis=1, initial=0)
    in_crowd = (box_overlaps.intersection(found, truth['boxes'][crowd]).max(axis=1, initial=0)
                >= _IN_CROWD * box_overlaps.area(found))
    count = regions['per_image']
    positive = overlaps >= regions['positive_overlap']
    hard = ~positive & ~in_crowd & (overlaps >= _HARD_OVERLAP)
    easy = ~positive & ~in_crowd & ~hard
    positives, hards, easies = (generator.permutation(np.flatnonzero(kind)) for kind in (positive, hard, easy))
    positives = positives[:max(1, round(count * regions['positive_share']))]
    free = count - len(positives)
    few = max(round(free * _HARD_SHARE), free - len(easies))
    hards = hards[:few]
    return found[np.concatenate([positives, hards, easies[:free - len(hards)]])]


def _check_memory(count: int, image: Mapping[str, Any], data: Mapping[str, Any], name: str) -> None:
    height, width = image['size']
    megabytes = count * height * width * image['channels'] / 1e6
    if megabytes > data['memory_limit_mb']:
        raise UserError(f"the {count:,} regions of {name} take {megabytes:,.0f} MB, more than "
                        f"config.data.memory_limit_mb = {data['memory_limit_mb']}: raise it, or lower "
                        'config.image.size, config.data.regions.per_image or .limit')
