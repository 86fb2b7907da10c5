"""Residual networks on CIFAR-10.

Command:   python launch.py --config experiments/cifar10_resnet.py:short --config.data.data_dir=...
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  short           test/accuracy 85.83 % (seed 0), 86.54 % with --tta flip; 52:51 min
  short_resnet20  test/accuracy 85.53 % (seed 0), 86.42 % with --tta flip; 47:56 min
  gpu             nothing: for one GPU, not measured here; what it follows (Page 2018) reaches 94 %
"""

from practicum.training.defaults import base


def get_config():
    """ResNet-20 as in section 4.2 of He et al. 2016, but 200 epochs of cosine decay: for a GPU."""
    config = base()
    config.total = '200 epochs'
    config.batch_size = 128
    config.precision = 'bfloat16'
    config.data.name = 'cifar10'
    config.data.train = 'train[:-5000]'
    config.image.size = (32, 32)
    config.image.channels = 3
    config.image.mean = (0.4914, 0.4822, 0.4465)
    config.image.std = (0.2470, 0.2435, 0.2616)
    config.augment.flip_horizontal = 0.5
    config.augment.random_crop = 4
    config.model = {'name': 'resnet_cifar', 'depth': 20}
    config.optimizer.name = 'sgd'
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = 'cosine'
    config.schedule.warmup = '2 epochs'
    config.evaluation.every = '5 epochs'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    return config


def short():
    """ResNet-18 of half the width for 10 epochs: what two cores can do within the hour."""
    config = get_config()
    config.total = '10 epochs'
    config.precision = 'float32'
    config.model = {'name': 'resnet', 'depth': 18, 'stem': 'cifar', 'width': 32}
    config.optimizer.learning_rate = 0.2
    config.task.label_smoothing = 0.1
    config.evaluation.every = '2 epochs'
    return config


def short_resnet20():
    """ResNet-20 for 20 epochs."""
    config = short()
    config.total = '20 epochs'
    config.model = {'name': 'resnet_cifar', 'depth': 20}
    config.task.label_smoothing = 0.0
    return config


def resnet18():
    """ResNet-18 without the downsampling of its first layers, for a GPU."""
    config = get_config()
    config.total = '100 epochs'
    config.model = {'name': 'resnet', 'depth': 18, 'stem': 'cifar'}
    return config


def gpu():
    """94 % in the least time on one GPU: ResNet-9 in bfloat16, all training images on the device, 24 epochs."""
    config = get_config()
    config.total = '24 epochs'
    config.batch_size = 512
    config.data.train = 'train'
    config.data.on_device = True
    config.augment.cutout = 8
    config.model = {'name': 'resnet9'}
    config.task.label_smoothing = 0.1
    config.optimizer.learning_rate = 0.4
    config.schedule.name = 'linear'
    config.schedule.warmup = '5 epochs'
    config.evaluation.periodic = ()
    config.checkpoint.every = ''
    config.checkpoint.best_metric = ''
    return config
