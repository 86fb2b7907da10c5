"""The smallest real experiment: digits, an MLP, a few steps. Tests change what they are about."""

from ml_collections import ConfigDict

from practicum.training import config as config_lib
from practicum.training.defaults import base


def tiny_config(*overrides: str) -> ConfigDict:
    """Returns a locked config of 12 steps of 16 digits that evaluates and saves every 4; overrides as for launch.py."""
    return config_lib.load(__file__, overrides)


def get_config() -> ConfigDict:
    config = base()
    config.total = '12 steps'
    config.batch_size = 16
    config.log_every = '3 steps'
    config.tensorboard = False
    config.figures = False  # a third of the time of so small a run
    config.data.name = 'digits'
    config.image.size = (8, 8)
    config.model = {'name': 'mlp', 'hidden': (16,), 'dropout': 0.2}
    config.augment.shift = 0.1
    config.evaluation.every = '4 steps'
    config.evaluation.batch_size = 64
    config.checkpoint.every = '4 steps'
    return config
