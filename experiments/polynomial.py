"""Which trendline is better? Polynomials of degree 1 and 9 through ten points around a line.

Command:   python launch.py --config experiments/polynomial.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, mean squared error after the last step, seed 0, without TensorBoard; processor seconds
  get_config           train 0.313,   test 0.258;  8 s
  degree9              train 1.6e-07, test 545; 10 s
  degree9_many_points  train 0.254,   test 0.247;  9 s
"""

from practicum.training.defaults import base


def get_config():
    """Degree 1, a straight line."""
    config = base()
    config.total = '10000 steps'
    config.batch_size = 10
    config.log_every = '500 steps'
    config.data.source = 'points'
    config.data.name = 'noisy_line'
    config.data.train = 'train[:10]'
    config.model = {'name': 'polynomial', 'degree': 1}
    config.task = {'name': 'regression'}
    config.optimizer.learning_rate = 0.1
    config.schedule.name = 'cosine'
    config.evaluation.every = '500 steps'
    config.evaluation.sets.train_points = {'split': 'train[:10]', 'invert': False}
    config.evaluation.sets.validation.split = 'validation[:100]'
    config.evaluation.periodic = ('validation',)
    config.evaluation.final = ('train_points', 'test')
    config.evaluation.batch_size = 2000
    config.checkpoint.every = ''
    config.checkpoint.best_metric = ''
    return config


def degree9():
    """As many coefficients as points: it can go through all of them."""
    config = get_config()
    config.model.degree = 9
    return config


def degree9_many_points():
    """The same degree with 1,000 points to learn from."""
    config = degree9()
    config.data.train = 'train[:1000]'
    config.batch_size = 100
    config.evaluation.sets.train_points.split = 'train[:1000]'
    return config
