"""U-Net on the left ventricle, with augmentation: what to use.

Command:   python launch.py --config experiments/sunnybrook_unet.py --config.data.manual_dir=...
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, after the last step
  get_config      test/dice 0.876 (seed 0); 7:24 min beside another run
  from_phantoms   test/dice 0.889 (mean of seeds 0, 1, 2; std 0.001); 7:26 min beside another run
  by_image        test/dice 0.910 (mean of seeds 0, 1, 2; std 0.006); 6:15 min beside another run
"""

from practicum.training.defaults import base


def get_config():
    """8 patients for training, 2 for validation, 2 for the test."""
    config = base()
    config.total = '60 epochs'
    config.batch_size = 8
    config.data.name = 'sunnybrook/by_patient'
    config.image.size = (256, 256)
    config.image.local_mean = 32  # hearts far from the coil are ten times darker than the skin near it
    config.image.mean = (1.0,)
    config.augment.shift = 0.1
    config.augment.rotation = 180.0  # patients lie at any angle, but none is mirrored: no flips
    config.augment.zoom = 0.25
    config.augment.elastic = 0.015
    config.augment.brightness = 0.1
    config.augment.contrast = 0.3
    config.augment.gamma = 0.5
    config.augment.noise = 0.05
    config.augment.fill = '0'
    config.model = {'name': 'unet', 'features': (16, 32, 64, 128, 128), 'stem_stride': 2, 'norm': 'batch',
                    'dropout': 0.2}
    config.task = {'name': 'segmentation', 'loss': 'cross_entropy_dice', 'class_weights': ()}
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 1e-2
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.schedule.warmup = '2 epochs'
    config.ema_decay = 0.99
    config.log_every = '1 epochs'
    config.evaluation.batch_size = 8
    config.evaluation.every = '10 epochs'
    config.checkpoint.every = '10 epochs'
    config.checkpoint.best_metric = 'validation/dice'
    return config


def from_phantoms():
    """Starts from the weights of phantom_unet, trained before into runs/phantom_unet."""
    config = get_config()
    config.init_from.workdir = 'runs/phantom_unet'
    return config


def by_image():
    """The course's protocol: slices of the same patients in training and test, so fewer epochs and angles do."""
    config = get_config()
    config.total = '40 epochs'
    config.augment.rotation = 30.0
    config.data.name = 'sunnybrook/by_image'
    config.evaluation.periodic = ()
    config.checkpoint.best_metric = ''
    return config
