"""A variational autoencoder on MNIST, whose codes can be drawn: digits that nobody wrote.

Command:   python launch.py --config experiments/mnist_vae.py --config.data.data_dir=...
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config  test/loss 103.65 nats +- 0.03 (seeds 0, 1, 2); 84 to 116 s
  plane       test/loss 152.06 nats (seed 0); 91 s
  binary      not measured
"""

from practicum.training.defaults import base


def get_config():
    """One hidden layer of 400, codes of 20 numbers."""
    config = base()
    config.total = '15 epochs'
    config.batch_size = 128
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.model = {'name': 'vae', 'image_shape': (28, 28, 1), 'hidden': (400,), 'code': 20}
    config.task = {'name': 'variational', 'binary': False, 'per_example': True}
    config.optimizer.learning_rate = 3e-3
    config.schedule.name = 'cosine'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    config.checkpoint.best_metric = 'validation/loss'
    config.checkpoint.best_mode = 'min'
    return config


def binary():
    """Pixels drawn to be 0 or 1, so that the loss bounds a log-probability."""
    config = get_config()
    config.task.binary = True
    return config


def plane():
    """Codes of two numbers, which can be drawn as a map of all digits."""
    config = get_config()
    config.model.code = 2
    return config
