"""A small convolutional network on the letters of American Sign Language, and what augmentation does for it.

Command:   python launch.py --config experiments/asl_cnn.py:augmented --config.data.name=FOLDER
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  get_config    ASLCNN
  augmented     ASLAUG
"""

from experiments.base import base


def get_config():
    """Three blocks of convolution, BatchNorm, pooling and dropout; FOLDER/train/<letter>/*.jpg and FOLDER/test."""
    config = base()
    config.total = '20 epochs'
    config.batch_size = 32
    config.data.source = 'folder'
    config.data.name = 'data/asl_alphabet'
    config.data.train = 'train[:90%]'
    config.model = {'name': 'small_cnn'}
    config.task.cases = True
    config.evaluation.sets.validation.split = 'train[90%:]'
    config.evaluation.sets.train = {'split': 'train[:90%]', 'invert': False}
    config.evaluation.final = ('train', 'test')
    return config


def augmented():
    """Turned, shifted, zoomed and mirrored hands: left hands sign too."""
    config = get_config()
    config.total = '30 epochs'
    config.augment.rotation = 10.0
    config.augment.zoom = 0.1
    config.augment.shift = 0.1
    config.augment.flip_horizontal = 0.5
    config.schedule.name = 'cosine'
    return config
