"""Fields that are set and that nothing reads are named, and epochs where there is no data refused."""

import logging
import types

import numpy as np
import pytest
from scipy.io import wavfile

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.training import components, unused_fields
from practicum.training import config as config_lib
from tests.conftest import ROOT
from tests.tiny import tiny_config


def build(experiment, *overrides):
    config = config_lib.load(str(ROOT / 'experiments' / experiment), ['parallel.devices=1', *overrides])
    return components.build_training(config)


def test_fields_for_images_without_effect_are_named(caplog):
    caplog.set_level(logging.WARNING)
    build('line.py')
    assert 'no effect' not in caplog.text
    build('line.py', 'augment.rotation=10', 'image.mean=(0.5,)')
    assert 'no effect of config.augment.rotation, config.image.mean: regression does not look at images' in caplog.text


def warnings_of(caplog, *overrides, vocabulary=None, features=('image',)) -> list[str]:
    caplog.clear()
    task = types.SimpleNamespace(input_features=features)
    unused_fields.warn(tiny_config(*overrides), DatasetInfo(vocabulary=vocabulary), task)
    return [message.removeprefix('warning: no effect of config.') for message in caplog.messages]


@pytest.mark.parametrize('field, reason, makes_it_read', [
    ('optimizer.momentum=0.8', "only read with config.optimizer.name = 'sgd' or 'rmsprop'", 'optimizer.name=rmsprop'),
    ('optimizer.decoupled_weight_decay=True', 'only read with config.optimizer.weight_decay',
     'optimizer.weight_decay=0.1'),
    ('schedule.final_factor=0.1',
     "only read with config.schedule.name = 'cosine', 'linear', 'polynomial' or 'warmup_stable_decay'",
     'schedule.name=linear'),
    ('augment.mix_probability=0.5', 'only read with config.augment.mixup or config.augment.cutmix',
     'augment.cutmix=1.0'),
    ('augment.fill=wrap', 'only read with one of config.augment.shift, config.augment.width_shift, '
     'config.augment.height_shift, config.augment.rotation, config.augment.zoom, config.augment.shear, '
     'config.augment.elastic, config.augment.homography, config.augment.random_crop, config.augment.rand_augment',
     'augment.random_crop=1'),
    ('parallel.min_shard_mb=1.0', 'only read with config.parallel.sharding or sharding_rules',
     'parallel.sharding_rules=((".*", "fsdp"),)'),
    ('data.regions.limit=9', 'only read with config.data.regions.kind', 'data.regions.kind=selective_search'),
    ('image.sound.rate=16000', "only read with config.data.source = 'sounds'", 'data.source=sounds'),
    ('early_stopping.patience=3', 'only read with config.early_stopping.metric',
     'early_stopping.metric=validation/loss'),
    ('data.columns=("x",)', "only read with config.data.source = 'csv' or 'texts'", 'data.source=texts'),
])
def test_a_field_that_only_some_configs_read(caplog, field, reason, makes_it_read):
    assert warnings_of(caplog, 'augment.shift=0.0') == []
    assert warnings_of(caplog, 'augment.shift=0.0', field) == [f'{field.partition("=")[0]}: {reason}']
    assert warnings_of(caplog, 'augment.shift=0.0', field, makes_it_read) == []


def test_fields_are_named_together_and_once(caplog):
    assert warnings_of(caplog, 'text.num_steps=9', 'text.min_count=3', 'text.source.min_count=2') == [
        'text.min_count, config.text.num_steps, config.text.source.min_count: there are no texts in config.data']
    assert warnings_of(caplog, 'text.num_steps=9', 'text.min_count=3', 'text.source.min_count=2', vocabulary={}) == [
        'text.source.min_count: nothing is translated',
        "text.num_steps: only read with config.data.source = 'text' or 'tfds_text'"]


def test_what_optax_takes_is_elsewhere(caplog):
    assert warnings_of(caplog, 'optimizer.name=lion', 'optimizer.b2=0.95', 'optimizer.eps=0.1') == [
        "optimizer.b2: only read with config.optimizer.name = 'adam' or 'adamw'; what lion has of its own is in "
        'config.optimizer.arguments',
        "optimizer.eps: only read with config.optimizer.name = 'adam', 'adamw' or 'rmsprop'; what lion has of its own "
        'is in config.optimizer.arguments']


@pytest.mark.parametrize('overrides, fields', [
    (('text.window=2', 'text.num_steps=3', 'text.streams=2'), ['text.num_steps, config.text.streams']),
    (('text.max_length=3', 'data.processes=2'), ['data.processes, config.text.max_length']),
    (('text.lowercase=True', 'text.tokens=words'), ['text.lowercase']),
    (('text.lowercase=True', 'text.tokens=characters'), []),
    (('text.vocabulary_from=there', 'text.min_count=3', 'text.max_size=9'), ['text.max_size, config.text.min_count']),
    (('augment.shift=0.0', 'augment.random_crop=2', 'augment.fill=0.5'), ['augment.fill']),
    (('augment.shift=0.0', 'augment.random_crop=2', 'augment.fill=reflect'), []),
])
def test_fields_that_other_fields_leave_without_effect(caplog, overrides, fields):
    found = warnings_of(caplog, 'data.source=text', *overrides, vocabulary={'source': {}})
    assert [line.partition(':')[0] for line in found] == fields


def test_what_an_evaluation_set_reads_is_read(caplog):
    theirs = ('image.sound.rate=16000', 'evaluation.sets.test.data.source=sounds')
    assert warnings_of(caplog, *theirs) == []
    assert len(warnings_of(caplog, *theirs, 'evaluation.final=()')) == 1


@pytest.fixture(scope='module')
def tones(tmp_path_factory) -> str:
    """A folder of short sounds of two classes."""
    root = tmp_path_factory.mktemp('tones')
    for name, pitch in (('low', 500), ('high', 3000)):
        (root / name).mkdir()
        for number in range(3):
            wave = np.sin(2 * np.pi * pitch * np.arange(800 + number) / 8000)
            wavfile.write(root / name / f'{number}.wav', 8000, np.int16(9999 * wave))
    return f'data.name={root}'


def test_a_network_for_images_refuses_waves(tones):
    training = build('chirps.py', tones, 'data.train=train', 'image.sound.window=0', 'task.per_example=False')
    with pytest.raises(UserError, match="'small_cnn' looks at images, and 'x' has the shape .8000. .*window = 0"):
        training.initial_state()


def test_what_makes_other_sounds_of_sounds_is_named(tones, caplog):
    build('chirps.py', tones, 'data.train=train', 'augment.width_shift=0.1')
    assert 'sounds' not in caplog.text
    build('chirps.py', tones, 'data.train=train', 'augment.flip_horizontal=0.5', 'augment.invert=0.5')
    assert 'with config.augment.flip_horizontal, config.augment.invert' in caplog.text


def test_an_epoch_of_made_examples_means_nothing():
    with pytest.raises(UserError, match="config.total = '2 epochs': q_learning makes its own examples"):
        build('cartpole_dqn.py', 'total=2 epochs')
