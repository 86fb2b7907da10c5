"""Raccoons: one class, 200 photographs of 133 sizes, objects that fill most of them; five folds.

Reads Pascal VOC's layout in config.data.name (annotations, images). Photographs that are almost the same one stay in
one fold. AlexNet must be in weights/alexnet, see docs/how-to/import-weights.md.

Command:   python launch.py --config experiments/raccoon_detector.py --config.data.name=FOLDER --config.data.fold=0
Hardware:  2 CPU cores (Intel Xeon), no GPU
Measured:  2026-11-22, mean of folds 0 to 4, beside other runs; one constant box: ap50 0.512, ap 0.148
  get_config  validation/ap50 0.884, validation/ap 0.431 (mean of seeds 0, 1, 2; std 0.008 and 0.006); 16 CPU-s a fold
  detectnet   validation/ap50 0.865, validation/ap 0.332 (seed 0); 12 CPU-s a fold
"""

from practicum.training.defaults import base


def get_config():
    """AlexNet with ImageNet's weights, which stay as they are: a head learns on features that are computed once."""
    config = base()
    config.total = '15 epochs'
    config.batch_size = 8
    config.data.source = 'voc_folder'
    config.data.name = 'data/raccoon'
    config.data.max_boxes = 10
    config.data.folds = 5
    config.data.group_by = 'near_duplicates'
    config.image.size = (256, 256)
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.model = {'name': 'detector', 'body': {'name': 'alexnet'}, 'endpoint': 'pool5', 'width': 96, 'depth': 3}
    config.task = {'name': 'detection'}
    config.init_from.workdir = 'weights/alexnet'
    config.init_from.include = ('params/body/.*',)
    config.init_from.rename = (('^params/', 'params/body/'),)
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 1e-2
    config.optimizer.freeze = ('body/.*',)
    config.cached_features.endpoint = 'features'
    config.cached_features.flip = True
    config.schedule.name = 'cosine'
    config.schedule.warmup = '30 steps'
    config.log_every = '50 steps'
    config.evaluation.sets = {'validation': {'split': 'fold', 'invert': False}}
    config.evaluation.periodic = ()
    config.evaluation.final = ('validation',)
    config.checkpoint.every = '0 steps'
    config.checkpoint.best_metric = ''
    return config


def detectnet():
    """The loss of DetectNet, and its clustering of boxes."""
    config = get_config()
    config.task = {'name': 'detection', 'loss': 'detectnet', 'decoder': 'cluster'}
    return config
