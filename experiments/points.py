"""Points of two classes in a plane: which boundaries a linear model can draw, and which take hidden layers.

Command:   python launch.py --config experiments/points.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step, mean of seeds 0, 1, 2, without TensorBoard; processor seconds of one
  get_config      test/accuracy  95.42 %; 10 s
  linear          test/accuracy  86.52 %;  9 s
  separable       test/accuracy 100.00 %;  9 s
  xor             test/accuracy  99.70 %;  9 s
  xor_linear      test/accuracy  70.20 %;  9 s
  spirals         test/accuracy  99.57 %; 12 s
  spirals_linear  test/accuracy  62.77 %;  9 s
"""

from practicum.training.defaults import base


def get_config():
    """A network of two hidden layers of 32 on two moons, 200 points to learn from."""
    config = base()
    config.total = '1000 steps'
    config.batch_size = 50
    config.data.source = 'points'
    config.data.name = 'moons'
    config.data.train = 'train[:200]'
    config.model = {'name': 'mlp', 'hidden': (32, 32), 'activation': 'tanh'}
    config.optimizer.learning_rate = 0.01
    config.schedule.name = 'cosine'
    config.evaluation.every = '25 steps'
    config.evaluation.sets.validation.split = 'validation[:200]'
    config.evaluation.batch_size = 2000
    config.checkpoint.every = ''
    config.checkpoint.best_metric = ''
    return config


def _of(name: str, *, linear: bool = False):
    config = get_config()
    config.data.name = name
    if linear:
        config.model.hidden = ()
    return config


def linear():
    """No hidden layer: the boundary is straight."""
    return _of('moons', linear=True)


def separable():
    """Points that a straight line parts, and a linear model."""
    return _of('separable', linear=True)


def xor():
    """Four clouds, of which those opposite each other are of one class."""
    return _of('xor')


def xor_linear():
    """The same with a linear model, which cannot do better than three clouds of four."""
    return _of('xor', linear=True)


def spirals():
    """Two arms of a spiral; a longer training."""
    config = _of('spirals')
    config.total = '4000 steps'
    config.evaluation.every = '100 steps'
    return config


def spirals_linear():
    """The same with a linear model."""
    return _of('spirals', linear=True)
