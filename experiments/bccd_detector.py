"""Blood cells: red and white ones and platelets in 364 microscope images, detected from scratch.

Reads Pascal VOC's layout in config.data.name (BCCD: JPEGImages, Annotations, ImageSets/Main with train, val and test).

Command:   python launch.py --config experiments/bccd_detector.py --config.data.name=FOLDER
Hardware:  2 CPU cores (Intel Xeon), no GPU
Measured:  2026-11-22, beside other runs; validation/ap 0.544 and more in docs/results/detection.md
  get_config   test/ap50 0.882, test/ap 0.529 (mean of seeds 0, 1; std 0.018 and 0.014); 5:27 min
  frozen       test/ap50 0.809, test/ap 0.418 (mean of seeds 0, 1; std 0.007 and 0.006); 84 s alone, features included
  detectnet    test/ap50 0.870, test/ap 0.503 (seed 0); 6:45 min of processor time
"""

from practicum.training.defaults import base


def get_config():
    """A small residual network from scratch, with flips, zoom and shift."""
    config = base()
    config.total = '40 epochs'
    config.batch_size = 8
    config.data.source = 'voc_folder'
    config.data.name = 'data/bccd'
    config.data.max_boxes = 40
    config.image.size = (240, 320)
    config.image.channels = 3
    config.image.mean = (0.5,)
    config.image.std = (0.25,)
    config.augment.flip_horizontal = 0.5
    config.augment.flip_vertical = 0.5
    config.augment.zoom = 0.2
    config.augment.shift = 0.1
    config.augment.brightness = 0.1
    config.model = {'name': 'detector', 'body': {'name': 'resnet', 'depth': 18, 'width': 16}, 'endpoint': 'layer2',
                    'width': 64, 'depth': 2}
    config.task = {'name': 'detection'}
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = 'cosine'
    config.schedule.warmup = '50 steps'
    config.log_every = '50 steps'
    config.evaluation.sets.validation.split = 'val'
    config.evaluation.every = '10 epochs'
    config.checkpoint.every = '10 epochs'
    config.checkpoint.best_metric = 'validation/ap'
    return config


def frozen():
    """AlexNet with ImageNet's weights, which stay as they are: a head learns on features that are computed once."""
    config = get_config()
    config.total = '12 epochs'
    config.image.size = (480, 640)
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    for name in ('flip_horizontal', 'flip_vertical', 'zoom', 'shift', 'brightness'):
        config.augment[name] = 0.0
    config.model = {'name': 'detector', 'body': {'name': 'alexnet'}, 'endpoint': 'conv5', 'width': 96, 'depth': 3}
    config.init_from.workdir = 'weights/alexnet'
    config.init_from.include = ('params/body/.*',)
    config.init_from.rename = (('^params/', 'params/body/'),)
    config.optimizer.freeze = ('body/.*',)
    config.optimizer.learning_rate = 2e-3
    config.cached_features.endpoint = 'features'
    config.cached_features.flip = True
    config.cached_features.batch_size = 8
    return config


def detectnet():
    """The loss of DetectNet, and its clustering of boxes: what the course trained."""
    config = get_config()
    config.task = {'name': 'detection', 'loss': 'detectnet', 'decoder': 'cluster'}
    return config
