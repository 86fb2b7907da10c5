"""A small convolutional network on the letters of American Sign Language, and what augmentation does for it.

Command:   python launch.py --config experiments/asl_cnn.py:augmented --config.data.name=FOLDER
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  get_config    test/accuracy 56.8 % (seed 0), 99.65 % of the training images; 3:46 min
  augmented     test/accuracy 75.1 % (seed 0), 99.97 % of the training images; 32 min beside two other runs
"""

from practicum.training.defaults import base


def get_config():
    """Three blocks of convolution, BatchNorm, pooling and dropout; FOLDER/train/<letter>/*.jpg and FOLDER/test."""
    config = base()
    config.total = '20 epochs'
    config.batch_size = 32
    config.data.source = 'folder'
    config.data.name = 'data/asl_alphabet'
    config.data.train = 'train[:90%]'
    config.model = {'name': 'small_cnn'}
    config.task.per_example = True
    config.evaluation.sets.validation.split = 'train[90%:]'
    config.evaluation.sets.train = {'split': 'train[:90%]', 'invert': False}
    config.evaluation.final = ('train', 'test')
    return config


def augmented():
    """A larger network on larger images without shading, turned, shifted, zoomed, slanted, in other light."""
    config = get_config()
    config.total = '30 epochs'
    config.batch_size = 64
    config.image.size = (40, 40)
    config.image.local_mean = 10
    config.image.mean = (1.0,)
    config.image.std = (0.5,)
    config.augment.shift = 0.15
    config.augment.rotation = 15.0
    config.augment.zoom = 0.25
    config.augment.shear = 10.0
    config.augment.brightness = 0.2
    config.augment.contrast = 0.5
    config.augment.gamma = 0.7
    config.model.features = (32, 64, 96)
    config.optimizer.learning_rate = 2e-3
    config.schedule.name = 'cosine'
    config.evaluation.every = '5 epochs'
    return config
