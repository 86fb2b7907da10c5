"""Raccoons in photographs, the first two ways: a classifier of windows, slid over the image or made convolutional.

Command:   python launch.py --config experiments/raccoon_window.py --config.data.name=FOLDER
Hardware:  2 CPU cores (Intel Xeon), no GPU
Measured:  2026-11-22, folds 0 to 4 (seed 0), beside other runs
  windows: validation/accuracy 88.15 %, 85.86 %, 88.67 %, 86.36 %, 88.21 %; 54 to 91 s, features included
  boxes, benchmarks/window_boxes.py: AP50 0.771, 0.663, 0.824, 0.696, 0.737; AP 0.222, 0.191, 0.286, 0.183, 0.243
  one constant box: AP50 0.590, 0.417, 0.642, 0.419, 0.495; AP 0.154, 0.130, 0.207, 0.106, 0.143
  the same boxes by cutting windows out: 10.7 times the processor time, logits differ by 1.1e-6 of their deviation
The sizes that photographs are looked at in, and how windows are cut out, were chosen with fold 0 in view.

FOLDER has windows of the photographs, cut out by
  python launch.py crops --config experiments/raccoon_detector.py --config.image.size="(640, 640)" --output FOLDER
of one fold's training photographs, and of the others as validation. Then, of photographs of any size,
  python launch.py predict --workdir runs/raccoon_window --heat_map --class raccoon PHOTOGRAPHS
See docs/how-to/heat-map.md; weights of the body, once: docs/how-to/import-weights.md
"""

from practicum.training.defaults import base


def get_config():
    """AlexNet without padding, fixed weights from ImageNet; a small dense part learns on features computed once."""
    config = base()
    config.total = '8 epochs'
    config.batch_size = 64
    config.data.source = 'folder'
    config.data.name = 'data/raccoon_crops'
    config.image.size = (227, 227)
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.model = {'name': 'alexnet', 'padding': 'VALID', 'hidden': (256,), 'dropout': 0.5}
    config.task.per_example = True
    config.init_from.workdir = 'weights/alexnet'
    config.init_from.skip = ('params/(fc6|logits)/.*',)
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
