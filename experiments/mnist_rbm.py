"""A restricted Boltzmann machine on MNIST: binary units that learn to dream of digits.

Command:   python launch.py --config experiments/mnist_rbm.py --config.data.data_dir=...
           then its log-probability: python benchmarks/log_probability.py runs/mnist_rbm
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config  -115.58 nats +- 0.20 (seeds 0, 1, 2); 49 to 54 s, and 34 s for the log-probability
  cd3         -113.69 nats +- 0.16 (seeds 0, 1, 2); 75 to 77 s
  pcd         -96.57 nats +- 0.08 (seeds 0, 1, 2); 56 to 61 s
"""

from practicum.training.defaults import base


def get_config():
    """Contrastive divergence of one step: 500 hidden units, chains that begin at the data."""
    config = base()
    config.total = '10 epochs'
    config.batch_size = 100
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.model = {'name': 'rbm', 'hidden': (500,), 'layer': 1}
    config.task = {'name': 'contrastive_divergence', 'steps': 1, 'persistent': False, 'per_example': True}
    config.optimizer.name = 'sgd'
    config.optimizer.learning_rate = 0.02  # faster, and the chains run away to where no digit is
    config.optimizer.momentum = 0.5
    config.schedule.name = 'linear'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    config.evaluation.every = '2 epochs'
    config.checkpoint.best_metric = ''
    return config


def cd3():
    """Chains of three steps, CD-3."""
    config = get_config()
    config.task.steps = 3
    return config


def pcd():
    """A hundred chains that go on from batch to batch, a step each: persistent contrastive divergence."""
    config = get_config()
    config.task.persistent = True
    config.optimizer.learning_rate = 0.05  # the chains must keep up with the weights
    return config
