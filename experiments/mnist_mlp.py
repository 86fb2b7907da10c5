"""Two dense layers of 512 on MNIST, the first network most courses teach.

Command:   python launch.py --config experiments/mnist_mlp.py --config.data.data_dir=...
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, after the last step
  test/accuracy 98.42 % (mean of seeds 0, 1, 2; std 0.04); 15 s
"""

from practicum.training.defaults import base


def get_config():
    config = base()
    config.total = '10 epochs'
    config.batch_size = 128
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.model = {'name': 'mlp', 'hidden': (512, 512), 'dropout': 0.0}
    config.schedule.name = 'cosine'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    return config
