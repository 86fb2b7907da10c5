"""The smallest real autoencoder: digits of which one is left out, a few steps."""

from pathlib import Path

from ml_collections import ConfigDict

from practicum.training import config as config_lib
from practicum.training.defaults import base

KNOWN, LEFT_OUT = ('[0-8]',), ('9',)


def reconstruction_config(*overrides: str) -> ConfigDict:
    """Returns a locked config of 12 steps of 16 digits; overrides as for launch.py."""
    return config_lib.load(__file__, overrides)


def variational_config(*overrides: str) -> ConfigDict:
    """Returns the same for a variational autoencoder with codes of two numbers."""
    return config_lib.load(f'{Path(__file__)}:variational', overrides)


def get_config() -> ConfigDict:
    """Noise on what the model sees; the digit 9 is an anomaly."""
    config = base()
    config.total = '12 steps'
    config.batch_size = 16
    config.log_every = '6 steps'
    config.tensorboard = False
    config.data.name = 'digits'
    config.data.merge_classes = (('known', KNOWN), ('unknown', ()))
    config.image.size = (8, 8)
    config.model = {'name': 'autoencoder', 'image_shape': (8, 8, 1), 'hidden': (12,), 'code': 4}
    config.task = {'name': 'reconstruction', 'loss': 'squared_error', 'noise': 0.3, 'anomaly': ('unknown',)}
    config.evaluation.every = '6 steps'
    config.evaluation.batch_size = 64
    config.evaluation.sets.test.data = {'merge_classes': (('known', KNOWN), ('unknown', LEFT_OUT))}
    config.checkpoint.every = '6 steps'
    config.checkpoint.best_metric = 'validation/psnr'
    return config


def variational() -> ConfigDict:
    """All digits, and codes that are drawn."""
    config = get_config()
    config.data.merge_classes = ()
    config.evaluation.sets.test.data.merge_classes = ()
    config.model = {'name': 'vae', 'image_shape': (8, 8, 1), 'hidden': (12,), 'code': 2}
    config.task = {'name': 'variational', 'binary': False, 'per_example': True}
    config.checkpoint.best_metric = 'validation/loss'
    config.checkpoint.best_mode = 'min'
    return config
