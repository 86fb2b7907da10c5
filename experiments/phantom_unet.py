"""U-Net on simulated hearts: the left ventricle with no data at all.

Command:   python launch.py --config experiments/phantom_unet.py
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, after the last step
  test/dice 0.956 (mean of seeds 0, 1, 2; std 0.012); 2:11 min
"""

from practicum.training.defaults import base


def get_config():
    """400 slices of 80 simulated hearts, without augmentation: another simulated heart is as good."""
    config = base()
    config.total = '10 epochs'
    config.batch_size = 8
    config.data.name = 'cardiac_phantom'
    config.image.size = (256, 256)
    config.image.local_mean = 32  # as in sunnybrook_unet, which can start from these weights
    config.image.mean = (1.0,)
    config.model = {'name': 'unet', 'features': (16, 32, 64, 128, 128), 'stem_stride': 2, 'norm': 'batch',
                    'dropout': 0.0}
    config.task = {'name': 'segmentation', 'loss': 'cross_entropy_dice', 'class_weights': ()}
    config.optimizer.learning_rate = 4e-3
    config.schedule.name = 'cosine'
    config.schedule.warmup = '30 steps'
    config.log_every = '10 steps'
    config.evaluation.batch_size = 8
    config.evaluation.every = '2 epochs'
    config.checkpoint.every = '2 epochs'
    config.checkpoint.best_metric = 'validation/dice'
    return config
