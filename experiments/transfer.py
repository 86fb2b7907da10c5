"""How transferable are features? From five classes of CIFAR-10 to the other five (Yosinski et al. 2014).

Command:   python launch.py --config experiments/transfer.py:transferred --config.data.data_dir=...
           after the config itself, which trains network A; all points and seeds: python benchmarks/transfer_curve.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step, classes of B; processor seconds
  b                   test/accuracy 65.5 % (seed 0); 33 s
  transferred         test/accuracy 63.7 % (seed 0); 13 s
  fine_tuned          test/accuracy 67.5 % (seed 0); 32 s
  selffer             test/accuracy 65.5 % (seed 0); 22 s
  selffer_fine_tuned  test/accuracy 67.3 % (seed 0); 30 s
"""

from practicum.training.defaults import base

A = ('airplane', 'bird', 'deer', 'frog', 'ship')  # every other class of the alphabet, so that both halves are alike
B = ('automobile', 'cat', 'dog', 'horse', 'truck')
LAYERS = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'hidden')  # all but the logits can be transferred


def get_config(classes=A):
    """Network A: five convolutions and a dense layer on 5,000 images of the first five classes."""
    config = base()
    config.total = '20 epochs'
    config.data.name = 'cifar10'
    config.data.train = 'train[:20%]'
    config.data.merge_classes = tuple((name, (name,)) for name in classes)
    config.image.size = (32, 32)
    config.image.channels = 3
    config.image.mean = (0.4914, 0.4822, 0.4465)
    config.image.std = (0.2470, 0.2435, 0.2616)
    config.augment.flip_horizontal = 0.5
    config.model = {'name': 'small_cnn', 'features': (16, 32, 32, 64, 64), 'block_dropout': (0.0,) * 5, 'hidden': 128,
                    'dropout': 0.3, 'batch_norm': False}
    config.schedule.name = 'cosine'
    config.evaluation.every = '10 epochs'
    config.evaluation.sets.validation.split = 'train[-5000:]'
    config.checkpoint.every = ''
    config.checkpoint.best_metric = ''
    return config


def b():
    """Network B: the same on the other five classes; what transfer is compared with."""
    return get_config(B)


def transferred(layers=3, donor='runs/transfer', frozen=True):
    """A3B: on the classes of B, the first three layers those of network A and frozen, the others new."""
    config = b()
    pattern = f"({'|'.join(LAYERS[:layers])})/.*"
    config.seed = 100  # another one than the donor's, or the new layers would begin where its own began
    config.init_from.workdir = donor
    config.init_from.step = 'last'
    config.init_from.include = (f'params/{pattern}',)
    if frozen:
        config.optimizer.freeze = (pattern,)
    return config


def fine_tuned():
    """A3B+: the same, and the transferred layers go on learning."""
    return transferred(frozen=False)


def selffer():
    """B3B: the first three layers of network B itself, frozen, the others learned again: the control."""
    return transferred(donor='runs/transfer-b')


def selffer_fine_tuned():
    """B3B+: the control, and all layers learn."""
    return transferred(donor='runs/transfer-b', frozen=False)
