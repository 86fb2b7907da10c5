"""Cats and dogs with a body trained on ImageNet: the four cases of transfer learning.

Command:   python launch.py --config experiments/cats_vs_dogs.py --config.data.name=FOLDER
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  get_config               validation/accuracy 98.08 % (mean of seeds 0, 1, 2; std 0.19); 42 min, later heads 75 s
  alexnet                  validation/accuracy 95.04 % (mean of seeds 0, 1, 2; std 0.19); 95 s
  alexnet_fine_tuned       validation/accuracy 94.88 % (seed 0); 23 min, most of it features
  alexnet_all_fine_tuned   validation/accuracy 94.62 % (seed 0); 3:36 min

Weights of the bodies, once: docs/how-to/import-weights.md
"""

from practicum.training.defaults import base

# config.model, what stays frozen when some layers are tuned, and where those begin.
BODIES = {'vgg16': ({'name': 'vgg', 'depth': 16, 'global_pool': 'max'}, 'conv[1-4].*', 'pool4'),
          'alexnet': ({'name': 'alexnet', 'global_pool': 'average_max'}, 'conv[1-3].*', 'conv3')}


def get_config(body='vgg16'):
    """VGG-16 with fixed weights: only a new head learns, on features computed once. First of two phases."""
    config = base()
    config.total = '30 epochs'
    config.batch_size = 64
    config.data.source = 'folder'
    config.data.name = 'data/cats_vs_dogs'
    config.image.size = (224, 224)
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.model = {**BODIES[body][0], 'pool_norm': True, 'hidden': (256,), 'dropout': 0.5}
    config.task.per_example = True
    config.init_from.workdir = f'weights/{body}'
    config.init_from.skip = ('params/(norm|fc6|logits)/.*', 'batch_stats/.*')
    config.optimizer.freeze = ('conv.*',)
    config.optimizer.name = 'adamw'
    config.optimizer.weight_decay = 0.1
    config.cached_features.endpoint = 'pool5'
    config.cached_features.flip = True
    config.schedule.name = 'cosine'
    config.evaluation.periodic = ()
    config.evaluation.final = ('validation',)
    config.checkpoint.best_metric = ''
    return config


def fine_tuned(body='vgg16'):
    """Second phase: the last convolutions learn too, a tenth as fast, from where the first phase ended."""
    config = get_config(body)
    config.total = '4 epochs'
    config.init_from.workdir = 'runs/cats_vs_dogs' + ('-alexnet' if body == 'alexnet' else '')
    config.init_from.skip = ()
    config.optimizer.freeze = (BODIES[body][1],)
    config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate_scales = (('conv.*', 0.1),)
    config.cached_features.endpoint = BODIES[body][2]
    config.cached_features.flip = False
    return config


def all_fine_tuned(body='vgg16'):
    """Second phase, everything learns: images shifted, zoomed and mirrored."""
    return _every_image_anew(fine_tuned(body))


def scratch(body='vgg16'):
    """No pretrained weights: what can be learned from 3,200 images alone."""
    config = _every_image_anew(get_config(body))
    config.init_from.workdir = ''
    config.init_from.skip = ()
    return config


def alexnet():
    """AlexNet with fixed weights."""
    return get_config('alexnet')


def alexnet_fine_tuned():
    """AlexNet's conv4 and conv5 learn too."""
    return fine_tuned('alexnet')


def alexnet_all_fine_tuned():
    """AlexNet, everything learns."""
    return all_fine_tuned('alexnet')


def alexnet_scratch():
    """AlexNet without pretrained weights."""
    return scratch('alexnet')


def _every_image_anew(config):
    config.optimizer.freeze = ()
    config.cached_features.endpoint = ''
    config.cached_features.flip = False
    config.augment.flip_horizontal = 0.5
    config.augment.shift = 0.1
    config.augment.zoom = 0.15
    return config
