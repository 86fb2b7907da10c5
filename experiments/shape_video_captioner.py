"""Video captioning without a download: sentences about coloured shapes that move.

Simulates its own videos of eight frames (input_pipeline/datasets/shape_scenes.py). `launch.py predict` reads animated
GIF, PNG and WebP. test/true is the share of captions of which every statement is true.

Command:   python launch.py --config experiments/shape_video_captioner.py
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  (lstm)       test/true 2.2 %, test/bleu4 28.0 % after 996 of 1,500 steps (seed 0): not learned yet
  from_tags    test/true 18.0 %, test/bleu4 37.5 % (seed 0); 6:37 min
  mean_pooled  not run
"""

from practicum.training.defaults import base


def get_config():
    """An LSTM reads the frames, then writes (Venugopalan et al. 2015, Sequence to sequence - video to text)."""
    config = base()
    config.data.name = 'shape_scenes/moving'
    config.image.size = (48, 48)
    config.image.channels = 3
    config.image.mean = (0.5,)
    config.image.std = (0.25,)
    config.model = {'name': 'video_captioner', 'endpoint': 'hidden', 'pooling': 'lstm', 'hidden': 256,
                    'embedding': 256, 'dropout': 0.1,
                    'body': {'name': 'small_cnn', 'features': (32, 64, 96, 128), 'block_dropout': (0.0, 0.0, 0.0, 0.0),
                             'hidden': 256}}
    # Chosen on the validation set: what is most probable is most often true, and longer captions claim more.
    config.task = {'name': 'captioning', 'beam_size': 8, 'length_penalty': 0.0}
    config.batch_size = 16  # videos, each with its five captions
    config.total = '8 epochs'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.clip_norm = 5.0
    config.schedule.name = 'cosine'
    config.evaluation.every = '2 epochs'
    config.checkpoint.every = '2 epochs'
    config.checkpoint.best_metric = 'validation/true'
    return config


def mean_pooled():
    """The mean of all frames beside every word (Venugopalan et al. 2015, Translating videos to natural language)."""
    config = get_config()
    config.model.pooling = 'mean'
    return config


def from_tags():
    """The same on the frozen convolutions of `shape_captioner:tags`, which know shapes and colours already."""
    config = get_config()
    config.image.size = (64, 64)  # shapes are as large as in the images there
    config.model.body = {'name': 'small_cnn', 'features': (32, 64, 128), 'block_dropout': (0.0, 0.0, 0.0)}
    config.model.endpoint = 'flat'
    config.init_from.workdir = 'runs/shape_captioner-tags'
    config.init_from.include = ('params/body/.*', 'batch_stats/body/.*')
    config.optimizer.freeze = ('body/.*',)
    config.cached_features.endpoint = 'features'
    config.total = '16 epochs'
    config.evaluation.every = '4 epochs'
    config.optimizer.learning_rate = 2e-3
    return config
