"""Diabetic retinopathy in photographs of the eye: healthy or not.

Command:   python launch.py --config experiments/retinopathy.py --config.data.manual_dir=FOLDER
Hardware:  meant for one GPU; none was at hand
Measured:
  nothing: the photographs need an account at Kaggle; the tests run it on made-up ones

FOLDER holds Kaggle's archives of "Diabetic Retinopathy Detection" as tfds asks for them. The body is GoogLeNet's,
imported from torchvision into weights/googlenet; see docs/how-to/import-weights.md.
"""

from practicum.training.defaults import base


def get_config():
    """GoogLeNet with its auxiliary classifiers, everything learning, the new heads ten times as fast."""
    config = base()
    config.total = '20 epochs'
    config.batch_size = 64
    config.precision = 'bfloat16'
    config.data.name = 'diabetic_retinopathy_detection/btgraham-300'
    config.data.merge_classes = (('healthy', ('0',)), ('retinopathy', ('[1-4]',)))
    config.image.size = (224, 224)
    config.image.channels = 3
    config.image.mean = (0.5, 0.5, 0.5)
    config.image.std = (0.5, 0.5, 0.5)
    config.augment.flip_horizontal = 0.5
    config.augment.flip_vertical = 0.5
    config.augment.rotation = 180.0  # an eye has no upright; what the mirror image changes is which eye it is
    config.augment.zoom = 0.1
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.augment.fill = '0.5'
    config.model = {'name': 'googlenet', 'auxiliary': True, 'frozen_norm': False}
    config.task.per_example = True
    config.task.auxiliary_weight = 0.3
    config.init_from.workdir = 'weights/googlenet'
    config.init_from.skip = ('params/logits/.*', 'params/aux.*', 'batch_stats/aux.*')
    config.optimizer.name = 'adamw'
    config.optimizer.weight_decay = 1e-2
    config.optimizer.learning_rate_scales = (('logits/.*', 1.0), ('aux.*', 1.0), ('.*', 0.1))
    config.schedule.name = 'cosine'
    config.schedule.warmup = '1 epochs'
    config.evaluation.batch_size = 64
    config.checkpoint.best_metric = 'validation/auc'
    return config


def scratch():
    """No pretrained weights."""
    config = get_config()
    config.init_from.workdir = ''
    config.init_from.skip = ()
    config.optimizer.learning_rate_scales = ()
    return config
