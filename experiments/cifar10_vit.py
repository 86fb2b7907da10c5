"""A vision transformer and a ConvNeXt on CIFAR-10, for one GPU.

Command:   python launch.py --config experiments/cifar10_vit.py --config.data.data_dir=...
Hardware:  one GPU, see below
Measured:  2026-11-22
  nothing: hours on two cores, and no GPU was at hand
"""

from practicum.training.defaults import base


def get_config():
    """6 blocks of 192 on 64 patches of 4x4 pixels, 200 epochs with RandAugment and Mixup."""
    config = base()
    config.total = '200 epochs'
    config.batch_size = 512
    config.precision = 'bfloat16'
    config.data.name = 'cifar10'
    config.data.train = 'train[:-5000]'
    config.data.on_device = True
    config.image.size = (32, 32)
    config.image.channels = 3
    config.image.mean = (0.4914, 0.4822, 0.4465)
    config.image.std = (0.2470, 0.2435, 0.2616)
    config.augment.flip_horizontal = 0.5
    config.augment.random_crop = 4
    config.augment.rand_augment = 2
    config.augment.mixup = 0.2
    config.model = {'name': 'vit', 'patch': 4, 'width': 192, 'layers': 6, 'heads': 3, 'pool': 'mean', 'drop_path': 0.1}
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.schedule.warmup = '10 epochs'
    config.evaluation.every = '10 epochs'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    return config


def convnext():
    """ConvNeXt of 3, 3 and 9 blocks on patches of 2x2 pixels."""
    config = get_config()
    config.model = {'name': 'convnext', 'blocks': (3, 3, 9), 'width': 64, 'patch': 2, 'drop_path': 0.1}
    return config
