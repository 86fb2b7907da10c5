"""Two dense layers of 128 on scikit-learn's digits: the quickest way to see a whole run.

Command:   python launch.py --config experiments/digits_mlp.py
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, after the last step
  test/accuracy 97.86 % (mean of seeds 0, 1, 2; std 0.16); 2 s
"""

from practicum.training.defaults import base


def get_config():
    config = base()
    config.total = '40 epochs'
    config.batch_size = 64
    config.data.name = 'digits'
    config.image.size = (8, 8)
    config.model = {'name': 'mlp', 'hidden': (128, 128), 'dropout': 0.2}
    config.schedule.name = 'cosine'
    config.evaluation.every = '5 epochs'
    config.evaluation.batch_size = 360
    config.checkpoint.every = '5 epochs'
    return config


def search_space(config):
    """What is usually tried by hand on a small classifier."""
    del config
    return {'optimizer.name': ('adam', 'sgd'), 'optimizer.learning_rate': 'log:1e-4:1',
            'model.hidden': ((32,), (128,), (128, 128), (512, 512)), 'model.dropout': '0:0.6:0.1'}
