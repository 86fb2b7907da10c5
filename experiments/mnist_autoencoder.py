"""Autoencoders on MNIST: a digit as 30 numbers, a clean digit out of a grainy one, and digits never seen before.

Command:   python launch.py --config experiments/mnist_autoencoder.py --config.data.data_dir=...
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config     test/squared_error 4.69 +- 0.10, PSNR 23.20 dB +- 0.10 (seeds 0, 1, 2); 65 to 120 s
                 PCA with 30 numbers: 13.87, 17.86 dB
  convolutional  test/squared_error 5.04 +- 0.05, PSNR 22.79 dB +- 0.06 (seeds 0, 1, 2); 139 to 171 s
  denoising      test/psnr 19.81 dB, before 9.38 dB (seed 0); 272 s
  anomaly        test/auc 0.590 (seed 0); 22 s. Of other digits left out: docs/results/autoencoders.md
  published      test/squared_error 4.34, PSNR 23.57 dB (seed 0); 170 s
"""

from practicum.training.defaults import base

# Classes for `anomaly`. None of the training digits is of the second one.
KNOWN, LEFT_OUT = ('[0-8]',), ('9',)


def get_config():
    """Dense layers of 500 and 250 down to 30 numbers, and up again."""
    config = base()
    config.total = '12 epochs'
    config.batch_size = 128
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.model = {'name': 'autoencoder', 'image_shape': (28, 28, 1), 'hidden': (500, 250), 'code': 30}
    config.task = {'name': 'reconstruction', 'loss': 'squared_error', 'noise': 0.0, 'anomaly': (), 'per_example': True}
    config.schedule.name = 'cosine'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    config.checkpoint.best_metric = 'validation/squared_error'
    config.checkpoint.best_mode = 'min'
    return config


def published():
    """The widths of Hinton and Salakhutdinov 2006: 1000, 500 and 250 down to 30 numbers."""
    config = get_config()
    config.model.hidden = (1000, 500, 250)
    return config


def convolutional():
    """Convolutions of 16 and 32 filters with stride 2, as many numbers."""
    config = get_config()
    config.model = {'name': 'conv_autoencoder', 'image_shape': (28, 28, 1), 'filters': (16, 32), 'code': 30}
    return config


def denoising():
    """Clean digits out of grainy ones: Gaussian noise of half the range of a pixel, a small U-Net."""
    config = get_config()
    config.total = '3 epochs'
    config.model = {'name': 'unet', 'num_classes': 1, 'features': (8, 16, 32)}
    config.task.noise = 0.5
    return config


def anomaly():
    """The digit 9 left out of training, a small code: how well its error gives it away among all test digits."""
    config = get_config()
    config.total = '5 epochs'
    config.model.hidden, config.model.code = (128,), 8
    config.data.merge_classes = (('known', KNOWN), ('unknown', ()))
    config.task.anomaly = ('unknown',)
    config.evaluation.sets.test.data = {'merge_classes': (('known', KNOWN), ('unknown', LEFT_OUT))}
    return config
