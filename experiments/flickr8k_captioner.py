"""Image captioning: an LSTM describes photographs of Flickr8k by the features of ImageNet's VGG-16.

Reads DATA/flickr8k/images and DATA/flickr8k/captions.txt, five captions an image. VGG-16 must be in weights/vgg16, see
docs/how-to/import-weights.md; it runs once for every image, and its features are cached.

Command:   python launch.py --config experiments/flickr8k_captioner.py --config.data.name=DATA/flickr8k
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs; 400 test images, beam 3, seed 0
  (first)     test/bleu4 16.8 %, test/cider 0.384; 12:18 min and 17 min for features
  attention   test/bleu4 19.2 %, test/cider 0.466; 11:41 min
  no_image    test/bleu4 7.8 %, test/cider 0.115; 5:03 min
  every_step  not run
"""

from practicum.training.defaults import base


def get_config():
    """The image is the LSTM's first input (Vinyals et al. 2015, Show and Tell)."""
    config = base()
    config.data.source = 'caption_folder'
    config.data.name = 'flickr8k'
    config.data.train = 'train[:-800]'  # by image
    config.text.min_count = 5
    config.text.max_length = 20
    config.image.size = (224, 224)
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.model = {'name': 'captioner', 'body': {'name': 'vgg', 'depth': 16}, 'endpoint': 'pool5', 'inject': 'first',
                    'hidden': 512, 'embedding': 256, 'dropout': 0.5}
    config.task = {'name': 'captioning', 'beam_size': 3}
    config.init_from.workdir = 'weights/vgg16'
    config.init_from.include = ('params/body/.*',)
    config.init_from.rename = (('^params/', 'params/body/'),)
    config.optimizer.freeze = ('body/.*',)
    config.cached_features.endpoint = 'feature_map'  # one cache for all variants
    config.batch_size = 16  # images, each with its five captions
    config.total = '10 epochs'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.clip_norm = 5.0
    config.schedule.name = 'cosine'
    config.evaluation.sets.validation.split = 'train[-800:-400]'
    config.evaluation.sets.test.split = 'train[-400:]'
    config.checkpoint.best_metric = 'validation/cider'
    return config


def every_step():
    """The image beside every word (Donahue et al. 2015, LRCN)."""
    config = get_config()
    config.model.inject = 'every'
    return config


def attention():
    """Attention to parts of the image before every word (Xu et al. 2015, Show, Attend and Tell)."""
    config = get_config()
    config.model.inject = 'attention'
    config.total = '6 epochs'
    return config


def no_image():
    """The baseline without images: what captions of this data set are like."""
    config = get_config()
    config.model.see_images = False
    config.total = '4 epochs'  # it is best after the first
    return config
