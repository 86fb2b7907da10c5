"""A deep belief network: three layers, each a Boltzmann machine on the one before, then all of them on labels.

Command:   python launch.py --config experiments/mnist_dbn.py --config.data.data_dir=...
           then the same with :layer2, :layer3 and :fine_tuned
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step, seeds 0, 1, 2, few labels from 1000 * seed on; processor seconds
  few_labels          test error 7.51 % +- 0.07; 19 to 23 s, and 95 to 133 s for the three phases before
  few_labels_scratch  test error 12.13 % +- 0.28; 20 to 26 s
  fine_tuned          test error 1.53 % +- 0.07; 93 to 107 s, and the same three phases
  scratch             test error 2.43 % +- 0.05; 92 to 103 s
"""

from practicum.training.defaults import base

HIDDEN = (500, 500, 2000)  # of Hinton and Salakhutdinov 2006


def get_config():
    """First phase: a machine of 500 hidden units on the pixels, CD-1."""
    return _layer(1)


def layer2():
    """Second phase: 500 units on what the first layer, now frozen, says of a digit."""
    return _layer(2)


def layer3():
    """Third phase: 2,000 units on what the second says."""
    return _layer(3)


def fine_tuned():
    """Last phase: all three and a softmax, on all labels."""
    config = scratch()
    config.init_from.workdir = 'runs/mnist_dbn-layer3'
    config.init_from.step = 'last'
    config.init_from.skip = ('params/logits/.*',)
    return config


def scratch():
    """The same network of logistic units and all labels, without pretraining."""
    config = _digits()
    config.total = '10 epochs'
    config.model = {'name': 'mlp', 'hidden': HIDDEN, 'dropout': 0.0, 'activation': 'sigmoid'}
    config.optimizer.learning_rate = 1e-3
    config.schedule.name = 'cosine'
    return config


def few_labels():
    """The last phase with 1,000 labels."""
    return _few(fine_tuned())


def few_labels_scratch():
    """The same 1,000 labels without pretraining."""
    return _few(scratch())


def _few(config):
    config.data.train = 'train[:1000]'
    config.batch_size = 50
    config.total = '40 epochs'
    config.evaluation.every = config.checkpoint.every = '20 epochs'
    return config


def _layer(number):
    config = _digits()
    config.total = '5 epochs' if number == 1 else '3 epochs'
    config.model = {'name': 'rbm', 'hidden': HIDDEN, 'layer': number}
    config.task = {'name': 'contrastive_divergence', 'steps': 1, 'persistent': False, 'per_example': False}
    config.optimizer.name = 'sgd'
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.5
    config.schedule.name = 'linear'
    config.evaluation.final = ()
    if number > 1:
        before = range(1, number)
        config.init_from.workdir = 'runs/mnist_dbn' + (f'-layer{number - 1}' if number > 2 else '')
        config.init_from.step = 'last'
        config.init_from.skip = (f'params/dense{number}/.*',)
        config.optimizer.freeze = tuple(f'dense{layer}/.*' for layer in before)
        config.cached_features.endpoint = f'hidden{number - 1}'
    return config


def _digits():
    config = base()
    config.batch_size = 100
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    config.checkpoint.best_metric = ''
    return config
