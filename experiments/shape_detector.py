"""Detection of drawn shapes from scratch: circles, squares and triangles on uneven ground, with no data at all.

Command:   python launch.py --config experiments/shape_detector.py
Hardware:  2 CPU cores (Intel Xeon), no GPU
Measured:  2026-11-22, beside other runs
  test/ap50 0.957, test/ap 0.783 (mean of seeds 0, 1; std 0.001 and 0.001); 2:53 and 2:58 min
"""

from practicum.training.defaults import base


def get_config():
    """A small residual network and a head without anchors."""
    config = base()
    config.total = '20 epochs'
    config.batch_size = 16
    config.data.name = 'shape_boxes'
    config.data.max_boxes = 8
    config.image.size = (128, 128)
    config.image.channels = 3
    config.image.mean = (0.5,)
    config.image.std = (0.25,)
    config.augment.flip_horizontal = 0.5
    config.augment.flip_vertical = 0.5
    config.model = {'name': 'detector', 'body': {'name': 'resnet', 'depth': 18, 'width': 16}, 'endpoint': 'layer2',
                    'width': 64, 'depth': 2}
    config.task = {'name': 'detection'}
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 5e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = 'cosine'
    config.schedule.warmup = '50 steps'
    config.log_every = '50 steps'
    config.evaluation.every = '5 epochs'
    config.checkpoint.every = '5 epochs'
    config.checkpoint.best_metric = 'validation/ap'
    return config
