"""Sounds as pictures: drawn chirps under noise, told apart by their spectrograms.

Command:   python launch.py --config experiments/chirps.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config    test/accuracy 98.23 % (mean of seeds 0, 1, 2; std 0.15); 53 s
  linear        test/accuracy 28.2 % (seed 0); 12 s
  waves         test/accuracy 21.8 % (seed 0); 35 s
  linear_waves  test/accuracy 21.4 % (seed 0); 16 s
"""

from practicum.training.defaults import base


def get_config():
    """A small convolutional network on spectrograms of 64x64 pixels."""
    config = base()
    config.total = '10 epochs'
    config.batch_size = 32
    config.data.source = 'sounds'
    config.data.name = 'chirps'
    config.image.size = (64, 64)
    config.image.mean = (0.74,)
    config.image.std = (0.07,)
    config.model = {'name': 'small_cnn', 'features': (16, 32, 32), 'hidden': 64, 'block_dropout': (0.0, 0.0, 0.0)}
    config.task.per_example = True
    config.optimizer.learning_rate = 2e-3
    config.schedule.name = 'cosine'
    config.schedule.warmup = '1 epochs'
    config.evaluation.every = '5 epochs'
    config.checkpoint.every = '5 epochs'
    return config


def linear():
    """Softmax regression on the same spectrograms."""
    config = get_config()
    config.model = {'name': 'mlp', 'hidden': ()}
    config.optimizer.learning_rate = 1e-4
    return config


def waves():
    """Two dense layers of 512 on the 8,000 samples of the wave itself."""
    config = get_config()
    config.image.sound.window = 0
    config.image.size = base().image.size
    config.image.mean, config.image.std = (0.0,), (1.0,)
    config.task.per_example = False  # there are no pictures to draw
    config.model = {'name': 'mlp', 'hidden': (512, 512), 'dropout': 0.3}
    return config


def linear_waves():
    """Softmax regression on the wave itself."""
    config = waves()
    config.model = {'name': 'mlp', 'hidden': ()}
    return config
