"""LeNet on the handwritten digits that come with scikit-learn; what `make run` trains.

Command:   python launch.py --config experiments/digits_lenet.py
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, after the last step
  test/accuracy 98.89 % (mean of seeds 0, 1, 2; std 0.28); 10 s
"""

from practicum.training.defaults import base


def get_config():
    config = base()
    config.total = '60 epochs'
    config.batch_size = 64
    config.data.name = 'digits'
    config.image.size = (8, 8)
    config.model = {'name': 'lenet', 'features': (32, 64), 'hidden': 256, 'padding': 'SAME',
                    'relu_after_pool1': True, 'dropout': 0.3}
    config.augment.shift = 0.1
    config.augment.rotation = 10.0
    config.augment.zoom = 0.1
    config.optimizer.learning_rate = 2e-3
    config.schedule.name = 'cosine'
    config.schedule.warmup = '1 epochs'
    config.ema_decay = 0.99
    config.evaluation.every = '5 epochs'
    config.evaluation.batch_size = 360
    config.checkpoint.every = '5 epochs'
    return config
