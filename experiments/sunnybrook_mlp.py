"""The course's first network for the left ventricle: one hidden layer, 100 million parameters, one epoch.

Command:   python launch.py --config experiments/sunnybrook_mlp.py --config.data.manual_dir=...
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, after the last step
  test/accuracy 51.03 % (mean of seeds 0, 1, 2; std 1.21), test/dice 0.039; 108 s beside another run
"""

from practicum.training.defaults import base


def get_config():
    """Gradient descent image by image, 90 % of the slices for training and 10 % for the test."""
    config = base()
    config.total = '1 epochs'
    config.batch_size = 1
    config.data.name = 'sunnybrook/by_image'
    config.image.size = (256, 256)
    config.image.mean = (0.12,)
    config.image.std = (0.18,)
    config.model = {'name': 'segmentation_mlp', 'hidden': 512}
    config.task = {'name': 'segmentation', 'loss': 'cross_entropy', 'class_weights': ()}
    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.0
    config.optimizer.learning_rate = 0.01
    config.evaluation.batch_size = 8
    config.evaluation.periodic = ()
    config.checkpoint.best_metric = ''
    return config
