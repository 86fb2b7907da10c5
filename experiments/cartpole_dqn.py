"""A pole on a cart is balanced by deep Q-learning, from trial and error alone.

Command:   python launch.py --config experiments/cartpole_dqn.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, mean return of 100 greedy episodes of at most 500 steps, best and last step alike
  test/mean_return 500.0 in each of the seeds 0, 1, 2, 3 (random play: 22.3); 38 to 49 processor-s a seed
"""

from practicum.training.defaults import base


def get_config():
    config = base()
    config.total = '20000 steps'
    config.batch_size = 128
    config.log_every = '1000 steps'
    config.data.source = 'seeds'
    config.model = {'name': 'mlp', 'hidden': (120, 84)}
    config.task = {'name': 'q_learning', 'environment': 'cartpole', 'environments': 8, 'replay': 10_000,
                   'warmup': 1_000, 'exploration': 0.05, 'exploration_steps': 6_000, 'discount': 0.99,
                   'target_every': 50, 'loss': 'squared', 'double': True}
    config.optimizer.learning_rate = 2.5e-4
    config.evaluation.every = '1000 steps'
    config.evaluation.batch_size = 100
    config.evaluation.sets.validation.split = 'validation[:100]'
    config.evaluation.sets.test.split = 'test[:100]'
    config.checkpoint.every = '1000 steps'
    config.checkpoint.best_metric = 'validation/mean_return'
    return config
