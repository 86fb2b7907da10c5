"""One pass over the examples of a set: what their pixels are like, which classes they have, what tells them apart."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ...common.console import ProgressLog
from ...common.errors import UserError
from ...common.threads import parallel_map
from ...input_pipeline import images, preprocessing
from ...input_pipeline.arrays import ArraySource
from ...input_pipeline.duplicates import Fingerprints
from ...input_pipeline.source import Source
from .data_sets import DataSet, read_sound, sample

MOST_STREAMED = 10_000  # examples that are read of a set that is not in memory
MOST_IN_MEMORY = 200_000
MOST_SIZES = 5_000  # files whose headers are looked at
MOST_COMPARED = 50_000  # images that are compared with all others
_CHUNK = 64
_BINS = 64


@dataclasses.dataclass
class Pixels:
    """Pixels of images as config.image.mean and std take them: of integers in [0, 1], floats as they are.

    Attributes:
      images: how many were looked at; of videos, frames.
      mean, std: float64 [channels], over all pixels of all of them.
      low, high: the lowest and the highest value.
      mean_image: float64 [height, width, channels].
      histogram: int [channels, bins], of equal width from `low_bin` to `high_bin`; None of floats.
    """
    images: int
    mean: np.ndarray
    std: np.ndarray
    low: float
    high: float
    mean_image: np.ndarray
    histogram: np.ndarray | None


@dataclasses.dataclass
class Survey:
    """What was found of a set.

    Attributes:
      indices: int [n], the examples that were looked at.
      total: how many there are.
      damaged: example -> why it cannot be read, of those that turned out to be.
      features: name -> (shape of one, type).
      pixels: None of what are no images.
      prints: of the images, in the order of `indices`; None likewise.
      arrays: features that are neither images nor masks, [n, ...].
      mask_pixels: int64 [n, classes], of masks; None without.
    """
    indices: np.ndarray
    total: int
    damaged: dict[int, str]
    features: dict[str, tuple[tuple[int, ...], str]]
    pixels: Pixels | None = None
    prints: Fingerprints | None = None
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    mask_pixels: np.ndarray | None = None

    @property
    def complete(self) -> bool:
        """Whether every example was looked at."""
        return len(self.indices) + len(self.damaged) == self.total


def survey(data_set: DataSet, seed: int) -> Survey:
    """Looks at a set once: at every example if they are in memory, else at no more than 10,000, drawn evenly.

    Raises:
      UserError: an example cannot be read.
      Interrupted: the process was asked to stop.
    """
    source = data_set.source
    indices = sample(len(source), MOST_IN_MEMORY if isinstance(source, ArraySource) else MOST_STREAMED, seed)
    chunks = [indices[i:i + _CHUNK] for i in range(0, len(indices), _CHUNK)]
    classes = len(source.info.class_names or ()) or 256
    block = data_set.image.local_mean
    even_out = jax.jit(lambda values: preprocessing.even_out(preprocessing.scale(values), block)) if block else None

    def look(chunk: np.ndarray) -> dict[str, Any]:
        examples, places, damaged = read_sound(source, chunk)
        part: dict[str, Any] = {'places': places, 'damaged': damaged}
        if examples is None:
            return part
        part['features'] = {name: (values.shape[1:], str(values.dtype)) for name, values in examples.items()}
        if 'image' in examples:
            pixels = examples.pop('image')
            part['prints'] = Fingerprints.of(pixels)
            pixels = pixels.reshape(-1, *pixels.shape[-3:])
            part['pixels'] = _sums(pixels if even_out is None else np.asarray(even_out(pixels)))
        if 'segmentation_mask' in examples:
            masks = examples.pop('segmentation_mask')
            part['masks'] = np.stack([np.bincount(mask.ravel(), minlength=classes)[:classes] for mask in masks])
        return part | {'arrays': examples}

    parts, damaged, sums, tick = [], {}, None, ProgressLog(f'looking at {data_set.name}', len(chunks))
    for number, part in enumerate(parallel_map(look, chunks, data_set.data.workers), start=1):
        if 'pixels' in part:
            sums = _added(sums, part.pop('pixels'))
        damaged |= part['damaged']
        if 'features' in part:
            parts.append(part)
        tick(number)
    if not parts:
        raise UserError(f'{data_set.name}: none of its examples can be read: {next(iter(damaged.values()))}')
    found = Survey(np.concatenate([part['places'] for part in parts]), len(source), damaged, parts[0]['features'])
    if sums is not None:
        found.pixels = _statistics(sums)
        found.prints = Fingerprints.joined([part['prints'] for part in parts])
    if 'masks' in parts[0]:
        found.mask_pixels = np.concatenate([part['masks'] for part in parts])
    found.arrays = {name: np.concatenate([part['arrays'][name] for part in parts]) for name in parts[0]['arrays']}
    return found


def own_sizes(source: Source, seed: int, workers: int = 0) -> np.ndarray:
    """Returns (height, width) of image files as they are before they are resized, int [n, 2].

    Args:
      source: of images.
      seed: what at most 5,000 files of many are drawn from.
      workers: threads; 0 for one per core.

    Returns:
      Of those that are known: [0, 2] where the images are no files of their own.
    """
    if source.has_boxes:
        facts = source.describe(sample(len(source), MOST_SIZES, seed))
        return np.array([(one['height'], one['width']) for one in facts if 'height' in one], int).reshape(-1, 2)
    files = [part.files[i] for part in source.taken if part.files is not None for i in part.positions.tolist()]
    files = [files[i] for i in sample(len(files), MOST_SIZES, seed)]

    def size(file: Any) -> tuple[int, int] | None:
        try:
            return images.upright_size(file)
        except UserError:
            return None
    found = [one for one in parallel_map(size, files, workers) if one is not None]
    return np.array(found, int).reshape(-1, 2)


def _sums(pixels: np.ndarray) -> dict[str, Any]:
    """Returns what adds up to statistics of images [n, height, width, channels], exact for integers."""
    channels = [pixels[..., channel].ravel() for channel in range(pixels.shape[-1])]
    found: dict[str, Any] = {'images': len(pixels), 'image': pixels.sum(axis=0, dtype=np.float64)}
    if pixels.dtype.kind == 'u':
        white = np.iinfo(pixels.dtype).max
        found['counts'] = np.stack([np.bincount(values, minlength=white + 1) for values in channels])
        return found
    wide = [values.astype(np.float64) for values in channels]
    return found | {'sum': np.array([values.sum() for values in wide]), 'low': float(pixels.min()),
                    'square': np.array([(values * values).sum() for values in wide]), 'high': float(pixels.max())}


def _added(total: dict[str, Any] | None, part: Mapping[str, Any]) -> dict[str, Any]:
    if total is None:
        return dict(part)
    return {name: {'low': min, 'high': max}.get(name, np.add)(total[name], value) for name, value in part.items()}


def _statistics(sums: Mapping[str, Any]) -> Pixels:
    count = int(sums['images'])
    mean_image = sums['image'] / count
    pixels = count * mean_image.shape[0] * mean_image.shape[1]
    if 'counts' not in sums:
        mean = sums['sum'] / pixels
        std = np.sqrt(np.maximum(sums['square'] / pixels - mean * mean, 0))
        return Pixels(count, mean, std, float(sums['low']), float(sums['high']), mean_image, None)
    counts = sums['counts']
    white = counts.shape[1] - 1
    values = np.arange(white + 1) / white
    mean = counts @ values / pixels
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / pixels)
    there = np.flatnonzero(counts.sum(0))
    histogram = counts.reshape(len(counts), _BINS, -1).sum(-1)
    return Pixels(count, mean, std, float(values[there[0]]), float(values[there[-1]]), mean_image / white, histogram)
