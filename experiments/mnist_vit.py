"""A vision transformer and a ConvNeXt on MNIST, small enough for two cores.

Command:   python launch.py --config experiments/mnist_vit.py --config.data.data_dir=...
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config  test/accuracy 98.48 % +- 0.08 (seeds 0, 1, 2); 159 to 195 s
  convnext    test/accuracy 96.65 % +- 0.23 (seeds 0, 1, 2); 96 to 126 s
  token       test/accuracy 98.41 % (seed 0); 198 s
"""

from practicum.training.defaults import base


def get_config():
    """4 blocks of 64 on 16 patches of 7x7 pixels, whose mean is classified; 5 epochs of digits shifted a little."""
    config = base()
    config.total = '5 epochs'
    config.batch_size = 128
    config.data.name = 'mnist'
    config.data.train = 'train[:-5000]'
    config.augment.shift = 0.08
    config.model = {'name': 'vit', 'patch': 7, 'width': 64, 'layers': 4, 'heads': 4, 'pool': 'mean'}
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.schedule.warmup = '1 epochs'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    return config


def token():
    """The same with a class token beside the patches, as in the paper."""
    config = get_config()
    config.model.pool = 'token'
    return config


def convnext():
    """Three stages of a ConvNeXt on patches of 2x2 pixels, 2 epochs."""
    config = get_config()
    config.total = '2 epochs'
    config.model = {'name': 'convnext', 'blocks': (1, 1, 1), 'width': 16, 'patch': 2}
    return config
