"""The course's fully convolutional network on the left ventricle, for 1, 30 and 100 epochs.

Command:   python launch.py --config experiments/sunnybrook_fcn.py:thirty_epochs --config.data.manual_dir=...
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, after the last step
  one_epoch      test/dice 0.151 (mean of seeds 0, 1, 2; std 0.098), accuracy 98.59 %; 8 s
  thirty_epochs  test/dice 0.726 (mean of seeds 0, 1, 2; std 0.041), accuracy 99.51 %; 2:46 min
  searched       test/dice 0.770 (best of 36 trials, seeds 0, 1, 2; std 0.019): docs/results/sweeps.md
  tuned          test/dice 0.898 (seed 0), accuracy 99.76 %; 18:32 min beside another run
"""

from practicum.training.defaults import base


def get_config():
    """Gradient descent image by image for an epoch, 90 % of the slices for training and 10 % for the test."""
    config = base()
    config.total = '1 epochs'
    config.batch_size = 1
    config.data.name = 'sunnybrook/by_image'
    config.image.size = (256, 256)
    config.image.mean = (0.12,)
    config.image.std = (0.18,)
    config.model = {'name': 'fcn', 'features': (100, 200, 300, 300)}
    config.task = {'name': 'segmentation', 'loss': 'cross_entropy', 'class_weights': ()}
    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.0
    config.optimizer.learning_rate = 0.01
    config.evaluation.batch_size = 8
    config.evaluation.periodic = ()  # there are too few slices for a third part: nothing is chosen by the test's
    config.checkpoint.best_metric = ''
    return config


def one_epoch():
    """The same, by the name it has in docs/results/segmentation.md."""
    return get_config()


def thirty_epochs():
    """30 epochs."""
    config = get_config()
    config.total = '30 epochs'
    return config


def tuned():
    """The course's best parameters, a larger learning rate that decays, 100 epochs; and soft Dice in the loss."""
    config = get_config()
    config.task.loss = 'cross_entropy_dice'
    config.total = '100 epochs'
    config.optimizer.learning_rate = 0.03
    config.schedule.name = 'exponential'
    config.schedule.decay_rate = 0.75
    config.schedule.decay_steps = '10000 steps'
    config.schedule.staircase = True
    return config


def searched():
    """30 epochs at a learning rate that decays, to be searched; a seventh of the training slices are for validation."""
    config = get_config()
    config.total = '30 epochs'
    config.data.train = 'train[:86%]'
    config.evaluation.sets.validation.split = 'train[86%:]'
    config.evaluation.periodic = ('validation',)
    config.checkpoint.best_metric = 'validation/dice'
    config.checkpoint.every = '5 epochs'
    config.schedule.name = 'exponential'
    config.schedule.staircase = True
    return config


def search_space(config):
    """What the course searched by hand, beside the number of epochs, which pruning takes care of."""
    del config
    return {'optimizer.learning_rate': 'log:1e-3:1e-1', 'schedule.decay_rate': '0.5:0.95:0.05',
            'schedule.decay_steps': ('500 steps', '1000 steps', '2000 steps', '4000 steps')}
