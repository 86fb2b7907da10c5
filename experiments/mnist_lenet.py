"""LeNet on MNIST and what data and augmentation do for it.

Command:   python launch.py --config experiments/mnist_lenet.py --config.data.data_dir=...
Measured:
"""

from experiments.base import base


def get_config():
    """All training digits."""
    config = base()
    config.total = '10 epochs'
    config.batch_size = 64
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.image.size = (28, 28)
    config.model = {'name': 'lenet', 'features': (20, 50), 'hidden': 500, 'relu_after_pool1': False, 'dropout': 0.0}
    config.optimizer.learning_rate = 1e-3
    config.evaluation.sets.validation.split = 'train[-5000:]'
    config.evaluation.sets.test_inverted = {'split': 'test', 'invert': True}
    config.evaluation.final = ('test', 'test_inverted')
    return config
