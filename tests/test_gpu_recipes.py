"""Experiments for GPUs, shrunk, on made images that come through the same source as the real ones."""

import json

import numpy as np
import pytest
from PIL import Image

from practicum.input_pipeline.arrays import ArraySource
from practicum.training import components
from practicum.training import config as config_lib
from practicum.training.evaluation import Evaluations
from practicum.training.loop import train

SMALL_RESNET = ('model.depth=18', 'model.width=4', 'image.size=(32, 32)', 'parallel.devices=1')


def made_image(generator: np.random.Generator, label: int, size: tuple[int, int]) -> np.ndarray:
    """Noise around a brightness that says the class."""
    noise = generator.integers(0, 60, (*size, 3))
    return (noise + 60 * (label % 4)).astype(np.uint8)


def metrics_of(workdir) -> dict:
    return json.loads((workdir / 'result.json').read_text())['metrics']


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    """train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, of several sizes."""
    folder, generator = tmp_path_factory.mktemp('imagenet') / 'ILSVRC2012', np.random.default_rng(0)
    for split, count in (('train', 40), ('val', 6)):
        for label, wnid in enumerate(('n01440764', 'n01443537', 'n01484850')):
            (folder / split / wnid).mkdir(parents=True)
            for number in range(count):
                size = tuple(int(side) for side in generator.integers(36, 72, 2))
                image = Image.fromarray(made_image(generator, label, size))
                image.save(folder / split / wnid / f'{wnid}_{number}.JPEG')
    return folder


@pytest.mark.thorough
def test_imagenet_resnet50_on_a_folder(imagenet, tmp_path):
    config = config_lib.load('imagenet_resnet50', [
        f'data.name={imagenet}', 'batch_size=16', 'total=3 steps', 'schedule.warmup=1 steps', 'tensorboard=False',
        'evaluation.batch_size=16', *SMALL_RESNET])
    training = components.build_training(config)
    assert training.source.needs_rng and not isinstance(training.source, ArraySource), 'crops, read from the files'
    assert len(training.source) == 119
    batch = training.batches(0)
    assert batch['image'].shape == (16, 32, 32, 3) and set(batch['label']) == {0, 1, 2}
    assert train(config, tmp_path / 'run') == 0
    assert 0 <= metrics_of(tmp_path / 'run')['test/accuracy'] <= 1


def prepare(name: str, data_dir, splits: dict[str, int], size: tuple[int, int]) -> None:
    """Has tfds' own builder prepare made images in place of its downloads."""
    from practicum.common.tensorflow import import_tensorflow
    import_tensorflow()
    import tensorflow_datasets as tfds
    tfds.disable_progress_bar()
    builder = tfds.builder(name, data_dir=data_dir, file_format='array_record')
    keys = set(builder.info.features) - {'image', 'label'}

    def examples(count, seed):
        generator = np.random.default_rng(seed)
        for i in range(count):
            yield i, {'image': made_image(generator, i % 10, size), 'label': i % 10, **dict.fromkeys(keys, f'{i}.png')}

    builder._split_generators = lambda *_: {
        split: examples(count, seed) for seed, (split, count) in enumerate(splits.items())}
    builder.download_and_prepare()


def test_imagenet_resnet50_on_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    prepare('imagenet2012', tmp_path, {'train': 120, 'validation': 20}, (40, 48))
    config = config_lib.load('imagenet_resnet50:tfds', [
        f'data.data_dir={tmp_path}', 'batch_size=16', 'total=1 steps', 'schedule.warmup=0 steps', 'tensorboard=False',
        'evaluation.batch_size=16', *SMALL_RESNET])
    training = components.build_training(config)
    assert training.source.needs_rng and len(training.info.class_names) == 1000
    assert training.batches(0)['image'].shape == (16, 32, 32, 3)
    names = ('validation', 'test')
    opened = Evaluations(config, training.parallel, training.task, training.info, names).sources
    assert {name: len(source) for name, source in opened.items()} == {'validation': 1, 'test': 20}


@pytest.mark.thorough
def test_cifar10_resnet_for_a_gpu(tmp_path, monkeypatch):
    """All that a step is sent are indices."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    prepare('cifar10', tmp_path, {'train': 64, 'test': 24}, (32, 32))
    config = config_lib.load('cifar10_resnet:gpu', [
        f'data.data_dir={tmp_path}', 'batch_size=16', 'total=3 steps', 'schedule.warmup=1 steps', 'tensorboard=False',
        'parallel.devices=1', 'model.width=4'])
    training = components.build_training(config)
    assert {name: values.dtype for name, values in training.batches(0).items()} == {'row': np.int32}
    assert train(config, tmp_path / 'run') == 0
    metrics = metrics_of(tmp_path / 'run')
    assert set(metrics) >= {'test/accuracy', 'test/loss'} and 'validation/accuracy' not in metrics
