"""Cats and dogs with a body that ImageNet has trained: the four cases of transfer learning.

Command:   python launch.py --config experiments/cats_vs_dogs.py --config.data.name=FOLDER
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  FILL

Weights of the bodies, once: docs/how-to/import-weights.md
"""

from experiments.base import base


def get_config():
    """VGG-16 body with fixed weights: only a new head learns, on features computed once. First of two phases."""
    config = base()
    config.total = '30 epochs'
    config.batch_size = 64
    config.data.source = 'folder'
    config.data.name = 'data/cats_vs_dogs'
    config.image.size = (224, 224)
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.model = {'name': 'vgg', 'depth': 16, 'global_pool': 'average_max', 'pool_norm': True, 'hidden': (256,),
                    'dropout': 0.5}
    config.task.cases = True
    config.init_from.workdir = 'weights/vgg16'
    config.init_from.skip = ('params/(norm|fc6|logits)/.*', 'batch_stats/.*')
    config.optimizer.freeze = ('conv.*',)
    config.optimizer.name = 'adamw'
    config.optimizer.weight_decay = 0.1
    config.cached_features.endpoint = 'pool5'
    config.cached_features.flip = True
    config.schedule.name = 'cosine'
    config.evaluation.batch_size = 32
    config.evaluation.periodic = ()
    config.evaluation.final = ('validation',)
    config.checkpoint.best_metric = ''
    return config


def fine_tuned():
    """Second phase: the last block of convolutions learns too, a tenth as fast, from where the first phase ended."""
    config = get_config()
    config.total = '4 epochs'
    config.init_from.workdir = 'runs/cats_vs_dogs'
    config.init_from.skip = ()
    config.optimizer.freeze = ('conv[1-4].*',)
    config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate_scales = (('conv5.*', 0.1),)
    config.cached_features.endpoint = 'pool4'
    return config


def all_fine_tuned():
    """Second phase, everything learns, from where the first ended; pictures shifted, zoomed and mirrored."""
    config = _every_picture_anew(get_config())
    config.total = '3 epochs'
    config.init_from.workdir = 'runs/cats_vs_dogs'
    config.init_from.skip = ()
    config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate_scales = (('conv.*', 0.1),)
    return config


def scratch():
    """No weights from elsewhere: what 3,200 pictures teach alone."""
    config = _every_picture_anew(get_config())
    config.init_from.workdir = ''
    config.init_from.skip = ()
    return config


def alexnet():
    """AlexNet's body with fixed weights."""
    config = get_config()
    config.model.name = 'alexnet'
    del config.model.depth
    config.init_from.workdir = 'weights/alexnet'
    return config


def alexnet_fine_tuned():
    """AlexNet's conv4 and conv5 learn too, a tenth as fast, from where the first phase ended."""
    config = alexnet()
    config.total = '10 epochs'
    config.init_from.workdir = 'runs/cats_vs_dogs-alexnet'
    config.init_from.skip = ()
    config.optimizer.freeze = ('conv[1-3].*',)
    config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate_scales = (('conv.*', 0.1),)
    config.cached_features.endpoint = 'conv3'
    return config


def alexnet_all_fine_tuned():
    """AlexNet, everything learns, from where the first phase ended."""
    config = all_fine_tuned()
    config.total = '10 epochs'
    config.model = alexnet().model
    config.init_from.workdir = 'runs/cats_vs_dogs-alexnet'
    return config


def alexnet_scratch():
    """AlexNet without weights from elsewhere."""
    config = scratch()
    config.model = alexnet().model
    return config


def _every_picture_anew(config):
    config.optimizer.freeze = ()
    config.cached_features.endpoint = ''
    config.cached_features.flip = False
    config.augment.flip_horizontal = 0.5
    config.augment.shift = 0.1
    config.augment.zoom = 0.15
    config.schedule.warmup = '1 epochs'
    return config
