"""Raccoons in photographs by R-CNN: regions of selective search through ImageNet's AlexNet, one by one.

Reads DATA/raccoon, images and annotations of Pascal VOC (200 images, 217 raccoons). AlexNet must be in weights/alexnet,
see docs/how-to/import-weights.md; it looks at every region once, and its features are cached.

Command:   python launch.py --config experiments/raccoon_rcnn.py --config.data.name=DATA/raccoon
Hardware:  2 CPU cores (Intel Xeon), no GPU
Measured:  2026-11-22, beside other runs
  fold/ap50 0.865, fold/ap 0.417 (mean of folds 0 to 4, seed 0; std 0.061 and 0.047; a constant box: 0.512, 0.148);
  150 CPU seconds a fold, 120 of them for features; an image takes 1.4, of which 0.3 for selective search
"""

from practicum.training.defaults import base


def get_config():
    """The first of five folds; AlexNet's convolutions are frozen, a dense layer and the two outputs learn."""
    config = base()
    config.data.source = 'voc_folder'
    config.data.name = 'raccoon'
    config.data.folds = 5
    config.data.max_boxes = 10
    config.data.group_by = 'near_duplicates'  # nearly the same photographs stay in one fold
    config.data.regions.kind = 'selective_search'
    config.image.size = (127, 127)  # where AlexNet's maps fit without a remainder: 31, 15, 7 and 3 cells
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.model = {'name': 'rcnn', 'body': {'name': 'alexnet'}, 'endpoint': 'pool5', 'hidden': (512,), 'dropout': 0.5}
    config.task = {'name': 'region_detection'}
    config.init_from.workdir = 'weights/alexnet'
    config.init_from.include = ('params/body/.*',)
    config.init_from.rename = (('^params/', 'params/body/'),)
    config.optimizer.freeze = ('body/.*',)
    config.cached_features.endpoint = 'features'
    config.cached_features.flip = True
    config.batch_size = 128  # regions
    config.total = '8 epochs'
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = 'cosine'
    config.evaluation.sets = {'fold': {'split': 'fold', 'invert': False}}
    config.evaluation.periodic = ()
    config.evaluation.final = ('fold',)
    config.checkpoint.every = '0 steps'
    config.checkpoint.best_metric = ''
    return config
