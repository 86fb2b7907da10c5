"""The smallest real segmentation: bright discs on noise, an FCN of a few features, a few steps."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from practicum.training.defaults import base

SIZE = 48


def disc(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image, uint8 [48, 48], and its mask, uint8 [48, 48] with the disc as class 1."""
    draw = np.random.RandomState(index)
    y, x, radius = draw.uniform(14, 34), draw.uniform(14, 34), draw.uniform(6, 12)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mask = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2).astype(np.uint8)
    return (draw.uniform(0, 80, mask.shape) + 150 * mask).astype(np.uint8), mask


def masks_and_images(root: Path, *, count: int = 12, splits: tuple[str, ...] = ('train', 'validation', 'test')) -> Path:
    """Writes <root>/<split>/{images,masks}/<n>.png and returns the root."""
    for number, split in enumerate(splits):
        for kind in ('images', 'masks'):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            for kind, pixels in zip(('images', 'masks'), disc(100 * number + i)):
                Image.fromarray(pixels).save(root / split / kind / f'{i:03}.png')
    return root


def get_config() -> ConfigDict:
    """20 steps of 8 images; config.data.name must be set to a folder of `masks_and_images`."""
    config = base()
    config.total = '20 steps'
    config.batch_size = 8
    config.log_every = '5 steps'
    config.tensorboard = False
    config.data.source = 'mask_folder'
    config.image.size = (SIZE, SIZE)
    config.augment.rotation = 30.0
    config.model = {'name': 'fcn', 'features': (4, 8, 8, 8)}
    config.task = {'name': 'segmentation', 'loss': 'cross_entropy_dice', 'class_weights': ()}
    config.optimizer.learning_rate = 1e-2
    config.evaluation.every = '10 steps'
    config.evaluation.batch_size = 5
    config.checkpoint.every = '10 steps'
    config.checkpoint.best_metric = 'validation/dice'
    return config
