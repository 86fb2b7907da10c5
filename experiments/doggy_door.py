"""A door that opens for dogs and stays shut for cats: what to do, decided by the names of classes.

Command:   python launch.py --config experiments/doggy_door.py --config.data.name=FOLDER
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  get_config    validation/accuracy 94.38 %, validation/decision_accuracy 94.38 % (seed 0); 51 s

Predict with any classifier whose classes have names, ImageNet's thousand for one:
  python launch.py predict --workdir weights/vgg16 dog.jpg \\
      --config.task.decisions="(('opens', ('.*terrier', '.*hound')), ('stays shut', ('.*',)))"
"""

from practicum.training.defaults import base


def get_config():
    """AlexNet's body with fixed weights; task.decisions says which classes open the door."""
    config = base()
    config.total = '30 epochs'
    config.batch_size = 64
    config.data.source = 'folder'
    config.data.name = 'data/cats_vs_dogs'
    config.image.size = (224, 224)
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.model = {'name': 'alexnet', 'global_pool': 'average_max', 'pool_norm': True, 'hidden': (256,)}
    config.task.per_example = True
    config.task.decisions = (('opens', ('dog',)), ('stays shut', ('.*',)))
    config.init_from.workdir = 'weights/alexnet'
    config.init_from.skip = ('params/(norm|fc6|logits)/.*', 'batch_stats/.*')
    config.optimizer.freeze = ('conv.*',)
    config.optimizer.name = 'adamw'
    config.cached_features.endpoint = 'pool5'
    config.cached_features.flip = True
    config.evaluation.batch_size = 64
    config.evaluation.periodic = ()
    config.evaluation.final = ('validation',)
    config.checkpoint.best_metric = ''
    return config
