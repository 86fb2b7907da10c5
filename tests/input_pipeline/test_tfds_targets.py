"""Data sets of tfds with numbers to be predicted, and random parts of their images."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.batches import TrainBatches
from practicum.training.defaults import base

IMAGE = {'size': (8, 8), 'channels': 3}
GRADIENT = np.add.outer(np.arange(30), np.arange(40))[..., None].repeat(3, 2)


class TinyAges(tfds.core.GeneratorBasedBuilder):
    """Images with one number, two numbers, a class, or a mask."""
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ('one', 'two', 'classes', 'masks')]

    def _info(self):
        targets = {'one': tfds.features.Scalar(np.float32), 'two': tfds.features.Tensor(shape=(2,), dtype=np.int32),
                   'classes': tfds.features.ClassLabel(num_classes=3),
                   'masks': tfds.features.LabeledImage(labels=2, shape=(30, 40, 1))}
        features = {'image': tfds.features.Image(shape=(30, 40, 3), encoding_format='jpeg'),
                    self._target(): targets[self.builder_config.name], 'patient': tfds.features.Text()}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features),
                                              supervised_keys=('image', self._target()))

    def _target(self):
        return 'segmentation_mask' if self.builder_config.name == 'masks' else 'age'

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for i in range(12):
            target = {'one': i / 2, 'two': [i, -i], 'classes': i % 3,
                      'masks': np.zeros((30, 40, 1), np.uint8)}[self.builder_config.name]
            yield i, {'image': (GRADIENT + 10 * i).astype(np.uint8), self._target(): target, 'patient': f'p{i // 2}'}


class TinyReviews(tfds.core.GeneratorBasedBuilder):
    """Texts with a class, the last one without."""
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        label = tfds.features.ClassLabel(names=('neg', 'pos'))
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(
            {'label': label, 'text': tfds.features.Text()}), supervised_keys=('text', 'label'))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for i, (text, label) in enumerate((('all is bad', 0), ('good, good', 1), ('who knows', -1))):
            yield i, {'text': text, 'label': label}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tfds')
    tfds.disable_progress_bar()
    for config in TinyAges.BUILDER_CONFIGS:
        tfds.builder(f'tiny_ages/{config.name}', data_dir=str(folder), file_format='array_record'
                     ).download_and_prepare()
    tfds.builder('tiny_reviews', data_dir=str(folder), file_format='array_record').download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path))


def open_split(prepared, name, split='train', *, training=False, **fields):
    data = base().data
    data.update(name=f'tiny_ages/{name}', data_dir=str(prepared), **fields)
    return sources.open_split(data, IMAGE, split, training=training)


@pytest.mark.parametrize('limit', [2048, 0])
def test_numbers_are_targets(prepared, limit):
    one, two = (open_split(prepared, name, memory_limit_mb=limit) for name in ('one', 'two'))
    assert isinstance(one, ArraySource) == bool(limit)
    assert one.info.to_json() == {'targets': 1} and two.info.to_json() == {'targets': 2}
    y = one.read(np.arange(12))['y']
    assert y.dtype == np.float32 and sorted(y[:, 0].tolist()) == [i / 2 for i in range(12)]
    two = two.read(np.arange(12))['y']
    assert sorted(two[:, 0].tolist()) == list(range(12)) and (two[:, 0] == -two[:, 1]).all()


def test_folds_keep_the_images_of_a_patient_together(prepared):
    found = [{metadata['patient'] for metadata in source.describe(np.arange(len(source)))} for source in (
        open_split(prepared, 'one', split, folds=3, fold=1, group_by='patient', memory_limit_mb=limit)
        for split in ('train', 'fold') for limit in (2048, 0))]
    assert found[0] == found[1] and found[2] == found[3]
    assert not found[0] & found[2] and len(found[0]) == 4 and len(found[2]) == 2


def test_random_parts_of_images(prepared):
    source = open_split(prepared, 'classes', training=True, random_resized_crop=(0.2, 0.9))
    whole = open_split(prepared, 'classes')
    assert source.needs_rng and not isinstance(source, ArraySource) and isinstance(whole, ArraySource)
    batches = TrainBatches(source, 12, seed=0)
    first, again, second = batches(0), TrainBatches(source, 12, seed=0)(0), batches(1)
    np.testing.assert_array_equal(first['image'], again['image'])
    np.testing.assert_array_equal(first['label'], whole.arrays['label'][batches.indices(0)])
    assert (first['image'] != whole.arrays['image'][batches.indices(0)]).any((1, 2, 3)).all()
    order = np.argsort(batches.indices(0)), np.argsort(batches.indices(1))
    assert (first['image'][order[0]] != second['image'][order[1]]).any((1, 2, 3)).all()


def test_masks_and_videos_are_not_cropped(prepared):
    assert 'segmentation_mask' in open_split(prepared, 'masks', training=True).arrays
    with pytest.raises(UserError, match='has videos, masks or boxes, which are not cropped'):
        open_split(prepared, 'masks', training=True, random_resized_crop=(0.2, 0.9))


def test_texts_with_a_class(prepared):
    config = base()
    config.data.source, config.data.name, config.data.data_dir = 'tfds_texts', 'tiny_reviews', str(prepared)
    source = sources.open_split(config.data, config.image, 'train', text=config.text)
    found = {facts['text']: source.info.class_names[label]
             for facts, label in zip(source.describe(np.arange(2)), source.read(np.arange(2))['label'])}
    assert found == {'all is bad': 'neg', 'good, good': 'pos'} and len(source) == 2
    config.data.name = 'tiny_ages/one'
    with pytest.raises(UserError, match='no data set of texts'):
        sources.open_split(config.data, config.image, 'train', text=config.text)
