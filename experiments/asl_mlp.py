"""Two dense layers on the letters of American Sign Language; they overfit.

Command:   python launch.py --config experiments/asl_mlp.py --config.data.name=FOLDER
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  get_config    test/accuracy 30.4 % (seed 0), 74.5 % of the training images; 4:39 min
"""

from practicum.training.defaults import base


def get_config():
    """24 letters at 28x28 pixels, as the course shows them; FOLDER/train/<letter>/*.jpg and FOLDER/test."""
    config = base()
    config.total = '20 epochs'
    config.batch_size = 32
    config.data.source = 'folder'
    config.data.name = 'data/asl_alphabet'
    config.data.train = 'train[:90%]'
    config.model = {'name': 'mlp', 'hidden': (512, 512), 'dropout': 0.0}
    config.evaluation.sets.validation.split = 'train[90%:]'
    config.evaluation.sets.train = {'split': 'train[:90%]', 'invert': False}
    config.evaluation.final = ('train', 'test')
    return config
