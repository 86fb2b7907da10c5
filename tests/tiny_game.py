"""The smallest reinforcement learning: a pole on a cart, three of them, a few transitions. Tests change what they are
about.
"""

from ml_collections import ConfigDict

from practicum.training import config as config_lib
from practicum.training.defaults import base


def game_config(*overrides: str) -> ConfigDict:
    """Returns a locked config of 12 steps of 8 transitions that evaluates and saves every 4; overrides as usual."""
    return config_lib.load(__file__, overrides)


def get_config() -> ConfigDict:
    config = base()
    config.total = '12 steps'
    config.batch_size = 8
    config.log_every = '3 steps'
    config.tensorboard = False
    config.data.source = 'seeds'
    config.model = {'name': 'mlp', 'hidden': (8,)}
    config.task = {'name': 'q_learning', 'environment': 'cartpole', 'environments': 3, 'replay': 50, 'warmup': 15,
                   'exploration': 0.1, 'exploration_steps': 10, 'target_every': 3, 'loss': 'squared', 'double': True}
    config.optimizer.learning_rate = 0.01
    config.evaluation.every = '4 steps'
    config.evaluation.sets.validation.split = 'validation[:6]'
    config.evaluation.sets.test.split = 'test[:6]'
    config.checkpoint.every = '4 steps'
    config.checkpoint.best_metric = 'validation/mean_return'
    return config
