"""ResNet-50 on ImageNet, the usual 90 epochs.

Command:   python launch.py --config experiments/imagenet_resnet50.py --config.data.name=ILSVRC2012
Hardware:  for 8 GPUs
Measured:
  nothing: not measured here; Goyal et al. 2017 report 76.4 % for batches of 256 without smoothing and averages

ILSVRC2012 is a folder with train/<wnid>/*.JPEG and val/<wnid>/*.JPEG: the validation images, which come in one folder,
are to be sorted into folders of their classes first. The last hundredth of the training images is the validation set;
val is evaluated once, at the end, as "test".
"""

from practicum.training.defaults import base


def get_config():
    """Batches of 1,024, bfloat16, random resized crops, label smoothing, cosine with warm-up, averaged weights."""
    config = base()
    config.total = '90 epochs'
    config.batch_size = 1024
    config.precision = 'bfloat16'
    config.ema_decay = 0.9999
    config.data.source = 'folder'
    config.data.name = 'data/ILSVRC2012'
    config.data.train = 'train[:99%]'
    config.data.random_resized_crop = (0.08, 1.0)
    config.image.size = (224, 224)
    config.image.resize = 'crop'
    config.image.channels = 3
    config.image.mean = (0.485, 0.456, 0.406)
    config.image.std = (0.229, 0.224, 0.225)
    config.augment.flip_horizontal = 0.5
    config.model = {'name': 'resnet', 'depth': 50, 'zero_init': True}
    config.task.label_smoothing = 0.1
    config.optimizer.name = 'sgd'
    config.optimizer.learning_rate = 0.4  # 0.1 for every 256 of the batch
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4  # on kernels, by default: neither on BatchNorm nor on biases
    config.schedule.name = 'cosine'
    config.schedule.warmup = '5 epochs'
    config.evaluation.batch_size = 2048
    config.evaluation.sets.validation.split = 'train[99%:]'
    config.evaluation.sets.test.split = 'val'
    return config


def tfds():
    """The same images from tensorflow-datasets, prepared with --file_format=array_record."""
    config = get_config()
    config.data.source = 'tfds'
    config.data.name = 'imagenet2012'
    config.evaluation.sets.test.split = 'validation'
    return config
