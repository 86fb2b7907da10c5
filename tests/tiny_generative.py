"""The smallest real Boltzmann machine and GANs: digits of 8x8 pixels, a few steps."""

from pathlib import Path

from ml_collections import ConfigDict

from practicum.training import config as config_lib
from practicum.training.defaults import base


def machine_config(*overrides: str) -> ConfigDict:
    """Returns a locked config of 12 steps of 16 digits; overrides as for launch.py."""
    return config_lib.load(__file__, overrides)


def gan_config(*overrides: str) -> ConfigDict:
    """Returns the same for a GAN of dense layers."""
    return config_lib.load(f'{Path(__file__)}:gan', overrides)


def get_config() -> ConfigDict:
    """Persistent chains."""
    config = base()
    config.total = '12 steps'
    config.batch_size = 16
    config.log_every = '6 steps'
    config.tensorboard = False
    config.data.name = 'digits'
    config.image.size = (8, 8)
    config.model = {'name': 'rbm', 'hidden': (12,), 'layer': 1}
    config.task = {'name': 'contrastive_divergence', 'steps': 2, 'persistent': True, 'per_example': False}
    config.optimizer.learning_rate = 0.05
    config.evaluation.every = '6 steps'
    config.evaluation.batch_size = 64
    config.checkpoint.every = '6 steps'
    config.checkpoint.best_metric = ''
    return config


def gan() -> ConfigDict:
    """Both players with dropout, an average of the generator, and a rate for each."""
    config = get_config()
    config.model = {'name': 'gan', 'image_shape': (8, 8, 1), 'latent': 4, 'hidden': (8,), 'dropout': 0.2}
    config.task = {'name': 'adversarial', 'smoothing': 0.1}
    config.optimizer.learning_rate = 0.01
    config.optimizer.learning_rate_scales = (('generator/.*', 0.5),)
    config.ema_decay = 0.9
    return config
