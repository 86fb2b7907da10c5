"""Breakout from pixels, drawn on 10x10 cells, by deep Q-learning.

Command:   python launch.py --config experiments/breakout_dqn.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, mean return of 100 greedy episodes
  last step  test/mean_return 15.65, 14.07, 16.71 (seeds 0, 1, 2; random play: 0.39); 466 to 589 processor-s a seed
  best step  test/mean_return 14.33, 16.20, 16.64
"""

from practicum.training.defaults import base


def get_config():
    config = base()
    config.total = '150000 steps'
    config.batch_size = 32
    config.log_every = '5000 steps'
    config.data.source = 'seeds'
    config.model = {'name': 'q_network', 'features': (16,), 'hidden': (128,)}
    config.task = {'name': 'q_learning', 'environment': 'breakout', 'environments': 8, 'replay': 100_000,
                   'warmup': 5_000, 'exploration': 0.05, 'exploration_steps': 20_000, 'discount': 0.99,
                   'target_every': 1000, 'loss': 'squared', 'double': True}
    config.optimizer.learning_rate = 5e-4
    config.schedule.name = 'linear'
    config.evaluation.every = '10000 steps'
    config.evaluation.batch_size = 100
    config.evaluation.sets.validation.split = 'validation[:100]'
    config.evaluation.sets.test.split = 'test[:100]'
    config.checkpoint.every = '10000 steps'
    config.checkpoint.best_metric = 'validation/mean_return'
    return config
