"""Generative adversarial networks on MNIST: digits that nobody wrote, by a generator that learns from its critic.

Command:   python launch.py --config experiments/mnist_gan.py --config.data.data_dir=...
           then its Frechet distance: python benchmarks/frechet.py runs/mnist_gan --classifier runs/mnist_lenet-small
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config  Frechet distance 18.4 +- 0.6, confidence 0.901 (seeds 0, 1, 2); 417 to 441 s
  dcgan       Frechet distance 50.4 +- 2.6, confidence 0.873 (seeds 0, 1, 2); 415 to 424 s
              Training digits: 3.11, 0.981
"""

from practicum.training.defaults import base


def get_config():
    """Dense layers of 256 and 512, latent points of 64 numbers."""
    config = base()
    config.total = '50 epochs'
    config.batch_size = 128
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.model = {'name': 'gan', 'image_shape': (28, 28, 1), 'latent': 64, 'hidden': (256, 512), 'dropout': 0.3}
    config.task = {'name': 'adversarial', 'smoothing': 0.1}
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.5
    config.optimizer.learning_rate_scales = (('generator/.*', 1.0), ('discriminator/.*', 1.0))
    config.ema_decay = 0.999
    config.evaluation.sets.validation.split = 'train[-5000:]'
    config.evaluation.every = '5 epochs'
    config.checkpoint.best_metric = ''
    return config


def dcgan():
    """Transposed convolutions of 32 and 16 filters, and convolutions of 16 and 32."""
    config = get_config()
    config.total = '24 epochs'
    config.batch_size = 64
    config.model = {'name': 'dcgan', 'image_shape': (28, 28, 1), 'latent': 64, 'filters': (32, 16), 'dropout': 0.0}
    config.evaluation.every = '3 epochs'
    return config
