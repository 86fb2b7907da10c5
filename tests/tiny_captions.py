"""The smallest captioner: images of one colour, and sentences that name it. Tests change what they are about."""

from pathlib import Path

import numpy as np
from PIL import Image

from practicum.training.defaults import base

COLOURS = {'red': (220, 30, 30), 'green': (30, 200, 40), 'blue': (30, 50, 220)}


def write_folder(folder: Path, count: int = 24, captions: int = 2) -> Path:
    """Writes images/<i>.png of 12x12 pixels and captions.txt; returns the folder."""
    (folder / 'images').mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ['image,caption']
    for i in range(count):
        name = list(COLOURS)[i % len(COLOURS)]
        noise = rng.integers(-25, 25, (12, 12, 3))
        picture = np.clip(np.asarray(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / 'images' / f'{i}.png')
        lines += [f'{i}.png,A picture that is {name} .', f'{i}.png,"It is {name}, all of it"'][:captions]
    (folder / 'captions.txt').write_text('\n'.join(lines) + '\n')
    return folder


def get_config():
    config = base()
    config.data.source = 'caption_folder'
    config.data.train = 'train[:-8]'
    config.image.size = (12, 12)
    config.image.channels = 3
    config.model = {'name': 'captioner', 'body': {'name': 'small_cnn', 'features': (16,), 'block_dropout': (0.0,)},
                    'endpoint': 'block1', 'hidden': 24, 'embedding': 16, 'dropout': 0.1}
    config.task = {'name': 'captioning', 'beam_size': 2}
    config.batch_size = 8
    config.total = '12 steps'
    config.log_every = '4 steps'
    config.tensorboard = False
    config.optimizer.learning_rate = 0.02
    config.evaluation.every = '6 steps'
    config.evaluation.batch_size = 3
    config.evaluation.sets.validation.split = 'train[-8:-4]'
    config.evaluation.sets.test.split = 'train[-4:]'
    config.checkpoint.every = '6 steps'
    config.checkpoint.best_metric = 'validation/cider'
    return config
